"""``caffebn bn-stats``: the statistics of BatchNorm layers anew, over data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from caffebn.bn.opening import definition_of, make_net, runnable
from caffebn.bn.stats import METHODS, ArrayLike, Statistics, bn_stats
from caffebn.cli import inputs, nets, show
from caffebn.errors import ArgumentError, FormatError, some
from caffebn.net import Net

__all__ = ["command"]

PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


@click.command("bn-stats")
@nets.net
@click.argument("weights", type=nets.File)
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False), help="The .caffemodel to write; else only show."
)
@click.option(
    "--data",
    "-d",
    type=click.Path(exists=True),
    help="For a net with inputs: a .npz file (arrays by input name, and label), a folder of pictures, or a list of "
    "pictures (a path and a label a line).  Without it the net reads its own data.",
)
@inputs.picture_options
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="sweep",
    show_default=True,
    help="One pass with the statistics of each batch, or one after the other behind final statistics.",
)
@click.option("--unbiased", is_flag=True, help="Multiply the variance by M / (M - 1).")
@click.option(
    "--phase",
    type=click.Choice(["train", "test"], case_sensitive=False),
    default="train",
    show_default=True,
    help="Whose data layers are read.",
)
@click.option("--items", type=click.IntRange(min=1), help="How many items to use; by default all.")
@click.option("--batch", type=click.IntRange(min=1), help="Items of a batch, for --data.")
@click.option("--no-score", is_flag=True, help="Leave out the scores before and after.")
@nets.gpu
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    net: str,
    weights: str,
    output: str | None,
    data: str | None,
    pictures: dict[str, Any],
    method: str,
    unbiased: bool,
    phase: str,
    items: int | None,
    batch: int | None,
    no_score: bool,
    as_json: bool,
) -> None:
    """Compute the statistics of every BatchNorm layer of NET with WEIGHTS over all data.

    They take the place of the moving averages that training left.  The table says how far those were off, in
    standard deviations and as a ratio, and how much of a variance lies between the batches, which an average of
    variances misses.
    """
    nets.refuse_input(output, net, weights, data)
    result = bn_stats(
        net,
        weights,
        None if data is None else read_data(make_net(runnable(definition_of(net))[0], None), data, pictures),
        method=method,
        unbiased=unbiased,
        phase=phase.upper(),
        items=items,
        batch_size=batch,
        score=not no_score,
        progress=lambda batches, total, title: show.progress(batches, total, title),
    )
    if output is not None:
        result.save(output)
    if as_json:
        show.as_json(result.as_dict())
        return
    _show(result)
    if output is not None:
        click.echo(f"written to {output}")


class Pictures:
    """The pictures of some files, prepared when they are asked for."""

    def __init__(self, shape: tuple[int, ...], paths: list[str], pictures: dict[str, Any]):
        self._shape, self._paths, self._pictures = shape, paths, pictures

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, indices: Any) -> np.ndarray:
        return np.stack([inputs.prepared(self._shape, self._paths[i], self._pictures) for i in indices])


def read_data(net: Net, path: str, pictures: dict[str, Any]) -> Mapping[str, ArrayLike]:
    """Read what ``--data`` names."""
    file = Path(path)
    if file.suffix in (".npz", ".npy"):
        arrays = inputs.read_arrays(path)
        return {net.inputs[0]: arrays[""]} if "" in arrays and net.inputs else arrays
    if not net.inputs:
        raise ArgumentError(f"--data {path}: the net has no inputs, it reads its own data")
    labels: list[int] = []
    if file.is_dir():
        paths = sorted(str(p) for p in file.rglob("*") if p.suffix.lower() in PICTURES)
    else:
        paths = []
        for line in _lines(file):
            name, _, label = line.strip().rpartition(" ")
            if name and label.lstrip("-").isdecimal():
                labels.append(int(label))
            elif line.strip():
                name = line.strip()
            if name:
                paths.append(str(file.parent / name))
        if labels and len(labels) != len(paths):
            raise FormatError(f"{path}: either all lines have a label or none")
    if not paths:
        raise ArgumentError(f"--data {path}: no pictures are there")
    found: dict[str, ArrayLike] = {net.inputs[0]: Pictures(net.blobs[net.inputs[0]].shape, paths, pictures)}
    return found | ({"label": np.array(labels)} if labels else {})


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise FormatError(
            f"--data {file}: expected a .npz file, a folder of pictures, or a text that lists pictures"
        ) from None


def _show(result: Statistics) -> None:
    show.table(
        ["BatchNorm", ">values", ">factor was", ">mean off by", ">variance was", ">between batches"],
        [
            [
                layer.name,
                str(layer.values),
                f"{layer.old_factor:g}",
                f"{layer.mean_drift:.2g} sd",
                f"{layer.var_ratio[0]:.2g} to {layer.var_ratio[1]:.2g}",
                f"{layer.spread:.1%}",
            ]
            for layer in result.layers
        ],
    )
    if result.left_out:
        show.warning(
            f"{len(result.left_out)} layers were not run, for caffebn does not have their types or those before them: "
            f"{some(result.left_out)}"
        )
    passes = "one pass" if result.passes == 1 else f"{result.passes} passes"
    click.echo(f"{result.items} items in {passes}; the worst channel of each layer is shown.")
    for name, before in result.before.items():
        click.echo(f"{name}: {before:.5g} before, {result.after[name]:.5g} after")
