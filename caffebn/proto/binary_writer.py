"""A writer of the binary form: fields by number, packed where the schema says so, unknown fields last."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

from caffebn.errors import ArgumentError
from caffebn.proto import wire
from caffebn.proto.message import Message
from caffebn.proto.schema import Field
from caffebn.proto.unknown import UnknownBinary, UnknownText

__all__ = ["Writer"]

Part = bytes | memoryview

_FLOAT, _DOUBLE = struct.Struct("<f"), struct.Struct("<d")


class Writer:
    """Turns a message into parts, which one after the other are its binary form.

    Attributes
    ----------
    parts : list of bytes or memoryview
        Arrays are not copied: their parts are views on them.
    left_out : list of UnknownText
        Fields that have no number and so no binary form.
    """

    def __init__(self, message: Message):
        self.parts: list[Part] = []
        self.left_out: list[UnknownText] = []
        self._message(message)

    def _message(self, message: Message) -> int:
        """Add the parts of `message` and return how many bytes they are."""
        for field in message.schema.required:
            if not message.has(field.name):
                raise ArgumentError(f"{field.owner} needs the field {field.name}: set it before writing")
        size = 0
        for field, value in message.set_fields():
            if field.kind == "message":
                size += sum(self._submessage(field, m) for m in (value if field.repeated else (value,)))
            elif field.array:
                size += self._array(field, value)
            elif field.packed:
                content = b"".join(_scalars(field, value))
                size += self._add(field.tag + wire.varint(len(content)) + content)
            else:
                elements = _scalars(field, value if field.repeated else (value,))
                size += self._add(b"".join(field.tag + element for element in elements))
        for unknown in message.unknown:
            if isinstance(unknown, UnknownText):
                self.left_out.append(unknown)
            else:
                size += self._add(_unknown(unknown))
        return size

    def _add(self, part: Part) -> int:
        self.parts.append(part)
        return len(part)

    def _submessage(self, field: Field, message: Message) -> int:
        at = len(self.parts)
        self.parts.append(b"")  # the size is known only when the parts behind it are
        size = self._message(message)
        self.parts[at] = head = field.tag + wire.varint(size)
        return len(head) + size

    def _array(self, field: Field, value: np.ndarray) -> int:
        array = np.ascontiguousarray(value, field.dtype)
        if field.packed:
            head = self._add(field.tag + wire.varint(array.nbytes))
            return head + self._add(array.view(np.uint8).data)
        items = np.empty((len(array), len(field.tag) + array.itemsize), np.uint8)
        items[:, : len(field.tag)] = np.frombuffer(field.tag, np.uint8)
        items[:, len(field.tag) :] = array.view(np.uint8).reshape(len(array), array.itemsize)
        return self._add(items.tobytes())


def _scalars(field: Field, values: Iterable[Any]) -> Iterable[bytes]:
    kind = field.kind
    if kind == "float":
        return map(_FLOAT.pack, values)
    if kind == "double":
        return map(_DOUBLE.pack, values)
    if kind == "string":
        return map(_counted, (value.encode("utf-8", "surrogateescape") for value in values))
    if kind == "bytes":
        return map(_counted, values)
    if kind == "enum":
        return (wire.varint(field.type.by_name[value]) for value in values)
    return map(wire.varint, values)


def _counted(content: bytes) -> bytes:
    return wire.varint(len(content)) + content


def _unknown(field: UnknownBinary) -> bytes:
    content = _counted(field.data) if field.wire_type == wire.BYTES else field.data
    return wire.tag(field.number, field.wire_type) + content
