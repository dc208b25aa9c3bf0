"""``caffebn draw``: a net as a graph."""

from __future__ import annotations

import click

from caffebn.cli import nets
from caffebn.draw import RANKDIRS, draw_net_to_file, net_shapes
from caffebn.net import Net

__all__ = ["command"]


@click.command("draw")
@nets.net
@click.argument("out", type=click.Path(dir_okay=False))
@click.option(
    "--rankdir",
    type=click.Choice(RANKDIRS, case_sensitive=False),
    default="LR",
    show_default=True,
    help="Direction of the graph: left to right, right to left, top to bottom, bottom to top.",
)
@click.option(
    "--phase",
    type=click.Choice(["train", "test", "all"], case_sensitive=False),
    default="all",
    show_default=True,
    help="The phase whose layers are drawn.",
)
@click.option("--lr-mult", is_flag=True, help="Show the learning-rate multipliers.")
@click.option(
    "--shapes", is_flag=True, help="Write the shapes of blobs; the net is made for it, by default for TEST."
)
@click.option("--group", is_flag=True, help="Draw a BatchNorm and the Scale behind it as one box.")
def command(net: str, out: str, rankdir: str, phase: str, lr_mult: bool, shapes: bool, group: bool) -> None:
    """Draw NET, a .prototxt or .caffemodel, to the file OUT.

    The ending of OUT tells the format: .png, .svg, .pdf and others need the program dot of Graphviz; .dot is
    the graph as text, and needs nothing.
    """
    definition = nets.read_net(net)
    chosen = None if phase == "all" else phase.upper()
    sizes = None
    if shapes:
        chosen = chosen or "TEST"
        sizes = net_shapes(Net(definition, chosen))
    draw_net_to_file(definition, out, rankdir, chosen, lr_mult, group, sizes)
