"""The arguments and options by which several verbs open a net."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from caffebn.errors import ArgumentError
from caffebn.net import Net

__all__ = ["batch", "net", "open_net", "phase", "set_batch", "weights"]

File = click.Path(exists=True, dir_okay=False)

net: Callable[[Any], Any] = click.argument("net", type=File)
weights: Callable[[Any], Any] = click.option(
    "--weights", "-w", type=File, help="Weights to load: a .caffemodel or .caffemodel.h5."
)
phase: Callable[[Any], Any] = click.option(
    "--phase",
    type=click.Choice(["train", "test"], case_sensitive=False),
    default="test",
    show_default=True,
    help="The phase that the net is made for.",
)
batch: Callable[[Any], Any] = click.option(
    "--batch",
    type=click.IntRange(min=1),
    metavar="N",
    help="Size of the first axis of the net's inputs, in place of the one in the prototxt.",
)


def open_net(path: str, phase: str, weights: str | None = None, batch: int | None = None) -> Net:
    """Make a net of a file, load weights, set the batch size."""
    made = Net(path, phase.upper(), weights=weights)
    if batch is not None:
        set_batch(made, batch)
    return made


def set_batch(net: Net, batch: int) -> None:
    """Give the first axis of all inputs the size `batch`."""
    if not net.inputs:
        raise ArgumentError(
            "--batch sets the size of Input layers, and this net has none: "
            "its data layers state the batch size in the prototxt"
        )
    for name in net.inputs:
        shape = net.blobs[name].shape
        if not shape:
            raise ArgumentError(f'--batch: the input "{name}" has no axes')
        net.blobs[name].reshape(batch, *shape[1:])
    net.reshape()
