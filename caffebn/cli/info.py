"""``caffebn info``: the layers of a net, their sizes, and the state of each BatchNorm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click
import numpy as np

from caffebn.blob import Blob
from caffebn.cli import nets, show
from caffebn.errors import some
from caffebn.net import Net
from caffebn.weights import Report

__all__ = ["batch_norms", "command", "layers", "peaks", "show_batch_norms", "show_layers"]


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
    seen: list[Blob] = []
    for layer in net.layers:
        bottoms, tops = list(layer.spec.bottom), list(layer.spec.top)
        fresh = [blob for blob in layer.blobs if not any(blob.shares_data_with(other) for other in seen)]
        seen += fresh
        own = [] if layer.shares_memory else [net.blobs[top] for top in tops if top not in bottoms]
        rows.append(
            {
                "name": layer.name,
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


def batch_norms(net: Net) -> list[dict[str, Any]]:
    """Say for each BatchNorm of a net which statistics it uses and what it holds.

    Returns
    -------
    list of dict, in the order of the net
        name : str
        channels : int
        eps, moving_average_fraction : float
        train, test : "batch" or "stored", the statistics used in that phase
        factor : float or None, the third blob; None when no weights were loaded into the layer
        notes : list of str, what deserves a look
    """
    loaded = net.weights_report.matched if net.weights_report else ()
    rows = []
    for layer in net.layers:
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
        blobs = [blob.data for blob in layer.blobs] if layer.name in loaded else None
        if blobs:
            notes += _blob_notes(*blobs)
        rows.append(
            {
                "name": layer.name,
                "channels": layer.blobs[0].count,
                "eps": _short(layer.param.eps),
                "moving_average_fraction": _short(layer.param.moving_average_fraction),
                "train": "stored" if stated else "batch",
                "test": test,
                "factor": _short(blobs[2].item()) if blobs else None,
                "notes": notes,
            }
        )
    return rows


def peaks(made: Net, net: str, batch: int | None) -> dict[str, int]:
    """Plan how many bytes the values, and in training the gradients, of a net take.

    Parameters
    ----------
    made : Net
    net : str
        The file that it is made of.
    batch : int or None
        As it was set.

    Returns
    -------
    dict of int
        all : when every blob can be read after a pass
        outputs : when the net promises its inputs and outputs alone, ``keep=[]``
        recompute : in the TRAIN phase: the same with ``recompute=True``
    """
    trains = made.phase == "TRAIN"
    found = {"all": made.plan_memory(backward=trains).bytes}
    for way, recompute in (("outputs", False), *([("recompute", True)] if trains else [])):
        found[way] = nets.open_lean(net, made.phase, batch, recompute=recompute).plan_memory(trains).bytes
    return found


def _blob_notes(sum_mean: np.ndarray, sum_var: np.ndarray, factor: np.ndarray) -> Iterable[str]:
    """Say what is remarkable about the three blobs, beyond what loading them has warned of."""
    if not (np.isfinite(sum_mean).all() and np.isfinite(sum_var).all()):
        yield "holds statistics that are not finite"
    elif factor.any() and (dead := int((sum_var == 0).sum())):
        yield f"the variance is 0 in {dead} of {sum_var.size} channels: they never varied"


def _short(value: float) -> float:
    """Give the shortest number that is this float32: 0.999, not 0.9990000128746033."""
    return float(str(np.float32(value)))


def show_layers(rows: list[dict[str, Any]]) -> None:
    """Print the table of `layers`, with totals."""
    total = {key: sum(row[key] for row in rows) for key in ("parameters", "macs", "memory")}
    show.table(
        ["layer", "type", "output", ">params", ">MACs", ">memory"],
        (
            [
                row["name"],
                row["type"],
                _shapes(row["shapes"]),
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


def _shapes(shapes: list[list[int]]) -> str:
    """Write the shapes of a layer's tops, several equal ones (those of a Split) once."""
    if len(shapes) > 1 and all(shape == shapes[0] for shape in shapes):
        return f"{len(shapes)} of {show.shape(shapes[0])}"
    return ", ".join(map(show.shape, shapes))


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
    show.table(columns, ([some(names, 1, quote=""), *state] for state, names in groups.items()))
    for note, names in notes.items():
        show.warning(f"{some(names, 1, quote='')}: {note}")


def report_as_dict(report: Report) -> dict[str, Any]:
    """Give what happened when weights were loaded: source, matched, missing, unused, notes."""
    return {key: getattr(report, key) for key in ("source", "matched", "missing", "unused", "notes")}


@click.command("info")
@nets.net
@nets.weights
@nets.phase
@nets.batch
@click.option("--json", "as_json", is_flag=True, help="Print JSON (its keys are in the guide).")
def command(net: str, weights: str | None, phase: str, batch: int | None, as_json: bool) -> None:
    """Show the layers of NET, their sizes, and the state of each BatchNorm.

    MACs are the multiply-adds of one forward pass over the whole batch.  Memory is what the values of the
    blobs take; layers that work in place add none.  The second table says which statistics each BatchNorm
    uses in either phase: those of the batch, or the stored ones.  With --weights it also looks into the
    stored blobs.
    """
    made = nets.open_net(net, phase, weights, batch, any_weights=True)
    rows, states, report = layers(made), batch_norms(made), made.weights_report
    planned = peaks(made, net, batch)
    if as_json:
        show.as_json(
            {
                "net": made.name,
                "phase": made.phase,
                "layers": rows,
                "batch_norm": states,
                "totals": {key: sum(row[key] for row in rows) for key in ("parameters", "macs", "memory")},
                "peak": planned,
                "weights": report_as_dict(report) if report else None,
            }
        )
        return
    show_layers(rows)
    others = ", with recompute=True " + show.bytes_(planned["recompute"]) if "recompute" in planned else ""
    click.echo(
        f"Values{' and gradients' if others else ''} take {show.bytes_(planned['all'])} when every blob is kept, "
        f"with keep=[] {show.bytes_(planned['outputs'])}{others}"
    )
    if states:
        show_batch_norms(states)
    if report:
        for what, names in [("without weights", report.missing), ("weights not used", report.unused)]:
            if names:
                click.echo(f"{what}: {', '.join(names)}")
        click.echo(f"{len(report.matched)} layers got weights from {report.source}")
