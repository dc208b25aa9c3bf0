"""Labels: where they point, and what all back ends say about one that is no class, or an index of no row."""

from __future__ import annotations

from contextvars import ContextVar

import numpy as np

from caffebn.errors import ArgumentError

__all__ = ["bad_index", "bad_label", "places_of_labels", "speaker"]

speaker: ContextVar[str] = ContextVar("speaker", default="")
"""The layer that ops are called for, which errors about values name: ``layer "loss" (SoftmaxWithLoss)``.

What complains later, or is called again without the layer, keeps it from its first call."""


def places_of_labels(
    op: str, x: np.ndarray, label: np.ndarray, ignore: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Find the score of each label, for the reference ops.

    Parameters
    ----------
    op : str
        Name of the op, for messages.
    x : ndarray, shape (N, C, S)
        Scores of C classes.
    label : ndarray, shape (N * S,)
    ignore : int or None
        A label that does not count.

    Returns
    -------
    n, c, s : ndarray of int, shape (N * S,)
        Indices of the score at each place's label; c is 0 where the label does not count.
    counted : ndarray of bool, shape (N * S,)

    Raises
    ------
    ArgumentError
        When a label is no class and not to be ignored.
    """
    classes, places = x.shape[1], x.shape[2]
    cut = np.trunc(label)
    counted = cut != ignore if ignore is not None else np.ones(len(label), bool)
    bad = np.nonzero(counted & ~((cut >= 0) & (cut < classes)))[0]
    if len(bad):
        raise bad_label(op, label[bad[0]], int(bad[0]), classes)
    n, s = np.divmod(np.arange(len(label)), max(1, places))
    return n, np.where(counted, cut, 0).astype(np.intp), s, counted


def bad_label(op: str, label: float, place: int, classes: int, by: str | None = None) -> ArgumentError:
    """Make the error for the label at index `place` of the flat labels, with `classes` classes.

    Who says it is the `speaker` of now, if it is not given as `by`.
    """
    return _said(
        by,
        f"{op}: label must hold classes from 0 to {classes - 1}; found {float(label):g} at index {place}. "
        f"Check the labels of the data, or the number of outputs of the layer that makes the scores",
    )


def bad_index(op: str, value: float, place: int, limit: int, by: str | None = None) -> ArgumentError:
    """Make the error for the number at index `place` that should be one of `limit` rows; see `bad_label`."""
    return _said(
        by,
        f"{op}: expected indices from 0 to {limit - 1}, found {float(value):g} at index {place}"
        if limit
        else f"{op}: there is nothing to choose from, found the index {float(value):g}",
    )


def _said(by: str | None, message: str) -> ArgumentError:
    by = speaker.get() if by is None else by
    return ArgumentError(f"{by}: {message}" if by else message)
