"""A reader of the text form, driven by the schema.

Accepted are comments (``#``), ``{}`` and ``<>``, an optional ``:`` before a message,
``,`` or ``;`` after a field, lists ``[a, b]`` for repeated fields, adjacent strings (joined),
C escapes in strings, integers in decimal, hex and octal, floats with an ``f`` at the end,
``inf`` and ``nan``, enum values by name and by number.

An expression ``${...}`` is told from a damaged value, but has no value here: templates, which
`caffebn.blocks` reads by a subclass of this reader, give it one.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NoReturn

import numpy as np

from caffebn.errors import ParseError, Where, did_you_mean
from caffebn.proto import forks, kinds, wire
from caffebn.proto.message import Message, Repeated, first_line, new, place
from caffebn.proto.schema import UNKNOWN, Field, MessageType
from caffebn.proto.source import Source
from caffebn.proto.unknown import Identifier, UnknownBinary, UnknownText

__all__ = ["MAX_COMPLAINTS", "MAX_DEPTH", "MAX_FIELDS", "Reader"]

#: How deep messages may be nested.
MAX_DEPTH = 64

#: How many values a text may hold, elements of numpy arrays not counted.
MAX_FIELDS = 1_000_000

#: For how many unknown fields there is a sentence each.
MAX_COMPLAINTS = 100

_MAX_NUMBER = 400  # characters of one number
_MAX_SHOWN = 40

_TOKEN = re.compile(
    r"""[ \t\r\n\f\v]*
    (?: (?P<word> [A-Za-z_]\w* )
      | (?P<number> (?: 0[xX][0-9a-fA-F]+
                      | (?: [0-9]+\.?[0-9]* | \.[0-9]+ ) (?:[eE][+-]?[0-9]+)? [fF]? ) (?![\w.]) )
      | (?P<symbol> [{}<>\[\]:;,\-] )
      | (?P<quote> ["'] )
      | (?P<expression> \$\{ [^{}]* \} )
      | (?P<comment> \#[^\n]* )
      | (?P<bad> [\w.]+ | . )
      | \Z )""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
# a string is scanned piece by piece: as one pattern it would need memory for every escape in it
_PLAIN: dict[str, Any] = {'"': re.compile(r'[^"\\\n]*'), "'": re.compile(r"[^'\\\n]*")}
_ESCAPE = re.compile(
    rb"\\(?: ([0-7]{1,3}) | [xX]([0-9a-fA-F]{1,2}) | u([0-9a-fA-F]{4}) | U([0-9a-fA-F]{8}) | (.) )",
    re.VERBOSE | re.DOTALL,
)
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v",
            b"\\": b"\\", b"'": b"'", b'"': b'"', b"?": b"?"}  # fmt: skip
_BOOLS = {"true": True, "True": True, "t": True, "1": True,
          "false": False, "False": False, "f": False, "0": False}  # fmt: skip
_INFINITE = {"inf": float("inf"), "infinity": float("inf"), "nan": float("nan")}
_BRACKETS = {"{": "}", "<": ">"}
_LAYERS = ("LayerParameter", "V1LayerParameter")


class Reader:
    """Reads one message from a text; after `message`, `complaints` has the words on unknown fields."""

    def __init__(self, text: str, filename: str, strict: bool):
        self._strict = strict
        self._layer: Message | None = None
        self._count = 0
        self._unknown: list[tuple[Where, Message | None, str]] = []
        self._more_unknown = 0
        self._scalars = {
            **dict.fromkeys(kinds.RANGES, self._integer),
            "bool": self._bool,
            "float": self._float32,
            "double": self._double,
            "string": self._string,
            "bytes": self._bytes,
            "enum": self._enum,
        }
        self._go_to(text, Source(filename, text), 0)

    def message(self, type: MessageType) -> Message:
        """Read the whole text as one message."""
        message = new(type, self._source, 0)
        self._fields(message, "", 0)
        return message

    def complaints(self) -> Iterator[str]:
        """Give one sentence for each unknown field, or for the first ones if there are very many."""
        for where, layer, words in self._unknown:
            named = f'layer "{layer.name}": ' if layer is not None and layer.has("name") else ""
            yield f"{where}: {named}{words}"
        if self._more_unknown:
            yield f"{self._source.filename}: {self._more_unknown} more unknown fields are kept, but not used"

    # -- tokens

    def _go_to(self, text: str, source: Source, at: int) -> None:
        """Go on reading at offset `at` of a text, whose places `source` knows."""
        self._text, self._source, self._next = text, source, at
        self._advance()

    def _advance(self) -> None:
        kind: str | None = "comment"
        while kind == "comment":
            match: Any = _TOKEN.match(self._text, self._next)  # it matches anything, be it as "bad"
            kind = match.lastgroup
            self._next = match.end()
        self._kind = kind
        self._token = match[kind] if kind else ""
        self._at = match.start(kind) if kind else match.end()
        if kind == "quote":
            self._scan_string()

    def _scan_string(self) -> None:
        text, quote, at = self._text, self._token, self._next
        while True:
            at = _PLAIN[quote].match(text, at).end()
            if text[at : at + 1] != "\\":
                break
            at += 2
        closed = text[at : at + 1] == quote
        self._kind = "string" if closed else "bad"
        self._next = at + 1
        self._token = text[self._at : self._next] if closed else quote

    def _take(self, symbol: str) -> bool:
        if self._kind == "symbol" and self._token == symbol:
            self._advance()
            return True
        return False

    def _error(self, message: str, at: int | None = None) -> NoReturn:
        if self._layer is not None and self._layer.has("name"):
            message = f'{message} (in layer "{self._layer.name}")'
        raise ParseError(message, self._source.where(self._at if at is None else at))

    def _expected(self, what: str) -> NoReturn:
        if self._kind is None:
            found = "the end of the text"
        elif self._kind == "bad" and self._token in "\"'":
            found = "a string that is not closed on its line"
        elif self._kind == "bad" and self._token == "/":
            found = '"/" (a comment begins with "#")'
        else:
            found = _shown(self._token)
        self._error(f"expected {what}, found {found}")

    # -- messages

    def _fields(self, message: Message, close: str, depth: int) -> None:
        """Read fields into `message` up to the bracket `close`, or to the end when it is empty."""
        outer = self._layer
        type, values = message._type, message.__dict__
        if type.name in _LAYERS:
            self._layer = message
        while not self._at_end():
            self._field(message, depth)
        if self._kind is None and close:
            opened = self._source.line(message._offset)
            self._expected(f'a field or the "{close}" that closes the {type.name} of line {opened}')
        if self._kind is not None and self._token != close:
            self._expected(f'a field or "{close}"' if close else "a field")
        for field in type.required:
            if field.name not in values:
                self._error(f"{type.name} needs the field {field.name}", message._offset)
        for name in [name for name, value in values.items() if isinstance(value, array)]:
            values[name] = np.frombuffer(values[name], type.fields[name].dtype)
        self._layer = outer

    def _at_end(self) -> bool:
        """Whether no field follows: at a closing bracket, or at the end of the text."""
        return self._kind is None or (self._kind == "symbol" and self._token in "}>")

    def _field(self, message: Message, depth: int) -> None:
        at, name = self._at, self._token
        if self._kind not in ("word", "number"):
            self._expected("the name of a field")
        field = message._type.fields.get(name)
        self._advance()
        colon = self._take(":")
        if field is None:
            self._unknown_field(message, name, at, colon, depth)
        elif colon and self._kind == "expression":
            self._expression_field(message, field, at, depth)
        elif field.kind == "message":
            self._message_field(message, field, at, depth)
        elif not colon:
            self._expected(f'":" after {name}')
        elif field.repeated:
            self._repeated_scalar(message, field, at)
        else:
            self._check_single(message, field, at)
            self._counted()
            message.__dict__[name] = self._scalars[field.kind](field)
            place(message, name, at)
        if self._kind == "symbol" and self._token in ",;":
            self._advance()

    def _message_field(self, message: Message, field: Field, at: int, depth: int) -> None:
        if not field.repeated:
            self._check_single(message, field, at)
            message.__dict__[field.name] = self._message(field.type, at, depth)
            return
        elements = message.__dict__.setdefault(field.name, Repeated(field))
        # list.append, for what this reader makes needs no check by Repeated
        if not self._take("["):
            list.append(elements, self._message(field.type, at, depth))
        elif not self._take("]"):
            list.append(elements, self._message(field.type, self._at, depth))
            while self._take(","):
                list.append(elements, self._message(field.type, self._at, depth))
            if not self._take("]"):
                self._expected('"," or "]"')

    def _message(self, type: MessageType, at: int, depth: int) -> Message:
        if self._kind != "symbol" or self._token not in _BRACKETS:
            self._expected(f'"{{" to begin a {type.name}')
        if depth >= MAX_DEPTH:
            self._error(f"messages are nested more than {MAX_DEPTH} deep")
        close = _BRACKETS[self._token]
        self._advance()
        self._counted()
        message = new(type, self._source, at)
        self._fields(message, close, depth + 1)
        self._advance()
        return message

    def _repeated_scalar(self, message: Message, field: Field, at: int) -> None:
        read = self._scalars[field.kind]
        add = self._adder(message, field)
        listed = self._take("[")
        if listed and self._take("]"):
            return
        while True:
            if not field.array:
                place(message, field.name, self._at if listed else at)
                self._counted()
            add(self._expression(field) if self._kind == "expression" else read(field))
            if not (listed and self._take(",")):
                break
        if listed and not self._take("]"):
            self._expected('"," or "]"')

    def _adder(self, message: Message, field: Field) -> Callable[[Any], None]:
        """Give the function that appends to a repeated field what needs no check by Repeated."""
        elements: Any = message.__dict__.get(field.name)
        if elements is None:
            # of an array four or eight bytes an element, however long the text is
            elements = array("f" if field.kind == "float" else "d") if field.array else Repeated(field)
            message.__dict__[field.name] = elements
        return elements.append if field.array else partial(list.append, elements)

    def _check_single(self, message: Message, field: Field, at: int) -> None:
        if field.name in message.__dict__:
            first = first_line(message, field.name)
            self._error(
                f"{field.owner}.{field.name} is not repeated, but specified more than once"
                f"{f' (first on line {first})' if first else ''}",
                at,
            )

    def _counted(self) -> None:
        self._count += 1
        if self._count > MAX_FIELDS:
            self._error(f"more than {MAX_FIELDS} values in one text")

    # -- scalars: each reads one value of `field` and steps over it

    def _negative(self) -> bool:
        return self._take("-")

    def _integer(self, field: Field) -> int:
        at = self._at
        negative = self._negative()
        number = _integer(self._token) if self._kind == "number" else None
        if number is None:
            self._expected(f"an integer for {field.owner}.{field.name}")
        number = -number if negative else number
        low, high = kinds.RANGES[field.kind]
        if not low <= number <= high:
            found = _shown(f"{'-' if negative else ''}{self._token}")
            self._error(
                f"{field.owner}.{field.name}: expected an integer from {low} to {high}, found {found}", at
            )
        self._advance()
        return number

    def _double(self, field: Field) -> float:
        negative = self._negative()
        number = _float(self._token) if self._kind in ("number", "word") else None
        if number is None:
            self._expected(f"a decimal number for {field.owner}.{field.name}")
        self._advance()
        return -number if negative else number

    def _float32(self, field: Field) -> float:
        return kinds.to_float32(self._double(field))

    def _bool(self, field: Field) -> bool:
        value = _BOOLS.get(self._token) if self._kind in ("number", "word") else None
        if value is None:
            self._expected(f"true or false for {field.owner}.{field.name}")
        self._advance()
        return value

    def _enum(self, field: Field) -> str:
        at, shown = self._at, self._token
        if self._kind == "word":
            known = shown in field.type.by_name or forks.is_type(f"{field.owner}.{field.name}", shown)
            value = shown if known else None
        else:
            negative = self._negative()
            number = _integer(self._token) if self._kind == "number" else None
            if number is None:
                self._expected(f"a value of {field.owner}.{field.name}")
            value = field.type.by_number.get(-number if negative else number)
        if value is None:
            self._error(
                f"{field.owner}.{field.name}: expected one of {', '.join(field.type.by_name)}, "
                f"found {_shown(shown)}{_hint(shown, field.type.by_name)}",
                at,
            )
        self._advance()
        return value

    def _bytes(self, field: Field) -> bytes:
        if self._kind != "string":
            self._expected(f"a string in quotes for {field.owner}.{field.name}")
        return self._joined()

    def _string(self, field: Field) -> str:
        return self._bytes(field).decode("utf-8", "surrogateescape")

    def _joined(self) -> bytes:
        parts = []
        while self._kind == "string":
            parts.append(self._unquoted(self._token[1:-1]))
            self._advance()
        return b"".join(parts)

    def _unquoted(self, raw: str) -> bytes:
        """Give what the text between the quotes of a string stands for."""
        data = raw.encode("utf-8", "surrogateescape")
        return _ESCAPE.sub(self._unescaped, data) if "\\" in raw else data

    def _unescaped(self, match: re.Match[bytes]) -> bytes:
        octal, hexadecimal, short, long, letter = match.groups()
        if octal and int(octal, 8) < 256:
            return bytes((int(octal, 8),))
        if hexadecimal:
            return bytes((int(hexadecimal, 16),))
        if short or long:
            code = int(short or long, 16)
            if code <= 0x10FFFF and not 0xD800 <= code < 0xE000:
                return chr(code).encode()
        elif letter in _LETTERS:
            return _LETTERS[letter]
        self._error(f'the string has the unknown escape "{match[0].decode("utf-8", "replace")}"')

    # -- expressions: for a subclass that gives them values

    def _expression_field(self, message: Message, field: Field, at: int, depth: int) -> None:
        """Read a field whose value, after its colon, is an expression."""
        self._expression(field)

    def _expression(self, field: Field) -> Any:
        """Read one scalar of `field` that an expression stands for."""
        self._expected(f"a value for {field.owner}.{field.name}")

    # -- unknown fields

    def _unknown_field(self, message: Message, name: str, at: int, colon: bool, depth: int) -> None:
        type = message._type
        if type is not UNKNOWN and not forks.is_known(type.name, name):
            self._complain(type, name, at)
        if name[0].isdigit() or name[0] == ".":
            message.unknown.append(self._numbered(name, at))
        elif not colon and not (self._kind == "symbol" and self._token in "{<["):
            self._expected(f'":" or "{{" after {_shown(name)}')
        elif self._take("["):
            message.unknown.append(UnknownText(name, self._unknown_list(depth), self._source.where(at)))
        else:
            value = self._unknown_value(at, depth)
            message.unknown.append(UnknownText(name, value, self._source.where(at)))

    def _complain(self, type: MessageType, name: str, at: int) -> None:
        if len(self._unknown) == MAX_COMPLAINTS:
            self._more_unknown += 1
            return
        words, hint = f"{type.name} has no field {_shown(name)}", _hint(name, type.fields)
        if self._strict:
            self._error(f"{words}{hint}", at)
        words = f"{words}; it is kept, but not used{hint}"
        self._unknown.append((self._source.where(at), self._layer, words))

    def _unknown_list(self, depth: int) -> list[Any]:
        elements: list[Any] = []
        if self._take("]"):
            return elements
        elements.append(self._unknown_value(self._at, depth))
        while self._take(","):
            elements.append(self._unknown_value(self._at, depth))
        if not self._take("]"):
            self._expected('"," or "]"')
        return elements

    def _unknown_value(self, at: int, depth: int) -> Any:
        if self._kind == "symbol" and self._token in _BRACKETS:
            return self._message(UNKNOWN, at, depth)
        self._counted()
        if self._kind == "string":
            return self._joined().decode("utf-8", "surrogateescape")
        negative = self._negative()
        value: Any = None
        if self._kind == "number":
            value = _integer(self._token)
            value = _float(self._token) if value is None else value
        elif self._kind == "word":
            value = _INFINITE.get(self._token.lower()) if negative else Identifier(self._token)
        if value is None:
            self._expected("a value")
        self._advance()
        return -value if negative else value

    def _numbered(self, name: str, at: int) -> UnknownBinary:
        """Read a field that the printer names by its number, having met it in a binary file."""
        number = _integer(name)
        if number is None or not 0 < number <= wire.MAX_FIELD_NUMBER:
            self._error(f"expected the name of a field, found {_shown(name)}", at)
        self._counted()
        if self._kind == "string":
            return UnknownBinary(number, wire.BYTES, self._joined())
        value = _integer(self._token) if self._kind == "number" else None
        if value is None or value >= 2**64:
            self._expected(f"an integer or a string for field {number}")
        digits = len(self._token) - 2 if self._token[:2] in ("0x", "0X") else 0
        self._advance()
        if digits == 8:
            return UnknownBinary(number, wire.FIXED32, value.to_bytes(4, "little"))
        if digits == 16:
            return UnknownBinary(number, wire.FIXED64, value.to_bytes(8, "little"))
        return UnknownBinary(number, wire.VARINT, wire.varint(value))


def _integer(token: str) -> int | None:
    """Return the value of a decimal, hex or octal integer, or None when `token` is none."""
    if token[:2] in ("0x", "0X"):
        return int(token, 16) if len(token) <= _MAX_NUMBER else None
    if not token.isdigit() or len(token) > _MAX_NUMBER:
        return None
    if token[0] == "0" and len(token) > 1:
        return int(token, 8) if not set(token) & {"8", "9"} else None
    return int(token)


def _float(token: str) -> float | None:
    """Return the value of a decimal number or of inf or nan, or None when `token` is none."""
    if token[0].isalpha():
        return _INFINITE.get(token.lower())
    if len(token) > _MAX_NUMBER or token[:2] in ("0x", "0X"):
        return None
    if token[0] == "0" and token.isdigit() and len(token) > 1:
        return None  # octal, which is for integers only
    return float(token.rstrip("fF"))


def _shown(token: str) -> str:
    short = token if len(token) <= _MAX_SHOWN else f"{token[:_MAX_SHOWN]}..."
    return short if token[:1] in ('"', "'") else f'"{short}"'


def _hint(word: str, known: Any) -> str:
    return did_you_mean(word, known) if len(word) <= _MAX_SHOWN else ""
