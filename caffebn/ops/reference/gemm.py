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
) -> None:
    """Multiply matrices: c = op(a) op(b), or c += op(a) op(b).

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
    """
    product = (a.T if trans_a else a) @ (b.T if trans_b else b)
    c[...] = c + product if accumulate else product
