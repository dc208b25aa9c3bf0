"""Between `BlobProto` messages and numpy arrays."""

from __future__ import annotations

import math

import numpy as np

from caffebn.errors import ArgumentError, FormatError
from caffebn.proto import wire
from caffebn.proto.message import Message
from caffebn.proto.unknown import UnknownBinary

__all__ = ["blob_array", "make_blob"]

_LEGACY = ("num", "channels", "height", "width")

# NVCaffe (0.16 and later) keeps values as bytes in fields of its own: the number of their type in
# field 10, the bytes in field 12.  Other forks use these numbers with other wire types.
_RAW_TYPE, _RAW_DATA = (10, wire.VARINT), (12, wire.BYTES)
_RAW_DTYPES = {b"\x00": "<f8", b"\x01": "<f4", b"\x02": "<f2"}


def blob_array(blob: Message, name: str = "blob") -> np.ndarray:
    """Return the values of a `BlobProto` in their shape.

    The four old numbers are the shape when any of them is present, even beside `shape`;
    a missing one is 0.  `double_data` is taken when present, else `data`, else the raw
    values that NVCaffe writes (of which half precision becomes float32).

    Parameters
    ----------
    blob : Message
        A `BlobProto`.
    name : str
        What to call the blob in an error.

    Returns
    -------
    ndarray of float32 or float64
        A view; of a blob that was read from a file it is read-only, and need not be aligned.

    Raises
    ------
    FormatError
        When the shape has a negative size, or needs another number of values than there are.
    """
    if not blob.__dict__.keys().isdisjoint(_LEGACY):
        shape = tuple(getattr(blob, number) for number in _LEGACY)
    else:
        shape = tuple(blob.shape.dim)
    data = blob.double_data if blob.has("double_data") else blob.data
    if not len(data):
        data = _raw_values(blob, name)
    if min(shape, default=0) < 0:
        raise FormatError(f"{name}: the shape {_words(shape)} has a negative size")
    count = math.prod(shape)
    if count != len(data):
        raise FormatError(f"{name}: the shape {_words(shape)} needs {count} values, the file has {len(data)}")
    if len(shape) > 32:
        raise FormatError(f"{name}: the shape has {len(shape)} axes, at most 32 are allowed")
    try:
        return data.reshape(shape)
    except ValueError:  # a size beyond what an array can have, next to a size of 0
        raise FormatError(f"{name}: the shape {_words(shape)} is too large for an array") from None


def _words(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "() (one value)"


def _raw_values(blob: Message, name: str) -> np.ndarray:
    raw = {(u.number, u.wire_type): u.data for u in blob.unknown if isinstance(u, UnknownBinary)}
    if _RAW_TYPE not in raw or _RAW_DATA not in raw:
        return np.empty(0, np.float32)
    dtype = np.dtype(_RAW_DTYPES.get(raw[_RAW_TYPE], np.void))
    content = raw[_RAW_DATA]
    if dtype == np.void or len(content) % dtype.itemsize:
        raise FormatError(
            f"{name}: expected raw values of the types 0 (double), 1 (float) or 2 (half), "
            f"found {len(content)} bytes of type {raw[_RAW_TYPE].hex()}"
        )
    values = np.frombuffer(content, dtype)
    return values.astype(np.float32) if dtype.itemsize == 2 else values


def make_blob(array: np.ndarray) -> Message:
    """Return a `BlobProto` with the shape and the values of an array.

    Parameters
    ----------
    array : ndarray of float32 or float64
        float32 goes to `data`, float64 to `double_data`.  A C-contiguous array is not copied.

    Raises
    ------
    ArgumentError
        When the dtype is another one.
    """
    array = np.asarray(array)
    field = {"float32": "data", "float64": "double_data"}.get(array.dtype.name)
    if field is None:
        raise ArgumentError(f"a blob holds float32 or float64, found an array of {array.dtype}")
    blob = Message("BlobProto", shape={"dim": array.shape})
    setattr(blob, field, array.reshape(-1))
    return blob
