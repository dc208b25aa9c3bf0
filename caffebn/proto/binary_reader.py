"""A reader of the binary form, driven by the schema, that trusts nothing in the file.

Weights are not read: a packed array field becomes a view on the buffer.  Everything
else is read value by value, in `pyx/wire.pyx`, and the number of these values is bounded, so a hostile
file costs bounded time and memory.  Messages of the schema do not contain themselves,
which bounds the depth.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np

from caffebn._kernels import wire as wire_kernel
from caffebn.errors import FormatError
from caffebn.proto import wire
from caffebn.proto.message import Message, Repeated, new
from caffebn.proto.schema import Field, MessageType, parameter_field
from caffebn.proto.unknown import UnknownBinary

__all__ = ["MAX_FIELDS", "Reader"]

#: How many values a file may hold, elements of numpy arrays not counted.
MAX_FIELDS = 1_000_000


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python from looking for garbage, of which a growing tree of messages has none.

    The thousands of objects that are made would set off walks through all objects of the process.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class Reader(wire_kernel.Scanner):
    """Reads one message from a buffer of bytes; the buffer must outlive the message's arrays.

    What is frequent is in `Scanner`, which calls the methods below.
    """

    def __init__(self, buffer: Any, filename: str):
        super().__init__(memoryview(buffer).toreadonly().cast("B"), MAX_FIELDS, new, Repeated)
        self._filename = filename

    def message(self, type: MessageType) -> Message:
        """Read the whole buffer as one message."""
        message = new(type)
        with _no_collection():
            self.fields(message, 0, len(self.view))
        return message

    def _error(self, at: int, words: str) -> NoReturn:
        path = self._named_path()
        raise FormatError(
            f"{self._filename}: byte {at}: {path}{': ' if path else ''}{words}{_guess(self.view)}"
        )

    def _too_long(self, at: int, name: str, length: int, left: int) -> NoReturn:
        self._error(
            at,
            f"{name} claims {length} bytes, but only {left} are left; "
            "the file is cut off or damaged, fetch it again",
        )

    def _named_path(self) -> str:
        """Name the message being read, such as ``layer[3] "conv1".blobs[0]``."""
        steps = []
        for message, field in self.path:
            value = message.__dict__[field.name]
            step = field.name
            if field.repeated:  # it is the last one so far
                step, value = f"{step}[{len(value) - 1}]", value[-1]
            if "name" in value.schema.fields and value.has("name"):
                step = f'{step} "{value.name:.60}"'
            steps.append(step)
        return ".".join(steps)

    def _unknown(self, message: Message, tag: int, start: int, at: int, end: int) -> int:
        """Keep a field that the schema does not have, or has with another wire type; return the place behind it."""
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number <= wire.MAX_FIELD_NUMBER:
            self._error(start, f"{number} is no number of a field")
        if wire_type == wire.BYTES:
            length, at = self.varint(at, end)
            stop = at + length
            if stop > end:
                field = message._type.by_number.get(number)
                self._too_long(start, field.name if field else f"field {number}", length, end - at)
        elif wire_type == wire.VARINT:
            stop = self.varint(at, end)[1]
        elif wire_type in (wire.FIXED64, wire.FIXED32):
            stop = at + (8 if wire_type == wire.FIXED64 else 4)
            if stop > end:
                self._error(start, "the file or the message ends within a number")
        elif wire_type in (3, 4):
            self._error(start, "a group, an old form of protocol buffers that Caffe never used")
        else:
            self._error(start, f"wire type {wire_type} does not exist")
        self._keep(message, tag, at, stop)
        return stop

    def _keep(self, message: Message, tag: int, at: int, stop: int) -> None:
        number, wire_type = tag >> 3, tag & 7
        data = bytes(self.view[at:stop])
        if wire_type == wire.VARINT:
            data = wire.varint(self.varint(at, stop)[0])  # a number may be written longer than it needs
        message.unknown.append(UnknownBinary(number, wire_type, data))

    def _is_of_a_fork(self, message: Message, field: Field) -> bool:
        """Whether a layer has at this number what cannot be Caffe's: parameters of another type than its own."""
        type_name = message.__dict__.get("type")
        return (
            field.owner == "LayerParameter"
            and type_name is not None
            and parameter_field(type_name) is not field
        )

    def _array(self, field: Field, at: int, stop: int) -> np.ndarray:
        """Return the packed elements between `at` and `stop`."""
        dtype = field.dtype
        count, rest = divmod(stop - at, dtype.itemsize)
        if rest:
            self._error(at, f"{field.name}: {stop - at} bytes are no whole number of {field.kind} values")
        return np.frombuffer(self.view, dtype, count, at) if count else np.empty(0, dtype)

    def _elements(self, field: Field, start: int, at: int, end: int) -> tuple[np.ndarray, int]:
        """Gather the run of elements, each behind its own tag, whose first tag is at `start`."""
        dtype = field.dtype
        head, stop = at - start, at + dtype.itemsize
        if stop > end:
            self._error(at, f"{field.name}: the file or the message ends within a number")
        if self.view[stop : min(stop + head, end)] != self.view[start:at]:
            return np.frombuffer(self.view, dtype, 1, at), stop
        stride = stop - start
        most = (end - start) // stride
        items = np.frombuffer(self.view, np.uint8, most * stride, start).reshape(most, stride)
        tag = items[0, :head]
        count, block = 1, 4
        while count < most:
            same = (items[count : count + block, :head] == tag).all(axis=1)
            if not same.all():
                count += int(same.argmin())
                break
            count += len(same)
            block = min(4 * block, 2**16)
        values = items[:count, head:].copy().view(dtype)[:, 0]
        values.flags.writeable = False
        return values, start + count * stride

    def _complete(self, message: Message, pieces: dict[str, list[np.ndarray]], end: int) -> None:
        """Join the pieces of arrays, and check that what is required is there."""
        values = message.__dict__
        for name, arrays in pieces.items():
            values[name] = np.concatenate(arrays)
        for field in message._type.required:
            if field.name not in values:
                self._error(end, f"{field.owner} needs the field {field.name}")


def _guess(view: memoryview) -> str:
    """Say what the file is, when its beginning looks like something else than this format."""
    head = bytes(view[:512])
    begin = head.lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        return "; this is a Git LFS pointer, not the file itself: run git lfs pull"
    if begin.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "; this is a web page, not the file itself: the download failed, look at the page"
    if head.startswith(b"\x89HDF"):
        return "; this is an HDF5 file: its name should end in .h5"
    if head.startswith((b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf", b"\xfd7zXZ", b"BZh")):
        return "; this is a compressed archive: unpack it first"
    if head and not head.strip(b"\x00"):
        return "; the file begins with zeros only: it was not written or fetched to its end"
    if _is_text(head):
        return "; this is a text, as in a .prototxt, where a binary file such as a .caffemodel is expected"
    return ""


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as e:
        if e.start < len(head) - 3:  # a character cut at the end of the head is no fault
            return False
        text = head[: e.start].decode()
    return bool(text) and all(c.isprintable() or c in "\n\r\t" for c in text)
