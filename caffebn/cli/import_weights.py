"""``caffebn import-weights``: weights of another framework as a .caffemodel."""

from __future__ import annotations

import json
from pathlib import Path

import click

from caffebn import export
from caffebn.bn import compare
from caffebn.cli import nets, show
from caffebn.cli.compare import show_comparison
from caffebn.errors import FormatError, WeightsError
from caffebn.net import Net

__all__ = ["command"]


@click.command("import-weights")
@nets.net
@click.argument("source", type=nets.File)
@click.option(
    "--out", "-o", "out", type=click.Path(dir_okay=False), required=True, help="The .caffemodel to write."
)
@click.option(
    "--map",
    "mapping",
    type=nets.File,
    help='JSON that says which module each layer takes: {"conv1": "features.0"}.',
)
@click.option("--by-order", is_flag=True, help="Match by order, kind by kind, what names do not match.")
@click.option(
    "--compare",
    "other",
    metavar="B",
    help="Then compare with the net that the weights come from, as `caffebn compare NET,OUT B`: module:function of "
    "PyTorch, an .onnx file, stored activations.",
)
@click.option(
    "--partial", is_flag=True, help="Allow layers of NET without weights; they keep what their fillers drew."
)
def command(
    net: str, source: str, out: str, mapping: str | None, by_order: bool, other: str | None, partial: bool
) -> None:
    """Put the weights of SOURCE into NET and write a .caffemodel.

    SOURCE is a PyTorch state_dict (.pt, .pth), a .safetensors or a .npz, with names like layer1.0.conv1.weight.  A
    BatchNorm with running_mean and running_var becomes Caffe's BatchNorm and Scale.  Every shape is checked, and the
    file that was written is read again and compared.  With --compare both nets are run, value by value: exit code 1
    when they differ.
    """
    nets.refuse_input(out, net, source, mapping)
    made = Net(net, "TEST")
    report = export.import_weights(made, source, _mapping(mapping), by_order)
    show.table(["layer", "module", "arrays"], report.rows)
    if report.unused:
        show.warning(f"not used: {', '.join(report.unused[:10])}{' ...' if len(report.unused) > 10 else ''}")
    if report.untouched and not partial:
        raise WeightsError(
            f"{source}: nothing for {', '.join(report.untouched)}: give --map or --by-order, or allow it with --partial"
        )
    for note in report.notes:
        click.echo(f"note: {note}")
    made.save(out)
    again = Net(net, out, "TEST")
    for a, b in zip(made.parameters, again.parameters, strict=True):
        if a.blob.data.tobytes() != b.blob.data.tobytes():
            raise WeightsError(f'{out}: layer "{a.layer.name}" was not written as it is')
    click.echo(f"{len(report.rows)} layers written to {out}, read again and found equal")
    if other is not None:
        pairs = {layer: module for layer, module, _ in report.rows}
        result = compare((net, out), other, names=pairs)
        show_comparison(result)
        if not result.equal:
            raise SystemExit(1)


def _mapping(path: str | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as e:
        raise FormatError(f'{path}: expected JSON like {{"conv1": "features.0"}}: {e}') from None
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise FormatError(
            f'{path}: expected JSON like {{"conv1": "features.0"}}, layer names with module names'
        )
    return found
