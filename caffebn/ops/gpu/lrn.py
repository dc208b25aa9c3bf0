"""Local response normalisation; see ops/reference/lrn.py for what is computed."""

from __future__ import annotations

import numpy as np

from caffebn.ops.gpu import device
from caffebn.ops.gpu.checks import check, check_tensor

__all__ = ["lrn_across", "lrn_across_backward", "lrn_within", "lrn_within_backward"]

_kernel = device.Kernels("lrn")


def lrn_across(
    x: np.ndarray, scale: np.ndarray, y: np.ndarray, size: int, alpha: float, beta: float, k: float
) -> None:
    """Divide by a power of the squares of neighbouring channels; see the reference op."""
    _check("lrn_across", x=x, scale=scale, y=y)
    C, S = x.shape[1], x.shape[2] * x.shape[3]
    device.launch_each(
        _kernel("lrn_across", x.itemsize), x.size,
        x, scale, y, x.size, C, S, size, float(alpha), float(beta), float(k),
    )  # fmt: skip


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
    _check("lrn_across_backward", x=x, y=y, scale=scale, dy=dy, dx=dx)
    C, S = x.shape[1], x.shape[2] * x.shape[3]
    device.launch_each(
        _kernel("lrn_across_backward", x.itemsize), x.size,
        x, y, scale, dy, dx, x.size, C, S, size, float(alpha), float(beta),
    )  # fmt: skip


def lrn_within(x: np.ndarray, scale: np.ndarray, y: np.ndarray, size: int, alpha: float, beta: float) -> None:
    """Divide by a power of the squares around each place; see the reference op."""
    _check("lrn_within", x=x, scale=scale, y=y)
    device.launch_each(
        _kernel("lrn_within", x.itemsize), x.size,
        x, scale, y, x.size, *x.shape[2:], size, float(alpha), float(beta),
    )  # fmt: skip


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
    _check("lrn_within_backward", x=x, y=y, scale=scale, dy=dy, dx=dx)
    device.launch_each(
        _kernel("lrn_within_backward", x.itemsize), x.size,
        x, y, scale, dy, dx, x.size, *x.shape[2:], size, float(alpha), float(beta),
    )  # fmt: skip


def _check(op: str, **arrays: np.ndarray) -> None:
    """Check tensors of one shape."""
    (name, first), *others = arrays.items()
    check_tensor(op, first, name, 4)
    for name, array in others:
        check(op, array, name, first.shape, first.dtype)
