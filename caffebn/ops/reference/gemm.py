"""Products of matrices, by definition."""

from __future__ import annotations

import numpy as np

__all__ = ["gemm"]


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
    """Multiply matrices: c = act(op(a) op(b) * scale + bias), or with what c holds added to the product first.

    Parameters
    ----------
    a : ndarray, shape (M, K), or (K, M) with `trans_a`
    b : ndarray, shape (K, N), or (N, K) with `trans_b`
    c : ndarray, shape (M, N)
        Result, in C order; no part of `a` or `b`.
    trans_a, trans_b : bool
        Use the transpose.
    accumulate : bool
        Add to what `c` holds.
    bias, scale : ndarray, shape (N,), or None
        One number for each column.
    slope : float or None
        Slope of a ReLU for negative numbers, 0 for the plain one; None for no activation.
    """
    total = (a.T if trans_a else a) @ (b.T if trans_b else b)
    if accumulate:
        total = c + total
    if scale is not None:
        total = total * scale
    if bias is not None:
        total = total + bias
    c[...] = total if slope is None else np.where(total > 0, total, slope * total)
