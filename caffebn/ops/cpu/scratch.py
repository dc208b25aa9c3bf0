"""Scratch memory of the kernels: one growing buffer per calling thread and dtype, valid within a call."""

from __future__ import annotations

import threading

import numpy as np

__all__ = ["scratch"]

_local = threading.local()


def scratch(size: int, dtype: np.dtype) -> np.ndarray:
    """Return at least `size` elements; the same memory for each call of a thread, so never nest two uses."""
    buffers = _local.__dict__
    buffer = buffers.get(dtype.char)
    if buffer is None or buffer.size < size:
        buffer = buffers[dtype.char] = np.empty(max(size, 1), dtype)
    return buffer
