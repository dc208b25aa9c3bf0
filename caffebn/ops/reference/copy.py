"""Moving blocks of columns: Concat, Slice, Split.

Arrays are (outer, columns): all axes before the one that is joined or cut, and that axis with all behind it.
"""

from __future__ import annotations

import numpy as np

__all__ = ["add_from", "copy_from", "copy_into"]


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
