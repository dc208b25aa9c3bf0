"""Sums and maps per channel; see ops/reference/channel.py for what is computed."""

from __future__ import annotations

import numpy as np

from caffebn.ops import threads
from caffebn.ops.cpu.calls import Launcher
from caffebn.ops.cpu.checks import DOUBLE, by_dtype, check, check_tensor
from caffebn.ops.cpu.scratch import scratch
from caffebn.ops.level import kernels

__all__ = [
    "affine",
    "channel_dot",
    "channel_sum",
    "inv_deviation",
    "inv_std",
    "moments",
    "normalize",
    "normalize_backward",
    "prelu",
    "prelu_backward",
    "stored_statistics",
    "update_statistics",
]

_kernel = kernels("channel")
_scratch_size = _kernel.scratch_size
_inv_std = Launcher(_kernel.inv_std)
_inv_deviation = Launcher(_kernel.inv_deviation)
_channel_sum = by_dtype(_kernel.channel_sum)
_channel_dot = by_dtype(_kernel.channel_dot)
_moments = by_dtype(_kernel.moments)
_stored_statistics = by_dtype(_kernel.stored_statistics)
_update_statistics = by_dtype(_kernel.update_statistics)
_normalize = by_dtype(_kernel.normalize)
_normalize_backward = by_dtype(_kernel.normalize_backward)
_affine = by_dtype(_kernel.affine)
_prelu = by_dtype(_kernel.prelu)
_prelu_backward = by_dtype(_kernel.prelu_backward)


def channel_sum(x: np.ndarray, out: np.ndarray, accumulate: bool = False) -> None:
    """Sum each channel; see the reference op."""
    check_tensor("channel_sum", x, "x", 3)
    _check_float_vector("channel_sum", out, "out", x, writable=True)
    work = scratch(_scratch_size(*x.shape), DOUBLE)
    _channel_sum[x.itemsize](x, *_by_dtype_of(x, out), accumulate, work, threads.for_work(x.size))


def channel_dot(x: np.ndarray, y: np.ndarray, out: np.ndarray, accumulate: bool = False) -> None:
    """Multiply and sum each channel; see the reference op."""
    check_tensor("channel_dot", x, "x", 3)
    check("channel_dot", y, "y", x.shape, x.dtype)
    _check_float_vector("channel_dot", out, "out", x, writable=True)
    work = scratch(_scratch_size(*x.shape), DOUBLE)
    _channel_dot[x.itemsize](x, y, *_by_dtype_of(x, out), accumulate, work, threads.for_work(x.size))


def moments(x: np.ndarray, mean_out: np.ndarray, var_out: np.ndarray) -> None:
    """Compute mean and biased variance of each channel; see the reference op."""
    check_tensor("moments", x, "x", 3)
    channels = x.shape[1:2]
    check("moments", mean_out, "mean_out", channels, DOUBLE, writable=True)
    check("moments", var_out, "var_out", channels, DOUBLE, writable=True)
    work = scratch(_scratch_size(*x.shape), DOUBLE)
    _moments[x.itemsize](x, mean_out, var_out, work, threads.for_work(x.size))


def inv_std(var: np.ndarray, eps: float, out: np.ndarray) -> None:
    """Compute the inverse standard deviation; see the reference op."""
    check("inv_std", var, "var", None, DOUBLE)
    check("inv_std", out, "out", var.shape, DOUBLE, writable=True)
    _inv_std(var, eps, out)


def inv_deviation(var: np.ndarray, eps: float, out: np.ndarray) -> None:
    """Compute the inverse of the standard deviation and a constant; see the reference op."""
    check("inv_deviation", var, "var", None, DOUBLE)
    check("inv_deviation", out, "out", var.shape, DOUBLE, writable=True)
    _inv_deviation(var, eps, out)


def stored_statistics(
    sum_mean: np.ndarray, sum_var: np.ndarray, factor: np.ndarray, mean_out: np.ndarray, var_out: np.ndarray
) -> None:
    """Divide the stored sums by their factor; see the reference op."""
    check_tensor("stored_statistics", sum_mean, "sum_mean", 1)
    check("stored_statistics", sum_var, "sum_var", sum_mean.shape, sum_mean.dtype)
    check("stored_statistics", factor, "factor", (1,), sum_mean.dtype)
    check("stored_statistics", mean_out, "mean_out", sum_mean.shape, DOUBLE, writable=True)
    check("stored_statistics", var_out, "var_out", sum_mean.shape, DOUBLE, writable=True)
    _stored_statistics[sum_mean.itemsize](sum_mean, sum_var, factor, mean_out, var_out)


