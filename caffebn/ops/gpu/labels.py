"""Labels: what kernels take in the place of `ignore`, and how they complain about one that is no class."""

from __future__ import annotations

import numpy as np

from caffebn.ops.gpu import device
from caffebn.ops.gpu.checks import check
from caffebn.ops.labels import bad_label

__all__ = ["WORK", "check_labels", "label_trouble", "sum_places", "work_size"]

WORK = object()
"""Stands for the work among the arguments of a kernel."""

_WORK = 4  # doubles that a block of sum_over_places leaves


def label_trouble(op: str, classes: int) -> int:
    """Return where kernels of that op write the first label that is no class."""
    return device.trouble((op, classes), lambda value, place, by: bad_label(op, value, place, classes, by))


def check_labels(op: str, x: np.ndarray, label: np.ndarray, ignore: int | None) -> tuple[int, int]:
    """Check dtype and shape of labels for scores x (N, C, S).

    Returns
    -------
    has_ignore, ignored : int
        What kernels take in the place of `ignore`.
    """
    check(op, label, "label", (x.shape[0] * x.shape[2],), x.dtype)
    return int(ignore is not None), int(ignore or 0)


def work_size(places: int) -> int:
    """Return the doubles of scratch that `sum_places` uses."""
    return _WORK * -(-places // device.THREADS)


def sum_places(
    kernels: device.Kernels,
    name: str,
    itemsize: int,
    places: int,
    trouble: int | None,
    out: np.ndarray,
    *arguments: object,
) -> None:
    """Run a kernel that sums over places, and add up what its blocks left.

    Parameters
    ----------
    kernels : Kernels
        Of a family that has ``add_places``.
    name : str
        The kernel.
    itemsize : int
        Of the tensors' dtype.
    places : int
    trouble : int or None
        From `label_trouble`.
    out : device array, float64
        As many sums as it has elements, at most 2.
    *arguments
        Those of the kernel, `WORK` where it takes its work.
    """
    blocks = -(-places // device.THREADS)
    work = device.scratch(work_size(places))
    device.launch(kernels(name, itemsize), blocks, *(work if a is WORK else a for a in arguments))
    device.launch(kernels("add_places", 0), 1, work, blocks, out.size, out, trouble)
