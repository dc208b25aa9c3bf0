"""The expressions of templates, such as ``4 * width`` in ``num_output: ${4 * width}``.

========================  ==========================================================================
values                    integers, floats, strings, ``true`` and ``false``, ``none``, lists, messages
``+ - * / // %``          of numbers; ``/`` gives a float, ``//`` rounds down; ``+`` also joins strings
``== != < <= > >=``       of two numbers or two strings; ``==`` and ``!=`` of anything of one kind
``and or not``            of true and false, and nothing else
``a if condition else b`` the one or the other
``a[i]``                  an element of a list, from 0, or from the end when negative
``name``, ``f(a, b)``     a parameter or variable, a function
========================  ==========================================================================

Nothing else can be said: no attribute, no method, no loop.  Length, depth, and the size of every value
are limited, so that an expression of any origin takes microseconds.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

from caffebn.errors import did_you_mean

__all__ = ["FUNCTIONS", "ExpressionError", "Function", "as_text", "describe", "evaluate"]

MAX_LENGTH = 300
MAX_DEPTH = 30
MAX_INTEGER = 2**63 - 1
MAX_STRING = 4096

Names = Callable[[str], Any]
"""Gives the value of a variable; raises ValueError when there is none."""


class ExpressionError(ValueError):
    """An expression that cannot be read or has no value.

    Parameters
    ----------
    message : str
    offset : int
        Where in the expression.
    """

    def __init__(self, message: str, offset: int):
        super().__init__(message)
        self.offset = offset


class Function(NamedTuple):
    """A function of expressions; `call` raises ValueError for arguments that it cannot take."""

    least: int
    most: int | None
    call: Callable[..., Any]


Node = Callable[[Names, Mapping[str, Function]], Any]


def evaluate(text: str, names: Names, functions: Mapping[str, Function]) -> Any:
    """Return the value of an expression.

    Parameters
    ----------
    text : str
    names : callable
        Gives the value of a variable.
    functions : mapping of str to Function

    Raises
    ------
    ExpressionError
    """
    return _compiled(text)(names, functions)


def describe(value: Any) -> str:
    """Write a value for people, with its kind."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"{value}"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 40 else f'"{value[:40]}..."'
    return f"a list of {len(value)}" if isinstance(value, list) else "a message"


# -- reading


