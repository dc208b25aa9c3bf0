"""A reader of the bodies of templates: values, expressions, and what steers the reading.

``let``, ``when`` and ``repeat`` steer the reading itself: the fields in a ``repeat`` are read as often as it
says, each time into the same message, and those in a ``when`` are read or stepped over.  So they work
wherever a field may stand.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping
from typing import Any

from caffebn.blocks.expressions import FUNCTIONS, ExpressionError, Function, as_text, describe, evaluate
from caffebn.blocks.template import KINDS, RESERVED, Piece
from caffebn.errors import ArgumentError, did_you_mean
from caffebn.proto import Identifier, Message
from caffebn.proto.message import place
from caffebn.proto.schema import UNKNOWN, Field, MessageType
from caffebn.proto.source import Source
from caffebn.proto.text_reader import MAX_DEPTH, Reader

__all__ = ["MAX_EXPANSION", "MAX_NAME", "STEP", "BodyReader"]

#: How many characters of templates a net may be made from, each counted as often as it is read.
MAX_EXPANSION = 2**24

#: What every block, turn of a repeat and use of a message counts besides its characters.
STEP = 500

#: How many characters the name of a template, a parameter or a variable may have.
MAX_NAME = 64

_ENTRIES = ("layer", "block", "let", "when", "repeat", "error")
_STEERING = ("let", "when", "else", "repeat", "error")
_BRACKETS = {"{": "}", "<": ">"}
_WORDS = {"true": True, "True": True, "false": False, "False": False, "none": None, "inf": float("inf"),
          "nan": float("nan")}  # fmt: skip
_IN_STRING = re.compile(r"\\.|\$\$\{|\$\{(?:([^{}]*)\})?", re.DOTALL)


class BodyReader(Reader):
    """Reads what may stand in a body; `_inside` says whether the reader is in one."""

    def __init__(self, source: str, filename: str, strict: bool):
        self._inside = False
        self._scope: ChainMap[str, Any] = ChainMap()
        self._functions: Mapping[str, Function] = FUNCTIONS
        self._ends: dict[tuple[str, int], int] = {}  # behind the message that begins at an offset of a text
        self._spent = 0
        super().__init__(source, filename, strict)

    # -- moving in texts

    def _here(self) -> tuple[str, Source, int]:
        return self._text, self._source, self._at

    def _is_word(self, word: str) -> bool:
        return self._kind == "word" and self._token == word

    def _at_bracket(self) -> bool:
        return self._kind == "symbol" and self._token in _BRACKETS

    def _open_bracket(self, what: str) -> str:
        """Step over an opening bracket and return the one that closes it."""
        if not self._at_bracket():
            self._expected(f'"{{" to begin {what}')
        close = _BRACKETS[self._token]
        self._advance()
        return close

    def _close_bracket(self, close: str) -> None:
        if not self._take(close):
            self._expected(f'a name or "{close}"')

    def _separator(self) -> None:
        if self._kind == "symbol" and self._token in ",;":
            self._advance()

    def _skip_message(self) -> None:
        """Step over the message that begins here; its brackets are looked at once."""
        key = (self._text, self._at)
        if key not in self._ends:
            line = self._source.line(self._at)
            closing = [self._open_bracket("a message")]
            while closing:
                if self._at_bracket():
                    closing.append(_BRACKETS[self._token])
                elif self._at_end() or self._kind == "bad":
                    if self._token != closing.pop():
                        self._expected(f"the bracket that closes that of line {line}")
                self._advance()
            self._ends[key] = self._at
        self._go_to(self._text, self._source, self._ends[key])

    def _body(self, message: Message, depth: int) -> None:
        """Read the fields of a body into `message`, and step over the bracket that closes it."""
        outer, self._scope = self._scope, self._scope.new_child()
        in_net = message.schema.name == "NetParameter"
        while not self._at_end():
            if in_net and self._token not in (*_ENTRIES, "else"):
                self._expected(f"{', '.join(_ENTRIES)} or a closing bracket in a template")
            self._field(message, depth)
        self._advance()
        self._scope = outer

    def _spend(self, characters: int) -> None:
        self._spent += characters
        if self._spent > MAX_EXPANSION:
            self._error(
                "the blocks of this net are too large: a repeat counts too far, or templates use each other "
                f"too often (they may read {MAX_EXPANSION} characters of templates)"
            )

    # -- steering

    def _unknown_field(self, message: Message, name: str, at: int, colon: bool, depth: int) -> None:
        if name in _STEERING and not self._inside and message.schema.name == "NetParameter":
            self._error(f"{name} stands in a template, not at the top level of a file", at)
        if not (self._inside and name in _STEERING):
            super()._unknown_field(message, name, at, colon, depth)
            return
        self._check_depth(at, depth)
        if name == "let":
            self._let(depth)
        elif name == "when":
            self._when(message, depth + 1)
        elif name == "repeat":
            self._repeat(message, depth + 1)
        elif name == "else":
            self._error("else stands right behind the when that it belongs to", at)
        elif colon:
            self._stop(at, depth)
        else:
            self._expected('":" after error')

    def _check_depth(self, at: int, depth: int) -> None:
        if depth >= MAX_DEPTH:
            self._error(
                f"blocks, repeat and when are nested more than {MAX_DEPTH} deep; does a template use itself "
                "without end?",
                at,
            )

    def _stop(self, at: int, depth: int) -> None:
        message = self._value(depth)
        if not isinstance(message, str):
            self._error(f"error takes a string, found {describe(message)}", at)
        self._error(message, at)

    def _let(self, depth: int) -> None:
        close = self._open_bracket("a let")
        while not self._at_end():
            name = self._new_name("variable")
            self._scope[name] = self._named_value(name, depth)
            self._separator()
        self._close_bracket(close)

    def _new_name(self, what: str) -> str:
        if self._kind != "word":
            self._expected(f"the name of a {what}")
        name = self._token
        if len(name) > MAX_NAME:
            self._error(f"the name of a {what} may have {MAX_NAME} characters, this one has {len(name)}")
        if name in RESERVED or name in KINDS:
            self._error(f'a {what} cannot be called "{name}", which has a meaning of its own')
        self._advance()
        return name

    def _when(self, message: Message, depth: int) -> None:
        begin = self._here()
        self._open_bracket("a when")
        at = self._at
        met = self._header("test", "when", depth)
        if not isinstance(met, bool):
            self._error(f"test takes true or false, found {describe(met)}", at)
        self._read_if(met, begin, message, depth)
        if self._is_word("else"):
            self._advance()
            begin = self._here()
            self._open_bracket("an else")
            self._read_if(not met, begin, message, depth)

    def _read_if(self, wanted: bool, begin: tuple[str, Source, int], message: Message, depth: int) -> None:
        """Read the rest of a body, or step over it all from its opening bracket."""
        if wanted:
            self._body(message, depth)
        else:
            self._go_to(*begin)
            self._skip_message()

    def _repeat(self, message: Message, depth: int) -> None:
        begin = self._here()
        self._open_bracket("a repeat")
        at = self._at
        count = self._header("count", "repeat", depth)
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            self._error(f"count takes an integer from 0, found {describe(count)}", at)
        index, at = "i", self._at
        if self._is_word("index"):
            value = self._header("index", "repeat", depth)
            if not isinstance(value, str) or not value.isidentifier() or value in RESERVED:
                self._error(f"index takes the name of a variable, found {describe(value)}", at)
            index = value
        first, outer = self._here(), self._scope
        for i in range(count):
            self._go_to(*first)
            self._scope = outer.new_child({index: i})
            self._body(message, depth)
            self._spend(self._at - first[2] + STEP)
        self._scope = outer
        if not count:
            self._go_to(*begin)
            self._skip_message()

    def _header(self, name: str, of: str, depth: int) -> Any:
        """Read a field that stands at the beginning of a when or repeat."""
        if not self._is_word(name):
            self._expected(f"{name}: ... at the beginning of a {of}")
        self._advance()
        value = self._named_value(name, depth)
        self._separator()
        return value

    # -- values

    def _named_value(self, name: str, depth: int) -> Any:
        """Read a value behind its name, which has been read."""
        if not self._take(":") and not self._at_bracket():
            self._expected(f'":" after {name}')
        return self._value(depth)

    def _value(self, depth: int) -> Any:
        """Read a value of the language: a number, a string, a truth, none, a list or a message."""
        if not self._take("["):
            return self._single_value(depth)
        elements: list[Any] = []
        while not self._take("]"):
            if elements and not self._take(","):
                self._expected('"," or "]"')
            at, element = self._at, self._single_value(depth)
            if element is None or isinstance(element, list):
                self._error(f"an element of a list cannot be {describe(element)}", at)
            elements.append(element)
        return elements

    def _single_value(self, depth: int) -> Any:
        if self._kind == "expression":
            return self._evaluated()
        if self._at_bracket():
            piece = Piece(self._text, self._source, self._at, self._scope)
            self._skip_message()
            return piece
        value = self._unknown_value(self._at, depth)
        return _WORDS.get(value, str(value)) if isinstance(value, Identifier) else value

    def _evaluated(self) -> Any:
        """Give the value of the expression that stands here, and step over it."""
        if not self._inside:
            self._error(f"{self._token[:40]}: expressions stand in templates and blocks only")
        value = self._value_of(self._token[2:-1], self._at)
        self._advance()
        return value

    def _value_of(self, expression: str, at: int) -> Any:
        """Give the value of the expression between the ``${`` at `at` and its bracket."""
        try:
            return evaluate(expression, self._variable, self._functions)
        except ExpressionError as e:
            shown = " ".join(expression.split())
            shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
            self._error(f"${{{shown}}}: {e}", at + 2 + e.offset)

    def _variable(self, name: str) -> Any:
        """Give the value of a variable; ValueError when there is none."""
        if name not in self._scope:
            raise ValueError(f'nothing here is called "{name}"{did_you_mean(name, self._scope)}')
        return self._scope[name]

    def _unquoted(self, raw: str) -> bytes:
        if not self._inside or "${" not in raw:
            return super()._unquoted(raw)
        parts, done = [], 0
        for match in _IN_STRING.finditer(raw):
            if match[0][0] == "\\":
                continue
            parts.append(super()._unquoted(raw[done : match.start()]))
            done = match.end()
            at = self._at + 1 + match.start()
            if match[0] == "$${":
                parts.append(b"${")
            elif match[1] is None:
                self._error("${ is not closed in this string; $${ stands for ${ itself", at)
            else:
                parts.append(self._inserted(match[1], at))
        parts.append(super()._unquoted(raw[done:]))
        return b"".join(parts)

    def _inserted(self, expression: str, at: int) -> bytes:
        value = self._value_of(expression, at)
        try:
            inserted = as_text(value)
        except ValueError as e:
            self._error(f"${{{expression}}} in a string: {e}", at)
        self._spend(len(inserted))
        return inserted.encode("utf-8", "surrogateescape")

    # -- expressions as values of fields

    def _expression_field(self, message: Message, field: Field, at: int, depth: int) -> None:
        value_at, value = self._at, self._evaluated()
        if isinstance(value, list) and not field.repeated:
            self._error(f"{field.owner}.{field.name} takes one value, found {describe(value)}", value_at)
        for element in value if isinstance(value, list) else [value]:
            if element is None:  # none leaves the field out
                continue
            if not field.repeated:
                self._check_single(message, field, at)
            self._counted()
            if field.kind == "message":
                made: Any = self._message_of(element, field, value_at, depth)
            else:
                made = self._converted(element, field, value_at)
            if field.repeated:
                self._adder(message, field)(made)
            else:
                message.__dict__[field.name] = made
            if field.kind != "message" and not field.array:
                place(message, field.name, at)

    def _expression(self, field: Field) -> Any:
        at = self._at
        return self._converted(self._evaluated(), field, at)

    def _converted(self, value: Any, field: Field, at: int) -> Any:
        """Give a value as a scalar field keeps it."""
        if field.kind == "bytes" and isinstance(value, str):
            value = value.encode("utf-8", "surrogateescape")
        try:
            return field.check([value])[0] if field.array else field.check(value)
        except ArgumentError as e:
            self._error(e.message, at)

    def _message_of(self, value: Any, field: Field, at: int, depth: int) -> Message:
        if not isinstance(value, Piece):
            self._error(f"{field.owner}.{field.name}: expected a message, found {describe(value)}", at)
        return self._message_of_piece(value, field.type, depth)

    def _message_of_piece(self, piece: Piece, type: MessageType, depth: int) -> Message:
        """Read a message that was given as a value, at the place where it stands."""
        back, scope = self._here(), self._scope
        self._scope = piece.scope
        self._go_to(piece.text, piece.source, piece.at)
        message = self._message(type, piece.at, depth)
        self._spend(self._at - piece.at + STEP)
        self._scope = scope
        self._go_to(*back)
        return message

    def _unknown_value(self, at: int, depth: int) -> Any:
        if self._kind != "expression":
            return super()._unknown_value(at, depth)
        at, value = self._at, self._evaluated()
        self._counted()
        if isinstance(value, Piece):
            return self._message_of_piece(value, UNKNOWN, depth)
        if value is None or isinstance(value, list):
            self._error(f"expected a value, found {describe(value)}", at)
        return Identifier(describe(value)) if isinstance(value, bool) else value
