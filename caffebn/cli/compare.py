"""``caffebn compare``: the first layer in which two nets differ, and why."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from caffebn.bn.compare import Comparison, Row, compare
from caffebn.bn.sides import NetSide, dump, open_side
from caffebn.cli import inputs, nets, show
from caffebn.cli.classify import read_mean
from caffebn.errors import ArgumentError, some

__all__ = ["command", "show_comparison"]


@click.command("compare")
@click.argument("a", metavar="A")
@click.argument("b", metavar="[B]", required=False)
@click.option(
    "--input",
    "-i",
    "source",
    default="random",
    show_default=True,
    metavar="random|FILE",
    help="A picture, or a .npy or .npz file (arrays by input name), to run on.",
)
@inputs.picture_options
@click.option("--seed", type=int, default=1, show_default=True, help="Of the random input.")
@click.option(
    "--map",
    "names",
    multiple=True,
    metavar="NAME=NAME",
    help="A layer or blob of A and its name in B; repeatable.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="Largest error, relative to the largest value of a blob, that counts as equal; by default 1e-5 between "
    "nets, 1e-4 otherwise.",
)
@click.option(
    "--dump", "dump_to", type=click.Path(dir_okay=False), help="Store all values of A in a .npz file."
)
@click.option("--all", "show_all", is_flag=True, help="Show every compared value.")
@nets.gpu
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    a: str,
    b: str | None,
    source: str,
    pictures: dict[str, Any],
    seed: int,
    names: tuple[str, ...],
    tolerance: float | None,
    dump_to: str | None,
    show_all: bool,
    as_json: bool,
) -> None:
    """Compare net A with B, value by value, and look for the cause of the first difference.

    A is NET.prototxt,WEIGHTS.caffemodel.  B is that, too, or WEIGHTS.caffemodel for the net of A, a .npz file or a
    folder of stored activations (arrays by blob name), an .onnx file, a .py file of `caffebn export`, or
    module:function that returns a PyTorch module.  Layers are matched by name; folded BatchNorm layers are
    understood.  Without B, --dump stores the values of A.  Exit code 0: equal; 1: they differ; 2: they cannot be
    compared.
    """
    side = open_side(a)
    if not isinstance(side, NetSide):
        raise ArgumentError(f"{a}: A must be a net, NET.prototxt,WEIGHTS.caffemodel")
    values = None if source == "random" else inputs.read_input(side.net, source, pictures)
    if b is None:
        if dump_to is None:
            raise click.UsageError("give B to compare with, or --dump FILE to store the values of A")
        stored = _run(side, values, seed)
        dump(dump_to, stored)
        click.echo(f"{len(stored)} values written to {dump_to}")
        return
    means = [] if pictures["mean"] is None else [np.asarray(read_mean(pictures["mean"]))]
    pairs = dict(_pair(words) for words in names)
    result = compare(
        side, b, values, names=pairs, tolerance=tolerance, means=means, seed=seed, dump_to=dump_to
    )
    if result.a != side.label and not as_json:
        click.echo(
            f"A and B are exchanged, for {side.label} lacks layers, as a folded net does: A is {result.a}"
        )
    if as_json:
        show.as_json(result.as_dict())
    else:
        show_comparison(result, show_all)
        if dump_to is not None:
            click.echo(f"the values of A are in {dump_to}")
    if not result.equal:
        raise SystemExit(1)


def _run(side: NetSide, values: dict[str, np.ndarray] | None, seed: int) -> dict[str, np.ndarray]:
    from caffebn.bn.opening import random_inputs

    return side.run(random_inputs(side.net, seed) if values is None else values)


def _pair(words: str) -> tuple[str, str]:
    left, sign, right = words.partition("=")
    if not (left and sign and right):
        raise click.UsageError(f'--map: expected NAME=NAME, found "{words}"')
    return left, right


def show_comparison(result: Comparison, show_all: bool = False) -> None:
    """Print the values around the first that differs, and why it does."""
    rows = result.rows if show_all else _around(result)
    verdicts = {"shape": "OTHER SHAPE", "differs": "DIFFERS", "fold": "not compared (fold)"}
    show.table(
        ["layer", "type", "in B", "shape", ">max error", ">mean error", ">relative", "verdict"],
        [
            [
                row.layer,
                row.type,
                row.other,
                show.shape(row.shape)
                + (f", {show.shape(row.other_shape)}" if row.verdict == "shape" else ""),
                *(f"{e:.2e}" for e in (row.max_error, row.mean_error, row.relative_error)),
                verdicts.get(row.verdict, f"equal to {row.behind}" if row.behind else "equal"),
            ]
            for row in rows
        ],
    )
    counted = sum(row.verdict != "fold" for row in result.rows)
    click.echo(f"{counted} values compared, relative tolerance {result.tolerance:g}", nl=False)
    if result.missing:
        click.echo(f"; {len(result.missing)} layers have no counterpart: {some(result.missing)}", nl=False)
    click.echo(".")
    if result.without_weights:
        show.warning(f"without weights, as their fillers made them: {some(result.without_weights)}")
    if result.left_out:
        show.warning(
            f"{len(result.left_out)} layers were not compared, for caffebn does not have their types or those before "
            f"them: {some(result.left_out)}"
        )
    if result.first is None:
        click.echo(f"EQUAL; the largest relative error is {_worst(result.rows):.1e}.")
        return
    click.echo(f'The first to differ is "{result.first.layer}" ({result.first.type}).')
    if result.crossed:
        click.echo(f'It is within the tolerance; the difference grows, and exceeds it at "{result.crossed}".')
    for words in result.differences:
        click.echo(f"  in text or weights: {words}")
    if result.trials:
        click.echo("")
        show.table(
            ["tried: what if in B ...", "at", ">relative error left", ""],
            [
                [t.what, t.layer, f"{t.relative_error:.1e}", "removes the difference" if t.removes else ""]
                for t in result.trials[:5]
            ],
        )
    if result.cause:
        click.echo(f"Likely cause: in B, {result.cause}.")
    else:
        click.echo("None of the usual mistakes removes the difference.")


def _around(result: Comparison) -> list[Row]:
    """Some rows before the first that differs, and two behind; the last ones when none does."""
    if result.first is None:
        return result.rows[-5:]
    i = next(i for i, row in enumerate(result.rows) if row is result.first)
    return result.rows[max(0, i - 3) : i + 3]


def _worst(rows: list[Row]) -> float:
    return max((row.relative_error for row in rows if row.verdict != "fold"), default=0.0)
