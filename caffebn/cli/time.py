"""``caffebn time``: how long each layer of a net takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any

import click
import numpy as np

from caffebn.cli import nets, show
from caffebn.net import Net
from caffebn.ops import threads as thread_count
from caffebn.ops.geometry import DIRECTIONS

__all__ = ["command", "measure"]


class Stopwatch:
    """Times by name; the first of each is not counted."""

    def __init__(self, net: Net):
        self._net = net
        self._times: dict[Any, list[float]] = {}

    def time(self, name: Any, run: Callable[..., Any], **options: Any) -> None:
        """Run something and wait until it is done."""
        before = perf_counter()
        run(**options)
        self._net.synchronize()
        self._times.setdefault(name, []).append(perf_counter() - before)

    def median(self, *name: Any) -> float | None:
        """Return the median of the runs of that name, in seconds."""
        return median(self._times[name][1:]) if name in self._times else None


def measure(net: Net, iterations: int, backward: bool, lean: Net | None = None) -> dict[str, Any]:
    """Time each layer of a net by itself, what runs as one, and whole passes.

    Parameters
    ----------
    net : Net
        Its inputs are filled with numbers from 0 to 1.
    iterations : int
        Runs; medians of these are reported.  One more before them is not counted.
    backward : bool
        Whether to time backward passes, too.
    lean : Net, optional
        The same net made with ``keep=[]``, of which whole passes are timed.

    Returns
    -------
    dict
        layers : list of dict with name, type, algorithm (of a convolution on the CPU a dict with one for forward and
            those for backward_data and backward_weight, else None), forward and (with `backward`) backward, in
            seconds; backward is None for a layer that does not take part
        joined : list of dict with layers (names), runs_as, forward and (with `backward`) backward: the layers that run
            as one in a whole pass
        forward, backward : seconds of a whole pass
        keep : dict with forward and backward of `lean`

        Nothing goes backward in a net without a loss; then there is no backward in any of them.
    """
    order = [layer.name for layer in net.layers]
    passes: dict[str, tuple[Callable[..., Any], list[str]]] = {"forward": (net.run_forward, order)}
    down = [name for name, needed in zip(order, net.need_backward, strict=True) if needed][::-1]
    if backward and down:
        passes["backward"] = (net.run_backward, down)
    fill_inputs(net)
    watch = Stopwatch(net)
    for _ in range(iterations + 1):
        for way, (run, _) in passes.items():
            watch.time((way, ""), run)
        for way, (run, names) in passes.items():
            for name in names:
                watch.time((way, name), run, start=name, end=name)
        for step in net.steps:
            step.prepare()
            watch.time(("forward", step), step.forward)
        for step in net.backward_steps if "backward" in passes else ():
            watch.time(("backward", step), step.backward)
    result: dict[str, Any] = {
        "layers": [
            {
                "name": layer.name,
                "type": layer.type,
                "algorithm": _algorithm(layer, list(passes)),
                **{way: watch.median(way, layer.name) for way in passes},
            }
            for layer in net.layers
        ],
        "joined": [
            {
                "layers": [layer.name for layer in step.layers],
                "runs_as": step.what,
                **{way: watch.median(way, step) for way in passes},
            }
            for step in net.steps
            if len(step.layers) > 1
        ],
        **{way: watch.median(way, "") for way in passes},
    }
    if lean is not None:
        fill_inputs(lean)
        watch = Stopwatch(lean)
        for _ in range(iterations + 1):
            watch.time(("forward",), lean.run_forward)
            if "backward" in passes and lean.backward_steps:
                watch.time(("backward",), lean.run_backward)
        result["keep"] = {way: watch.median(way) for way in passes}
    return result


def fill_inputs(net: Net) -> None:
    """Fill the inputs of a net; labels are cut to whole numbers, so all of these are class 0."""
    rng = np.random.default_rng(1)
    for name in net.inputs:
        net.blobs[name].data[...] = rng.random(net.blobs[name].shape)


def _algorithm(layer: Any, passes: Sequence[str]) -> dict[str, str] | None:
    """By what algorithm a convolution on the CPU computes each of its directions."""
    if layer.type != "Convolution" or layer.device != "cpu":
        return None
    return {
        direction: layer.geometry.choice(layer.items, layer.dtype, direction)
        for direction in DIRECTIONS
        if direction.startswith(tuple(passes))
    }


def _shown(algorithm: dict[str, str]) -> str:
    """The algorithms of all directions, or the one of all."""
    names = list(algorithm.values())
    return names[0] if len(set(names)) == 1 else " / ".join(names)


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

    The first table is of layers run by themselves, with the algorithms of each convolution (forward / gradient of the
    images / of the weights, or one name for all); the second of those that run as one in a whole pass.  Below are
    whole passes, also for a net that promises its outputs alone (keep=[]).  Times are medians in milliseconds.  Inputs
    are random; without --weights the parameters are those of the fillers.
    """
    if threads is not None:
        thread_count.set(threads)
    made = nets.open_net(net, phase, weights, batch)
    lean = nets.open_lean(net, phase, batch)
    lean.share_with(made)
    result = measure(made, iterations, not forward_only, lean)
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
    ways = [key for key in ("forward", "backward") if key in result]
    rows, joined = result["layers"], result["joined"]
    spent = [sum(row[way] or 0 for way in ways) for row in rows]
    total = sum(spent) or 1
    by_name = {row["name"]: row for row in rows}

    def line(times: dict[str, Any]) -> list[str]:
        return ["" if times[way] is None else show.milliseconds(times[way]) for way in ways]

    def alone(names: list[str]) -> str:
        return show.milliseconds(sum(by_name[name][way] or 0 for name in names for way in ways))

    show.table(
        ["layer", "type", *(f">{way} ms" for way in ways), ">share"],
        [
            [
                row["name"],
                f"{row['type']}, {_shown(row['algorithm'])}" if row["algorithm"] else row["type"],
                *line(row),
                f"{own / total:.1%}",
            ]
            for row, own in zip(rows, spent, strict=True)
        ],
        [
            f"{len(rows)} layers",
            "one by one",
            *line({way: sum(row[way] or 0 for row in rows) for way in ways}),
            "",
        ],
    )
    if joined:
        show.table(
            ["joined from", "runs as", *(f">{way} ms" for way in ways), ">one by one ms"],
            [[row["layers"][0], row["runs_as"], *line(row), alone(row["layers"])] for row in joined],
        )
    if not forward_only and "backward" not in ways:
        click.echo("No layer goes backward: the net has no loss.")
    where = "GPU" if made.device == "gpu" else f"{thread_count.get()} threads"
    for what, found in [("Whole net", result), ("With keep=[]", result["keep"])]:
        whole = ", ".join(
            f"{way} {show.milliseconds(found[way])} ms" for way in ways if found[way] is not None
        )
        click.echo(f"{what}: {whole}  ({where}, median of {iterations})")
