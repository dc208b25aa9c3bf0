"""``caffebn info``: the layers of a net, their sizes, and the state of each BatchNorm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click
import numpy as np

from caffebn.cli import nets, show
from caffebn.net import Net

__all__ = ["batch_norms", "command", "layers", "show_batch_norms", "show_layers"]


def layers(net: Net) -> list[dict[str, Any]]:
    """List the layers of a net with their sizes.

    Returns
    -------
    list of dict, in the order of the net
        name, type : str
        bottoms, tops : list of str
        shapes : list of list of int, one for each top
        parameters : int, values in the layer's blobs, less those an earlier layer has shared with it
        macs : int, multiply-adds of one forward pass
        memory : int, bytes of values that the tops add; 0 in place or for views of the bottom
    """
    rows = []
    seen: list[Any] = []
    for name, layer in zip(net._layer_names, net.layers, strict=True):
        bottoms, tops = list(net.bottom_names[name]), list(net.top_names[name])
        fresh = [blob for blob in layer.blobs if not any(blob.shares_data_with(other) for other in seen)]
        seen += fresh
        own = [] if layer.shares_memory else [net.blobs[top] for top in tops if top not in bottoms]
        rows.append(
            {
                "name": name,
                "type": layer.type,
                "bottoms": bottoms,
                "tops": tops,
                "shapes": [list(net.blobs[top].shape) for top in tops],
                "parameters": sum(blob.count for blob in fresh),
                "macs": layer.macs([net.blobs[b] for b in bottoms], [net.blobs[t] for t in tops]),
                "memory": sum(blob.count * blob.dtype.itemsize for blob in own),
            }
        )
    return rows


def batch_norms(net: Net, weights: bool) -> list[dict[str, Any]]:
    """Say for each BatchNorm of a net which statistics it uses and, with weights, what is stored in it.

    Parameters
    ----------
    net : Net
    weights : bool
        Whether the blobs hold trained statistics that are worth a look.

    Returns
    -------
    list of dict, in the order of the net
        name : str
        channels : int
        eps, moving_average_fraction : float
        train, test : "batch" or "stored", the statistics used in that phase
        factor : float or None, the third blob; None without weights
        notes : list of str, what is remarkable about the settings and the blobs
    """
    rows = []
    for name, layer in zip(net._layer_names, net.layers, strict=True):
        if layer.type != "BatchNorm":
            continue
        stated = layer.param.use_global_stats if layer.param.has("use_global_stats") else None
        test = "batch" if stated is False else "stored"
        notes = []
        if test == "batch":
            notes.append(
                "uses the batch in TEST as well: the answer for an item depends on the others of its batch, "
                "and each pass changes the stored statistics"
            )
        if weights:
            notes += _blob_notes(*(blob.data for blob in layer.blobs), eps=layer.param.eps)
        rows.append(
            {
                "name": name,
                "channels": layer.blobs[0].count,
                "eps": _short(layer.param.eps),
                "moving_average_fraction": _short(layer.param.moving_average_fraction),
                "train": "stored" if stated else "batch",
                "test": test,
                "factor": _short(layer.blobs[2].data.flat[0]) if weights else None,
                "notes": notes,
            }
        )
    return rows


def _blob_notes(sum_mean: np.ndarray, sum_var: np.ndarray, factor: np.ndarray, eps: float) -> Iterable[str]:
    """Say what is remarkable about the three blobs."""
    f = float(factor.flat[0])
    n = sum_var.size
    if not all(np.isfinite(blob).all() for blob in (sum_mean, sum_var, factor)):
        yield "holds values that are not finite"
        return
    if f == 0 and not sum_mean.any() and not sum_var.any():
        yield "nothing is stored: stored statistics count as 0, the output is x/sqrt(eps)"
        return
    if f == 0:
        yield (
            "the factor is 0, though statistics are stored: as in Caffe they count as 0 and the output is "
            "x/sqrt(eps); in a file from NVCaffe 0.16 the factor should be 1"
        )
        return
    if f < 0:
        yield "the factor is negative"
    elif f < 1:
        yield "the factor lies between 0 and 1, which no known program writes"
    var = sum_var.astype(np.float64) / f
    if nan := int((var < -eps).sum()):
        yield f"variance + eps is negative in {nan} of {n} channels: their output is not a number"
    if below := int((var < 0).sum()) - nan:
        yield f"the variance is negative in {below} of {n} channels"
    if dead := int((var == 0).sum()):
        yield f"the variance is 0 in {dead} of {n} channels: they never varied, and are divided by sqrt(eps)"


def _short(value: float) -> float:
    """Give the shortest number that is this float32: 0.999, not 0.9990000128746033."""
    return float(str(np.float32(value)))


def show_layers(rows: list[dict[str, Any]]) -> None:
    """Print the table of `layers`, with totals."""
    total = {key: sum(row[key] for row in rows) for key in ("parameters", "macs", "memory")}
    show.table(
        ["layer", "type", "output", ">parameters", ">mult-adds", ">memory"],
        (
            [
                row["name"],
                row["type"],
                ", ".join(map(show.shape, row["shapes"])),
                show.amount(row["parameters"]),
                show.amount(row["macs"]),
                show.bytes_(row["memory"]),
            ]
            for row in rows
        ),
        [
            f"{len(rows)} layers",
            "",
            "",
            *(show.amount(total[key]) for key in ("parameters", "macs")),
            show.bytes_(total["memory"]),
        ],
    )


def show_batch_norms(rows: list[dict[str, Any]]) -> None:
    """Print the table of `batch_norms`; layers in the same state share a line."""
    groups: dict[tuple[str, ...], list[str]] = {}
    notes: dict[str, list[str]] = {}
    for row in rows:
        factor = "" if row["factor"] is None else f"{row['factor']:g}"
        state = (row["train"], row["test"], f"{row['eps']:g}", f"{row['moving_average_fraction']:g}", factor)
        groups.setdefault(state, []).append(row["name"])
        for note in row["notes"]:
            notes.setdefault(note, []).append(row["name"])
    columns = ["BatchNorm", "TRAIN uses", "TEST uses", ">eps", ">fraction", ">factor"]
    show.table(columns, ([_some(names), *state] for state, names in groups.items()))
    for note, names in notes.items():
        show.warning(f"{_some(names)}: {note}")


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


@click.command("info")
@nets.net
@nets.weights
@nets.phase
@nets.batch
@click.option("--json", "as_json", is_flag=True, help="Print JSON (its keys are in the guide).")
def command(net: str, weights: str | None, phase: str, batch: int | None, as_json: bool) -> None:
    """Show the layers of NET, their sizes, and the state of each BatchNorm.

    Multiply-adds are those of one forward pass over the whole batch.  Memory is what the values of the blobs
    take; layers that work in place add none.  The second table says which statistics each BatchNorm uses in
    either phase: those of the batch, or the stored ones.  With --weights it also looks into the stored blobs.
    """
    made = nets.open_net(net, phase, weights, batch)
    rows, states = layers(made), batch_norms(made, weights is not None)
    if as_json:
        show.as_json(
            {
                "net": made.name,
                "phase": phase.upper(),
                "layers": rows,
                "batch_norm": states,
                "totals": {key: sum(row[key] for row in rows) for key in ("parameters", "macs", "memory")},
            }
        )
        return
    show_layers(rows)
    if states:
        show_batch_norms(states)
