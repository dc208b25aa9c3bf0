"""Datum, the record of Caffe's databases: an item with its label, as bytes and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from caffebn.data import picture
from caffebn.data.transformer import Items
from caffebn.errors import ArgumentError, FormatError
from caffebn.proto import Message, binary
from caffebn.proto.wire import BYTES, VARINT

__all__ = ["Decoder", "datum_bytes", "datum_values", "encoded_datum_bytes"]

_DATA = 4  # number of the field with the bytes


def datum_bytes(values: np.ndarray, label: int = 0) -> bytes:
    """Write an item and its label as the bytes of a Datum.

    Parameters
    ----------
    values : ndarray, (channels, height, width)
        uint8 is stored as bytes; everything else as single-precision numbers, which take four times the room.
    label : int

    Raises
    ------
    ArgumentError
        `values` has not three axes.
    """
    values = np.asarray(values)
    if values.ndim != 3 or not values.size:
        raise ArgumentError(
            f"a Datum holds an array (channels, height, width), found one of shape {values.shape}"
        )
    channels, height, width = values.shape
    datum = Message("Datum", channels=channels, height=height, width=width, label=int(label))
    if values.dtype == np.uint8:
        datum.data = values.tobytes()
    else:
        datum.float_data = values.astype(np.float32).reshape(-1)
    return binary.dump(datum)


def encoded_datum_bytes(content: bytes, label: int = 0) -> bytes:
    """Write the bytes of a picture file and its label as the bytes of a Datum."""
    return binary.dump(Message("Datum", data=content, label=int(label), encoded=True))


def datum_values(
    content: bytes, color: bool | None = None, name: str = "the record"
) -> tuple[np.ndarray, int]:
    """Read a Datum.

    Parameters
    ----------
    content : bytes
    color : bool or None
        How to decode a compressed picture, see `Decoder`.
    name : str
        What to call it in an error.

    Returns
    -------
    values : ndarray (channels, height, width) of uint8, or of float32
    label : int

    Raises
    ------
    FormatError
        The bytes are not a Datum, or it does not hold what it says.
    """
    return _values(_parse(content, name), color, name)


class Decoder:
    """Read the records of a batch, quickly when they are all alike.

    Records of one database mostly start with the same bytes, up to the values, and end in one of a few ways,
    after them.  Both are understood once and looked up from then on.

    Parameters
    ----------
    color : bool or None
        How to decode compressed pictures: True in colour, False in grey, None as they are.
    """

    def __init__(self, color: bool | None = None):
        self._color = color
        self._head = b""
        self._stop = 0
        self._shape = (0, 0, 0)
        self._tails: dict[bytes, int] = {}

    def __call__(self, records: Sequence[bytes], name: Callable[[int], str]) -> tuple[Items, list[int]]:
        """Return the items, in one array of uint8 when they are all bytes of one shape, and the labels.

        Parameters
        ----------
        records : sequence of bytes
        name : callable
            ``name(i)`` says what to call record `i` in an error.

        Raises
        ------
        FormatError
            See `datum_values`.
        """
        labels = []
        for i, record in enumerate(records):
            label = self._label(record)
            if label is None and i == 0 and self._learn(record, name(0)):
                label = self._label(record)
            if label is None:
                items = [datum_values(r, self._color, name(j)) for j, r in enumerate(records)]
                return [values for values, _ in items], [label for _, label in items]
            labels.append(label)
        start, stop = len(self._head), self._stop
        joined = b"".join([record[start:stop] for record in records])
        return np.frombuffer(joined, np.uint8).reshape(len(records), *self._shape), labels

    def _learn(self, record: bytes, name: str) -> bool:
        """Expect records like this one from now on; say whether it is one of plain bytes."""
        datum = _parse(record, name)
        span = _span_of_data(record)
        if span is None or datum.encoded:
            return False
        self._shape = _values(datum, None, name)[0].shape
        self._head, self._stop = record[: span[0]], span[1]
        self._tails = {record[self._stop :]: datum.label}
        return True

    def _label(self, record: bytes) -> int | None:
        """Look up the label of a record like those expected; None for another one."""
        if not self._head or not record.startswith(self._head):
            return None
        tail = record[self._stop :]
        label = self._tails.get(tail)
        if label is None and _span_of_data(record) is not None:
            datum = _parse(record, "the record")
            if not datum.encoded:
                label = self._tails[tail] = datum.label
        return label


def _span_of_data(record: bytes) -> tuple[int, int] | None:
    """Find the bytes of the field `data`, when the record has it once and else only numbers."""
    span, i = None, 0
    while i < len(record):
        tag, i = _varint(record, i)
        length, i = _varint(record, i)
        if tag == _DATA << 3 | BYTES and span is None:
            span = i, i + length
            i += length
        elif tag & 7 != VARINT:
            return None
    return span if i == len(record) else None


def _varint(record: bytes, i: int) -> tuple[int, int]:
    value = shift = 0
    while i < len(record):
        byte = record[i]
        value |= (byte & 0x7F) << shift
        shift, i = shift + 7, i + 1
        if byte < 0x80:
            break
    return value, i


def _parse(content: bytes, name: str) -> Message:
    return binary.parse(content, "Datum", name)


def _values(datum: Message, color: bool | None, name: str) -> tuple[np.ndarray, int]:
    if datum.encoded:
        return picture.decode(bytes(datum.data), color, name), datum.label
    raw = len(datum.data) > 0
    values = np.frombuffer(datum.data, np.uint8) if raw else np.asarray(datum.float_data, np.float32)
    shape = (datum.channels, datum.height, datum.width)
    if min(shape) < 1 or values.size != shape[0] * shape[1] * shape[2]:
        raise FormatError(
            f"{name}: not a Datum that can be used: it says {shape[0]} x {shape[1]} x {shape[2]} (channels x "
            f"height x width) and holds {values.size} {'bytes' if raw else 'numbers'}"
            + ("; is it a compressed picture without the mark encoded: true?" if raw and 0 in shape else "")
        )
    return values.reshape(shape), datum.label
