"""A message: the values of its fields, presence, and its place in the text it came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, SupportsIndex

import numpy as np

from caffebn.errors import ArgumentError, Where
from caffebn.proto.schema import Field, MessageType, message_type
from caffebn.proto.source import Source
from caffebn.proto.unknown import UnknownBinary, UnknownText

__all__ = ["Message", "Repeated"]

_set = object.__setattr__


class Repeated(list):
    """The elements of a repeated field: a list that refuses what the field cannot hold."""

    __slots__ = ("_field", "_frozen")

    def __init__(self, field: Field, elements: Iterable[Any] | None = None, frozen: bool = False):
        self._field = field
        self._frozen = frozen
        if elements is not None:
            super().__init__(map(self._check, elements))

    def _check(self, value: Any) -> Any:
        if self._frozen:
            raise _absent(self._field.owner)
        if isinstance(value, Mapping) and self._field.kind == "message":
            return Message(self._field.type, **value)
        return self._field.check(value)

    def append(self, value: Any) -> None:
        super().append(self._check(value))

    def extend(self, values: Iterable[Any]) -> None:
        super().extend([self._check(value) for value in values])

    def insert(self, index: SupportsIndex, value: Any) -> None:
        super().insert(index, self._check(value))

    def add(self, **values: Any) -> Message:
        """Append a new message with these values and return it (the field holds messages)."""
        if self._field.kind != "message":
            raise ArgumentError(
                f"{self._field.owner}.{self._field.name} does not hold messages: use append(value)"
            )
        message = Message(self._field.type, **values)
        self.append(message)
        return message

    def __iadd__(self, values: Iterable[Any]) -> Repeated:  # type: ignore[misc]
        self.extend(values)
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            super().__setitem__(index, [self._check(v) for v in value])
        else:
            super().__setitem__(index, self._check(value))

    def __reduce__(self) -> tuple:
        return list, (list(self),)


class _Bare:
    """What a message knows of itself; its values, as attributes, are what is in its ``__dict__``, and nothing else."""

    __slots__ = ("__dict__", "_frozen", "_offset", "_places", "_source", "_type", "_unknown")


class Message(_Bare):
    """One message of the Caffe format, such as a net, a layer or a blob.

    Every field of the table is an attribute.  An absent scalar field reads as its
    default, an absent message field as an empty read-only message, a repeated field
    as a list (`BlobProto` data and other array fields: a numpy array) that may be
    changed in place.  Assigning checks type and range.

    Parameters
    ----------
    type : str or MessageType
        Name of the message.
    **values
        Initial values of fields; a message may be given as a dict.

    Examples
    --------
    >>> layer = Message("LayerParameter", name="conv1", type="Convolution", top=["conv1"])
    >>> layer.mutable("convolution_param").num_output = 64
    >>> layer.convolution_param.num_output, layer.convolution_param.bias_term
    (64, True)
    >>> layer.has("batch_norm_param")
    False
    """

    __slots__ = ()

    def __new__(cls, type: str | MessageType, /, **values: Any) -> Message:
        return new(message_type(type) if isinstance(type, str) else type)

    def __init__(self, type: str | MessageType, /, **values: Any):
        for name, value in values.items():
            setattr(self, name, value)

    # -- fields as attributes

    def __getattr__(self, name: str) -> Any:  # of an absent field, as those that are present are attributes
        field = self._type.field(name)
        if field.array:
            return np.empty(0, field.dtype)
        if field.repeated:
            elements = Repeated(field, frozen=self._frozen)
            if not self._frozen:
                self.__dict__[name] = elements
            return elements
        if field.kind == "message":
            return _empty(field.type)
        return field.default

    def __setattr__(self, name: str, value: Any) -> None:
        field = self._type.field(name)
        self._check_writable()
        if field.repeated and not field.array:
            if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
                raise ArgumentError(
                    f"{self._type.name}.{name} is repeated: expected a list of {field.type_name}, "
                    f"found {value!r:.60}"
                )
            self.__dict__[name] = Repeated(field, value)
        elif field.kind == "message" and isinstance(value, Mapping):
            self.__dict__[name] = Message(field.type, **value)
        else:
            self.__dict__[name] = field.check(value)

    def __delattr__(self, name: str) -> None:
        self.clear(name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._type.fields]

    # -- presence

    def has(self, name: str) -> bool:
        """Whether a field is present; for a repeated field, whether it has elements."""
        value = self.__dict__.get(name)
        if value is None:
            self._type.field(name)
            return False
        return not (isinstance(value, (list, np.ndarray)) and len(value) == 0)

    def clear(self, name: str) -> None:
        """Make a field absent."""
        self._type.field(name)
        self._check_writable()
        self.__dict__.pop(name, None)
        if self._places:
            self._places.pop(name, None)

    def mutable(self, name: str) -> Message:
        """Return the message in a singular message field, made when absent."""
        field = self._type.field(name)
        if field.kind != "message" or field.repeated:
            raise ArgumentError(f"{self._type.name}.{name} is not a single message: assign to it instead")
        self._check_writable()
        if name not in self.__dict__:
            self.__dict__[name] = Message(field.type)
        return self.__dict__[name]

    def add(self, name: str, /, **values: Any) -> Message:
        """Append a new message to a repeated message field and return it."""
        field = self._type.field(name)
        if field.kind != "message" or not field.repeated:
            raise ArgumentError(f"{self._type.name}.{name} is not a list of messages")
        return getattr(self, name).add(**values)

    def set_fields(self) -> Iterator[tuple[Field, Any]]:
        """Iterate over the present fields and their values, in the order of the schema."""
        values = self.__dict__
        for name, field in self._type.fields.items():
            if name in values and self.has(name):
                yield field, values[name]

    # -- whole messages

    def copy(self) -> Message:
        """Return a deep copy; read-only arrays are shared, for they cannot change."""
        twin = new(self._type, self._source, self._offset)
        for name, value in self.__dict__.items():
            twin.__dict__[name] = _copied(value, self._type.fields[name])
        if self._unknown:
            _set(twin, "_unknown", [_copied_unknown(u) for u in self._unknown])
        if self._places:
            _set(twin, "_places", dict(self._places))
        return twin

    __copy__ = copy

    def __deepcopy__(self, memo: dict) -> Message:
        return self.copy()

    def __reduce__(self) -> tuple:
        values = {field.name: value for field, value in self.set_fields()}
        return _rebuilt, (self._type, values, list(self._unknown or ()))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        if self._type is not other._type or (self._unknown or []) != (other._unknown or []):
            return False
        mine, theirs = dict(_named(self)), dict(_named(other))
        return mine.keys() == theirs.keys() and all(_same(v, theirs[k]) for k, v in mine.items())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        facts = (f"{field.name}={_shown(value)}" for field, value in self.set_fields())
        more = f" +{len(self._unknown)} unknown" if self._unknown else ""
        return f"<{' '.join((self._type.name, *facts))}{more}>"

    def __str__(self) -> str:
        from caffebn.proto import text  # the printer is made of messages

        return text.dump(self)

    def SerializeToString(self) -> bytes:
        """Return the binary form, as messages of the protobuf package do; see `caffebn.proto.binary.dump`."""
        from caffebn.proto import binary  # the writer is made of messages

        return binary.dump(self)

    # -- what it is and where it came from

    @property
    def schema(self) -> MessageType:
        """The type of the message."""
        return self._type

    @property
    def unknown(self) -> list[UnknownText | UnknownBinary]:
        """Fields that the schema does not have, in the order in which they were found."""
        if self._unknown is None:
            if self._frozen:
                return []
            _set(self, "_unknown", [])
        return self._unknown

    @property
    def where(self) -> Where | None:
        """Place of the message in its text, or None when it was not read from one."""
        return self._source.where(self._offset) if self._source else None

    def where_of(self, name: str, index: int | None = None) -> Where | None:
        """Return the place of a field in the text, or None when it does not stand there.

        Parameters
        ----------
        name : str
            Name of the field.
        index : int, optional
            Which element of a repeated field; the first one when not given.
        """
        self._type.field(name)
        value = self.__dict__.get(name)
        if isinstance(value, list) and value and isinstance(value[0], Message):
            value = value[index or 0]
        if isinstance(value, Message):
            return value.where
        offsets = (self._places or {}).get(name)
        if offsets is None or self._source is None or (index or 0) >= len(offsets):
            return None
        return self._source.where(offsets[index or 0])

    def _check_writable(self) -> None:
        if self._frozen:
            raise _absent(self._type.name)


# -- for the readers of this folder, which build messages without the checks above


def new(type: MessageType, source: Source | None = None, offset: int = 0, frozen: bool = False) -> Message:
    """Make an empty message that stands at `offset` of `source`."""
    # a net has thousands of messages: while it is bare, setting an attribute is quick and not checked
    message: Any = _Bare()
    message._type = type
    message._unknown = None
    message._source = source
    message._offset = offset
    message._places = None
    message._frozen = frozen
    message.__class__ = Message
    return message


def place(message: Message, name: str, offset: int) -> None:
    """Note that a value of a field (the next one, when repeated) stands at `offset` of the source."""
    if message._places is None:
        _set(message, "_places", {})
    message._places.setdefault(name, []).append(offset)


def first_line(message: Message, name: str) -> int | None:
    """Return on which line of its own text a field first stands, or None when it stands in none."""
    value = message.__dict__.get(name)
    if isinstance(value, Message):
        return value._source.line(value._offset) if value._source else None
    offsets = (message._places or {}).get(name)
    return message._source.line(offsets[0]) if offsets and message._source else None


def _empty(type: MessageType) -> Message:
    if type.empty is None:
        type.empty = new(type, frozen=True)
    return type.empty


def _rebuilt(type: MessageType, values: dict[str, Any], unknown: list) -> Message:
    message = Message(type, **values)
    message.unknown.extend(unknown)
    return message


def _absent(name: str) -> ArgumentError:
    return ArgumentError(
        f"this {name} is absent and only stands for the defaults: "
        "make one with mutable(field) of the message that should hold it"
    )


def _copied(value: Any, field: Field) -> Any:
    if isinstance(value, Message):
        return value.copy()
    if isinstance(value, np.ndarray):
        return value.copy() if value.flags.writeable else value
    if isinstance(value, list):
        return Repeated(field, [v.copy() for v in value] if field.kind == "message" else value)
    return value


def _copied_unknown(field: UnknownText | UnknownBinary) -> UnknownText | UnknownBinary:
    if isinstance(field, UnknownText) and isinstance(field.value, (Message, list)):
        value = field.value
        copied = value.copy() if isinstance(value, Message) else [_plain_copy(v) for v in value]
        return UnknownText(field.name, copied, field.where)
    return field


def _plain_copy(value: Any) -> Any:
    return value.copy() if isinstance(value, Message) else value


def _named(message: Message) -> Iterator[tuple[str, Any]]:
    return ((field.name, value) for field, value in message.set_fields())


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b, equal_nan=True)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return a == b or (a != a and b != b)


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"<{len(value)} x {value.dtype}>"
    if isinstance(value, list) and value and isinstance(value[0], Message):
        return f"[{len(value)} x {value[0].schema.name}]"
    if isinstance(value, Message):
        return "{...}"
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
