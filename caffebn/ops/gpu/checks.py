"""What the gpu ops ask of their arguments, checked once before a kernel runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffebn.errors import ArgumentError
from caffebn.ops.gpu import device

__all__ = ["BYTE", "DOUBLE", "INDEX", "check", "check_float_vector", "check_tensor"]

DOUBLE = np.dtype(np.float64)
INDEX = np.dtype(np.int32)
BYTE = np.dtype(np.uint8)

FLOATS = (np.dtype(np.float32), DOUBLE)

_LARGEST = 2**31 - 1  # places of an image, and vectors of a tensor, are counted in 32 bits


def check_tensor(op: str, array: device.Array, name: str, ndim: int | None = None) -> None:
    """Check the first tensor of a call, which sets dtype and shape for the others.

    Parameters
    ----------
    op, name : str
        Names of the op and of its argument, for the message.
    array : device array
        Must be C-contiguous, float32 or float64.
    ndim : int, optional
        Number of axes it must have.
    """
    if not (
        device.is_array(array)
        and array.dtype in FLOATS
        and (ndim is None or array.ndim == ndim)
        and array.flags.c_contiguous
    ):
        axes = "" if ndim is None else f" with {ndim} axes" if ndim != 1 else " with 1 axis"
        raise _refusal(op, array, name, f"float32 or float64 array{axes}")
    if array.size > _LARGEST:
        raise ArgumentError(
            f"{op}: {name} has {array.size} elements; the GPU back end takes up to {_LARGEST}: make the batch smaller"
        )


def check(
    op: str,
    array: device.Array,
    name: str,
    shape: tuple[int, ...] | None,
    dtype: np.dtype,
    at_least: int = 0,
) -> None:
    """Check that an array is C-contiguous and of a given shape and dtype.

    Parameters
    ----------
    op, name : str
        Names of the op and of its argument, for the message.
    array : device array
    shape : tuple of int, or None
        None stands for one axis with `at_least` elements.
    dtype : dtype
    at_least : int
    """
    if not (
        device.is_array(array)
        and array.dtype == dtype
        and (array.shape == shape if shape is not None else array.ndim == 1 and array.size >= at_least)
        and array.flags.c_contiguous
    ):
        size = f"of shape {shape}" if shape is not None else f"of one axis with {at_least} or more elements"
        raise _refusal(op, array, name, f"{dtype} array {size}")


def check_float_vector(op: str, vector: device.Array, name: str, x: device.Array) -> None:
    """Check a vector over the channels of x, in the dtype of x or in float64."""
    dtype = DOUBLE if getattr(vector, "dtype", None) == DOUBLE else x.dtype
    check(op, vector, name, x.shape[1:2], dtype)


def _refusal(op: str, array: Any, name: str, expected: str) -> ArgumentError:
    """Make the error, saying what was expected and what was found."""
    if device.is_array(array):
        found = f"{array.dtype} array of shape {array.shape}"
        if not array.flags.c_contiguous:
            found += ", not C-contiguous"
    elif isinstance(array, np.ndarray):
        found = "an array of the host"
    else:
        found = type(array).__name__
    return ArgumentError(f"{op}: {name} must be a C-contiguous {expected} on the GPU; found {found}")
