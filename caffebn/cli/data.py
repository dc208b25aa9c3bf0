"""``caffebn data``: databases of data sets and pictures, and mean files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import numpy as np

from caffebn.cli import nets, show
from caffebn.data.database import Database, read_database, write_database
from caffebn.data.images import image_records, mean_blob
from caffebn.data.lists import read_image_list
from caffebn.data.sets import SETS, download, part_records, read_set
from caffebn.errors import FileError
from caffebn.proto import binary

__all__ = ["command"]


@click.group("data", subcommand_metavar="WHAT ...")
def command() -> None:
    """Make databases (LMDB) that Data layers read, and mean files."""


def _set_command(name: str) -> click.Command:
    @command.command(name, help=_HELP.format(name=name, title=_TITLES[name], stem=_stem(name)))
    @click.argument("dest", type=click.Path(file_okay=False, path_type=Path))
    @click.option(
        "--from",
        "folder",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Folder with the files; without it they are downloaded.",
    )
    @click.option(
        "--pad",
        type=click.IntRange(min=0),
        default=0,
        metavar="N",
        help="Border of zeros around the training pictures, for random crops; test pictures stay as they are.",
    )
    def make(dest: Path, folder: Path | None, pad: int) -> None:
        targets = {part: dest / f"{_stem(name)}_{part}_lmdb" for part in ("train", "test")}
        for target in targets.values():
            if target.exists():
                raise FileError(f"{target}: exists already; choose another folder, or delete it first")
        if folder is None:
            with tempfile.TemporaryDirectory() as temporary:
                click.echo(f"downloading from {SETS[name].url}", err=True)
                download(name, Path(temporary))
                parts = read_set(name, Path(temporary))
        else:
            parts = read_set(name, folder)
        dest.mkdir(parents=True, exist_ok=True)
        for part, target in targets.items():
            count, channels, height, width = parts[part].images.shape
            border = pad if part == "train" else 0
            records = part_records(parts[part], border)
            write_database(target, show.progress(records, count, f"writing {target}"))
            size = (channels, height + 2 * border, width + 2 * border)
            click.echo(f"{target}: {count} records of {show.shape(size)}")

    return make


_TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
_HELP = """Make databases of {title}: {stem}_train_lmdb and {stem}_test_lmdb in the folder DEST.

With --from, the files are read from a folder, in any of the forms in which they are handed around.
"""


def _stem(name: str) -> str:
    return name.replace("-", "_")


for _name in SETS:
    _set_command(_name)


@command.command("images")
@click.argument("source", metavar="LIST", type=nets.File)
@click.argument("dest", type=click.Path())
@click.option("--root", default="", help="Folder of the files that LIST names.")
@click.option("--resize-height", type=click.IntRange(min=1), metavar="H", help="Resize to this height.")
@click.option("--resize-width", type=click.IntRange(min=1), metavar="W", help="Resize to this width.")
@click.option("--shuffle", is_flag=True, help="Store the pictures in a random order.")
@click.option("--seed", type=click.IntRange(min=0), help="Makes --shuffle repeatable.")
@click.option("--gray", is_flag=True, help="Store one channel of grey.")
@click.option("--check-size", is_flag=True, help="Refuse pictures that differ in size.")
@click.option("--encoded", is_flag=True, help="Store compressed pictures; smaller, and slower to read.")
@click.option("--encode-type", metavar="KIND", help="Compress as png, jpg ...; by default as the file is.")
def images(
    source: str,
    dest: str,
    root: str,
    resize_height: int | None,
    resize_width: int | None,
    shuffle: bool,
    seed: int | None,
    gray: bool,
    check_size: bool,
    encoded: bool,
    encode_type: str | None,
) -> None:
    """Make a database DEST of the pictures in LIST.

    Each line of LIST is the name of a picture file and its label, a whole number.
    """
    entries = read_image_list(source)
    if shuffle:
        entries = [entries[i] for i in np.random.default_rng(seed).permutation(len(entries))]
    records = image_records(
        source,
        entries,
        root,
        resize_height or 0,
        resize_width or 0,
        not gray,
        check_size,
        (encode_type or "") if encoded or encode_type else None,
    )
    count = write_database(dest, show.progress(records, len(entries), f"writing {dest}"))
    click.echo(f"{dest}: {count} records")


@command.command("mean")
@click.argument("database", metavar="DB", type=click.Path())
@click.argument("out", type=click.Path(dir_okay=False))
def mean(database: str, out: str) -> None:
    """Write the mean of all records of the database DB into OUT, a .binaryproto file for mean_file."""
    count = Database(database).records
    blob = mean_blob(show.progress(read_database(database), count, f"reading {database}"), database)
    binary.write(out, blob)
    values = np.asarray(blob.data).reshape(blob.channels, -1).mean(axis=1)
    click.echo(f"{out}: mean of {count} records of {blob.channels}x{blob.height}x{blob.width}")
    click.echo("mean_value of each channel: " + " ".join(f"{value:.4f}" for value in values))
