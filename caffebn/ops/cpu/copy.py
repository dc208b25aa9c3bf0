"""Moving blocks of columns; see ops/reference/copy.py for what is computed."""

from __future__ import annotations

import numpy as np

from caffebn.errors import ArgumentError
from caffebn.ops import threads
from caffebn.ops.cpu.checks import by_dtype, check, check_tensor
from caffebn.ops.level import kernels

__all__ = ["add_from", "copy_from", "copy_into"]

_kernel = kernels("copy")
_copy_into = by_dtype(_kernel.copy_into)
_copy_from = by_dtype(_kernel.copy_from)
_add_from = by_dtype(_kernel.add_from)


def copy_into(src: np.ndarray, dst: np.ndarray, offset: int) -> None:
    """Write a block of columns; see the reference op."""
    _check("copy_into", dst, "dst", src, "src", offset, to_block=False)
    _copy_into[src.itemsize](src, dst, offset, threads.for_work(src.size))


def copy_from(src: np.ndarray, offset: int, dst: np.ndarray) -> None:
    """Read a block of columns; see the reference op."""
    _check("copy_from", src, "src", dst, "dst", offset, to_block=True)
    _copy_from[dst.itemsize](src, offset, dst, threads.for_work(dst.size))


def add_from(src: np.ndarray, offset: int, dst: np.ndarray) -> None:
    """Add a block of columns; see the reference op."""
    _check("add_from", src, "src", dst, "dst", offset, to_block=True)
    _add_from[dst.itemsize](src, offset, dst, threads.for_work(dst.size))


def _check(
    op: str, whole: np.ndarray, whole_name: str, block: np.ndarray, name: str, offset: int, to_block: bool
) -> None:
    """Check that a block of columns lies within the whole."""
    check_tensor(op, block, name, 2, writable=to_block)
    outer, columns = block.shape
    total = whole.shape[1] if isinstance(whole, np.ndarray) and whole.ndim == 2 else columns
    check(op, whole, whole_name, (outer, total), block.dtype, writable=not to_block)
    if not 0 <= offset <= total - columns:
        raise ArgumentError(
            f"{op}: {name} has {columns} columns, which at offset {offset} do not lie within the {total} "
            f"columns of {whole_name}"
        )
