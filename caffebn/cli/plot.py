"""``caffebn plot``: trainings, statistics, weights and activations as pictures."""

from __future__ import annotations

from typing import Any

import click

from caffebn import plot
from caffebn.bn.opening import fill, random_inputs
from caffebn.cli import inputs, nets, show
from caffebn.errors import ArgumentError

__all__ = ["command"]

_output = click.option(
    "--output", "-o", type=click.Path(dir_okay=False), required=True, help="The picture: .png, .svg or .pdf."
)


class Pictures(click.Group):
    """The group of pictures, of which ``runs`` is meant where none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``runs`` in front of words that name no picture."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["runs", *args]
        return super().parse_args(ctx, args)


@click.group("plot", cls=Pictures, subcommand_metavar="[WHAT] ...")
def command() -> None:
    """Plot trainings, or what is in a net.

    Without WHAT: the trainings of some logs, caffebn plot RUN... -o PICTURE (a log whose name is that of a picture
    below is written ./stats).
    """


@command.command("runs")
@click.argument("runs", metavar="RUN...", type=nets.File, nargs=-1, required=True)
@_output
def runs(runs: tuple[str, ...], output: str) -> None:
    """Plot loss, scores and learning rate of trainings, on the same axes.

    RUN is the log of a training: a .jsonl file of `caffebn train --log`, or text in Caffe's form.
    """
    found = [plot.read_run(path) for path in runs]
    if len({run.name for run in found}) < len(found):
        for run, path in zip(found, runs, strict=True):
            run.name = path
    plot.plot_runs(found, output)


@command.command("stats")
@nets.net
@click.argument("weights", type=nets.File)
@_output
def stats(net: str, weights: str, output: str) -> None:
    """Plot mean, variance, gamma and beta of each BatchNorm and its Scale; name the dead channels."""
    made = nets.open_part(net, weights)
    _finish(plot.statistics_panels(made), output, made.name)


@command.command("weights")
@nets.net
@click.argument("weights", type=nets.File)
@_output
def weights(net: str, weights: str, output: str) -> None:
    """Plot the weights of each layer and their norms; name outputs whose weights are all 0."""
    made = nets.open_part(net, weights)
    _finish(plot.weight_panels(made), output, made.name)


@command.command("activations")
@nets.net
@click.argument("weights", type=nets.File)
@_output
@click.option(
    "--input",
    "-i",
    "source",
    default="random",
    show_default=True,
    metavar="random|FILE",
    help="A picture, or a .npy or .npz file (arrays by input name); a net with data layers reads its own.",
)
@inputs.picture_options
def activations(net: str, weights: str, output: str, source: str, pictures: dict[str, Any]) -> None:
    """Run a net and plot what each layer makes; name the channels that never vary."""
    made = nets.open_part(net, weights)
    if source != "random" and not made.inputs:
        raise ArgumentError(f"--input {source}: the net has no inputs, it reads its own data")
    fill(made, random_inputs(made) if source == "random" else inputs.read_input(made, source, pictures))
    _finish(plot.activation_panels(made), output, made.name)


def _finish(panels: list[plot.Panel], output: str, title: str) -> None:
    plot.plot_panels(panels, output, title)
    rows: dict[str, list[str]] = {}
    for panel in panels:
        for layer, dead, channels in zip(panel.layers, panel.dead, panel.channels, strict=True):
            if dead:
                rows.setdefault(layer, [layer, str(dead), str(channels)])
    if rows:
        show.table(["layer", ">dead channels", ">of"], rows.values())
    else:
        click.echo("no dead channels")
