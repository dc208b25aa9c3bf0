"""Products of matrices by the packed microkernel of pyx/gemm.h; see ops/reference/gemm.py for what is computed."""

from __future__ import annotations

import numpy as np

from caffebn.ops import threads
from caffebn.ops.cpu.checks import by_dtype, check, check_tensor
from caffebn.ops.cpu.scratch import scratch
from caffebn.ops.level import kernels

__all__ = ["gemm"]

# multiply-adds that take about as long as one element of light work; more than arithmetic alone would say, as a second
# thread reads and packs an operand once more
MACS_PER_ELEMENT = 64

_kernel = kernels("gemm")
_gemm = by_dtype(_kernel.gemm)


def _turned_is_cheaper(rows: int, columns: int, depth: int) -> bool:
    """Whether to transpose `a` and write to `c` across its rows, rather than to transpose `b`.

    In cycles: 0.4 for an element that is transposed, 2.5 for one that is written across, once for each block of the
    depth.  Products of up to 4 rows with rows of b have a kernel of their own, which transposes nothing.
    """
    return rows > 4 and 0.4 * (columns - rows) * depth > 2.5 * rows * columns * -(-depth // 384)


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
    check_tensor("gemm", c, "c", 2, writable=True)
    check_tensor("gemm", a, "a", 2)
    rows, columns = c.shape
    depth = a.shape[0] if trans_a else a.shape[1]
    check("gemm", a, "a", (depth, rows) if trans_a else (rows, depth), c.dtype)
    check("gemm", b, "b", (columns, depth) if trans_b else (depth, columns), c.dtype)
    for name, vector in (("bias", bias), ("scale", scale)):
        if vector is not None:
            check("gemm", vector, name, (columns,), c.dtype)
    n_threads = threads.for_work(rows * columns * depth // MACS_PER_ELEMENT)
    room = scratch(_kernel.scratch_size(n_threads, c.itemsize == 8), c.dtype)
    a_strides = (1, rows) if trans_a else (depth, 1)
    b_strides = (1, depth) if trans_b else (columns, 1)
    flat_a, flat_b, flat_c = a.reshape(-1), b.reshape(-1), c.reshape(-1)
    active, factor = slope is not None, 0.0 if slope is None else slope
    if trans_b and _turned_is_cheaper(rows, columns, depth):
        # c' = b' a': rows of b are read where they lie, and the smaller operand is the one that is packed
        _gemm[c.itemsize](
            flat_b, *b_strides[::-1], flat_a, *a_strides[::-1], flat_c, 1, columns, columns, rows, depth,
            scale, bias, False, active, factor, accumulate, room, n_threads,
        )  # fmt: skip
    else:
        _gemm[c.itemsize](
            flat_a, *a_strides, flat_b, *b_strides, flat_c, columns, 1, rows, columns, depth,
            scale, bias, True, active, factor, accumulate, room, n_threads,
        )  # fmt: skip
