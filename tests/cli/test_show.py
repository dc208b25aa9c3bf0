"""Tables that fit, and numbers for people."""

from __future__ import annotations

import json
import re

import pytest
from rich import console

from caffebn.cli import show


@pytest.mark.parametrize("n, words", [
    (0, ""), (1, "1"), (999, "999"), (1000, "1.00 k"), (9994, "9.99 k"), (9996, "10.0 k"), (99960, "100 k"),
    (999499, "999 k"), (999500, "1.00 M"), (25557032, "25.6 M"), (4089184256, "4.09 G"), (10**16, "10000 T"),
])  # fmt: skip
def test_amount(n, words):
    assert show.amount(n) == words


@pytest.mark.parametrize("n, words", [(0, ""), (12, "12 B"), (802816, "803 kB"), (102228128, "102 MB")])
def test_bytes(n, words):
    assert show.bytes_(n) == words


@pytest.mark.parametrize("seconds, words", [
    (0, "0.0000"), (0.0000012, "0.0012"), (0.0000123, "0.0123"), (0.00123, "1.23"), (0.0123, "12.3"),
    (0.0015, "1.50"),
    (0.09994, "99.9"),
    (0.0015, "1.50"), (0.09994, "99.9"), (0.09996, "100"), (0.1234, "123"), (1.2345, "1234"),
])  # fmt: skip
def test_milliseconds(seconds, words):
    assert show.milliseconds(seconds) == words


def test_shape():
    assert show.shape((1, 3, 224, 224)) == "1x3x224x224" and show.shape(()) == "scalar"


def test_json_has_no_nan(capsys):
    show.as_json({"a": [1.5, float("nan"), (float("inf"), 2)], "b": "NaN"})
    assert json.loads(capsys.readouterr().out) == {"a": [1.5, None, [None, 2]], "b": "NaN"}


LONG = "a_layer_with_a_name_that_is_much_longer_than_eighty_columns_" * 2


def rows(width, monkeypatch, capsys, terminal):
    monkeypatch.setattr(console.Console, "is_terminal", property(lambda self: terminal))
    monkeypatch.setenv("COLUMNS", str(width))
    show.table(["name", ">n"], [[LONG, "123"], ["b [red]", "4"]], ["2 rows", "127"], title="some")
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()


@pytest.mark.parametrize("width", [40, 80])
def test_table_keeps_within_a_terminal(monkeypatch, capsys, width):
    lines = rows(width, monkeypatch, capsys, terminal=True)
    assert max(map(len, lines)) <= width
    assert "".join(line.split()[0] for line in lines[3:] if line.strip()).startswith(LONG)
    assert [line for line in lines if line.endswith("  123")]


def test_table_in_a_pipe_has_one_line_a_row(monkeypatch, capsys):
    lines = rows(80, monkeypatch, capsys, terminal=False)
    assert lines[0].strip() == "some"
    assert [line for line in lines if LONG in line and line.rstrip().endswith("123")]
    assert [line.split() for line in lines if line.startswith("b")] == [["b", "[red]", "4"]]
    assert [line.split() for line in lines if line.startswith("2 rows")] == [["2", "rows", "127"]]
