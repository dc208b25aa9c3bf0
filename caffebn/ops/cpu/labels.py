"""Checking labels before a kernel reads by them."""

from __future__ import annotations

from functools import partial
from typing import NoReturn

import numpy as np

from caffebn.ops import labels
from caffebn.ops.cpu.checks import by_dtype, check
from caffebn.ops.level import kernels

__all__ = ["check_labels"]

_check_labels = by_dtype(kernels("softmax").check_labels)


def check_labels(op: str, x: np.ndarray, label: np.ndarray, ignore: int | None) -> tuple[bool, int]:
    """Check that every label is a class or the ignored one.

    The check of the values is a kernel that raises by itself, in the name of the layer of now, so that it can be run
    again alone.

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
    refuse = partial(_refuse, op, label, classes, labels.speaker.get())
    _check_labels[x.itemsize](label, classes, has_ignore, ignored, refuse)
    return has_ignore, ignored


def _refuse(op: str, label: np.ndarray, classes: int, by: str, place: int) -> NoReturn:
    raise labels.bad_label(op, label[place], place, classes, by)
