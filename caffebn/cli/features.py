"""``caffebn features``: blobs of a net, run on its own data, in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import click
import numpy as np

from caffebn.cli import nets
from caffebn.cli.test import need_data
from caffebn.data import datum_bytes, write_database
from caffebn.errors import ArgumentError
from caffebn.files import replacing, write_whole
from caffebn.net import Net
from caffebn.weights import h5py_package

__all__ = ["batches", "command"]

ENDINGS = (".npz", ".h5", ".hdf5", ".lmdb")


def batches(net: Net, names: list[str], iterations: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield the values of blobs batch by batch; a blob that is one number becomes one row."""
    for _ in range(iterations):
        net.forward()
        yield {name: np.atleast_1d(net.blobs[name].data).copy() for name in names}


def write_npz(path: str, found: Iterator[dict[str, np.ndarray]]) -> None:
    """Write one array for each blob; all are in memory before."""
    parts = list(found)
    # numpy.savez would take a blob named "file" for its own argument
    with write_whole(path) as f, ZipFile(f, "w") as archive:
        for name in parts[0]:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.concatenate([part[name] for part in parts]))


def write_hdf5(path: str, found: Iterator[dict[str, np.ndarray]]) -> None:
    """Write one data set for each blob, batch by batch."""
    h5py = h5py_package(f"Writing {path}")
    with replacing(path) as unnamed, h5py.File(unnamed, "w") as file:
        for batch in found:
            for name, rows in batch.items():
                if name not in file:
                    file.create_dataset(name, data=rows, maxshape=(None, *rows.shape[1:]))
                    continue
                end = len(file[name])
                file[name].resize(end + len(rows), axis=0)
                file[name][end:] = rows


def write_lmdb(path: str, found: Iterator[dict[str, np.ndarray]]) -> None:
    """Write one Datum for each row of a blob, with its number of ten digits as the key."""
    rows = (row for batch in found for values in batch.values() for row in values)
    write_database(path, ((b"%010d" % i, datum_bytes(_three_axes(row))) for i, row in enumerate(rows)))


def _three_axes(row: np.ndarray) -> np.ndarray:
    """Give a row the axes of a Datum: what is missing is 1, what is too much goes into the last."""
    if row.ndim > 3:
        return row.reshape(*row.shape[:2], -1)
    return row.reshape(*row.shape, *[1] * (3 - row.ndim))


@click.command("features")
@click.argument("net", type=nets.File)
@click.argument("weights", type=nets.File)
@click.argument("blobs", metavar="BLOB[,BLOB]")
@click.argument("out", type=click.Path())
@nets.gpu
@click.option(
    "--iterations", "-n", type=click.IntRange(min=1), required=True, help="Batches to write the blobs of."
)
@nets.phase
def command(net: str, weights: str, blobs: str, out: str, iterations: int, phase: str) -> None:
    """Run NET with WEIGHTS on its own data, and write blobs to the file OUT.

    The ending of OUT tells the format: .npz and .h5 hold one array for each blob, the batches behind each other;
    .lmdb is a database as Caffe's Data layer reads it, of one blob.
    """
    ending = Path(out).suffix
    if ending not in ENDINGS:
        raise ArgumentError(f"{out}: expected a name that ends in one of {', '.join(ENDINGS)}")
    names = [name.strip() for name in blobs.split(",") if name.strip()]
    made = nets.open_net(net, phase, weights, keep=names)
    need_data(made, "features")
    if ending == ".lmdb" and len(names) != 1:
        raise ArgumentError(
            f"{out}: a database holds one blob, found {len(names)}; write .npz or .h5, or run once for each"
        )
    writer = {".npz": write_npz, ".lmdb": write_lmdb}.get(ending, write_hdf5)
    writer(out, batches(made, names, iterations))
