"""Local response normalisation; see ops/reference/lrn.py for what is computed."""

from __future__ import annotations

import numpy as np

from caffebn.errors import ArgumentError
from caffebn.ops import threads
from caffebn.ops.cpu.checks import by_dtype, check, check_tensor
from caffebn.ops.level import kernels

__all__ = ["lrn_across", "lrn_across_backward", "lrn_within", "lrn_within_backward"]

_kernel = kernels("lrn")
_lrn_across = by_dtype(_kernel.lrn_across)
_lrn_across_backward = by_dtype(_kernel.lrn_across_backward)
_lrn_within = by_dtype(_kernel.lrn_within)
_lrn_within_backward = by_dtype(_kernel.lrn_within_backward)


def lrn_across(
    x: np.ndarray, scale: np.ndarray, y: np.ndarray, size: int, alpha: float, beta: float, k: float
) -> None:
    """Normalise by neighbouring channels; see the reference op."""
    _check_forward("lrn_across", x, scale, y, size)
    _lrn_across[x.itemsize](x, scale, y, size, alpha, beta, k, threads.for_work(x.size * size))


def lrn_across_backward(
    x: np.ndarray,
    y: np.ndarray,
    scale: np.ndarray,
    dy: np.ndarray,
    dx: np.ndarray,
    size: int,
    alpha: float,
    beta: float,
) -> None:
    """Compute the gradient of `lrn_across`; see the reference op."""
    _check_backward("lrn_across_backward", x, y, scale, dy, dx, size)
    n_threads = threads.for_work(x.size * size)
    _lrn_across_backward[x.itemsize](x, y, scale, dy, dx, size, alpha, beta, n_threads)


def lrn_within(x: np.ndarray, scale: np.ndarray, y: np.ndarray, size: int, alpha: float, beta: float) -> None:
    """Normalise by the places around; see the reference op."""
    _check_forward("lrn_within", x, scale, y, size)
    _lrn_within[x.itemsize](x, scale, y, size, alpha, beta, threads.for_work(x.size * size))


def lrn_within_backward(
    x: np.ndarray,
    y: np.ndarray,
    scale: np.ndarray,
    dy: np.ndarray,
    dx: np.ndarray,
    size: int,
    alpha: float,
    beta: float,
) -> None:
    """Compute the gradient of `lrn_within`; see the reference op."""
    _check_backward("lrn_within_backward", x, y, scale, dy, dx, size)
    n_threads = threads.for_work(x.size * size)
    _lrn_within_backward[x.itemsize](x, y, scale, dy, dx, size, alpha, beta, n_threads)


def _check_forward(op: str, x: np.ndarray, scale: np.ndarray, y: np.ndarray, size: int) -> None:
    check_tensor(op, x, "x", 4)
    check(op, scale, "scale", x.shape, x.dtype, writable=True)
    check(op, y, "y", x.shape, x.dtype, writable=True)
    _check_size(op, size)


def _check_backward(
    op: str, x: np.ndarray, y: np.ndarray, scale: np.ndarray, dy: np.ndarray, dx: np.ndarray, size: int
) -> None:
    check_tensor(op, x, "x", 4)
    check(op, y, "y", x.shape, x.dtype)
    check(op, scale, "scale", x.shape, x.dtype)
    check(op, dy, "dy", x.shape, x.dtype)
    check(op, dx, "dx", x.shape, x.dtype, writable=True)
    _check_size(op, size)


def _check_size(op: str, size: int) -> None:
    if size < 1 or size % 2 == 0:
        raise ArgumentError(f"{op}: size must be an odd number, for a window has a middle; found {size}")
