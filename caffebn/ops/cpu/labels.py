"""Checking labels before a kernel reads by them."""

from __future__ import annotations

import numpy as np

from caffebn.ops.cpu.checks import by_dtype, check
from caffebn.ops.labels import bad_label
from caffebn.ops.level import kernels

__all__ = ["check_labels"]

_first_bad_label = by_dtype(kernels("softmax").first_bad_label)


def check_labels(op: str, x: np.ndarray, label: np.ndarray, ignore: int | None) -> tuple[bool, int]:
    """Check that every label is a class or the ignored one.

    Parameters
    ----------
    op : str
        Name of the op, for messages.
    x : ndarray, shape (N, C, S)
        Scores of C classes.
    label : ndarray
        Has to be of shape (N * S,) and the dtype of x.
    ignore : int or None

    Returns
    -------
    has_ignore : bool
    ignored : int
        What kernels take in the place of `ignore`.

    Raises
    ------
    ArgumentError
    """
    check(op, label, "label", (x.shape[0] * x.shape[2],), x.dtype)
    has_ignore, ignored = ignore is not None, ignore or 0
    classes = x.shape[1]
    place = _first_bad_label[x.itemsize](label, classes, has_ignore, ignored)
    if place >= 0:
        raise bad_label(op, label[place], place, classes)
    return has_ignore, ignored
