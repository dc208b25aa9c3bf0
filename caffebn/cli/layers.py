"""``caffebn layers``: the layer types, what they take and make, and their options."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any

import click
import numpy as np

from caffebn.cli import show
from caffebn.errors import ArgumentError, did_you_mean
from caffebn.layers import Layer, find_type, layer_type_list
from caffebn.proto.schema import EnumType, Field, MessageType, message_type

__all__ = ["command", "describe", "markdown"]


def describe(type_name: str) -> dict[str, Any]:
    """Describe a layer type.

    Returns
    -------
    dict
        type : str
        summary : str, the first line of its documentation
        text : str, all of it
        package : str, the Python package that brings it
        bottoms, tops : str, how many, such as ``"1 or 2"``
        in_place, gradient : bool
        loss_weight : float, of the first top when the text says nothing
        options : list of dict
            field : str, the message of LayerParameter that holds the option, and its name: ``relu_param.engine``
            type : str
            default : str, as it stands in a text; empty when there is none

    Raises
    ------
    ArgumentError
        There is no such type.
    """
    cls = find_type(type_name)
    if cls is None:
        known = layer_type_list()
        raise ArgumentError(f'there is no layer type "{type_name}"{did_you_mean(type_name, known)}')
    text = inspect.getdoc(cls) or ""
    return {
        "type": type_name,
        "summary": text.partition("\n")[0],
        "text": text,
        "package": cls.__module__.partition(".")[0],
        "bottoms": _number(cls.n_bottoms),
        "tops": "as bottoms" if cls.equal_tops else _number(cls.n_tops),
        "in_place": cls.in_place,
        "gradient": cls.has_backward,
        "loss_weight": cls.default_loss_weight,
        "options": list(_options(cls)),
    }


def _number(count: int | tuple[int, int | None]) -> str:
    least, most = count if isinstance(count, tuple) else (count, count)
    if most is None:
        return f"{least} or more" if least else "any"
    return (
        str(least) if least == most else f"{least} or {most}" if most == least + 1 else f"{least} to {most}"
    )


def _options(cls: type[Layer]) -> Iterable[dict[str, str]]:
    for holder in filter(None, (cls.param_field, *cls.more_params)):
        for field in message_type("LayerParameter").fields[holder].type.fields.values():
            default = cls.own_defaults.get(field.name) or _default(field)
            yield {"field": f"{holder}.{field.name}", "type": _type(field), "default": default}


def _type(field: Field) -> str:
    words = {"required": "required ", "repeated": "repeated "}.get(field.label, "")
    if isinstance(field.type, EnumType):
        return words + ", ".join(field.type.by_name)
    return words + field.type_name


def _default(field: Field) -> str:
    """Give the default as text; the shortest number that is the float32: 0.999, not 0.9990000128746033."""
    if not field.has_default:
        return ""
    if field.kind == "float":
        return f"{float(str(np.float32(field.default))):g}"
    if field.kind == "bool":
        return str(field.default).lower()
    return f'"{field.default}"' if field.kind == "string" else str(field.default)


def markdown() -> str:
    """Write the page ``docs/layers.md``: all types that caffebn itself brings, with their options."""
    rows = [row for row in map(describe, layer_type_list()) if row["package"] == "caffebn"]
    parts = [
        "# Layers",
        "This page is made by `caffebn layers --markdown`; do not edit it by hand. How the layers compute is on the "
        "page [How Caffe behaves](semantics.md), and `caffebn layers TYPE` prints the whole documentation of one. "
        "[Extending](extending.md) says how to write others.",
        _table(
            ["type", "", "bottoms", "tops", "in place", "gradient"],
            (
                [f"[{r['type']}](#{r['type'].lower()})", _marked(r["summary"]), r["bottoms"], r["tops"]]
                + [_yes(r["in_place"]), _yes(r["gradient"])]
                for r in rows
            ),
        ),
        "Loss layers have the weight 1 in the loss, all others 0, unless `loss_weight` is written: "
        + ", ".join(r["type"] for r in rows if r["loss_weight"])
        + ".",
    ]
    for r in rows:
        parts += [f"## {r['type']}", _marked(r["summary"])]
        if r["options"]:
            parts.append(
                _table(
                    ["option", "type", "default"],
                    ([f"`{o['field']}`", o["type"], _code(o["default"])] for o in r["options"]),
                )
            )
        else:
            parts.append("No options.")
    parts += [
        "## Messages in options",
        "`FillerParameter` says how a blob is filled, `BlobShape` is a shape.",
    ]
    parts += [_fields(message_type(name)) for name in ("FillerParameter", "BlobShape")]
    return "\n\n".join(parts) + "\n"


def _fields(message: MessageType) -> str:
    return _table(
        [message.name, "type", "default"],
        ([f"`{f.name}`", _type(f), _code(_default(f))] for f in message.fields.values()),
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _marked(text: str) -> str:
    return re.sub("``(.+?)``", r"`\1`", text)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _yes(value: bool) -> str:
    return "yes" if value else ""


def show_one(row: dict[str, Any]) -> None:
    """Print all about one type: its documentation and its options."""
    click.echo(f"{row['type']}: {row['text']}\n")
    if row["options"]:
        options = ([o["field"], o["type"], o["default"]] for o in row["options"])
        show.table(["option", "type", "default"], options)


def show_all(rows: list[dict[str, Any]]) -> None:
    """Print the table of types."""
    show.table(
        ["type", "bottoms", "tops", "in place", "gradient", "options"],
        (
            [row["type"], row["bottoms"], row["tops"], _yes(row["in_place"]), _yes(row["gradient"])]
            + [", ".join(_short(option) for option in row["options"])]
            for row in rows
        ),
    )


def _short(option: dict[str, str]) -> str:
    name = option["field"].partition(".")[2]
    return f"{name}: {option['default']}" if option["default"] else name


@click.command("layers")
@click.argument("types", metavar="[TYPE]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON (its keys are in the guide).")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the page docs/layers.md.")
def command(types: tuple[str, ...], as_json: bool, as_markdown: bool) -> None:
    """Show the layer types, or all about each TYPE: what it takes and makes, its options and their defaults.

    Types that other installed packages bring are among them.
    """
    if as_markdown:
        if types or as_json:
            raise click.UsageError("--markdown prints all types: give neither a TYPE nor --json")
        click.echo(markdown(), nl=False)
        return
    rows = [describe(name) for name in types or layer_type_list()]
    if as_json:
        show.as_json(rows)
    elif types:
        for row in rows:
            show_one(row)
    else:
        show_all(rows)
