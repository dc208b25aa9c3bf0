"""BatchNorm with what stands behind it; see ops/reference/batch_norm.py for what is computed."""

from __future__ import annotations

import numpy as np

from caffebn.errors import ArgumentError
from caffebn.ops import threads
from caffebn.ops.cpu.checks import DOUBLE, by_dtype, check, check_tensor
from caffebn.ops.cpu.scratch import scratch
from caffebn.ops.level import kernels

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "fold_statistics",
    "normalize_act",
]

_kernel = kernels("batch_norm")
_scratch_size = _kernel.scratch_size
_batch_norm = by_dtype(_kernel.batch_norm)
_batch_norm_backward = by_dtype(_kernel.batch_norm_backward)
_fold_statistics = by_dtype(_kernel.fold_statistics)
_normalize_act = by_dtype(_kernel.normalize_act)


def batch_norm(
    x: np.ndarray,
    eps: float,
    scale: np.ndarray | None,
    shift: np.ndarray | None,
    residual: np.ndarray | None,
    slope: float | None,
    y: np.ndarray,
    mean_out: np.ndarray,
    var_out: np.ndarray,
    inv_std_out: np.ndarray,
) -> None:
    """Normalise by the statistics of the batch; see the reference op."""
    check_tensor("batch_norm", x, "x", 3)
    vector, dtype = x.shape[1:2], x.dtype
    _check_if_given("batch_norm", scale, "scale", vector, dtype)
    _check_if_given("batch_norm", shift, "shift", vector, dtype)
    _check_if_given("batch_norm", residual, "residual", x.shape, dtype)
    check("batch_norm", y, "y", x.shape, dtype, writable=True)
    check("batch_norm", mean_out, "mean_out", vector, DOUBLE, writable=True)
    check("batch_norm", var_out, "var_out", vector, DOUBLE, writable=True)
    check("batch_norm", inv_std_out, "inv_std_out", vector, DOUBLE, writable=True)
    _batch_norm[x.itemsize](
        x,
        eps,
        scale,
        shift,
        residual,
        1.0 if slope is None else slope,
        y,
        mean_out,
        var_out,
        inv_std_out,
        scratch(_scratch_size(*x.shape), DOUBLE),
        threads.for_work(x.size),
    )


def batch_norm_backward(
    x: np.ndarray,
    mean: np.ndarray,
    inv_std: np.ndarray,
    scale: np.ndarray | None,
    shift: np.ndarray | None,
    y: np.ndarray | None,
    slope: float | None,
    frozen: bool,
    dy: np.ndarray,
    dx: np.ndarray | None,
    dscale: np.ndarray | None,
    dshift: np.ndarray | None,
    dresidual: np.ndarray | None,
) -> None:
    """Compute the gradients of `batch_norm`; see the reference op."""
    op = "batch_norm_backward"
    check_tensor(op, x, "x", 3)
    shape, vector, dtype = x.shape, x.shape[1:2], x.dtype
    check(op, mean, "mean", vector, DOUBLE)
    check(op, inv_std, "inv_std", vector, DOUBLE)
    _check_if_given(op, scale, "scale", vector, dtype)
    _check_if_given(op, shift, "shift", vector, dtype)
    _check_if_given(op, y, "y", shape, dtype)
    check(op, dy, "dy", shape, dtype)
    _check_if_given(op, dx, "dx", shape, dtype, writable=True)
    _check_if_given(op, dscale, "dscale", vector, dtype, writable=True)
    _check_if_given(op, dshift, "dshift", vector, dtype, writable=True)
    _check_if_given(op, dresidual, "dresidual", shape, dtype, writable=True)
    if dx is not None and dx is dresidual:
        raise ArgumentError(f"{op}: dx and dresidual must be two arrays; found one, of shape {shape}")
    _batch_norm_backward[x.itemsize](
        x,
        mean,
        inv_std,
        scale,
        shift,
        y,
        slope is not None,
        1.0 if slope is None else slope,
        frozen,
        dy,
        dx,
        dscale,
        dshift,
        dresidual,
        scratch(_scratch_size(*shape), DOUBLE),
        threads.for_work(x.size),
    )


def normalize_act(
    x: np.ndarray,
    mean: np.ndarray,
    inv_std: np.ndarray,
    scale: np.ndarray | None,
    shift: np.ndarray | None,
    residual: np.ndarray | None,
    slope: float | None,
    y: np.ndarray,
) -> None:
    """Normalise by given statistics, map each channel and rectify; see the reference op."""
    op = "normalize_act"
    check_tensor(op, x, "x", 3)
    vector, dtype = x.shape[1:2], x.dtype
    check(op, mean, "mean", vector, DOUBLE)
    check(op, inv_std, "inv_std", vector, DOUBLE)
    _check_if_given(op, scale, "scale", vector, dtype)
    _check_if_given(op, shift, "shift", vector, dtype)
    _check_if_given(op, residual, "residual", x.shape, dtype)
    check(op, y, "y", x.shape, dtype, writable=True)
    _normalize_act[x.itemsize](
        x,
        mean,
        inv_std,
        scale,
        shift,
        residual,
        1.0 if slope is None else slope,
        y,
        scratch(_scratch_size(*x.shape), DOUBLE),
        threads.for_work(x.size),
    )


def fold_statistics(
    mean: np.ndarray,
    var: np.ndarray,
    eps: float,
    scale: np.ndarray | None,
    shift: np.ndarray | None,
    bias: np.ndarray | None,
    a_out: np.ndarray,
    b_out: np.ndarray,
) -> None:
    """Make an affine map of given statistics; see the reference op."""
    op = "fold_statistics"
    check(op, mean, "mean", None, DOUBLE)
    check(op, var, "var", mean.shape, DOUBLE)
    check_tensor(op, a_out, "a_out", 1, writable=True)
    dtype = a_out.dtype
    check(op, a_out, "a_out", mean.shape, dtype, writable=True)
    check(op, b_out, "b_out", mean.shape, dtype, writable=True)
    _check_if_given(op, scale, "scale", mean.shape, dtype)
    _check_if_given(op, shift, "shift", mean.shape, dtype)
    _check_if_given(op, bias, "bias", mean.shape, dtype)
    _fold_statistics[dtype.itemsize](mean, var, eps, scale, shift, bias, a_out, b_out)


def _check_if_given(
    op: str,
    array: np.ndarray | None,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    writable: bool = False,
) -> None:
    """Check an array that may be left out."""
    if array is not None:
        check(op, array, name, shape, dtype, writable=writable)
