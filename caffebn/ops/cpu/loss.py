"""Losses beside that of the softmax; see ops/reference/loss.py for what is computed."""

from __future__ import annotations

import numpy as np

from caffebn.ops import threads
from caffebn.ops.cpu.checks import DOUBLE, by_dtype, check, check_tensor
from caffebn.ops.cpu.labels import check_labels
from caffebn.ops.level import kernels

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

_kernel = kernels("loss")
_contrastive_loss = by_dtype(_kernel.contrastive_loss)
_contrastive_loss_backward = by_dtype(_kernel.contrastive_loss_backward)
_hinge_loss = by_dtype(_kernel.hinge_loss)
_hinge_loss_backward = by_dtype(_kernel.hinge_loss_backward)
_infogain_loss = by_dtype(_kernel.infogain_loss)
_infogain_loss_backward = by_dtype(_kernel.infogain_loss_backward)
_loss_scale = by_dtype(_kernel.loss_scale)
_mean_loss = by_dtype(_kernel.mean_loss)
_multinomial_loss = by_dtype(_kernel.multinomial_loss)
_multinomial_loss_backward = by_dtype(_kernel.multinomial_loss_backward)
_sigmoid_cross_entropy = by_dtype(_kernel.sigmoid_cross_entropy)
_sigmoid_cross_entropy_backward = by_dtype(_kernel.sigmoid_cross_entropy_backward)

# A call of the maths library takes about as long as reading so many elements
_TRANSCENDENTAL = 4


def mean_loss(sums: np.ndarray, divisor: float | None, z: np.ndarray, loss: np.ndarray) -> None:
    """Divide a sum of losses; see the reference op."""
    check_tensor("mean_loss", loss, "loss", 1, writable=True)
    check("mean_loss", loss, "loss", (1,), loss.dtype, writable=True)
    check("mean_loss", sums, "sums", None, DOUBLE, at_least=1 if divisor else 2)
    check("mean_loss", z, "z", (1,), DOUBLE, writable=True)
    _mean_loss[loss.itemsize](sums, divisor or 0.0, z, loss)


def loss_scale(weight: np.ndarray, z: np.ndarray, factor: float, scale: np.ndarray) -> None:
    """Divide the weight of a loss; see the reference op."""
    check_tensor("loss_scale", weight, "weight", 1)
    check("loss_scale", weight, "weight", (1,), weight.dtype)
    check("loss_scale", z, "z", (1,), DOUBLE)
    check("loss_scale", scale, "scale", (1,), DOUBLE, writable=True)
    _loss_scale[weight.itemsize](weight, z, factor, scale)


def sigmoid_cross_entropy(x: np.ndarray, target: np.ndarray, ignore: int | None, out: np.ndarray) -> None:
    """Sum the cross-entropies of logistic functions; see the reference op."""
    check_tensor("sigmoid_cross_entropy", x, "x")
    check("sigmoid_cross_entropy", target, "target", x.shape, x.dtype)
    check("sigmoid_cross_entropy", out, "out", (2,), DOUBLE, writable=True)
    _sigmoid_cross_entropy[x.itemsize](
        x.reshape(-1), target.reshape(-1), ignore is not None, ignore or 0, out,
        threads.for_work(x.size * _TRANSCENDENTAL),
    )  # fmt: skip


def sigmoid_cross_entropy_backward(
    x: np.ndarray, target: np.ndarray, ignore: int | None, scale: np.ndarray, dx: np.ndarray
) -> None:
    """Compute the gradient of `sigmoid_cross_entropy`; see the reference op."""
    check_tensor("sigmoid_cross_entropy_backward", x, "x")
    check("sigmoid_cross_entropy_backward", target, "target", x.shape, x.dtype)
    check("sigmoid_cross_entropy_backward", scale, "scale", (1,), DOUBLE)
    check("sigmoid_cross_entropy_backward", dx, "dx", x.shape, x.dtype, writable=True)
    _sigmoid_cross_entropy_backward[x.itemsize](
        x.reshape(-1), target.reshape(-1), ignore is not None, ignore or 0, scale, dx.reshape(-1),
        threads.for_work(x.size * _TRANSCENDENTAL),
    )  # fmt: skip


def infogain_loss(
    prob: np.ndarray, label: np.ndarray, ignore: int | None, matrix: np.ndarray, out: np.ndarray
) -> None:
    """Sum the losses weighted by a matrix; see the reference op."""
    check_tensor("infogain_loss", prob, "prob", 3)
    check("infogain_loss", matrix, "matrix", prob.shape[1:2] * 2, prob.dtype)
    check("infogain_loss", out, "out", (2,), DOUBLE, writable=True)
    has_ignore, ignored = check_labels("infogain_loss", prob, label, ignore)
    n_threads = threads.for_work(prob.size * _TRANSCENDENTAL)
    _infogain_loss[prob.itemsize](prob, label, has_ignore, ignored, matrix, out, n_threads)


