"""Softmax, its loss, and accuracy.

Scores x are (N, C, S): one item at each of N * S places, with C classes.  Labels are (N * S,), in the dtype
of the scores as everything in Caffe is, and are cut to integers.
"""

from __future__ import annotations

import numpy as np

from caffebn.ops.labels import bad_label

__all__ = ["accuracy", "softmax", "softmax_backward", "softmax_loss", "softmax_loss_backward"]

# The smallest normal float32: probabilities below count as that in the loss, in either precision.
FLOOR = float(np.finfo(np.float32).tiny)


def softmax(x: np.ndarray, y: np.ndarray) -> None:
    """Probabilities of the classes, ``y = exp(x - max(x)) / sum(exp(x - max(x)))`` over C.

    Parameters
    ----------
    x : ndarray, shape (N, C, S)
    y : ndarray, shape (N, C, S)
        Filled; may be `x`.
    """
    if x.size:
        e = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
        y[...] = e / e.sum(axis=1, keepdims=True)


def softmax_backward(y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """Gradient of `softmax`, from its output: ``dx = (dy - sum(dy * y)) * y``, summed over C.

    Parameters
    ----------
    y, dy : ndarray, shape (N, C, S)
    dx : ndarray, shape (N, C, S)
        Filled; may be `dy`.
    """
    dx[...] = (dy - (dy.astype(np.float64) * y).sum(axis=1, keepdims=True)) * y


def softmax_loss(prob: np.ndarray, label: np.ndarray, ignore: int | None, out: np.ndarray) -> None:
    """Sum of the losses of all places, not yet divided by anything, and how many places count.

    Parameters
    ----------
    prob : ndarray, shape (N, C, S)
        From `softmax`.
    label : ndarray, shape (N * S,), dtype of prob
    ignore : int or None
        Places with this label do not count.
    out : ndarray, shape (2,), float64
        Filled with the sum of ``-log(max(prob[label], 1.17549435e-38))`` and the number of places that count.

    Raises
    ------
    ArgumentError
        When a label is no class and not to be ignored.
    """
    n, c, s, counted = _places("softmax_loss", prob, label, ignore)
    p = prob[n, c, s][counted].astype(np.float64)
    out[...] = -np.log(np.maximum(p, FLOOR)).sum(), counted.sum()


def softmax_loss_backward(
    prob: np.ndarray, label: np.ndarray, ignore: int | None, scale: float, dx: np.ndarray
) -> None:
    """Gradient of the loss by the scores: ``dx = (prob - 1 at the label) * scale``, 0 at ignored places.

    The floor of `softmax_loss` has no part in it.

    Parameters
    ----------
    prob : ndarray, shape (N, C, S)
    label : ndarray, shape (N * S,), dtype of prob
    ignore : int or None
    scale : float
        Loss weight divided by the normaliser.
    dx : ndarray, shape (N, C, S)
        Filled; may be `prob`.

    Raises
    ------
    ArgumentError
        When a label is no class and not to be ignored.
    """
    n, c, s, counted = _places("softmax_loss_backward", prob, label, ignore)
    dx[...] = prob
    dx[n[counted], c[counted], s[counted]] -= 1
    dx *= dx.dtype.type(scale)
    dx[n[~counted], :, s[~counted]] = 0


def accuracy(
    x: np.ndarray,
    label: np.ndarray,
    ignore: int | None,
    top_k: int,
    out: np.ndarray,
    class_hits: np.ndarray | None,
    class_counts: np.ndarray | None,
) -> None:
    """Count the places whose label is among the `top_k` best scores.

    A place is a hit when fewer than `top_k` other classes have a score as large as that of the label, or
    larger: ties count against it.

    Parameters
    ----------
    x : ndarray, shape (N, C, S)
    label : ndarray, shape (N * S,), dtype of x
    ignore : int or None
        Places with this label do not count.
    top_k : int
        At least 1.
    out : ndarray, shape (2,), float64
        Filled with the number of hits and the number of places that count.
    class_hits, class_counts : ndarray, shape (C,), float64, or None
        Filled with the same two numbers for each class.

    Raises
    ------
    ArgumentError
        When a label is no class and not to be ignored.
    """
    n, c, s, counted = _places("accuracy", x, label, ignore)
    at_least = x[n, :, s] >= x[n, c, s][:, None]
    at_least[np.arange(len(n)), c] = False
    hit = (at_least.sum(axis=1) < top_k) & counted
    out[...] = hit.sum(), counted.sum()
    if class_hits is not None:
        class_hits[...] = np.bincount(c[hit], minlength=x.shape[1])
    if class_counts is not None:
        class_counts[...] = np.bincount(c[counted], minlength=x.shape[1])


def _places(
    op: str, x: np.ndarray, label: np.ndarray, ignore: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Indices n, c, s of the score at each place's label, and which places count (c is 0 elsewhere)."""
    classes, places = x.shape[1], x.shape[2]
    cut = np.trunc(label)
    counted = cut != ignore if ignore is not None else np.ones(len(label), bool)
    bad = np.nonzero(counted & ~((cut >= 0) & (cut < classes)))[0]
    if len(bad):
        raise bad_label(op, label[bad[0]], int(bad[0]), classes)
    n, s = np.divmod(np.arange(len(label)), max(1, places))
    return n, np.where(counted, cut, 0).astype(np.intp), s, counted
