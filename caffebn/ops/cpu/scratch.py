"""Scratch memory of the kernels: one growing buffer per calling thread and dtype, valid within a call."""

from __future__ import annotations

import threading

import numpy as np

from caffebn.ops import recording

__all__ = ["scratch"]

_local = threading.local()


def scratch(size: int, dtype: np.dtype) -> np.ndarray:
    """Return at least `size` elements; the same memory for each call of a thread, so never nest two uses.

    While calls are recorded it is memory of the recording.
    """
    tape = recording.current()
    buffers = _local.__dict__ if tape is None else tape.buffers
    buffer = buffers.get(dtype.char)
    if buffer is None or buffer.size < size:
        buffer = buffers[dtype.char] = np.empty(max(size, 1), dtype)
    return buffer
