"""Expressions: values, and words for everything that has none."""

from __future__ import annotations

import math
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffebn.blocks.expressions import FUNCTIONS, ExpressionError, evaluate

VARIABLES = {"width": 64, "name": "res2", "ratio": 0.5, "deep": True, "nothing": None, "sizes": [3, 5, 7]}


def lookup(name):
    if name not in VARIABLES:
        raise ValueError(f'nothing here is called "{name}"')
    return VARIABLES[name]


def value(text):
    return evaluate(text, lookup, FUNCTIONS)


@pytest.mark.parametrize(("text", "expected"), [
    ("1", 1), (" 1 ", 1), ("1.5", 1.5), (".5", 0.5), ("2.", 2.0), ("1e3", 1000.0), ("'a'", "a"), ('"a"', "a"),
    ("true", True), ("False", False), ("none", None), ("width", 64), ("nothing", None), ("''", ""),
    ("4 * width", 256), ("1 + 2 * 3", 7), ("(1 + 2) * 3", 9), ("7 // 2", 3), ("-7 // 2", -4), ("7 % 3", 1),
    ("7 / 2", 3.5), ("8 / 2", 4.0), ("2 - 3 - 4", -5), ("-width", -64), ("- -1", 1), ("2 * -3", -6),
    ("'a' + name", "ares2"), ("1 < 2", True), ("2 <= 1", False), ("'a' < 'b'", True), ("1 == 1.0", True),
    ("name == 'res2'", True), ("name != 'res2'", False), ("nothing == none", True), ("width == none", False),
    ("deep and 1 < 2", True), ("not deep or 1 > 2", False), ("not 1 == 2", True), ("true or 1 / 0 > 0", True),
    ("false and nobody", False), ("1 if deep else nobody", 1), ("1 if false else 2 if true else 3", 2),
    ("sizes[0]", 3), ("sizes[-1]", 7), ("sizes[1 + 1] * 2", 14), ("sizes == sizes", True),
    ("min(3, 1, 2)", 1), ("max(3)", 3), ("ceil(1.2)", 2), ("floor(-1.2)", -2), ("round(2.5)", 3), ("round(-0.5)", 0),
    ("abs(-3)", 3), ("len(sizes)", 3), ("len('abc')", 3), ("letter(0)", "a"), ("letter(25)", "z"),
    ("letter(26)", "aa"), ("letter(27 * 26)", "aaa"), ("after(name, 'res')", "2"), ("after(name, 'x')", "res2"),
    ("text(3) + text(0.5) + text(true) + text('x')", "30.5truex"), ("ceil(0.5 * max(width, 3) / 8) * 8", 32),
    ("1 +\n 2", 3),
])  # fmt: skip
def test_values(text, expected):
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(("text", "place", "words"), [
    ("", 0, "expected a value, found the end"),
    ("1 +", 3, "expected a value, found the end"),
    ("1 2", 2, 'expected an operator, found "2"'),
    ("(1", 2, 'expected ")", found the end'),
    ("1 if true", 9, 'expected "else", found the end'),
    ("1.2.3", 0, 'expected a value, found "1"'),
    ("3x", 0, 'expected a value, found "3"'),
    ("and", 0, 'expected a value, found "and"'),
    ("1 + not true", 2, 'takes two numbers or two strings, found 1 and false'),
    ("'a", 0, "a string in an expression has to be closed"),
    (r"'a\n'", 0, "may hold no \\"),
    ("a.b", 1, 'expected an operator, found "."'),
    ("name.upper()", 4, 'expected an operator, found "."'),
    ("2 ** 3", 3, 'expected a value, found "*"'),
    ("[1]", 0, 'expected a value, found "["'),
    ("1, 2", 1, 'expected an operator, found ","'),
    ("max(1 2)", 6, 'expected ",", found "2"'),
    ("wdith", 0, 'nothing here is called "wdith"'),
    ("flor(1)", 0, 'there is no function "flor"; did you mean "floor"?'),
    ("__import__('os')", 0, 'there is no function "__import__"'),
    ("floor(1, 2)", 0, "floor takes 1 argument, found 2"),
    ("after('a')", 0, "after takes 2 arguments, found 1"),
    ("max()", 0, "max takes 1 or more arguments, found 0"),
    ("1 / 0", 2, "1 / 0: division by zero"),
    ("width % (1 - 1)", 6, "64 % 0: division by zero"),
    ("1 + 'a'", 2, '"+" takes two numbers or two strings, found 1 and "a"'),
    ("true * 2", 5, '"*" takes two numbers, found true and 2'),
    ("-name", 0, '"-" takes a number, found "res2"'),
    ("name < 3", 5, '"<" cannot compare "res2" with 3'),
    ("deep == 1", 5, '"==" cannot compare true with 1'),
    ("nothing < 1", 8, '"<" cannot compare none with 1'),
    ("1 if width else 2", 2, '"if" takes true or false, found 64'),
    ("not 0", 0, '"not" takes true or false, found 0'),
    ("deep and name", 5, '"and" takes true or false, found "res2"'),
    ("false or nothing", 6, '"or" takes true or false, found none'),
    ("sizes[3]", 5, "there is no element 3 in a list of 3"),
    ("sizes['a']", 5, '"[ ]" takes a list and an integer, found a list of 3 and "a"'),
    ("name[0]", 4, '"[ ]" takes a list and an integer, found "res2" and 0'),
    ("letter(-1)", 0, "letter: expected an integer from 0, found -1"),
    ("letter(true)", 0, "letter: expected an integer from 0, found true"),
    ("max(1, 'a')", 0, 'max: expected a number, found "a"'),
    ("floor(1e400)", 0, "floor: expected a finite number, found inf"),
    ("len(1)", 0, "len: expected a list or a string, found 1"),
    ("text(sizes)", 0, "text: expected a number, a string, true or false, found a list of 3"),
    ("after(1, 'a')", 0, 'after: expected two strings, found 1 and "a"'),
    ("9223372036854775807 + 1", 20, "an integer is too large"),
    ("99999999999999999999", 0, "an integer is too large"),
    ("1" * 301, 0, "an expression may have 300 characters, this one has 301"),
    ("(" * 31 + "1" + ")" * 31, 15, "an expression may be nested 30 deep"),
    ("-" * 40 + "1", 29, "an expression may be nested 30 deep"),
])  # fmt: skip
def test_errors(text, place, words):
    with pytest.raises(ExpressionError) as error:
        value(text)
    assert words in str(error.value)
    assert error.value.offset == place