def infogain_loss_backward(
    prob: np.ndarray,
    label: np.ndarray,
    ignore: int | None,
    matrix: np.ndarray,
    scale: np.ndarray,
    dx: np.ndarray,
) -> None:
    """Compute the gradient of `infogain_loss`; see the reference op."""
    check_tensor("infogain_loss_backward", prob, "prob", 3)
    check("infogain_loss_backward", matrix, "matrix", prob.shape[1:2] * 2, prob.dtype)
    check("infogain_loss_backward", scale, "scale", (1,), DOUBLE)
    check("infogain_loss_backward", dx, "dx", prob.shape, prob.dtype, writable=True)
    has_ignore, ignored = check_labels("infogain_loss_backward", prob, label, ignore)
    n_threads = threads.for_work(prob.size)
    _infogain_loss_backward[prob.itemsize](prob, label, has_ignore, ignored, matrix, scale, dx, n_threads)


def multinomial_loss(prob: np.ndarray, label: np.ndarray, out: np.ndarray) -> None:
    """Sum the logistic losses of probabilities; see the reference op."""
    check_tensor("multinomial_loss", prob, "prob", 2)
    check("multinomial_loss", out, "out", (1,), DOUBLE, writable=True)
    check_labels("multinomial_loss", prob[:, :, None], label, None)
    _multinomial_loss[prob.itemsize](prob, label, out)


def multinomial_loss_backward(prob: np.ndarray, label: np.ndarray, scale: np.ndarray, dx: np.ndarray) -> None:
    """Compute the gradient of `multinomial_loss`; see the reference op."""
    check_tensor("multinomial_loss_backward", prob, "prob", 2)
    check("multinomial_loss_backward", scale, "scale", (1,), DOUBLE)
    check("multinomial_loss_backward", dx, "dx", prob.shape, prob.dtype, writable=True)
    check_labels("multinomial_loss_backward", prob[:, :, None], label, None)
    _multinomial_loss_backward[prob.itemsize](prob, label, scale, dx, threads.for_work(prob.size))


def hinge_loss(x: np.ndarray, label: np.ndarray, squared: bool, out: np.ndarray) -> None:
    """Sum the hinge losses; see the reference op."""
    check_tensor("hinge_loss", x, "x", 2)
    check("hinge_loss", out, "out", (1,), DOUBLE, writable=True)
    check_labels("hinge_loss", x[:, :, None], label, None)
    _hinge_loss[x.itemsize](x, label, squared, out, threads.for_work(x.size))


def hinge_loss_backward(
    x: np.ndarray, label: np.ndarray, squared: bool, scale: np.ndarray, dx: np.ndarray
) -> None:
    """Compute the gradient of `hinge_loss`; see the reference op."""
    check_tensor("hinge_loss_backward", x, "x", 2)
    check("hinge_loss_backward", scale, "scale", (1,), DOUBLE)
    check("hinge_loss_backward", dx, "dx", x.shape, x.dtype, writable=True)
    check_labels("hinge_loss_backward", x[:, :, None], label, None)
    _hinge_loss_backward[x.itemsize](x, label, squared, scale, dx, threads.for_work(x.size))


def contrastive_loss(
    square: np.ndarray, similar: np.ndarray, margin: float, legacy: bool, out: np.ndarray
) -> None:
    """Sum the contrastive losses of pairs; see the reference op."""
    check_tensor("contrastive_loss", similar, "similar", 1)
    check("contrastive_loss", square, "square", similar.shape, DOUBLE)
    check("contrastive_loss", out, "out", (1,), DOUBLE, writable=True)
    _contrastive_loss[similar.itemsize](square, similar, margin, legacy, out)


def contrastive_loss_backward(
    difference: np.ndarray,
    square: np.ndarray,
    similar: np.ndarray,
    margin: float,
    legacy: bool,
    scale: np.ndarray,
    dx: np.ndarray,
) -> None:
    """Compute the gradient of a contrastive loss; see the reference op."""
    check_tensor("contrastive_loss_backward", difference, "difference", 2)
    check("contrastive_loss_backward", square, "square", difference.shape[:1], DOUBLE)
    check("contrastive_loss_backward", similar, "similar", difference.shape[:1], difference.dtype)
    check("contrastive_loss_backward", scale, "scale", (1,), DOUBLE)
    check("contrastive_loss_backward", dx, "dx", difference.shape, difference.dtype, writable=True)
    _contrastive_loss_backward[difference.itemsize](
        difference, square, similar, margin, legacy, scale, dx, threads.for_work(difference.size)
    )
