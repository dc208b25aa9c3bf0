"""What a Caffe message may hold: message types, fields and enums, read from the table.

``messages`` maps a message name to its `MessageType`, ``enums`` the full name of an
enum (``Phase``, ``PoolingParameter.PoolMethod``) to its `EnumType`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from caffebn.errors import ArgumentError, did_you_mean
from caffebn.proto import kinds, wire
from caffebn.proto.table import TABLE

__all__ = [
    "UNKNOWN",
    "EnumType",
    "Field",
    "MessageType",
    "enums",
    "message_type",
    "messages",
    "parameter_field",
]


class EnumType:
    """An enum: names and numbers both ways.

    Attributes
    ----------
    name : str
        Full name, such as ``PoolingParameter.PoolMethod``.
    by_name : dict of str to int
    by_number : dict of int to str
    """

    __slots__ = ("by_name", "by_number", "name")

    def __init__(self, name: str, by_name: dict[str, int]):
        self.name = name
        self.by_name = by_name
        self.by_number = {number: value for value, number in by_name.items()}

    @property
    def first(self) -> str:
        """Name of the value that a field without a declared default has."""
        return next(iter(self.by_name))

    def __repr__(self) -> str:
        return f"<enum {self.name}>"


@dataclass(slots=True, eq=False, repr=False)
class Field:
    """One field of a message.

    Attributes
    ----------
    name : str
    number : int
        The number in the binary form.
    owner : str
        Name of the message that has the field.
    label : {"optional", "required", "repeated"}
    kind : str
        A protobuf scalar type ("int32", "float", "string" ...), "enum" or "message".
    type : EnumType, MessageType or None
        The type of an enum or message field.
    default : object
        Value of the absent field (of one element when repeated); None for messages.
    has_default : bool
        Whether the table declares the default.
    packed : bool
        Whether the binary writer packs the elements.
    array : bool
        Whether the value is a numpy array.
    repeated : bool
        Whether the label is "repeated".
    dtype : dtype
        numpy type of the elements of an array field, little-endian.
    wire_type : int
        Wire type of one element in the binary form.
    tag : bytes
        What stands in front of the field in a canonical file.
    check : callable
        Turns a value that a caller assigns (one element when repeated, a whole array) into what
        the message keeps; raises ArgumentError.
    """

    owner: str
    name: str
    number: int
    label: str
    kind: str
    type: Any
    default: Any
    has_default: bool
    packed: bool
    array: bool
    repeated: bool = field(init=False)
    dtype: np.dtype = field(init=False)
    wire_type: int = field(init=False)
    tag: bytes = field(init=False)
    check: Callable[[Any], Any] = field(init=False)

    def __post_init__(self) -> None:
        self.repeated = self.label == "repeated"
        self.dtype = np.dtype(kinds.DTYPES.get(self.kind, object))
        self.wire_type = wire.WIRE_TYPES[self.kind]
        self.tag = wire.tag(self.number, wire.BYTES if self.packed else self.wire_type)
        self.check = kinds.checker(self)

    def __repr__(self) -> str:
        return f"<field {self.owner}.{self.name}: {self.label} {self.type_name}>"

    @property
    def type_name(self) -> str:
        """The type in words: ``float``, ``PoolingParameter.PoolMethod``, ``FillerParameter``."""
        return self.type.name if self.type else self.kind


class MessageType:
    """The fields of one message, in the order of their numbers.

    Attributes
    ----------
    name : str
    fields : dict of str to Field
    by_number : dict of int to Field
    by_tag : dict of int to Field
        By what may stand in front of a field in the binary form; elements of a repeated number may be packed or not.
    required : tuple of Field
    """

    __slots__ = ("by_number", "by_tag", "empty", "fields", "name", "required")

    def __init__(self, name: str):
        self.name = name
        self.fields: dict[str, Field] = {}
        self.by_number: dict[int, Field] = {}
        self.by_tag: dict[int, Field] = {}
        self.required: tuple[Field, ...] = ()
        self.empty: Any = None  # the shared read-only message that stands for an absent one; see message.py

    def field(self, name: str) -> Field:
        """Return the field called `name`.

        Raises
        ------
        AttributeError
            When there is none; the message names the nearest field.
        """
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(
                f'{self.name} has no field "{name}"{did_you_mean(name, self.fields)}'
            ) from None

    def __repr__(self) -> str:
        return f"<message {self.name}>"

    def __reduce__(self) -> tuple:
        return message_type, (self.name,)


def message_type(name: str) -> MessageType:
    """Return the message type called `name`.

    Raises
    ------
    ArgumentError
        When Caffe has no such message.
    """
    try:
        return messages[name] if name != UNKNOWN.name else UNKNOWN
    except KeyError:
        raise ArgumentError(f'there is no message "{name}" in Caffe{did_you_mean(name, messages)}') from None


def parameter_field(layer_type: str) -> Field | None:
    """Return the field of LayerParameter whose message is named after a layer type.

    That is ``convolution_param``, a `ConvolutionParameter`, for ``"Convolution"``; None for a type
    without a message of its own, such as ``"Deconvolution"``.
    """
    name = f"{layer_type}Parameter"
    fields = messages["LayerParameter"].fields.values()
    return next((field for field in fields if field.kind == "message" and field.type.name == name), None)


def _load(table: str) -> tuple[dict[str, MessageType], dict[str, EnumType]]:
    enums: dict[str, EnumType] = {}
    messages: dict[str, MessageType] = {}
    declared: list[tuple[MessageType, list[str], str]] = []
    for line in table.strip().splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "message":
            message = messages[rest] = MessageType(rest)
        elif word == "enum":
            name, _, values = rest.partition(": ")
            full = f"{message.name}.{name}" if line[0] == " " else name
            pairs = (value.split("=") for value in values.split())
            enums[full] = EnumType(full, {value: int(number) for value, number in pairs})
        elif word:
            facts, _, default = line.partition(" = ")
            declared.append((message, facts.split(), default))
    for message, (number, name, type_name, *marks), default in declared:
        label = {"]": "repeated", "!": "required"}.get(type_name[-1], "optional")
        type_name = type_name.rstrip("[]!")
        of_enum = enums.get(f"{message.name}.{type_name}") or enums.get(type_name)
        of_message = messages.get(type_name)
        kind = "enum" if of_enum else "message" if of_message else type_name
        declared_field = Field(
            message.name, name, int(number), label, kind, of_enum or of_message,
            kinds.default(kind, of_enum, default), bool(default), "packed" in marks, "array" in marks,
        )  # fmt: skip
        message.fields[name] = message.by_number[int(number)] = declared_field
        message.by_tag[int(number) << 3 | declared_field.wire_type] = declared_field
        if declared_field.repeated:
            message.by_tag[int(number) << 3 | wire.BYTES] = declared_field
    for message in messages.values():
        message.required = tuple(f for f in message.fields.values() if f.label == "required")
    return messages, enums


messages, enums = _load(TABLE)

#: The type of a message that the table does not have: no field of it is known.
UNKNOWN = MessageType("(unknown)")