def test_strings_do_not_grow_without_end():
    text = "a"
    with pytest.raises(ExpressionError, match="a string may have 4096 characters, this one has 8192"):
        for _ in range(20):
            text = evaluate("a + a", lambda name, text=text: text, FUNCTIONS)


def test_a_message_is_no_value_to_calculate_with():
    with pytest.raises(ExpressionError, match='"==" cannot compare a message with a message'):
        evaluate("a == a", lambda name: ("not", "a", "scalar"), FUNCTIONS)


# -- laws: expressions of whole numbers mean what they mean in Python


NUMBERS = st.integers(-50, 50)
OPERATORS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}


@st.composite
def sums(draw, depth=3):
    """A text of numbers, operators and brackets."""
    if depth == 0 or draw(st.booleans()):
        n = draw(NUMBERS)
        return str(n) if n >= 0 else f"({n})"
    left, right = draw(sums(depth=depth - 1)), draw(sums(depth=depth - 1))
    text = f"{left} {draw(st.sampled_from(list(OPERATORS)))} {right}"
    return f"({text})" if draw(st.booleans()) else text


@given(sums())
def test_sums_are_those_of_python(text):
    try:
        expected = eval(text)
    except ZeroDivisionError:
        with pytest.raises(ExpressionError, match="division by zero"):
            value(text)
        return
    assert value(text) == expected


@given(st.text(alphabet="ab12.+-*/%<>=!()[]'\", \n", max_size=40))
def test_any_text_has_a_value_or_words(text):
    try:
        found = value(text)
    except ExpressionError as e:
        assert 0 <= e.offset <= len(text)
        assert len(str(e)) < 200
    else:
        assert isinstance(found, (int, float, str)) and not (isinstance(found, float) and math.isnan(found))
