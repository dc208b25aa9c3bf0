"""Moving parts of arrays; see ops/reference/copy.py for what is computed."""

from __future__ import annotations

import numpy as np

from caffebn.errors import ArgumentError
from caffebn.ops.gpu import device
from caffebn.ops.gpu.checks import INDEX, check, check_tensor
from caffebn.ops.labels import bad_index

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

_kernel = device.Kernels("copy")


def copy_into(src: np.ndarray, dst: np.ndarray, offset: int) -> None:
    """Write a block of columns; see the reference op."""
    check_tensor("copy_into", src, "src", 2)
    check_tensor("copy_into", dst, "dst", 2)
    check("copy_into", dst, "dst", (src.shape[0], dst.shape[1]), src.dtype)
    _check_columns("copy_into", "dst", dst, offset, src.shape[1])
    _columns(src, 0, dst, offset, src.shape[1], 0)


def copy_from(src: np.ndarray, offset: int, dst: np.ndarray) -> None:
    """Read a block of columns; see the reference op."""
    _from("copy_from", src, offset, dst, 0)


def add_from(src: np.ndarray, offset: int, dst: np.ndarray) -> None:
    """Add a block of columns; see the reference op."""
    _from("add_from", src, offset, dst, 1)


def _from(op: str, src: np.ndarray, offset: int, dst: np.ndarray, add: int) -> None:
    check_tensor(op, src, "src", 2)
    check_tensor(op, dst, "dst", 2)
    check(op, dst, "dst", (src.shape[0], dst.shape[1]), src.dtype)
    _check_columns(op, "src", src, offset, dst.shape[1])
    _columns(src, offset, dst, 0, dst.shape[1], add)


def _check_columns(op: str, name: str, array: np.ndarray, offset: int, n: int) -> None:
    if not 0 <= offset <= array.shape[1] - n:
        raise ArgumentError(
            f"{op}: columns {offset} to {offset + n} must be in {name}; it has {array.shape[1]} columns"
        )


def _columns(src: np.ndarray, source: int, dst: np.ndarray, target: int, n: int, add: int) -> None:
    wide = device.width(src, dst)
    if any(k % wide for k in (src.shape[1], source, dst.shape[1], target, n)):
        wide = 1
    count = src.shape[0] * n // wide
    device.launch_each(
        _kernel("copy_columns", src.itemsize, wide), count,
        src, src.shape[1] // wide, source // wide, dst, dst.shape[1] // wide, target // wide, n // wide, count, add,
    )  # fmt: skip


def copy_block(src: np.ndarray, offset: tuple[int, ...], dst: np.ndarray) -> None:
    """Read a block of any number of axes; see the reference op."""
    check_tensor("copy_block", src, "src")
    check("copy_block", dst, "dst", dst.shape, src.dtype)
    dst[...] = src[_block("copy_block", "src", src, offset, dst)]


def paste_block(src: np.ndarray, dst: np.ndarray, offset: tuple[int, ...]) -> None:
    """Write a block of any number of axes; see the reference op."""
    check_tensor("paste_block", src, "src")
    check("paste_block", dst, "dst", dst.shape, src.dtype)
    dst[_block("paste_block", "dst", dst, offset, src)] = src


def _block(
    op: str, name: str, whole: np.ndarray, offset: tuple[int, ...], block: np.ndarray
) -> tuple[slice, ...]:
    if not len(offset) == whole.ndim == block.ndim or any(
        not 0 <= o <= n - b for o, n, b in zip(offset, whole.shape, block.shape, strict=True)
    ):
        raise ArgumentError(
            f"{op}: a block of shape {block.shape} at {tuple(offset)} must be in {name}; its shape is {whole.shape}"
        )
    return tuple(slice(o, o + n) for o, n in zip(offset, block.shape, strict=True))


def row_indices(x: np.ndarray, limit: int, index: np.ndarray) -> None:
    """Cut numbers to whole ones; see the reference op.  A bad one is raised with the next copy to the host."""
    check_tensor("row_indices", x, "x", 1)
    check("row_indices", index, "index", x.shape, INDEX)
    found = device.trouble(
        ("row_indices", limit), lambda value, place, by: bad_index("row_indices", value, place, limit, by)
    )
    device.launch(_kernel("row_indices", x.itemsize), int(x.size > 0), x, x.size, limit, index, found)


def gather_rows(src: np.ndarray, index: np.ndarray, dst: np.ndarray) -> None:
    """Pick rows; see the reference op."""
    check_tensor("gather_rows", src, "src", 2)
    check("gather_rows", index, "index", None, INDEX)
    check("gather_rows", dst, "dst", (index.size, src.shape[1]), src.dtype)
    if len(src):
        kernel = _kernel("gather_rows", src.itemsize)
        device.launch_each(kernel, dst.size, src, index, dst, src.shape[1], dst.size)


def scatter_add_rows(src: np.ndarray, index: np.ndarray, dst: np.ndarray) -> None:
    """Add rows where they were picked from; see the reference op."""
    check_tensor("scatter_add_rows", src, "src", 2)
    check("scatter_add_rows", index, "index", src.shape[:1], INDEX)
    check_tensor("scatter_add_rows", dst, "dst", 2)
    check("scatter_add_rows", dst, "dst", (dst.shape[0], src.shape[1]), src.dtype)
    per_row = -(-src.shape[1] // device.THREADS)
    device.launch(
        _kernel("scatter_add_rows", src.itemsize), dst.shape[0] * per_row,
        src, index, src.shape[0], dst, src.shape[1], per_row,
    )  # fmt: skip
