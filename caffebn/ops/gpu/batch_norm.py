"""BatchNorm, Scale, a residual sum and the activation; see ops/reference/batch_norm.py for what is computed."""

from __future__ import annotations

import numpy as np

from caffebn.ops.gpu import device
from caffebn.ops.gpu.channel import blocks_of, moments_of
from caffebn.ops.gpu.checks import DOUBLE, check, check_tensor

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "fold_statistics",
    "normalize_act",
]

_kernel = device.Kernels("batch_norm")


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
    op = "batch_norm"
    _check_tensors(op, x, residual=residual, y=y)
    _check_vectors(op, x, DOUBLE, mean_out=mean_out, var_out=var_out, inv_std_out=inv_std_out)
    _check_vectors(op, x, x.dtype, scale=scale, shift=shift)
    moments_of(x, eps, mean_out, var_out, inv_std_out)
    tensors = (x, y) if residual is None else (x, y, residual)
    _map("normalize_act", tensors, x, mean_out, inv_std_out, scale, shift, residual, *_activation(slope), y)


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
    """Compute the gradients of `batch_norm` or `normalize_act`; see the reference op."""
    op = "batch_norm_backward"
    _check_tensors(op, x, y=y, dy=dy, dx=dx, dresidual=dresidual)
    _check_vectors(op, x, DOUBLE, mean=mean, inv_std=inv_std)
    _check_vectors(op, x, x.dtype, scale=scale, shift=shift, dscale=dscale, dshift=dshift)
    N, C, S = x.shape
    blocks = blocks_of(N, C, S)
    work = device.scratch(2 * C * blocks + 3 * C)
    coefficients = work[2 * C * blocks : 2 * C * blocks + 3 * C]
    common = (x, mean, inv_std, scale, shift, y, *_activation(slope))
    read = [x, dy] if y is None else [x, dy, y]
    if S == 1:
        kernel = _kernel("gradient_columns", x.itemsize)
        device.launch(kernel, -(-C // 32) * blocks, *common, dy, N, C, blocks, work)
    else:
        kernel = _kernel("gradient_planes", x.itemsize, device.width(*read, run=S))
        device.launch(kernel, C * blocks, *common, dy, N, C, S, blocks, work)
    device.launch_each(
        _kernel("gradient_blocks", x.itemsize), 32 * C,
        work, C, blocks, float(max(1, N * S)), inv_std, scale, int(frozen), dscale, dshift, coefficients,
    )  # fmt: skip
    written = [array for array in (dx, dresidual) if array is not None]
    if written:
        _map(op, (*read, *written), *common, int(frozen), dy, coefficients, dx, dresidual)


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
    _check_tensors(op, x, residual=residual, y=y)
    _check_vectors(op, x, DOUBLE, mean=mean, inv_std=inv_std)
    _check_vectors(op, x, x.dtype, scale=scale, shift=shift)
    tensors = (x, y) if residual is None else (x, y, residual)
    _map(op, tensors, x, mean, inv_std, scale, shift, residual, *_activation(slope), y)


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
    """Compute the affine map that a normalisation is; see the reference op."""
    op = "fold_statistics"
    check(op, mean, "mean", None, DOUBLE)
    check(op, var, "var", mean.shape, DOUBLE)
    check_tensor(op, a_out, "a_out", 1)
    dtype = a_out.dtype
    for name, vector in (("scale", scale), ("shift", shift), ("bias", bias)):
        if vector is not None:
            check(op, vector, name, mean.shape, dtype)
    for name, out in (("a_out", a_out), ("b_out", b_out)):
        check(op, out, name, mean.shape, dtype)
    n = mean.size
    kernel = _kernel("fold_statistics", dtype.itemsize)
    device.launch_each(kernel, n, mean, var, float(eps), scale, shift, bias, a_out, b_out, n)


def _activation(slope: float | None) -> tuple[int, float]:
    return int(slope is not None), float(slope or 0)


def _map(name: str, tensors: tuple[np.ndarray, ...], *arguments: object) -> None:
    """Run a kernel with one thread for each vector of the tensors."""
    _, C, S = tensors[0].shape
    wide = device.width(*tensors, run=S)
    vectors = tensors[0].size // wide
    device.launch_each(_kernel(name, tensors[0].itemsize, wide), vectors, *arguments, vectors, C, S)


def _check_tensors(op: str, x: np.ndarray, **others: np.ndarray | None) -> None:
    """Check x and tensors of its shape, of which some may be left out."""
    check_tensor(op, x, "x", 3)
    for name, array in others.items():
        if array is not None or name == "dy" or (name == "y" and op != "batch_norm_backward"):
            check(op, array, name, x.shape, x.dtype)


def _check_vectors(op: str, x: np.ndarray, dtype: np.dtype, **vectors: np.ndarray | None) -> None:
    """Check vectors over the channels of x; those in double precision cannot be left out."""
    needed = ("mean_out", "var_out", "inv_std_out", "mean", "inv_std")
    for name, vector in vectors.items():
        if vector is not None or name in needed:
            check(op, vector, name, x.shape[1:2], dtype)
