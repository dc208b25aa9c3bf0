"""BatchNorm with what stands behind it; see ops/reference/batch_norm.py for what is computed."""

from __future__ import annotations

import numpy as np

from caffebn.errors import ArgumentError
from caffebn.ops import threads
from caffebn.ops.cpu.checks import DOUBLE, by_dtype, check, check_tensor
from caffebn.ops.cpu.scratch import scratch
from caffebn.ops.level import kernels

__all__ = [
    "affine_act",
    "batch_norm",
    "batch_norm_backward",
    "fold_statistics",
]

_kernel = kernels("batch_norm")
_scratch_size = _kernel.scratch_size
_batch_norm = by_dtype(_kernel.batch_norm)
_batch_norm_backward = by_dtype(_kernel.batch_norm_backward)
_affine_act = by_dtype(_kernel.affine_act)
_fold_statistics = by_dtype(_kernel.fold_statistics)


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


def affine_act(
    x: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    residual: np.ndarray | None,
    slope: float | None,
    y: np.ndarray,
) -> None:
    """Map each channel and rectify; see the reference op."""
    check_tensor("affine_act", x, "x", 3)
    check("affine_act", a, "a", x.shape[1:2], DOUBLE)
    check("affine_act", b, "b", x.shape[1:2], DOUBLE)
    _check_if_given("affine_act", residual, "residual", x.shape, x.dtype)
    check("affine_act", y, "y", x.shape, x.dtype, writable=True)
    work = scratch(_scratch_size(*x.shape), DOUBLE)
    negative = 1.0 if slope is None else slope
    _affine_act[x.itemsize](x, a, b, residual, negative, y, work, threads.for_work(x.size))


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
    dtype = getattr(a_out, "dtype", DOUBLE)
    for vector, name in ((scale, "scale"), (shift, "shift"), (bias, "bias")):
        if vector is not None:
            check_tensor(op, vector, name, 1)
            dtype = vector.dtype
            break
    _check_if_given(op, scale, "scale", mean.shape, dtype)
    _check_if_given(op, shift, "shift", mean.shape, dtype)
    _check_if_given(op, bias, "bias", mean.shape, dtype)
    out_dtype = DOUBLE if getattr(a_out, "dtype", None) == DOUBLE else dtype
    check(op, a_out, "a_out", mean.shape, out_dtype, writable=True)
    check(op, b_out, "b_out", mean.shape, out_dtype, writable=True)
    outputs = (None, None, a_out, b_out) if out_dtype != dtype else (a_out, b_out, None, None)
    _fold_statistics[dtype.itemsize](mean, var, eps, scale, shift, bias, *outputs)


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
