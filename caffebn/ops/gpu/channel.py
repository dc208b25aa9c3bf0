"""Sums and maps per channel; see ops/reference/channel.py for what is computed."""

from __future__ import annotations

import numpy as np

from caffebn.ops.gpu import device
from caffebn.ops.gpu.checks import DOUBLE, check, check_float_vector, check_tensor
from caffebn.ops.gpu.device import launch, launch_each

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

_kernel = device.Kernels("channel")

# Values that a block of the first kernel of a sum reads: few enough that a second look finds them in the cache
_VALUES = 8192
_FEWEST = 1024
# As many blocks as keep a large device busy
_BLOCKS = 1024
# Channels, and images, of a block where S is 1
_COLUMNS = 32
_ROWS = 8


def channel_sum(x: np.ndarray, out: np.ndarray, accumulate: bool = False) -> None:
    """Sum each channel; see the reference op."""
    check_tensor("channel_sum", x, "x", 3)
    check_float_vector("channel_sum", out, "out", x)
    work, blocks = _first("sum", x)
    _second(work, blocks, 0, out, accumulate)


def channel_dot(x: np.ndarray, y: np.ndarray, out: np.ndarray, accumulate: bool = False) -> None:
    """Multiply and sum each channel; see the reference op."""
    check_tensor("channel_dot", x, "x", 3)
    check("channel_dot", y, "y", x.shape, x.dtype)
    check_float_vector("channel_dot", out, "out", x)
    work, blocks = _first("dot", x, y)
    _second(work, blocks, 1, out, accumulate)


def moments(x: np.ndarray, mean_out: np.ndarray, var_out: np.ndarray) -> None:
    """Compute mean and biased variance of each channel; see the reference op."""
    check_tensor("moments", x, "x", 3)
    check("moments", mean_out, "mean_out", x.shape[1:2], DOUBLE)
    check("moments", var_out, "var_out", x.shape[1:2], DOUBLE)
    moments_of(x, 0.0, mean_out, var_out, None)


def moments_of(
    x: np.ndarray, eps: float, mean_out: np.ndarray, var_out: np.ndarray, inv_std_out: np.ndarray | None
) -> None:
    """Compute mean, biased variance and, if wanted, the inverse standard deviation of each channel."""
    N, C, S = x.shape
    work, blocks = _first("moments", x)
    wide = 1 if S == 1 else device.width(x, run=S)
    launch_each(
        _kernel("moments_blocks", 0),
        32 * C,
        work,
        C,
        N * S // wide,
        wide,
        blocks,
        eps,
        mean_out,
        var_out,
        inv_std_out,
    )


def inv_std(var: np.ndarray, eps: float, out: np.ndarray) -> None:
    """Compute the inverse standard deviation; see the reference op."""
    check("inv_std", var, "var", None, DOUBLE)
    check("inv_std", out, "out", var.shape, DOUBLE)
    launch_each(_kernel("inv_std", 0), var.size, var, float(eps), out, var.size)


def inv_deviation(var: np.ndarray, eps: float, out: np.ndarray) -> None:
    """Compute the inverse of the standard deviation and a constant; see the reference op."""
    check("inv_deviation", var, "var", None, DOUBLE)
    check("inv_deviation", out, "out", var.shape, DOUBLE)
    launch_each(_kernel("inv_deviation", 0), var.size, var, float(eps), out, var.size)


def stored_statistics(
    sum_mean: np.ndarray, sum_var: np.ndarray, factor: np.ndarray, mean_out: np.ndarray, var_out: np.ndarray
) -> None:
    """Divide the stored sums by their factor; see the reference op."""
    check_tensor("stored_statistics", sum_mean, "sum_mean", 1)
    check("stored_statistics", sum_var, "sum_var", sum_mean.shape, sum_mean.dtype)
    check("stored_statistics", factor, "factor", (1,), sum_mean.dtype)
    check("stored_statistics", mean_out, "mean_out", sum_mean.shape, DOUBLE)
    check("stored_statistics", var_out, "var_out", sum_mean.shape, DOUBLE)
    kernel = _kernel("stored_statistics", sum_mean.itemsize)
    launch_each(kernel, sum_mean.size, sum_mean, sum_var, factor, mean_out, var_out, sum_mean.size)


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
    check_tensor("update_statistics", sum_mean, "sum_mean", 1)
    check("update_statistics", sum_var, "sum_var", sum_mean.shape, sum_mean.dtype)
    check("update_statistics", factor, "factor", (1,), sum_mean.dtype)
    check("update_statistics", mean, "mean", sum_mean.shape, DOUBLE)
    check("update_statistics", var, "var", sum_mean.shape, DOUBLE)
    k = count / (count - 1) if count > 1 else 1.0
    kernel, n = _kernel("update_statistics", sum_mean.itemsize), sum_mean.size
    launch_each(kernel, max(n, 1), mean, var, k, float(fraction), sum_mean, sum_var, factor, n)