def update_statistics(
    mean: np.ndarray,
    var: np.ndarray,
    count: int,
    fraction: float,
    sum_mean: np.ndarray,
    sum_var: np.ndarray,
    factor: np.ndarray,
) -> None:
    """Take a batch into the stored sums; see the reference op."""
    check_tensor("update_statistics", sum_mean, "sum_mean", 1, writable=True)
    check("update_statistics", sum_var, "sum_var", sum_mean.shape, sum_mean.dtype, writable=True)
    check("update_statistics", factor, "factor", (1,), sum_mean.dtype, writable=True)
    check("update_statistics", mean, "mean", sum_mean.shape, DOUBLE)
    check("update_statistics", var, "var", sum_mean.shape, DOUBLE)
    _update_statistics[sum_mean.itemsize](mean, var, count, fraction, sum_mean, sum_var, factor)


def normalize(x: np.ndarray, mean: np.ndarray, inv_std: np.ndarray, y: np.ndarray) -> None:
    """Subtract the mean and multiply; see the reference op."""
    check_tensor("normalize", x, "x", 3)
    check("normalize", mean, "mean", x.shape[1:2], DOUBLE)
    check("normalize", inv_std, "inv_std", x.shape[1:2], DOUBLE)
    check("normalize", y, "y", x.shape, x.dtype, writable=True)
    work = scratch(_scratch_size(*x.shape), DOUBLE)
    _normalize[x.itemsize](x, mean, inv_std, y, work, threads.for_work(x.size))


def normalize_backward(dy: np.ndarray, y: np.ndarray, inv_std: np.ndarray, dx: np.ndarray) -> None:
    """Compute the gradient of a normalisation by batch statistics; see the reference op."""
    check_tensor("normalize_backward", dy, "dy", 3)
    check("normalize_backward", y, "y", dy.shape, dy.dtype)
    check("normalize_backward", inv_std, "inv_std", dy.shape[1:2], DOUBLE)
    check("normalize_backward", dx, "dx", dy.shape, dy.dtype, writable=True)
    work = scratch(_scratch_size(*dy.shape), DOUBLE)
    _normalize_backward[dy.itemsize](dy, y, inv_std, dx, work, threads.for_work(dy.size))


def affine(x: np.ndarray, scale: np.ndarray | None, shift: np.ndarray | None, y: np.ndarray) -> None:
    """Scale and shift each channel; see the reference op."""
    check_tensor("affine", x, "x", 3)
    check("affine", y, "y", x.shape, x.dtype, writable=True)
    if scale is not None:
        _check_float_vector("affine", scale, "scale", x)
    if shift is not None:
        _check_float_vector("affine", shift, "shift", x)
    work = scratch(_scratch_size(*x.shape), DOUBLE)
    vectors = *_by_dtype_of(x, scale), *_by_dtype_of(x, shift)
    _affine[x.itemsize](x, *vectors, y, work, threads.for_work(x.size))


def prelu(x: np.ndarray, slope: np.ndarray, y: np.ndarray) -> None:
    """Rectify with a slope for each channel; see the reference op."""
    check_tensor("prelu", x, "x", 3)
    check("prelu", slope, "slope", x.shape[1:2], x.dtype)
    check("prelu", y, "y", x.shape, x.dtype, writable=True)
    work = scratch(_scratch_size(*x.shape), DOUBLE)
    _prelu[x.itemsize](x, slope, y, work, threads.for_work(x.size))


def prelu_backward(x: np.ndarray, dy: np.ndarray, slope: np.ndarray, dx: np.ndarray) -> None:
    """Compute the gradient of `prelu`; see the reference op."""
    check_tensor("prelu_backward", x, "x", 3)
    check("prelu_backward", dy, "dy", x.shape, x.dtype)
    check("prelu_backward", slope, "slope", x.shape[1:2], x.dtype)
    check("prelu_backward", dx, "dx", x.shape, x.dtype, writable=True)
    work = scratch(_scratch_size(*x.shape), DOUBLE)
    _prelu_backward[x.itemsize](x, dy, slope, dx, work, threads.for_work(x.size))


def _check_float_vector(
    op: str, vector: np.ndarray, name: str, x: np.ndarray, writable: bool = False
) -> None:
    """Check a vector over the channels of x, in the dtype of x or in float64."""
    dtype = DOUBLE if getattr(vector, "dtype", None) == DOUBLE else x.dtype
    check(op, vector, name, x.shape[1:2], dtype, writable=writable)


def _by_dtype_of(x: np.ndarray, vector: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the vector as the kernels take it: of the dtype of x, or else in float64, and None for the other."""
    return (vector, None) if vector is None or vector.dtype == x.dtype else (None, vector)
