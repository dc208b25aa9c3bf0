"""How the verbs show things: tables that fit, numbers for people, messages on standard error."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import click

from caffebn.blob import times

__all__ = [
    "amount",
    "as_json",
    "bytes_",
    "error",
    "milliseconds",
    "progress",
    "shape",
    "table",
    "warning",
]

Item = TypeVar("Item")


def error(message: str) -> None:
    """Print an error on standard error."""
    _say("error", "bold red", message)


def warning(message: str) -> None:
    """Print a warning on standard error."""
    _say("warning", "bold yellow", message)


def _say(word: str, style: str, message: str) -> None:
    # rich takes 50 ms to import; a verb that shows nothing should not pay for it
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, soft_wrap=True).print(Text.assemble((f"{word}: ", style), message))


def as_json(value: Any) -> None:
    """Print a value as JSON on standard output; numbers that are not finite become null."""
    click.echo(json.dumps(_plain(value), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    footer: Sequence[str] | None = None,
    title: str = "",
) -> None:
    """Print a table on standard output.

    On a terminal the table keeps within its width by breaking the text of the columns on the left; in a
    pipe or a file each row is one line, however long.

    Parameters
    ----------
    columns : sequence of str
        The headings; one that starts with ``>`` (not shown) marks a column of numbers, set to the right.
    rows : iterable of sequences of str
    footer : sequence of str, optional
        The last line, for totals.
    title : str, optional
        A line above the table.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(
        box=box.SIMPLE_HEAD,
        show_footer=footer is not None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    for i, column in enumerate(columns):
        number = column.startswith(">")
        made.add_column(
            column.lstrip(">"),
            footer=Text(footer[i]) if footer else "",
            overflow="fold",
            justify="right" if number else "left",
            no_wrap=number,
        )
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        unlimited = console.options.update(max_width=1_000_000)
        console.width = max(console.width, console.measure(made, options=unlimited).maximum)
    if title:
        console.print(Text(title, style="bold"), soft_wrap=True)
    console.print(made)
    console.print()


def progress(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    """Yield the items, showing on standard error how far it is, if that is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(items, label, total, console=console, transient=True, disable=not console.is_terminal)


def shape(sizes: Sequence[int]) -> str:
    """Write a blob's shape: ``1x3x224x224``, or ``scalar`` without axes."""
    return times(sizes, "scalar")


def amount(n: int) -> str:
    """Write a count with three digits and a prefix: ``25.6 M``; nothing for 0."""
    return _prefixed(n, ("", "k", "M", "G", "T")) if n else ""


def bytes_(n: int) -> str:
    """Write a size in bytes: ``12.3 MB`` (10^6); nothing for 0."""
    return _prefixed(n, ("B", "kB", "MB", "GB", "TB")) if n else ""


def milliseconds(seconds: float) -> str:
    """Write a time in milliseconds with three digits, four decimals at most: ``0.0123``, ``12.3``, ``1234``."""
    ms = 1000 * seconds
    return f"{ms:.0f}" if ms >= 99.95 else f"{ms:#.3g}" if ms >= 0.01 else f"{ms:.4f}"


def _prefixed(n: int, prefixes: Sequence[str]) -> str:
    value, i = float(n), 0
    while value >= 999.5 and i < len(prefixes) - 1:
        value, i = value / 1000, i + 1
    digits = 0 if i == 0 or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {prefixes[i]}".rstrip()
