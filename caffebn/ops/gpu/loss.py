"""Losses beside that of the softmax; see ops/reference/loss.py for what is computed.

A label that is no class does not count; it is raised with the next copy to the host, not here.
"""

from __future__ import annotations

import numpy as np

from caffebn.ops.gpu import device
from caffebn.ops.gpu.checks import DOUBLE, check, check_tensor
from caffebn.ops.gpu.labels import WORK, check_labels, label_trouble, sum_places

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

_kernel = device.Kernels("loss")


def mean_loss(sums: np.ndarray, divisor: float | None, z: np.ndarray, loss: np.ndarray) -> None:
    """Divide a sum of losses; see the reference op."""
    check_tensor("mean_loss", loss, "loss", 1)
    check("mean_loss", loss, "loss", (1,), loss.dtype)
    check("mean_loss", sums, "sums", None, DOUBLE, at_least=1 if divisor else 2)
    check("mean_loss", z, "z", (1,), DOUBLE)
    device.launch(_kernel("mean_loss", loss.itemsize), 1, sums, float(divisor or 0), z, loss)


def loss_scale(weight: np.ndarray, z: np.ndarray, factor: float, scale: np.ndarray) -> None:
    """Compute the factor of the gradients of a loss; see the reference op."""
    check_tensor("loss_scale", weight, "weight", 1)
    check("loss_scale", weight, "weight", (1,), weight.dtype)
    check("loss_scale", z, "z", (1,), DOUBLE)
    check("loss_scale", scale, "scale", (1,), DOUBLE)
    device.launch(_kernel("loss_scale", weight.itemsize), 1, weight, z, float(factor), scale)


def sigmoid_cross_entropy(x: np.ndarray, target: np.ndarray, ignore: int | None, out: np.ndarray) -> None:
    """Sum the cross-entropies of logistic functions; see the reference op."""
    check_tensor("sigmoid_cross_entropy", x, "x")
    check("sigmoid_cross_entropy", target, "target", x.shape, x.dtype)
    check("sigmoid_cross_entropy", out, "out", (2,), DOUBLE)
    sum_places(
        _kernel, "sigmoid_cross_entropy", x.itemsize, x.size, None, out,
        x, target, x.size, int(ignore is not None), ignore or 0, WORK,
    )  # fmt: skip


def sigmoid_cross_entropy_backward(
    x: np.ndarray, target: np.ndarray, ignore: int | None, scale: np.ndarray, dx: np.ndarray
) -> None:
    """Compute the gradient of `sigmoid_cross_entropy`; see the reference op."""
    check_tensor("sigmoid_cross_entropy_backward", x, "x")
    check("sigmoid_cross_entropy_backward", target, "target", x.shape, x.dtype)
    check("sigmoid_cross_entropy_backward", dx, "dx", x.shape, x.dtype)
    check("sigmoid_cross_entropy_backward", scale, "scale", (1,), DOUBLE)
    device.launch_each(
        _kernel("sigmoid_cross_entropy_backward", x.itemsize), x.size,
        x, target, x.size, int(ignore is not None), ignore or 0, scale, dx,
    )  # fmt: skip


def infogain_loss(
    prob: np.ndarray, label: np.ndarray, ignore: int | None, matrix: np.ndarray, out: np.ndarray
) -> None:
    """Sum the losses weighted by a matrix; see the reference op."""
    check_tensor("infogain_loss", prob, "prob", 3)
    check("infogain_loss", matrix, "matrix", prob.shape[1:2] * 2, prob.dtype)
    check("infogain_loss", out, "out", (2,), DOUBLE)
    ignoring = check_labels("infogain_loss", prob, label, ignore)
    sum_places(
        _kernel, "infogain_loss", prob.itemsize, label.size, label_trouble("infogain_loss", prob.shape[1]), out,
        prob, label, label.size, *prob.shape[1:], *ignoring, matrix, WORK,
    )  # fmt: skip


def infogain_loss_backward(
    prob: np.ndarray,
    label: np.ndarray,
    ignore: int | None,
    matrix: np.ndarray,
    scale: np.ndarray,
    dx: np.ndarray,
) -> None:
    """Compute the gradient of `infogain_loss`; see the reference op."""
    op = "infogain_loss_backward"
    check_tensor(op, prob, "prob", 3)
    check(op, matrix, "matrix", prob.shape[1:2] * 2, prob.dtype)
    check(op, dx, "dx", prob.shape, prob.dtype)
    check(op, scale, "scale", (1,), DOUBLE)
    ignoring = _check_backward_labels(op, prob, label, ignore)
    sums = device.scratch(len(matrix))
    device.launch_each(_kernel("sum_rows", prob.itemsize), len(matrix), matrix, *matrix.shape, sums)
    device.launch_each(
        _kernel(op, prob.itemsize), prob.size,
        prob, label, prob.size, *prob.shape[1:], *ignoring, matrix, sums, scale, dx,
    )  # fmt: skip


