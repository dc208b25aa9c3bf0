"""``caffebn upgrade``: nets and solvers of old forms, rewritten to the present one."""

from __future__ import annotations

from pathlib import Path

import click

from caffebn.cli import nets
from caffebn.errors import ArgumentError
from caffebn.files import write_whole
from caffebn.proto import binary, text, upgrade

__all__ = ["command"]


@click.command("upgrade")
@click.argument("source", metavar="IN", type=nets.File)
@click.argument("target", metavar="OUT", type=click.Path(dir_okay=False))
@click.option("--overwrite", is_flag=True, help="Allow OUT to be IN itself.")
def command(source: str, target: str, overwrite: bool) -> None:
    """Rewrite IN to the form that Caffe has today, and say what was changed.

    IN is a net (.prototxt, .caffemodel) or a solver (.prototxt); which, and whether it is text or binary, is
    found out by looking.  OUT is written in the same of the two, whole or not at all.  Weights are carried
    over; the comments of a text are not.
    """
    if not overwrite and Path(target).exists() and Path(target).samefile(source):
        raise ArgumentError(f"{target}: OUT is IN; --overwrite allows that, comments in it will be lost")
    in_binary = nets.is_binary(source)
    message = nets.read_message(source)
    if message.schema.name == "SolverParameter":
        changes = upgrade.solver(message)
    else:
        changes = upgrade.net(message, source)
    if in_binary:
        binary.write(target, message)
    else:
        with write_whole(target) as f:
            f.write(text.dump(message).encode())
    for change in changes or ["nothing to change: it is in the present form"]:
        click.echo(change)
    click.echo(f"written to {target}")