_TOKEN = re.compile(
    r"""\s* (?: (?P<number> (?: [0-9]+ (?: \.[0-9]* )? | \.[0-9]+ ) (?: [eE][+-]?[0-9]+ )? (?![\w.]) )
              | (?P<word> [A-Za-z_]\w* )
              | (?P<string> '[^'\\]*' | "[^"\\]*" )
              | (?P<symbol> // | == | != | <= | >= | [-+*/%<>()\[\],] )
              | (?P<end> \Z )
              | (?P<bad> . ) )""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_CONSTANTS = {"true": True, "True": True, "false": False, "False": False, "none": None, "None": None}
_RESERVED = {"if", "else", "and", "or", "not"}
_BINDING = {"or": 1, "and": 2, "==": 4, "!=": 4, "<": 4, "<=": 4, ">": 4, ">=": 4,
            "+": 5, "-": 5, "*": 6, "/": 6, "//": 6, "%": 6}  # fmt: skip
_COMPARISONS = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
                ">=": operator.ge}  # fmt: skip
_ARITHMETIC = {"-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
               "%": operator.mod, "+": operator.add}  # fmt: skip


@lru_cache(4096)
def _compiled(text: str) -> Node:
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"an expression may have {MAX_LENGTH} characters, this one has {len(text)}", 0)
    return _Parser(text).whole()


class _Parser:
    """Turns an expression into a function of its variables, by binding strength of the operators."""

    def __init__(self, text: str):
        self._text = text
        self._next = 0
        self._depth = 0
        self._advance()

    def whole(self) -> Node:
        node = self._choice()
        if self._kind != "end":
            self._expected("an operator")
        return node

    def _advance(self) -> None:
        match: Any = _TOKEN.match(self._text, self._next)  # it matches anything, be it as "bad"
        self._kind = match.lastgroup
        self._at, self._next = match.start(self._kind), match.end()
        self._token = match[self._kind]

    def _take(self, token: str) -> bool:
        if self._kind in ("word", "symbol") and self._token == token:
            self._advance()
            return True
        return False

    def _need(self, token: str) -> None:
        if not self._take(token):
            self._expected(f'"{token}"')

    def _expected(self, what: str) -> NoReturn:
        found = "the end" if self._kind == "end" else f'"{self._token}"'
        raise ExpressionError(f"expected {what}, found {found}", self._at)

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(f"an expression may be nested {MAX_DEPTH} deep", self._at)

    def _choice(self) -> Node:
        self._deeper()
        yes = self._binary(0)
        at = self._at
        if self._take("if"):
            condition = self._binary(0)
            self._need("else")
            yes = _choice(condition, yes, self._choice(), at)
        self._depth -= 1
        return yes

    def _binary(self, least: int) -> Node:
        left = self._unary()
        while self._kind in ("word", "symbol") and least < _BINDING.get(self._token, 0):
            at, symbol = self._at, self._token
            self._advance()
            left = _binary(symbol, left, self._binary(_BINDING[symbol]), at)
        return left

    def _unary(self) -> Node:
        at = self._at
        self._deeper()
        if self._take("-"):
            node = _negative(self._unary(), at)
        elif self._take("not"):
            node = _not(self._binary(_BINDING["=="] - 1), at)
        else:
            node = self._postfix()
        self._depth -= 1
        return node

    def _postfix(self) -> Node:
        node = self._atom()
        while self._kind == "symbol" and self._token == "[":
            at = self._at
            self._advance()
            node = _element(node, self._choice(), at)
            self._need("]")
        return node

    def _atom(self) -> Node:
        kind, token, at = self._kind, self._token, self._at
        if kind == "bad" and token in "'\"":
            raise ExpressionError("a string in an expression has to be closed, and may hold no \\", at)
        if kind not in ("number", "string", "word") and token != "(" or token in _RESERVED:
            self._expected("a value")
        self._advance()
        if token == "(" and kind == "symbol":
            node = self._choice()
            self._need(")")
            return node
        if kind == "number":
            return _constant(_limited(int(token) if token.isdigit() else float(token), at))
        if kind == "string":
            return _constant(token[1:-1])
        if token in _CONSTANTS:
            return _constant(_CONSTANTS[token])
        if not self._take("("):
            return _variable(token, at)
        arguments: list[Node] = []
        while not self._take(")"):
            if arguments:
                self._need(",")
            arguments.append(self._choice())
        return _call(token, arguments, at)


# -- nodes: each is a function of the variables and functions


def _constant(value: Any) -> Node:
    return lambda names, functions: value


def _variable(name: str, at: int) -> Node:
    def node(names: Names, functions: Mapping[str, Function]) -> Any:
        try:
            return names(name)
        except ValueError as e:
            raise ExpressionError(str(e), at) from None

    return node


def _call(name: str, arguments: list[Node], at: int) -> Node:
    def node(names: Names, functions: Mapping[str, Function]) -> Any:
        function = functions.get(name)
        if function is None:
            raise ExpressionError(f'there is no function "{name}"{did_you_mean(name, functions)}', at)
        least, most, call = function
        if len(arguments) < least or (most is not None and len(arguments) > most):
            wanted = str(least) if least == most else f"{least} or more"
            plural = "" if wanted == "1" else "s"
            raise ExpressionError(f"{name} takes {wanted} argument{plural}, found {len(arguments)}", at)
        values = [argument(names, functions) for argument in arguments]
        try:
            return _limited(call(*values), at)
        except ExpressionError:
            raise
        except ValueError as e:
            raise ExpressionError(f"{name}: {e}", at) from None

    return node


def _choice(condition: Node, yes: Node, no: Node, at: int) -> Node:
    return lambda n, f: yes(n, f) if _truth(condition(n, f), "if", at) else no(n, f)


def _not(operand: Node, at: int) -> Node:
    return lambda n, f: not _truth(operand(n, f), "not", at)


def _negative(operand: Node, at: int) -> Node:
    def node(names: Names, functions: Mapping[str, Function]) -> Any:
        value = operand(names, functions)
        if not _is_number(value):
            raise ExpressionError(f'"-" takes a number, found {describe(value)}', at)
        return -value

    return node


def _element(of: Node, index: Node, at: int) -> Node:
    def node(names: Names, functions: Mapping[str, Function]) -> Any:
        elements, i = of(names, functions), index(names, functions)
        if not isinstance(elements, list) or not _is_whole(i):
            raise ExpressionError(
                f'"[ ]" takes a list and an integer, found {describe(elements)} and {describe(i)}', at
            )
        if not -len(elements) <= i < len(elements):
            raise ExpressionError(f"there is no element {i} in a list of {len(elements)}", at)
        return elements[i]

    return node


def _binary(symbol: str, left: Node, right: Node, at: int) -> Node:
    if symbol == "and":
        return lambda n, f: _truth(left(n, f), "and", at) and _truth(right(n, f), "and", at)
    if symbol == "or":
        return lambda n, f: _truth(left(n, f), "or", at) or _truth(right(n, f), "or", at)
    apply = _compare if symbol in _COMPARISONS else _calculate
    return lambda n, f: apply(symbol, left(n, f), right(n, f), at)


def _compare(symbol: str, a: Any, b: Any, at: int) -> bool:
    ordered = (_is_number(a) and _is_number(b)) or (isinstance(a, str) and isinstance(b, str))
    if symbol in ("==", "!="):
        allowed = ordered or a is None or b is None or (type(a) is type(b) and isinstance(a, (bool, list)))
    else:
        allowed = ordered
    if not allowed:
        raise ExpressionError(f'"{symbol}" cannot compare {describe(a)} with {describe(b)}', at)
    return _COMPARISONS[symbol](a, b)


def _calculate(symbol: str, a: Any, b: Any, at: int) -> Any:
    strings = symbol == "+" and isinstance(a, str) and isinstance(b, str)
    if not strings and not (_is_number(a) and _is_number(b)):
        what = "two numbers or two strings" if symbol == "+" else "two numbers"
        raise ExpressionError(f'"{symbol}" takes {what}, found {describe(a)} and {describe(b)}', at)
    try:
        return _limited(_ARITHMETIC[symbol](a, b), at)
    except ZeroDivisionError:
        raise ExpressionError(f"{describe(a)} {symbol} 0: division by zero", at) from None


def _limited(value: Any, at: int) -> Any:
    if _is_whole(value) and abs(value) > MAX_INTEGER:
        raise ExpressionError("an integer is too large: it has to fit in 64 bits", at)
    if isinstance(value, str) and len(value) > MAX_STRING:
        raise ExpressionError(f"a string may have {MAX_STRING} characters, this one has {len(value)}", at)
    return value


def _truth(value: Any, symbol: str, at: int) -> bool:
    if not isinstance(value, bool):
        raise ExpressionError(f'"{symbol}" takes true or false, found {describe(value)}', at)
    return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# -- functions


def _number(value: Any) -> Any:
    if not _is_number(value):
        raise ValueError(f"expected a number, found {describe(value)}")
    return value


def _rounded(rounding: Callable[[Any], int]) -> Function:
    def call(value: Any) -> int:
        if not math.isfinite(_number(value)):
            raise ValueError(f"expected a finite number, found {value}")
        return rounding(value)

    return Function(1, 1, call)


def _letter(i: Any) -> str:
    if not _is_whole(i) or i < 0:
        raise ValueError(f"expected an integer from 0, found {describe(i)}")
    letters = ""
    while i >= 0:
        letters = chr(ord("a") + i % 26) + letters
        i = i // 26 - 1
    return letters


def as_text(value: Any) -> str:
    """Return a number, a string or a truth as text; ValueError for other values."""
    if isinstance(value, str):
        return value
    if value is None or not isinstance(value, (bool, int, float)):
        raise ValueError(f"expected a number, a string, true or false, found {describe(value)}")
    return describe(value)


def _after(text: Any, prefix: Any) -> str:
    if not isinstance(text, str) or not isinstance(prefix, str):
        raise ValueError(f"expected two strings, found {describe(text)} and {describe(prefix)}")
    return text.removeprefix(prefix)


def _length(value: Any) -> int:
    if not isinstance(value, (str, list)):
        raise ValueError(f"expected a list or a string, found {describe(value)}")
    return len(value)


#: The functions of every expression; a reader of nets adds those that ask about the net.
FUNCTIONS: Mapping[str, Function] = {
    "abs": Function(1, 1, lambda value: abs(_number(value))),
    "after": Function(2, 2, _after),
    "ceil": _rounded(math.ceil),
    "floor": _rounded(math.floor),
    "len": Function(1, 1, _length),
    "letter": Function(1, 1, _letter),
    "max": Function(1, None, lambda *values: max(map(_number, values))),
    "min": Function(1, None, lambda *values: min(map(_number, values))),
    "round": _rounded(lambda value: math.floor(value + 0.5)),
    "text": Function(1, 1, as_text),
}
