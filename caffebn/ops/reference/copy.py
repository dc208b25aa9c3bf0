"""Moving parts of arrays: columns (Concat, Slice, Split, Tile), blocks (Crop), rows (Embed, BatchReindex, Filter).

Arrays of columns are (outer, columns): all axes before the one that is joined or cut, and that axis with all
behind it.
"""

from __future__ import annotations

import numpy as np

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


def copy_into(src: np.ndarray, dst: np.ndarray, offset: int) -> None:
    """Write a block of columns: ``dst[:, offset : offset + n] = src``.

    Parameters
    ----------
    src : ndarray, shape (outer, n)
    dst : ndarray, shape (outer, total)
        The block is overwritten, the rest stays.
    offset : int
        First column of the block.
    """
    dst[:, offset : offset + src.shape[1]] = src


def copy_from(src: np.ndarray, offset: int, dst: np.ndarray) -> None:
    """Read a block of columns: ``dst = src[:, offset : offset + n]``.

    Parameters
    ----------
    src : ndarray, shape (outer, total)
    offset : int
        First column of the block.
    dst : ndarray, shape (outer, n)
        Filled.
    """
    dst[...] = src[:, offset : offset + dst.shape[1]]


def add_from(src: np.ndarray, offset: int, dst: np.ndarray) -> None:
    """Add a block of columns: ``dst += src[:, offset : offset + n]``.

    Parameters
    ----------
    src : ndarray, shape (outer, total)
    offset : int
        First column of the block.
    dst : ndarray, shape (outer, n)
        Changed in place.
    """
    dst += src[:, offset : offset + dst.shape[1]]


def copy_block(src: np.ndarray, offset: tuple[int, ...], dst: np.ndarray) -> None:
    """Read a block of any number of axes: ``dst = src[offset[0] : offset[0] + dst.shape[0], ...]``.

    Parameters
    ----------
    src : ndarray
    offset : tuple of int
        First index of the block along each axis.
    dst : ndarray, as many axes as src
        Filled; at `offset` it lies within `src`.
    """
    dst[...] = src[_block(offset, dst)]


def paste_block(src: np.ndarray, dst: np.ndarray, offset: tuple[int, ...]) -> None:
    """Write a block of any number of axes: ``dst[offset[0] : offset[0] + src.shape[0], ...] = src``.

    Parameters
    ----------
    src : ndarray
    dst : ndarray, as many axes as src
        The block is overwritten, the rest stays.
    offset : tuple of int
        First index of the block along each axis.
    """
    dst[_block(offset, src)] = src


def _block(offset: tuple[int, ...], block: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(o, o + n) for o, n in zip(offset, block.shape, strict=True))


def row_indices(x: np.ndarray, limit: int, index: np.ndarray) -> None:
    """Cut numbers to whole ones that are indices of rows.

    Parameters
    ----------
    x : ndarray, shape (m,)
    limit : int
        Number of rows.
    index : ndarray, shape (m,), int32
        Filled.

    Raises
    ------
    ArgumentError
        When a number, cut, is not from 0 to limit - 1; `index` may then be filled in part.
    """
    bad = np.nonzero(~((x > -1) & (x < limit)))[0]
    if len(bad):
        raise bad_index("row_indices", x[bad[0]], int(bad[0]), limit)
    index[...] = np.trunc(x)


def gather_rows(src: np.ndarray, index: np.ndarray, dst: np.ndarray) -> None:
    """Pick rows: ``dst[i] = src[index[i]]``.

    Parameters
    ----------
    src : ndarray, shape (rows, n)
    index : ndarray, shape (m,), int32
        From `row_indices`.
    dst : ndarray, shape (m, n)
        Filled.
    """
    dst[...] = src[index]


def scatter_add_rows(src: np.ndarray, index: np.ndarray, dst: np.ndarray) -> None:
    """Add rows where they were picked from: ``dst[index[i]] += src[i]``, one after the other.

    Parameters
    ----------
    src : ndarray, shape (m, n)
    index : ndarray, shape (m,), int32
        From `row_indices`.
    dst : ndarray, shape (rows, n)
        Changed in place.
    """
    np.add.at(dst, index, src)
