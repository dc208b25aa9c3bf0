"""Nets: phase filter, splits, in-place safety, and the Net that runs layers."""

from caffebn.net.net import TEST, TRAIN, Net, default_device, set_device, set_mode_cpu, set_mode_gpu

__all__ = ["TEST", "TRAIN", "Net", "default_device", "set_device", "set_mode_cpu", "set_mode_gpu"]
