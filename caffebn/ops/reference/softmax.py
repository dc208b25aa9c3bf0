"""Softmax, its loss, accuracy, and the largest scores.

Scores x are (N, C, S): one item at each of N * S places, with C classes.  Labels are (N * S,), in the dtype
of the scores as everything in Caffe is, and are cut to integers.
"""

from __future__ import annotations

import numpy as np

from caffebn.ops.labels import places_of_labels

__all__ = [
    "accuracy",
    "arg_max",
    "shares",
    "softmax",
    "softmax_backward",
    "softmax_loss",
    "softmax_loss_backward",
]

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
    n, c, s, counted = places_of_labels("softmax_loss", prob, label, ignore)
    p = prob[n, c, s][counted].astype(np.float64)
    out[...] = -np.log(np.maximum(p, FLOOR)).sum(), counted.sum()


def softmax_loss_backward(
    prob: np.ndarray, label: np.ndarray, ignore: int | None, scale: np.ndarray, dx: np.ndarray
) -> None:
    """Gradient of the loss by the scores: ``dx = (prob - 1 at the label) * scale``, 0 at ignored places.

    The floor of `softmax_loss` has no part in it.

    Parameters
    ----------
    prob : ndarray, shape (N, C, S)
    label : ndarray, shape (N * S,), dtype of prob
    ignore : int or None
    scale : ndarray, shape (1,), float64
        Loss weight divided by the normaliser, from `loss_scale`.
    dx : ndarray, shape (N, C, S)
        Filled; may be `prob`.

    Raises
    ------
    ArgumentError
        When a label is no class and not to be ignored.
    """
    n, c, s, counted = places_of_labels("softmax_loss_backward", prob, label, ignore)
    dx[...] = prob
    dx[n[counted], c[counted], s[counted]] -= 1
    dx *= dx.dtype.type(scale[0])
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
    n, c, s, counted = places_of_labels("accuracy", x, label, ignore)
    at_least = x[n, :, s] >= x[n, c, s][:, None]
    at_least[np.arange(len(n)), c] = False
    hit = (at_least.sum(axis=1) < top_k) & counted
    out[...] = hit.sum(), counted.sum()
    if class_hits is not None:
        class_hits[...] = np.bincount(c[hit], minlength=x.shape[1])
    if class_counts is not None:
        class_counts[...] = np.bincount(c[counted], minlength=x.shape[1])


def shares(part: np.ndarray, whole: np.ndarray, y: np.ndarray) -> None:
    """Shares of places, such as an accuracy: ``y = part / max(whole, 1)``.

    Parameters
    ----------
    part, whole : ndarray, shape (n,), float64
    y : ndarray, shape (n,)
        Filled.
    """
    y[...] = part / np.maximum(whole, 1)


def arg_max(x: np.ndarray, index: np.ndarray | None, value: np.ndarray | None) -> None:
    """The largest scores of each place, largest first, and which classes have them.

    Of equal scores that of the larger index comes first: Caffe's rule.

    Parameters
    ----------
    x : ndarray, shape (N, C, S)
    index : ndarray, shape (N, K, S), or None
        Filled with the classes of the K largest scores, K from 1 to C.
    value : ndarray, shape (N, K, S), or None
        Filled with those scores.
    """
    order = np.argsort(x, axis=1, kind="stable")[:, ::-1]
    for out, values in ((index, order), (value, np.take_along_axis(x, order, axis=1))):
        if out is not None:
            out[...] = values[:, : out.shape[1]]
