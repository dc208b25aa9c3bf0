"""Losses beside that of the softmax.

A forward op fills a float64 array with the sum over all places, not yet divided by anything, which `mean_loss` does; a
backward op gets from `loss_scale`, as `scale`, the loss weight divided by what the loss is divided by.  Labels are in
the dtype of the scores, as everything in Caffe is, and are cut to integers.
"""

from __future__ import annotations

import numpy as np

from caffebn.ops.labels import places_of_labels

__all__ = [
    "contrastive_loss",
    "contrastive_loss_backward",
    "hinge_loss",
    "hinge_loss_backward",
    "infogain_loss",
    "infogain_loss_backward",
    "loss_scale",
    "mean_loss",
    "multinomial_loss",
    "multinomial_loss_backward",
    "sigmoid_cross_entropy",
    "sigmoid_cross_entropy_backward",
]

# Caffe's floor under the logarithms of these losses
FLOOR = 1e-20

# Caffe's guard in the gradient of a distance of 0
NEAR = 1e-4


def mean_loss(sums: np.ndarray, divisor: float | None, z: np.ndarray, loss: np.ndarray) -> None:
    """The loss that a layer shows, ``loss = sums[0] / z``.

    Parameters
    ----------
    sums : ndarray, shape (1,) or (2,), float64
        What one of the losses filled: the sum, and perhaps the number of places that count.
    divisor : float or None
        What to divide by, not 0; None stands for the number of places that count, but at least 1.
    z : ndarray, shape (1,), float64
        Filled with the divisor.
    loss : ndarray, shape (1,)
        Filled.
    """
    z[0] = divisor or max(sums[1], 1)
    loss[...] = sums[0] / z[0]


def loss_scale(weight: np.ndarray, z: np.ndarray, factor: float, scale: np.ndarray) -> None:
    """Factor of the gradients of a loss, ``scale = factor * weight / z``.

    Parameters
    ----------
    weight : ndarray, shape (1,)
        Weight of the loss, which is the gradient of the top.
    z : ndarray, shape (1,), float64
        From `mean_loss`.
    factor : float
    scale : ndarray, shape (1,), float64
        Filled.
    """
    scale[0] = factor * float(weight[0]) / z[0]


def sigmoid_cross_entropy(x: np.ndarray, target: np.ndarray, ignore: int | None, out: np.ndarray) -> None:
    """Cross-entropy of logistic functions, ``max(x, 0) - x * t + log(1 + exp(-abs(x)))`` at each place.

    Parameters
    ----------
    x, target : ndarray
        Scores, and targets t from 0 to 1.
    ignore : int or None
        Places whose target, cut to an integer, is this number do not count.
    out : ndarray, shape (2,), float64
        Filled with the sum and the number of places that count.
    """
    counted = _counted(target, ignore)
    v = x[counted].astype(np.float64)
    losses = np.maximum(v, 0) - v * target[counted] + np.log1p(np.exp(-np.abs(v)))
    out[...] = losses.sum(), counted.sum()


def sigmoid_cross_entropy_backward(
    x: np.ndarray, target: np.ndarray, ignore: int | None, scale: np.ndarray, dx: np.ndarray
) -> None:
    """Gradient of `sigmoid_cross_entropy`: ``dx = (sigmoid(x) - target) * scale``, 0 at ignored places.

    Parameters
    ----------
    x, target : ndarray
    ignore : int or None
    scale : ndarray, shape (1,), float64
    dx : ndarray, shape of x
        Filled; may be `x`.
    """
    p = 0.5 * np.tanh(0.5 * x) + 0.5
    dx[...] = np.where(_counted(target, ignore), (p - target) * x.dtype.type(scale[0]), 0)


def _counted(target: np.ndarray, ignore: int | None) -> np.ndarray:
    return np.trunc(target) != ignore if ignore is not None else np.ones(target.shape, bool)


def infogain_loss(
    prob: np.ndarray, label: np.ndarray, ignore: int | None, matrix: np.ndarray, out: np.ndarray
) -> None:
    """Logistic loss weighted by a matrix: ``-sum over l of matrix[label, l] * log(max(prob[l], 1e-20))``.

    Parameters
    ----------
    prob : ndarray, shape (N, C, S)
        From `softmax`.
    label : ndarray, shape (N * S,), dtype of prob
    ignore : int or None
        Places with this label do not count.
    matrix : ndarray, shape (C, C), dtype of prob
        The gain of each class (column) where the label is that of the row.
    out : ndarray, shape (2,), float64
        Filled with the sum and the number of places that count.

    Raises
    ------
    ArgumentError
        When a label is no class and not to be ignored.
    """
    n, c, s, counted = places_of_labels("infogain_loss", prob, label, ignore)
    logarithms = np.log(np.maximum(prob.astype(np.float64), FLOOR))
    losses = -(matrix[c] * logarithms[n, :, s]).sum(axis=1)
    out[...] = losses[counted].sum(), counted.sum()


def infogain_loss_backward(
    prob: np.ndarray,
    label: np.ndarray,
    ignore: int | None,
    matrix: np.ndarray,
    scale: np.ndarray,
    dx: np.ndarray,
) -> None:
    """Gradient of `infogain_loss` by the scores: ``dx = (prob * sum(row) - row) * scale``, row that of the label.

    It is 0 at ignored places, and does not know the floor of the logarithm.

    Parameters
    ----------
    prob : ndarray, shape (N, C, S)
    label : ndarray, shape (N * S,), dtype of prob
    ignore : int or None
    matrix : ndarray, shape (C, C), dtype of prob
    scale : ndarray, shape (1,), float64
    dx : ndarray, shape (N, C, S)
        Filled; may be `prob`.

    Raises
    ------
    ArgumentError
        When a label is no class and not to be ignored.
    """
    n, c, s, counted = places_of_labels("infogain_loss_backward", prob, label, ignore)
    rows = matrix[c].astype(np.float64)
    gradient = (prob[n, :, s] * rows.sum(axis=1, keepdims=True) - rows) * scale[0]
    dx[n, :, s] = np.where(counted[:, None], gradient, 0)


