"""``caffebn time``: how long each layer of a net takes."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import click
import numpy as np

from caffebn.cli import nets, show
from caffebn.net import Net
from caffebn.ops import threads as thread_count

__all__ = ["command", "measure"]


def measure(net: Net, iterations: int, backward: bool) -> dict[str, Any]:
    """Time each layer of a net by itself, and whole passes.

    Parameters
    ----------
    net : Net
        Its inputs are filled with numbers from 0 to 1.
    iterations : int
        Runs; medians of these are reported.  One more before them is not counted.
    backward : bool
        Whether to time backward passes, too.

    Returns
    -------
    dict
        layers : list of dict with name, type, forward and (with `backward`) backward, in seconds
        forward, backward : seconds of a whole pass, which may fuse layers; backward only when asked for
    """
    rng = np.random.default_rng(1)
    for name in net.inputs:
        # labels are cut to whole numbers: all of these are class 0
        net.blobs[name].data[...] = rng.random(net.blobs[name].shape)
    names = list(net._layer_names)
    result: dict[str, Any] = {
        "layers": [{"name": name, "type": layer.type} for name, layer in zip(names, net.layers, strict=True)]
    }
    passes: list[tuple[str, Callable[..., Any], list[str]]] = [("forward", net.forward, names)]
    if backward:
        passes.append(("backward", net.backward, names[::-1]))
    runs: dict[tuple[str, str], list[float]] = {}
    for i in range(iterations + 1):
        for key, run, order in passes:
            for name in (*order, ""):
                one = {"start": name, "end": name} if name else {}
                before = perf_counter()
                run(**one)
                spent = perf_counter() - before
                if i:
                    runs.setdefault((key, name), []).append(spent)
    for key, _, _ in passes:
        for row in result["layers"]:
            row[key] = median(runs[key, row["name"]])
        result[key] = median(runs[key, ""])
    return result


@click.command("time")
@nets.net
@nets.weights
@nets.phase
@nets.batch
@click.option(
    "--iterations",
    "-n",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Runs to take the median of.",
)
@click.option("--forward-only", is_flag=True, help="Leave the backward pass out.")
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads to use; by default all that are allowed."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, times in seconds (its keys are in the guide)."
)
def command(
    net: str,
    weights: str | None,
    phase: str,
    batch: int | None,
    iterations: int,
    forward_only: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Time each layer of NET, forward and backward.

    Each layer is run by itself, so nothing is fused across layers; the last line is the whole pass as the
    net runs it.  Times are medians in milliseconds.  Inputs are random; without --weights the parameters
    are those of the fillers.
    """
    if threads is not None:
        thread_count.set(threads)
    made = nets.open_net(net, phase, weights, batch)
    result = measure(made, iterations, not forward_only)
    if as_json:
        show.as_json(
            {
                "net": made.name,
                "phase": phase.upper(),
                "iterations": iterations,
                "threads": thread_count.get(),
                **result,
            }
        )
        return
    passes = ["forward"] if forward_only else ["forward", "backward"]
    rows = result["layers"]
    total = {key: sum(row[key] for row in rows) for key in passes}
    both = sum(total.values())

    def line(times: dict[str, Any]) -> list[str]:
        return [show.milliseconds(times[key]) for key in passes]

    show.table(
        ["layer", "type", *(f">{key} ms" for key in passes), ">share"],
        [
            [row["name"], row["type"], *line(row), f"{sum(row[key] for key in passes) / both:.1%}"]
            for row in rows
        ],
        [f"{len(rows)} layers", "one by one", *line(total), ""],
    )
    whole = ", ".join(f"{key} {show.milliseconds(result[key])} ms" for key in passes)
    click.echo(f"Whole net: {whole}  ({thread_count.get()} threads, median of {iterations})")
