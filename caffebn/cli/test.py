"""``caffebn test``: the scores of a net on the data of its test phase."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from caffebn.cli import nets, show
from caffebn.errors import ArgumentError
from caffebn.net import Net
from caffebn.solvers.log import plain_outputs

__all__ = ["command", "need_data", "score"]


def need_data(net: Net, verb: str) -> None:
    """Refuse a net that waits for its inputs."""
    if net.inputs:
        raise ArgumentError(
            f"{verb} runs a net on its own data, and this net waits for its inputs "
            f"({', '.join(net.inputs)}): put data layers in their place"
        )


def score(net: Net, iterations: int) -> dict[str, Any]:
    """Run a net and average its outputs.

    Returns
    -------
    dict
        net : str
        iterations : int
        loss : float, the total loss, averaged
        outputs : dict of float, or of list of float for an output of more than one number, averaged
        loss_weights : dict of float, of the outputs that are losses
    """
    sums: dict[str, np.ndarray] = {}
    loss = 0.0
    for _ in range(iterations):
        for name, value in net.forward().items():
            sums[name] = sums.get(name, 0.0) + value.astype(np.float64)
        loss += net.loss
    return {
        "net": net.name,
        "iterations": iterations,
        "loss": loss / iterations,
        "outputs": plain_outputs({name: total / iterations for name, total in sums.items()}),
        "loss_weights": {name: net.blob_loss_weights[name] for name in sums if net.blob_loss_weights[name]},
    }


@click.command("test")
@click.option("--model", "-m", type=nets.File, required=True, help="The net, a .prototxt with data layers.")
@click.option(
    "--weights", "-w", type=nets.File, required=True, help="Weights: a .caffemodel or .caffemodel.h5."
)
@click.option(
    "--iterations",
    "-n",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Batches to average over.",
)
@nets.gpu
@click.option("--json", "as_json", is_flag=True, help="Print JSON (its keys are in the guide).")
def command(model: str, weights: str, iterations: int, as_json: bool) -> None:
    """Score a net in its test phase: its outputs, averaged over batches."""
    net = nets.open_net(model, "test", weights, keep=[])
    need_data(net, "test")
    result = score(net, iterations)
    if as_json:
        show.as_json(result)
        return
    click.echo(f"Loss: {result['loss']:g}")
    for name, found in result["outputs"].items():
        weight = result["loss_weights"].get(name)
        for value in found if isinstance(found, list) else [found]:
            loss = f" (* {weight:g} = {weight * value:g} loss)" if weight else ""
            click.echo(f"{name} = {value:g}{loss}")
