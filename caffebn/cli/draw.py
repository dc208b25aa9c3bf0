"""``caffebn draw``: a net as a graph."""

from __future__ import annotations

import click

from caffebn.cli import nets
from caffebn.draw import RANKDIRS, draw_net_to_file, net_chains, net_shapes
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
@click.option(
    "--fused",
    is_flag=True,
    help="Colour the ground of layers that run as one; the net is made for it, by default for TEST.",
)
def command(
    net: str, out: str, rankdir: str, phase: str, lr_mult: bool, shapes: bool, group: bool, fused: bool
) -> None:
    """Draw NET, a .prototxt or .caffemodel, to the file OUT.

    The ending of OUT tells the format: .png, .svg, .pdf and others need the program dot of Graphviz (.svg is content
    with the package of caffebn[draw]); .dot is the graph as text, and needs nothing.
    """
    definition = nets.read_net(net)
    chosen = None if phase == "all" else phase.upper()
    made = None
    if shapes or fused:
        chosen = chosen or "TEST"
        made = Net(definition, chosen)
    sizes = net_shapes(made) if made is not None and shapes else None
    chains = net_chains(made) if made is not None and fused else ()
    draw_net_to_file(definition, out, rankdir, chosen, lr_mult, group, sizes, chains)
