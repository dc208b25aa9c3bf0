"""``caffebn plot``: loss, scores and learning rate of trainings as a picture."""

from __future__ import annotations

import click

from caffebn import plot
from caffebn.cli import nets

__all__ = ["command"]


@click.command("plot")
@click.argument("runs", metavar="RUN...", type=nets.File, nargs=-1, required=True)
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False), required=True, help="The picture: .png, .svg or .pdf."
)
def command(runs: tuple[str, ...], output: str) -> None:
    """Plot the trainings of some logs, on the same axes.

    RUN is the log of a training: a .jsonl file of `caffebn train --log`, or text in Caffe's form.
    """
    found = [plot.read_run(path) for path in runs]
    if len({run.name for run in found}) < len(found):
        for run, path in zip(found, runs, strict=True):
            run.name = path
    plot.plot_runs(found, output)
