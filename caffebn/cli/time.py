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
        layers : list of dict with name, type, forward and (with `backward`) backward, in seconds; backward is
            None for a layer that does not take part
        forward, backward : seconds of a whole pass, which may fuse layers

        Nothing goes backward in a net without a loss; then there is no backward in either.
    """
    rng = np.random.default_rng(1)
    for name in net.inputs:
        # labels are cut to whole numbers: all of these are class 0
        net.blobs[name].data[...] = rng.random(net.blobs[name].shape)
    order = [layer.name for layer in net.layers]
    passes: dict[str, tuple[Callable[..., Any], list[str]]] = {"forward": (net.run_forward, order)}
    down = [name for name, needed in zip(order, net.need_backward, strict=True) if needed][::-1]
    if backward and down:
        passes["backward"] = (net.run_backward, down)
    runs: dict[tuple[str, str], list[float]] = {}
    for i in range(iterations + 1):
        for key, (run, names) in passes.items():
            for name in (*names, ""):
                one = {"start": name, "end": name} if name else {}
                before = perf_counter()
                run(**one)
                net.synchronize()
                spent = perf_counter() - before
                if i:
                    runs.setdefault((key, name), []).append(spent)
    medians = {where: median(times) for where, times in runs.items()}
    rows = [
        {"name": layer.name, "type": layer.type, **{key: medians.get((key, layer.name)) for key in passes}}
        for layer in net.layers
    ]
    return {"layers": rows, **{key: medians[key, ""] for key in passes}}


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
@nets.gpu
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
                "phase": made.phase,
                "iterations": iterations,
                "device": made.device,
                "threads": thread_count.get(),
                **result,
            }
        )
        return
    passes = [key for key in ("forward", "backward") if key in result]
    rows = result["layers"]
    spent = [sum(row[key] or 0 for key in passes) for row in rows]
    total = sum(spent) or 1

    def line(times: dict[str, Any]) -> list[str]:
        return ["" if times[key] is None else show.milliseconds(times[key]) for key in passes]

    show.table(
        ["layer", "type", *(f">{key} ms" for key in passes), ">share"],
        [
            [row["name"], row["type"], *line(row), f"{own / total:.1%}"]
            for row, own in zip(rows, spent, strict=True)
        ],
        [
            f"{len(rows)} layers",
            "one by one",
            *line({key: sum(row[key] or 0 for row in rows) for key in passes}),
            "",
        ],
    )
    if not forward_only and "backward" not in passes:
        click.echo("No layer goes backward: the net has no loss.")
    where = "GPU" if made.device == "gpu" else f"{thread_count.get()} threads"
    whole = ", ".join(f"{key} {show.milliseconds(result[key])} ms" for key in passes)
    click.echo(f"Whole net: {whole}  ({where}, median of {iterations})")
