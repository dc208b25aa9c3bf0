"""``caffebn convert-bn``: dialects of batch normalisation told apart and converted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from caffebn.bn import dialects
from caffebn.bn.dialects import DIALECTS, PLAIN, Conversion, Verdict
from caffebn.cli import nets, show
from caffebn.errors import ArgumentError, some
from caffebn.files import write_whole
from caffebn.proto import Message, binary, forks, text

__all__ = ["command"]


@click.command("convert-bn")
@click.argument("sources", metavar="[NET] [WEIGHTS]", nargs=-1, required=True, type=nets.File)
@click.option(
    "--to",
    "target",
    type=click.Choice(list(DIALECTS)),
    default=PLAIN,
    show_default=True,
    help="The dialect to write.",
)
@click.option(
    "--as", "told", metavar="DIALECT", multiple=True,
    help="The dialect that the files are in, where it is not certain; LAYER=DIALECT for one layer.",
)  # fmt: skip
@click.option(
    "--net-out", type=click.Path(dir_okay=False), metavar="FILE", help="Write the converted prototxt."
)
@click.option(
    "--weights-out", type=click.Path(dir_okay=False), metavar="FILE", help="Write the converted caffemodel."
)
@click.option(
    "--factor-1", is_flag=True,
    help="Store the statistics with the factor 1, exact to the bit, in place of the one with which training goes on.",
)  # fmt: skip
@click.option(
    "--fork",
    type=click.Choice(list(forks.FORKS)),
    help="Whose numbers a binary file without a prototxt uses.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as JSON.")
def command(
    sources: tuple[str, ...], target: str, told: tuple[str, ...], net_out: str | None, weights_out: str | None,
    factor_1: bool, fork: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Say in which dialect of batch normalisation files are, and convert them.

    NET is a .prototxt, WEIGHTS a .caffemodel; one of them is enough, both say more.  Without --net-out and
    --weights-out the verdicts are shown, with what they rest on.  The default target is plain BatchNorm and
    Scale, which all of Caffe's relatives read; --to names another dialect, for files that are plain.
    """
    definition, stored, names = _read(sources)
    if fork is not None:
        if definition is not None or stored is None:
            raise ArgumentError(
                "--fork is for a caffemodel without a prototxt: in a text the names of the fields tell"
            )
        for change in forks.reinterpret(stored, fork):
            click.echo(change)
    as_ = _told(told)
    if net_out is None and weights_out is None:
        _show(dialects.verdicts(definition, stored, as_, names), as_json)
    else:
        _check_outputs(definition, stored, net_out, weights_out, sources)
        if target == PLAIN:
            converted = dialects.to_plain(definition, stored, as_, names, live=not factor_1)
        else:
            converted = dialects.from_plain(definition, stored, target)
        _write(converted, net_out, weights_out)
        if as_json:
            _show(converted.verdicts, True)
        for line in converted.summary() or ["nothing to convert: it is plain"]:
            if not as_json:
                click.echo(line)
    if definition is None and stored is not None and fork is None:
        for doubt in forks.suspects(stored):
            show.warning(doubt)


def _read(sources: tuple[str, ...]) -> tuple[Message | None, Message | None, list[str]]:
    definition = stored = None
    for source in sources:
        message = nets.read_net(source)
        if nets.is_binary(source):
            if stored is not None:
                raise ArgumentError(
                    f"{source}: a second weights file; expected one net and one weights file at most"
                )
            stored = message
        else:
            if definition is not None:
                raise ArgumentError(
                    f"{source}: a second prototxt; expected one net and one weights file at most"
                )
            definition = message
    return definition, stored, list(sources)


def _told(words: tuple[str, ...]) -> str | dict[str, str] | None:
    if not words:
        return None
    if len(words) == 1 and "=" not in words[0]:
        return words[0]
    pairs = [word.rpartition("=") for word in words]
    if not all(layer for layer, _, _ in pairs):
        raise ArgumentError("--as: give one dialect for all layers, or LAYER=DIALECT for each")
    return {layer: id for layer, _, id in pairs}


def _check_outputs(
    definition: Message | None,
    stored: Message | None,
    net_out: str | None,
    weights_out: str | None,
    sources: tuple[str, ...],
) -> None:
    for out in (net_out, weights_out):
        nets.refuse_input(out, *sources)
    for out, source, what in ((net_out, definition, "a prototxt"), (weights_out, stored, "a caffemodel")):
        if out is not None and source is None:
            raise ArgumentError(f"{out}: there is nothing to write there: no {what.split()[1]} was given")


def _write(converted: Conversion, net_out: str | None, weights_out: str | None) -> None:
    if net_out is not None and converted.net is not None:
        with write_whole(Path(net_out)) as f:
            f.write(text.dump(converted.net).encode())
    if weights_out is not None and converted.weights is not None:
        binary.write(weights_out, converted.weights)


def _show(verdicts: list[Verdict], as_json: bool) -> None:
    if as_json:
        show.as_json([vars(v) for v in verdicts])
        return
    if not verdicts:
        click.echo("no layer normalises by batch")
        return
    groups: dict[tuple[Any, ...], list[Verdict]] = {}
    for v in verdicts:
        groups.setdefault(
            (v.dialect, v.certain, tuple(v.evidence), tuple(v.doubt), tuple(v.choices)), []
        ).append(v)
    rows = []
    for (id, certain, evidence, doubt, choices), members in groups.items():
        names = some((v.layer for v in members), 3, quote="")
        said = id if certain else f"not certain: {' or '.join(choices)}"
        rows.append([names, said, "; ".join(evidence), "; ".join(doubt)])
    show.table(["layers", "dialect", "because", "but"], rows)