def multinomial_loss(prob: np.ndarray, label: np.ndarray, out: np.ndarray) -> None:
    """Sum the logistic losses of probabilities; see the reference op."""
    check_tensor("multinomial_loss", prob, "prob", 2)
    check("multinomial_loss", out, "out", (1,), DOUBLE)
    check_labels("multinomial_loss", prob[:, :, None], label, None)
    trouble = label_trouble("multinomial_loss", prob.shape[1])
    sum_places(
        _kernel, "multinomial_loss", prob.itemsize, label.size, trouble, out, prob, label, *prob.shape, WORK
    )


def multinomial_loss_backward(prob: np.ndarray, label: np.ndarray, scale: np.ndarray, dx: np.ndarray) -> None:
    """Compute the gradient of `multinomial_loss`; see the reference op."""
    op = "multinomial_loss_backward"
    check_tensor(op, prob, "prob", 2)
    check(op, dx, "dx", prob.shape, prob.dtype)
    check(op, scale, "scale", (1,), DOUBLE)
    _check_backward_labels(op, prob[:, :, None], label, None)
    device.launch_each(
        _kernel(op, prob.itemsize),
        prob.size,
        prob,
        label,
        prob.size,
        prob.shape[1],
        scale,
        dx,
    )


def hinge_loss(x: np.ndarray, label: np.ndarray, squared: bool, out: np.ndarray) -> None:
    """Sum the hinge losses; see the reference op."""
    check_tensor("hinge_loss", x, "x", 2)
    check("hinge_loss", out, "out", (1,), DOUBLE)
    check_labels("hinge_loss", x[:, :, None], label, None)
    sum_places(
        _kernel, "hinge_loss", x.itemsize, label.size, label_trouble("hinge_loss", x.shape[1]), out,
        x, label, *x.shape, int(squared), WORK,
    )  # fmt: skip


def hinge_loss_backward(
    x: np.ndarray, label: np.ndarray, squared: bool, scale: np.ndarray, dx: np.ndarray
) -> None:
    """Compute the gradient of `hinge_loss`; see the reference op."""
    op = "hinge_loss_backward"
    check_tensor(op, x, "x", 2)
    check(op, dx, "dx", x.shape, x.dtype)
    check(op, scale, "scale", (1,), DOUBLE)
    _check_backward_labels(op, x[:, :, None], label, None)
    device.launch_each(_kernel(op, x.itemsize), x.size, x, label, x.size, x.shape[1], int(squared), scale, dx)


def contrastive_loss(
    square: np.ndarray, similar: np.ndarray, margin: float, legacy: bool, out: np.ndarray
) -> None:
    """Sum the contrastive losses of pairs; see the reference op."""
    check_tensor("contrastive_loss", similar, "similar", 1)
    check("contrastive_loss", square, "square", similar.shape, DOUBLE)
    check("contrastive_loss", out, "out", (1,), DOUBLE)
    sum_places(
        _kernel, "contrastive_loss", similar.itemsize, similar.size, None, out,
        square, similar, similar.size, float(margin), int(legacy), WORK,
    )  # fmt: skip


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
    op, d = "contrastive_loss_backward", difference
    check_tensor(op, d, "difference", 2)
    check(op, square, "square", d.shape[:1], DOUBLE)
    check(op, similar, "similar", d.shape[:1], d.dtype)
    check(op, dx, "dx", d.shape, d.dtype)
    check(op, scale, "scale", (1,), DOUBLE)
    device.launch_each(
        _kernel(op, d.itemsize), d.size,
        d, square, similar, d.size, d.shape[1], float(margin), int(legacy), scale, dx,
    )  # fmt: skip


def _check_backward_labels(op: str, x: np.ndarray, label: np.ndarray, ignore: int | None) -> tuple[int, int]:
    ignoring = check_labels(op, x, label, ignore)
    device.launch(
        _kernel("check_labels", x.itemsize), int(label.size > 0),
        label, label.size, x.shape[1], *ignoring, label_trouble(op, x.shape[1]),
    )  # fmt: skip
    return ignoring
