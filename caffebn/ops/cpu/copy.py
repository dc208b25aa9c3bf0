"""Moving parts of arrays; see ops/reference/copy.py for what is computed."""

from __future__ import annotations

from functools import partial
from typing import NoReturn

import numpy as np

from caffebn.errors import ArgumentError
from caffebn.ops import labels, threads
from caffebn.ops.cpu.checks import INDEX, by_dtype, check, check_tensor
from caffebn.ops.level import kernels

__all__ = [
    "add_from",
    "copy_block",
    "copy_from",
    "copy_into",
    "gather_rows",
    "paste_block",
    "row_indices",
    "scatter_add_rows",
]

_kernel = kernels("copy")
_copy_into = by_dtype(_kernel.copy_into)
_copy_from = by_dtype(_kernel.copy_from)
_add_from = by_dtype(_kernel.add_from)
_copy_block = by_dtype(_kernel.copy_block)
_paste_block = by_dtype(_kernel.paste_block)
_row_indices = by_dtype(_kernel.row_indices)
_gather_rows = by_dtype(_kernel.gather_rows)
_scatter_add_rows = by_dtype(_kernel.scatter_add_rows)


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


def copy_block(src: np.ndarray, offset: tuple[int, ...], dst: np.ndarray) -> None:
    """Read a block; see the reference op."""
    tables = _check_block("copy_block", src, "src", dst, "dst", offset, to_block=True)
    _copy_block[dst.itemsize](src.reshape(-1), *tables, dst.reshape(-1), threads.for_work(dst.size))


def paste_block(src: np.ndarray, dst: np.ndarray, offset: tuple[int, ...]) -> None:
    """Write a block; see the reference op."""
    tables = _check_block("paste_block", dst, "dst", src, "src", offset, to_block=False)
    _paste_block[src.itemsize](src.reshape(-1), *tables, dst.reshape(-1), threads.for_work(src.size))


def row_indices(x: np.ndarray, limit: int, index: np.ndarray) -> None:
    """Cut numbers to indices of rows; see the reference op."""
    check_tensor("row_indices", x, "x", 1)
    check("row_indices", index, "index", x.shape, INDEX, writable=True)
    _row_indices[x.itemsize](x, limit, index, partial(_refuse, x, limit, labels.speaker.get()))


def _refuse(x: np.ndarray, limit: int, by: str, place: int) -> NoReturn:
    raise labels.bad_index("row_indices", x[place], place, limit, by)


def gather_rows(src: np.ndarray, index: np.ndarray, dst: np.ndarray) -> None:
    """Pick rows; see the reference op."""
    _check_rows("gather_rows", dst, "dst", src, "src", index, add=False)
    _gather_rows[dst.itemsize](src, index, dst, threads.for_work(dst.size))


def scatter_add_rows(src: np.ndarray, index: np.ndarray, dst: np.ndarray) -> None:
    """Add rows where they were picked from; see the reference op."""
    _check_rows("scatter_add_rows", src, "src", dst, "dst", index, add=True)
    _scatter_add_rows[src.itemsize](src, index, dst, threads.for_work(src.size))


def _check_rows(
    op: str, picked: np.ndarray, name: str, rows: np.ndarray, rows_name: str, index: np.ndarray, add: bool
) -> None:
    """Check arrays of rows, and that every index is that of a row."""
    check_tensor(op, picked, name, 2, writable=not add)
    count = rows.shape[0] if isinstance(rows, np.ndarray) and rows.ndim == 2 else 0
    check(op, rows, rows_name, (count, picked.shape[1]), picked.dtype, writable=add)
    check(op, index, "index", picked.shape[:1], INDEX)
    if index.size and not 0 <= index.min() <= index.max() < count:
        raise ArgumentError(
            f"{op}: index must hold rows of {rows_name}, from 0 to {count - 1}; found {index.min()} to {index.max()}"
        )


def _check_block(
    op: str,
    whole: np.ndarray,
    whole_name: str,
    block: np.ndarray,
    name: str,
    offset: tuple[int, ...],
    to_block: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check that a block lies within the whole; return the whole's shape, the block's, and the offset."""
    check_tensor(op, block, name, writable=to_block)
    axes = whole.shape if isinstance(whole, np.ndarray) and whole.ndim == block.ndim else block.shape
    check(op, whole, whole_name, axes, block.dtype, writable=not to_block)
    if len(offset) != block.ndim or not all(
        0 <= o <= total - n for o, n, total in zip(offset, block.shape, axes, strict=True)
    ):
        raise ArgumentError(
            f"{op}: {name}, of shape {block.shape}, does not lie at {tuple(offset)} within {whole_name}, "
            f"of shape {axes}"
        )
    shape, block_shape, start = (np.array(v, np.int64) for v in (axes, block.shape, offset))
    return shape, block_shape, start


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
