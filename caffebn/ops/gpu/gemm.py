"""Products of matrices by cuBLAS; see ops/reference/gemm.py for what is computed.

cuBLAS computes in the dtype of the matrices: single precision is not shortened to TF32.
"""

from __future__ import annotations

import numpy as np

from caffebn.ops.gpu import cublas, device
from caffebn.ops.gpu.checks import check, check_tensor

__all__ = ["gemm"]

_kernel = device.Kernels("gemm")


def gemm(
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    trans_a: bool = False,
    trans_b: bool = False,
    accumulate: bool = False,
    bias: np.ndarray | None = None,
    scale: np.ndarray | None = None,
    slope: float | None = None,
) -> None:
    """Multiply matrices; see the reference op."""
    check_tensor("gemm", a, "a", 2)
    M, K = a.shape[::-1] if trans_a else a.shape
    check_tensor("gemm", b, "b", 2)
    N = b.shape[0] if trans_b else b.shape[1]
    check("gemm", b, "b", (N, K) if trans_b else (K, N), a.dtype)
    check("gemm", c, "c", (M, N), a.dtype)
    for name, vector in (("bias", bias), ("scale", scale)):
        if vector is not None:
            check("gemm", vector, name, (N,), a.dtype)
    if c.size == 0:
        return
    if K == 0:
        if not accumulate:
            c.fill(0)
    else:
        left, right = (device.address(a), a.shape[1], trans_a), (device.address(b), b.shape[1], trans_b)
        cublas.multiply(a.dtype, M, N, K, left, right, (device.address(c), N), accumulate)
    epilogue(c, N, 1, scale, bias, None, slope)


def epilogue(
    y: device.Array,
    outputs: int,
    places: int,
    scale: device.Array | None,
    bias: device.Array | None,
    residual: device.Array | None,
    slope: float | None,
) -> None:
    """Do what follows a product, in place: ``y = act(y * scale + bias + residual)``, y being (..., outputs, places)."""
    if scale is None and bias is None and residual is None and slope is None:
        return
    device.launch_each(
        _kernel("epilogue", y.itemsize), y.size,
        y, scale, bias, residual, y.size, outputs, places, int(slope is not None), float(slope or 0),
    )  # fmt: skip