def normalize(x: np.ndarray, mean: np.ndarray, inv_std: np.ndarray, y: np.ndarray) -> None:
    """Subtract the mean and multiply; see the reference op."""
    check_tensor("normalize", x, "x", 3)
    check("normalize", mean, "mean", x.shape[1:2], DOUBLE)
    check("normalize", inv_std, "inv_std", x.shape[1:2], DOUBLE)
    check("normalize", y, "y", x.shape, x.dtype)
    _map("normalize", (x, y), x, mean, inv_std, y)


def normalize_backward(dy: np.ndarray, y: np.ndarray, inv_std: np.ndarray, dx: np.ndarray) -> None:
    """Compute the gradient of a normalisation by batch statistics; see the reference op."""
    check_tensor("normalize_backward", dy, "dy", 3)
    check("normalize_backward", y, "y", dy.shape, dy.dtype)
    check("normalize_backward", inv_std, "inv_std", dy.shape[1:2], DOUBLE)
    check("normalize_backward", dx, "dx", dy.shape, dy.dtype)
    N, C, S = dy.shape
    work, blocks = _first("dot", dy, y)
    sums = work[work.size - 2 * C :]
    for which in range(2):
        _second(work, blocks, which, sums[which * C : (which + 1) * C], False)
    _map("normalize_backward", (dy, y, dx), dy, y, inv_std, sums[:C], sums[C:], float(max(1, N * S)), dx)


def affine(x: np.ndarray, scale: np.ndarray | None, shift: np.ndarray | None, y: np.ndarray) -> None:
    """Scale and shift each channel; see the reference op."""
    check_tensor("affine", x, "x", 3)
    check("affine", y, "y", x.shape, x.dtype)
    vectors: list[object] = []
    for name, vector in (("scale", scale), ("shift", shift)):
        if vector is not None:
            check_float_vector("affine", vector, name, x)
        vectors += [int(vector is not None and vector.dtype == DOUBLE), vector]
    _map("affine", (x, y), x, *vectors, y)


def prelu(x: np.ndarray, slope: np.ndarray, y: np.ndarray) -> None:
    """Rectify with a slope for each channel; see the reference op."""
    check_tensor("prelu", x, "x", 3)
    check("prelu", slope, "slope", x.shape[1:2], x.dtype)
    check("prelu", y, "y", x.shape, x.dtype)
    _map("prelu", (x, y), x, slope, y)


def prelu_backward(x: np.ndarray, dy: np.ndarray, slope: np.ndarray, dx: np.ndarray) -> None:
    """Compute the gradient of `prelu`; see the reference op."""
    check_tensor("prelu_backward", x, "x", 3)
    check("prelu_backward", dy, "dy", x.shape, x.dtype)
    check("prelu_backward", slope, "slope", x.shape[1:2], x.dtype)
    check("prelu_backward", dx, "dx", x.shape, x.dtype)
    _map("prelu_backward", (x, dy, dx), x, dy, slope, dx)


def _map(name: str, tensors: tuple[np.ndarray, ...], *arguments: object) -> None:
    """Run a kernel with one thread for each vector of the tensors (N, C, S), which come first for their alignment."""
    _, C, S = tensors[0].shape
    wide = device.width(*tensors, run=S)
    vectors = tensors[0].size // wide
    launch_each(_kernel(name, tensors[0].itemsize, wide), vectors, *arguments, vectors, C, S)


def blocks_of(N: int, C: int, S: int) -> int:
    """Return into how many blocks the values of a channel are cut: by shape alone, so that sums have one order."""
    if S == 1:
        return max(1, min(-(-N // (4 * _ROWS)), -(-_BLOCKS // -(-C // _COLUMNS)) if C else 1))
    values = N * S
    fill = -(-_BLOCKS // max(C, 1))
    return max(1, -(-values // _VALUES), min(fill, values // _FEWEST))


def _first(kind: str, *tensors: np.ndarray) -> tuple[np.ndarray, int]:
    """Run the first kernel of a sum; return the work that it filled, with 2 * C more at its end, and the blocks."""
    x = tensors[0]
    N, C, S = x.shape
    blocks = blocks_of(N, C, S)
    work = device.scratch(2 * C * blocks + 2 * C)[: 2 * C * blocks + 2 * C]
    if S == 1:
        kernel = _kernel(f"{kind}_columns", x.itemsize)
        launch(kernel, -(-C // _COLUMNS) * blocks, *tensors, N, C, blocks, work)
    else:
        kernel = _kernel(f"{kind}_planes", x.itemsize, device.width(*tensors, run=S))
        launch(kernel, C * blocks, *tensors, N, C, S, blocks, work)
    return work, blocks


def _second(work: np.ndarray, blocks: int, which: int, out: np.ndarray, accumulate: bool) -> None:
    """Add up the blocks of each channel into `out`."""
    kernel = _kernel("sum_blocks", out.itemsize)
    launch_each(kernel, 32 * out.size, work, out.size, blocks, which, int(accumulate), out)
