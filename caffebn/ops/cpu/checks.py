"""What the cpu ops ask of their arguments, checked once before a kernel runs, and how to find the kernel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from caffebn.errors import ArgumentError
from caffebn.ops.cpu.calls import Launcher

__all__ = ["BYTE", "DOUBLE", "INDEX", "by_dtype", "check", "check_tensor"]

DOUBLE = np.dtype(np.float64)
INDEX = np.dtype(np.int32)
BYTE = np.dtype(np.uint8)
FLOATS = (np.dtype(np.float32), DOUBLE)

# Bits of flags.num, one look instead of several: C-contiguous, aligned, and those two with writeable
READABLE = 0x001 | 0x100
WRITABLE = READABLE | 0x400


def by_dtype(kernel: Callable) -> dict[int, Launcher]:
    """Return the two compiled forms of a kernel by the item size of their dtype.

    Asking the kernel itself would make it look at every argument of every call.
    """
    return {4: Launcher(kernel["float"]), 8: Launcher(kernel["double"])}  # type: ignore[index]


def check_tensor(
    op: str, array: np.ndarray, name: str, ndim: int | None = None, writable: bool = False
) -> None:
    """Check the first tensor of a call, which sets dtype and shape for the others.

    Parameters
    ----------
    op, name : str
        Names of the op and of its argument, for the message.
    array : ndarray
        Must be aligned, C-contiguous, float32 or float64.
    ndim : int, optional
        Number of axes it must have.
    writable : bool
        Whether it will be written.
    """
    need = WRITABLE if writable else READABLE
    if not (
        isinstance(array, np.ndarray)
        and array.dtype in FLOATS
        and (ndim is None or array.ndim == ndim)
        and array.flags.num & need == need
    ):
        axes = "" if ndim is None else f" with {ndim} axes" if ndim != 1 else " with 1 axis"
        raise _refusal(op, array, name, f"float32 or float64 array{axes}", writable)


def check(
    op: str,
    array: np.ndarray,
    name: str,
    shape: tuple[int, ...] | None,
    dtype: np.dtype,
    at_least: int = 0,
    writable: bool = False,
) -> None:
    """Check that an array is aligned, C-contiguous and of a given shape and dtype.

    Parameters
    ----------
    op, name : str
        Names of the op and of its argument, for the message.
    array : ndarray
    shape : tuple of int, or None
        None stands for one axis with `at_least` elements.
    dtype : dtype
    at_least : int
    writable : bool
        Whether it will be written.
    """
    need = WRITABLE if writable else READABLE
    if not (
        isinstance(array, np.ndarray)
        and array.dtype == dtype
        and (array.shape == shape if shape is not None else array.ndim == 1 and array.size >= at_least)
        and array.flags.num & need == need
    ):
        size = f"of shape {shape}" if shape is not None else f"of one axis with {at_least} or more elements"
        raise _refusal(op, array, name, f"{dtype} array {size}", writable)


def _refusal(op: str, array: object, name: str, expected: str, writable: bool) -> ArgumentError:
    """Make the error, saying what was expected and what was found."""
    if isinstance(array, np.ndarray):
        found = f"{array.dtype} array of shape {array.shape}"
        flags = array.flags
        found += "".join(
            word
            for word, bad in (
                (", not C-contiguous", not flags.c_contiguous),
                (", not aligned in memory", not flags.aligned),
                (", read-only", writable and not flags.writeable),
            )
            if bad
        )
    else:
        found = type(array).__name__
    kind = "writable C-contiguous" if writable else "C-contiguous"
    return ArgumentError(f"{op}: {name} must be a {kind} {expected}; found {found}")
