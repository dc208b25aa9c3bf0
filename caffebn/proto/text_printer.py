"""The printer of the text form; what it prints reads back as an equal message."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from caffebn.proto import wire
from caffebn.proto.message import Message
from caffebn.proto.schema import Field
from caffebn.proto.unknown import Identifier, UnknownBinary, UnknownText

__all__ = ["dump"]

_SPECIAL = re.compile(r'["\\\x00-\x1f\x7f\udc80-\udcff]')
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def dump(message: Message) -> str:
    """Print a message as text, fields in the order of the schema, unknown fields after them.

    Floats are printed with the fewest digits that read back as the same float32.

    Returns
    -------
    str
        One field a line, two spaces of indentation; "" for an empty message.
    """
    return "".join(_lines(message, ""))


def _lines(message: Message, indent: str) -> Iterator[str]:
    for field, value in message.set_fields():
        elements = value if field.repeated else (value,)
        if field.kind == "message":
            for element in elements:
                yield from _block(field.name, element, indent)
        else:
            for element in _scalars(field, elements):
                yield f"{indent}{field.name}: {element}\n"
    for unknown in message.unknown:
        yield from _unknown(unknown, indent)


def _block(name: str, message: Message, indent: str) -> Iterator[str]:
    yield f"{indent}{name} {{\n"
    yield from _lines(message, f"{indent}  ")
    yield f"{indent}}}\n"


def _scalars(field: Field, values: Any) -> Iterator[str]:
    if field.kind == "float":
        return (_number(value) for value in np.asarray(values, np.float32))
    if field.kind == "double":
        return (_number(value) for value in np.asarray(values, np.float64))
    if field.kind == "bool":
        return ("true" if value else "false" for value in values)
    if field.kind in ("string", "bytes"):
        return (_quoted(value) for value in values)
    return (str(value) for value in values)


def _number(value: np.floating) -> str:
    return str(value).removesuffix(".0")


def _quoted(value: str | bytes) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    return f'"{_SPECIAL.sub(_escaped, value)}"'


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    # a byte that is not UTF-8 is kept as the code point 0xdc00 + byte
    return _ESCAPES.get(character) or f"\\{ord(character) & 0xFF:03o}"


def _unknown(field: UnknownText | UnknownBinary, indent: str) -> Iterator[str]:
    if isinstance(field, UnknownBinary):
        yield f"{indent}{field.number}: {_numbered(field)}\n"
    elif isinstance(field.value, Message):
        yield from _block(field.name, field.value, indent)
    elif isinstance(field.value, list):
        elements = ", ".join(_value(value, indent) for value in field.value)
        yield f"{indent}{field.name}: [{elements}]\n"
    else:
        yield f"{indent}{field.name}: {_value(field.value, indent)}\n"


def _value(value: Any, indent: str) -> str:
    if isinstance(value, Message):
        return f"{{\n{''.join(_lines(value, f'{indent}  '))}{indent}}}"
    if isinstance(value, str) and not isinstance(value, Identifier):
        return _quoted(value)
    return str(value)


def _numbered(field: UnknownBinary) -> str:
    if field.wire_type == wire.BYTES:
        return _quoted(field.data)
    if field.wire_type == wire.VARINT:
        return str(sum((byte & 0x7F) << 7 * i for i, byte in enumerate(field.data)))
    return f"0x{int.from_bytes(field.data, 'little'):0{2 * len(field.data)}x}"
