"""``caffebn expand``: a net with blocks, as plain Caffe prototxt."""

from __future__ import annotations

import click

from caffebn import blocks
from caffebn.files import write_whole
from caffebn.proto import text

__all__ = ["command"]


@click.command("expand")
@click.argument("net", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False), help="File to write, instead of the terminal."
)
def command(net: str, output: str | None) -> None:
    """Write NET as plain Caffe prototxt: each block becomes its layers, each include the file's entries.

    What comes out says the same to caffebn, and can be given to every program that reads Caffe's nets.
    Comments are not kept.
    """
    plain = text.dump(blocks.read(net))
    if output is None:
        click.echo(plain, nl=False)
        return
    with write_whole(output) as f:
        f.write(plain.encode("utf-8", "surrogateescape"))