def multinomial_loss(prob: np.ndarray, label: np.ndarray, out: np.ndarray) -> None:
    """Logistic loss of probabilities: the sum of ``-log(max(prob[label], 1e-20))``.

    Parameters
    ----------
    prob : ndarray, shape (N, C)
    label : ndarray, shape (N,), dtype of prob
    out : ndarray, shape (1,), float64
        Filled.

    Raises
    ------
    ArgumentError
        When a label is no class.
    """
    n, c, _, _ = places_of_labels("multinomial_loss", prob[:, :, None], label, None)
    out[0] = -np.log(np.maximum(prob[n, c].astype(np.float64), FLOOR)).sum()


def multinomial_loss_backward(prob: np.ndarray, label: np.ndarray, scale: np.ndarray, dx: np.ndarray) -> None:
    """Gradient of `multinomial_loss`: ``-scale[0] / max(prob, 1e-20)`` at the label, 0 elsewhere.

    Parameters
    ----------
    prob : ndarray, shape (N, C)
    label : ndarray, shape (N,), dtype of prob
    scale : ndarray, shape (1,), float64
    dx : ndarray, shape (N, C)
        Filled; must not be `prob`.

    Raises
    ------
    ArgumentError
        When a label is no class.
    """
    n, c, _, _ = places_of_labels("multinomial_loss_backward", prob[:, :, None], label, None)
    dx[...] = 0
    dx[n, c] = -scale[0] / np.maximum(prob[n, c].astype(np.float64), FLOOR)


def hinge_loss(x: np.ndarray, label: np.ndarray, squared: bool, out: np.ndarray) -> None:
    """Hinge loss of one class against all others: the sum of ``m = max(0, 1 + s * x)``, or of ``m**2``.

    s is -1 for the class of the label and 1 for the others.

    Parameters
    ----------
    x : ndarray, shape (N, C)
    label : ndarray, shape (N,), dtype of x
    squared : bool
    out : ndarray, shape (1,), float64
        Filled.

    Raises
    ------
    ArgumentError
        When a label is no class.
    """
    margin = np.maximum(0, 1 + _signs("hinge_loss", x, label) * x)
    out[0] = (margin**2 if squared else margin).sum()


def hinge_loss_backward(
    x: np.ndarray, label: np.ndarray, squared: bool, scale: np.ndarray, dx: np.ndarray
) -> None:
    """Gradient of `hinge_loss`: ``s * scale`` where m is positive, or ``2 * m * s * scale``; 0 on the margin.

    Parameters
    ----------
    x : ndarray, shape (N, C)
    label : ndarray, shape (N,), dtype of x
    squared : bool
    scale : ndarray, shape (1,), float64
    dx : ndarray, shape (N, C)
        Filled; may be `x`.

    Raises
    ------
    ArgumentError
        When a label is no class.
    """
    sign = _signs("hinge_loss_backward", x, label)
    margin = np.maximum(0, 1 + sign * x)
    dx[...] = (2 * margin if squared else np.sign(margin)) * sign * scale[0]


def _signs(op: str, x: np.ndarray, label: np.ndarray) -> np.ndarray:
    n, c, _, _ = places_of_labels(op, x[:, :, None], label, None)
    sign = np.ones(x.shape)
    sign[n, c] = -1
    return sign


def contrastive_loss(
    square: np.ndarray, similar: np.ndarray, margin: float, legacy: bool, out: np.ndarray
) -> None:
    """Contrastive loss of pairs: a similar pair adds ``d**2``, another ``max(margin - d, 0)**2``.

    In the legacy form the other pairs add ``max(margin - d**2, 0)``.

    Parameters
    ----------
    square : ndarray, shape (N,), float64
        ``d**2``, the squared distance of each pair.
    similar : ndarray, shape (N,)
        Cut to integers; a pair is similar where that is not 0.
    margin : float
    legacy : bool
    out : ndarray, shape (1,), float64
        Filled with the sum.
    """
    far = np.maximum(margin - square, 0) if legacy else np.maximum(margin - np.sqrt(square), 0) ** 2
    out[0] = np.where(np.trunc(similar) != 0, square, far).sum()


def contrastive_loss_backward(
    difference: np.ndarray,
    square: np.ndarray,
    similar: np.ndarray,
    margin: float,
    legacy: bool,
    scale: np.ndarray,
    dx: np.ndarray,
) -> None:
    """Gradient of half of `contrastive_loss` by the first of a pair: ``dx = factor * difference * scale``.

    The factor of a similar pair is 1, of another one inside the margin ``-(margin - d) / (d + 1e-4)``, in the
    legacy form -1, and of one outside 0.  The small number keeps the gradient finite when the two are equal.

    Parameters
    ----------
    difference : ndarray, shape (N, D)
        The first minus the second.
    square : ndarray, shape (N,), float64
    similar : ndarray, shape (N,), dtype of difference
    margin : float
    legacy : bool
    scale : ndarray, shape (1,), float64
    dx : ndarray, shape (N, D)
        Filled; may be `difference`.
    """
    distance = np.sqrt(square)
    if legacy:
        far = np.where(margin - square > 0, -1.0, 0.0)
    else:
        far = -np.maximum(margin - distance, 0) / (distance + NEAR)
    factor = np.where(np.trunc(similar) != 0, 1.0, far) * scale[0]
    dx[...] = factor[:, None] * difference
