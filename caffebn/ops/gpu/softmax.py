"""Softmax, its loss, accuracy, and the largest scores; see ops/reference/softmax.py for what is computed.

A label that is no class does not count; it is raised with the next copy to the host, not here.
"""

from __future__ import annotations

import numpy as np

from caffebn.errors import ArgumentError
from caffebn.ops.gpu import device
from caffebn.ops.gpu.checks import DOUBLE, check, check_tensor
from caffebn.ops.gpu.labels import WORK, check_labels, label_trouble, sum_places, work_size

__all__ = [
    "accuracy",
    "arg_max",
    "shares",
    "softmax",
    "softmax_backward",
    "softmax_loss",
    "softmax_loss_backward",
]

_kernel = device.Kernels("softmax")

# From so many places on in a row, neighbouring threads take neighbouring places; below, a block has one place
_ROW = 16


def softmax(x: np.ndarray, y: np.ndarray) -> None:
    """Compute the probabilities of the classes; see the reference op."""
    check_tensor("softmax", x, "x", 3)
    check("softmax", y, "y", x.shape, x.dtype)
    _over_classes("softmax", x, y)


def softmax_backward(y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """Compute the gradient of `softmax`; see the reference op."""
    check_tensor("softmax_backward", y, "y", 3)
    check("softmax_backward", dy, "dy", y.shape, y.dtype)
    check("softmax_backward", dx, "dx", y.shape, y.dtype)
    _over_classes("softmax_backward", y, dy, dx)


def _over_classes(name: str, *tensors: np.ndarray) -> None:
    N, C, S = tensors[0].shape
    if C == 0:
        return
    if S < _ROW:
        device.launch(_kernel(f"{name}_blocks", tensors[0].itemsize), N * S, *tensors, C, S)
    else:
        device.launch_each(_kernel(f"{name}_threads", tensors[0].itemsize), N * S, *tensors, N * S, C, S)


def softmax_loss(prob: np.ndarray, label: np.ndarray, ignore: int | None, out: np.ndarray) -> None:
    """Sum the losses of all places; see the reference op."""
    check_tensor("softmax_loss", prob, "prob", 3)
    check("softmax_loss", out, "out", (2,), DOUBLE)
    ignoring = check_labels("softmax_loss", prob, label, ignore)
    trouble = label_trouble("softmax_loss", prob.shape[1])
    sum_places(
        _kernel, "softmax_loss", prob.itemsize, label.size, trouble, out,
        prob, label, label.size, *prob.shape[1:], *ignoring, WORK,
    )  # fmt: skip


def softmax_loss_backward(
    prob: np.ndarray, label: np.ndarray, ignore: int | None, scale: np.ndarray, dx: np.ndarray
) -> None:
    """Compute the gradient of the loss by the scores; see the reference op."""
    check_tensor("softmax_loss_backward", prob, "prob", 3)
    check("softmax_loss_backward", dx, "dx", prob.shape, prob.dtype)
    check("softmax_loss_backward", scale, "scale", (1,), DOUBLE)
    ignoring = check_labels("softmax_loss_backward", prob, label, ignore)
    trouble = label_trouble("softmax_loss_backward", prob.shape[1])
    size, C = prob.itemsize, prob.shape[1]
    device.launch(
        _kernel("check_labels", size), int(label.size > 0), label, label.size, C, *ignoring, trouble
    )
    device.launch_each(
        _kernel("softmax_loss_backward", size), prob.size,
        prob, label, prob.size, *prob.shape[1:], *ignoring, scale, dx,
    )  # fmt: skip


def accuracy(
    x: np.ndarray,
    label: np.ndarray,
    ignore: int | None,
    top_k: int,
    out: np.ndarray,
    class_hits: np.ndarray | None,
    class_counts: np.ndarray | None,
) -> None:
    """Count the places whose label is among the best scores; see the reference op."""
    check_tensor("accuracy", x, "x", 3)
    check("accuracy", out, "out", (2,), DOUBLE)
    for name, vector in (("class_hits", class_hits), ("class_counts", class_counts)):
        if vector is not None:
            check("accuracy", vector, name, x.shape[1:2], DOUBLE)
    ignoring = check_labels("accuracy", x, label, ignore)
    if top_k < 1:
        raise ArgumentError(f"accuracy: top_k must be at least 1; found {top_k}")
    by_class = class_hits is not None or class_counts is not None
    # behind what the blocks leave, in the same scratch
    n = label.size
    hits = device.scratch(work_size(n) + n)[work_size(n) :] if by_class else None
    sum_places(
        _kernel, "accuracy", x.itemsize, label.size, label_trouble("accuracy", x.shape[1]), out,
        x, label, label.size, *x.shape[1:], *ignoring, top_k, WORK, hits,
    )  # fmt: skip
    if by_class:
        device.launch(_kernel("accuracy_classes", 0), x.shape[1], hits, label.size, class_hits, class_counts)


def arg_max(x: np.ndarray, index: np.ndarray | None, value: np.ndarray | None) -> None:
    """Find the largest scores of each place; see the reference op."""
    check_tensor("arg_max", x, "x", 3)
    given = [(name, array) for name, array in (("index", index), ("value", value)) if array is not None]
    if not given:
        return
    N, C, S = x.shape
    K = given[0][1].shape[1] if getattr(given[0][1], "ndim", 0) == 3 else 0
    for name, array in given:
        check("arg_max", array, name, (N, K, S), x.dtype)
    if not 1 <= K <= max(C, 1):
        raise ArgumentError(f"arg_max: {given[0][0]} must hold 1 to {C} of the {C} scores; found {K}")
    device.launch_each(_kernel("arg_max", x.itemsize), N * S, x, N * S, C, S, K, index, value)


def shares(part: np.ndarray, whole: np.ndarray, y: np.ndarray) -> None:
    """Divide by how many there were; see the reference op."""
    check_tensor("shares", y, "y", 1)
    check("shares", part, "part", y.shape, DOUBLE)
    check("shares", whole, "whole", y.shape, DOUBLE)
    device.launch_each(_kernel("shares", y.itemsize), y.size, part, whole, y, y.size)
