"""Softmax, its loss, accuracy, and the largest scores; see ops/reference/softmax.py for what is computed."""

from __future__ import annotations

import numpy as np

from caffebn.errors import ArgumentError
from caffebn.ops import threads
from caffebn.ops.cpu.checks import DOUBLE, by_dtype, check, check_tensor
from caffebn.ops.cpu.labels import check_labels
from caffebn.ops.level import kernels

__all__ = [
    "accuracy",
    "arg_max",
    "shares",
    "softmax",
    "softmax_backward",
    "softmax_loss",
    "softmax_loss_backward",
]

_kernel = kernels("softmax")
_softmax = by_dtype(_kernel.softmax)
_softmax_backward = by_dtype(_kernel.softmax_backward)
_softmax_loss = by_dtype(_kernel.softmax_loss)
_softmax_loss_backward = by_dtype(_kernel.softmax_loss_backward)
_accuracy = by_dtype(_kernel.accuracy)
_arg_max = by_dtype(_kernel.arg_max)
_shares = by_dtype(_kernel.shares)

# An exponential takes about as long as reading so many elements
_TRANSCENDENTAL = 4


def softmax(x: np.ndarray, y: np.ndarray) -> None:
    """Compute the probabilities of the classes; see the reference op."""
    check_tensor("softmax", x, "x", 3)
    check("softmax", y, "y", x.shape, x.dtype, writable=True)
    _softmax[x.itemsize](x, y, threads.for_work(x.size * _TRANSCENDENTAL))


def softmax_backward(y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """Compute the gradient of the softmax; see the reference op."""
    check_tensor("softmax_backward", y, "y", 3)
    check("softmax_backward", dy, "dy", y.shape, y.dtype)
    check("softmax_backward", dx, "dx", y.shape, y.dtype, writable=True)
    _softmax_backward[y.itemsize](y, dy, dx, threads.for_work(y.size))


def softmax_loss(prob: np.ndarray, label: np.ndarray, ignore: int | None, out: np.ndarray) -> None:
    """Sum the losses of all places; see the reference op."""
    check_tensor("softmax_loss", prob, "prob", 3)
    check("softmax_loss", out, "out", (2,), DOUBLE, writable=True)
    has_ignore, ignored = check_labels("softmax_loss", prob, label, ignore)
    n_threads = threads.for_work(label.size * _TRANSCENDENTAL)
    _softmax_loss[prob.itemsize](prob, label, has_ignore, ignored, out, n_threads)


def softmax_loss_backward(
    prob: np.ndarray, label: np.ndarray, ignore: int | None, scale: np.ndarray, dx: np.ndarray
) -> None:
    """Compute the gradient of the loss by the scores; see the reference op."""
    check_tensor("softmax_loss_backward", prob, "prob", 3)
    check("softmax_loss_backward", scale, "scale", (1,), DOUBLE)
    check("softmax_loss_backward", dx, "dx", prob.shape, prob.dtype, writable=True)
    has_ignore, ignored = check_labels("softmax_loss_backward", prob, label, ignore)
    n_threads = threads.for_work(prob.size)
    _softmax_loss_backward[prob.itemsize](prob, label, has_ignore, ignored, scale, dx, n_threads)


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
    check("accuracy", out, "out", (2,), DOUBLE, writable=True)
    if class_hits is not None:
        check("accuracy", class_hits, "class_hits", x.shape[1:2], DOUBLE, writable=True)
    if class_counts is not None:
        check("accuracy", class_counts, "class_counts", x.shape[1:2], DOUBLE, writable=True)
    if top_k < 1:
        raise ArgumentError(f"accuracy: top_k must be 1 or more; found {top_k}")
    has_ignore, ignored = check_labels("accuracy", x, label, ignore)
    n_threads = threads.for_work(x.size)
    _accuracy[x.itemsize](x, label, has_ignore, ignored, top_k, out, class_hits, class_counts, n_threads)


def shares(part: np.ndarray, whole: np.ndarray, y: np.ndarray) -> None:
    """Divide numbers of places; see the reference op."""
    check_tensor("shares", y, "y", 1, writable=True)
    check("shares", part, "part", y.shape, DOUBLE)
    check("shares", whole, "whole", y.shape, DOUBLE)
    _shares[y.itemsize](part, whole, y)


def arg_max(x: np.ndarray, index: np.ndarray | None, value: np.ndarray | None) -> None:
    """Find the largest scores; see the reference op."""
    check_tensor("arg_max", x, "x", 3)
    (n, classes, places), top_k = x.shape, 0
    for name, out in (("index", index), ("value", value)):
        if out is not None:
            top_k = top_k or (out.shape[1] if isinstance(out, np.ndarray) and out.ndim == 3 else 1)
            check("arg_max", out, name, (n, top_k, places), x.dtype, writable=True)
    if not 1 <= top_k <= classes:
        raise ArgumentError(f"arg_max: expected room for 1 to {classes} of the scores, found {top_k}")
    _arg_max[x.itemsize](x, top_k, index, value, threads.for_work(x.size * top_k))
