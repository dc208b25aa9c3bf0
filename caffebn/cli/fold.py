"""``caffebn fold``: BatchNorm, Scale and Bias layers into the layers beside them."""

from __future__ import annotations

import json
from typing import Any

import click

from caffebn.bn.fold import Certificate, Verdict, fold
from caffebn.bn.opening import definition_of, make_net, runnable
from caffebn.cli import inputs, nets, show
from caffebn.files import write_whole

__all__ = ["command"]


@click.command("fold")
@nets.net
@click.argument("weights", type=nets.File)
@click.option(
    "--output",
    "-o",
    metavar="PREFIX",
    help="Write PREFIX.prototxt, PREFIX.caffemodel and the certificate PREFIX.json; without it, only show.",
)
@inputs.input_option
@inputs.picture_options
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=1e-4,
    show_default=True,
    help="Largest error of an output, relative to its largest value, that is accepted.",
)
@nets.gpu
@click.option("--json", "as_json", is_flag=True, help="Print the certificate as JSON.")
def command(
    net: str,
    weights: str,
    output: str | None,
    inputs: tuple[str, ...],
    pictures: dict[str, Any],
    tolerance: float,
    as_json: bool,
) -> None:
    """Fold the BatchNorm, Scale and Bias layers of NET with WEIGHTS.

    Each goes into the layer before it or behind it where that is exact, or becomes a part of one Scale layer; the
    table says which, and why not.  The net is then run before and after, in double and single precision.  Exit
    code 0: all errors are within --tolerance; 1: they are not, and nothing is written.
    """
    if output is not None:
        for ending in ("prototxt", "caffemodel", "json"):
            nets.refuse_input(f"{output}.{ending}", net, weights, *inputs)
    done = fold(net, weights, _arrays(net, inputs, pictures))
    certificate = done.certificate
    good = certificate.worst <= tolerance and not certificate.unproved
    if output is not None and good:
        done.save(f"{output}.prototxt", f"{output}.caffemodel")
        with write_whole(f"{output}.json") as f:
            f.write((json.dumps(certificate.as_dict(), indent=2) + "\n").encode())
    if as_json:
        show.as_json(certificate.as_dict() | {"agrees": good})
    else:
        _show(certificate)
        if output is not None and good:
            click.echo(f"written to {output}.prototxt, {output}.caffemodel and {output}.json")
    if not good:
        why = f"an output differs by {certificate.worst:.2g} of its largest value, more than --tolerance {tolerance:g}"
        if certificate.unproved:
            why = (
                f"{', '.join(certificate.unproved)}: no value is a number, before folding as well; `caffebn lint` says "
                "whether the weights are the reason"
            )
        show.error(why + ("; nothing was written" if output is not None else ""))
        raise SystemExit(1)


def _arrays(net: str, paths: tuple[str, ...], pictures: dict[str, Any]) -> list[dict[str, Any]]:
    if not paths:
        return []
    made = make_net(runnable(definition_of(net))[0], None)
    return [values for _, values in inputs.read_inputs(made, paths, pictures)]


def _show(certificate: Certificate) -> None:
    groups: dict[tuple[str, ...], list[Verdict]] = {}
    for verdict in certificate.layers:
        groups.setdefault(tuple(verdict.row), []).append(verdict)
    rows = [
        [" + ".join(v.name for v in row), row[0].action, ", ".join(row[0].into), row[0].reason]
        for row in groups.values()
    ]
    show.table(["layers", "verdict", "into", "why not folded"], rows)
    for verdict in certificate.layers:
        for note in verdict.notes:
            show.warning(f'layer "{verdict.name}" ({verdict.type}): {note}')
    if certificate.not_run:
        show.warning(
            f"not checked, for caffebn does not have their types or those before them: {', '.join(certificate.not_run)}"
        )
    if certificate.without_weights:
        show.warning(f"without weights, as their fillers made them: {', '.join(certificate.without_weights)}")
    if certificate.errors:
        show.table(
            [
                "input",
                "output",
                "shape",
                ">largest value",
                ">error float64",
                ">error float32",
                ">float32 before",
            ],
            [
                [
                    e["input"],
                    e["output"],
                    show.shape(e["shape"]),
                    "no number" if e["largest"] is None else f"{e['largest']:.4g}",
                ]
                + [f"{e[key]:.1e}" for key in ("float64", "float32", "float32_before")]
                for e in certificate.errors
            ],
        )
    counts = (certificate.count(action) for action in ("folded", "merged", "kept"))
    click.echo(
        "BatchNorm: {} folded, {} in a Scale layer, {} kept.  Errors are relative to the largest value.".format(
            *counts
        )
    )
