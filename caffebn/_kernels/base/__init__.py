"""Kernels for every processor served: x86-64-v2 (SSE 4.2), or what other architectures guarantee."""
