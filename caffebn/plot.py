"""Pictures of trainings, from logs, and of what is in a net: statistics, weights, activations."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from caffebn.errors import ArgumentError, FileError, FormatError, missing_package
from caffebn.files import replacing
from caffebn.net import Net

__all__ = [
    "Curve",
    "Panel",
    "Run",
    "activation_panels",
    "plot_panels",
    "plot_runs",
    "read_run",
    "statistics_panels",
    "weight_panels",
]

FORMATS = (".png", ".svg", ".pdf")

_ITERATION = re.compile(r"\bIteration (\d+)")
_NUMBER = r"([-+]?(?:[\d.]+(?:e[-+]?\d+)?|nan|inf))"
_LOSS = re.compile(r"\bIteration \d+.*, loss = " + _NUMBER, re.IGNORECASE)
_RATE = re.compile(r"\bIteration \d+, lr = " + _NUMBER, re.IGNORECASE)
_OUTPUT = re.compile(r"(Train|Test) net output #\d+: (\S+) = " + _NUMBER + r"( \(\*)?", re.IGNORECASE)
_TESTING = re.compile(r"Testing net \(#(\d+)\)")


@dataclass
class Curve:
    """Points of one quantity.

    Attributes
    ----------
    iterations : list of int
        Rising.
    values : list of float
    """

    iterations: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, iteration: int, value: float) -> None:
        """Append a point.  Going back, as a resumed training does, drops the points from there on."""
        while self.iterations and self.iterations[-1] >= iteration:
            self.iterations.pop()
            self.values.pop()
        self.iterations.append(iteration)
        self.values.append(value)


@dataclass
class Run:
    """What the log of a training tells.

    Attributes
    ----------
    name : str
    loss, rate : Curve
        Training loss, as displayed, and learning rate.
    test_losses, scores : dict of Curve
        Outputs of test nets, by name: those that are losses, and the others.  Outputs of test net 1 and later
        have ``#1`` behind their names.
    """

    name: str
    loss: Curve = field(default_factory=Curve)
    rate: Curve = field(default_factory=Curve)
    test_losses: dict[str, Curve] = field(default_factory=dict)
    scores: dict[str, Curve] = field(default_factory=dict)


def read_run(path: str | os.PathLike[str]) -> Run:
    """Read the log of a training: JSON lines when the name ends in ``.jsonl``, else text in Caffe's form.

    An output of a test is a loss when the log says so (``(* 1 = 0.3 loss)``), or when "loss" is in its name.

    Raises
    ------
    FileError
        The file cannot be read.
    FormatError
        Nothing about a training is in it.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as e:
        raise FileError(f"{path}: cannot be read: {e.strerror or e}") from None
    run = Run(path.name)
    (_read_json if path.suffix == ".jsonl" else _read_text)(run, lines)
    if not (run.loss.values or run.test_losses or run.scores):
        raise FormatError(
            f"{path}: no iteration of a training is in it; expected a log of Caffe or of caffebn"
        )
    return run


def _read_text(run: Run, lines: Sequence[str]) -> None:
    iteration, net = 0, "0"
    for line in lines:
        if found := _ITERATION.search(line):
            iteration = int(found[1])
        if found := _TESTING.search(line):
            net = found[1]
        elif found := _LOSS.search(line):
            run.loss.add(iteration, float(found[1]))
        elif found := _RATE.search(line):
            run.rate.add(iteration, float(found[1]))
        elif (found := _OUTPUT.search(line)) and found[1] == "Test":
            _add_test(run, found[2], net, iteration, float(found[3]), bool(found[4]))


def _read_json(run: Run, lines: Sequence[str]) -> None:
    for line in lines:
        try:
            event = json.loads(line)
            kind, iteration = event["event"], event["iteration"]
            if kind == "progress":
                if event["loss"] is not None:
                    run.loss.add(iteration, float(event["loss"]))
                if event["lr"] is not None:
                    run.rate.add(iteration, float(event["lr"]))
            elif kind == "test":
                for name, value in event["outputs"].items():
                    if isinstance(value, float):
                        _add_test(run, name, str(event["net"]), iteration, value, False)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # half a line, left by a process that was killed


def _add_test(run: Run, name: str, net: str, iteration: int, value: float, is_loss: bool) -> None:
    curves = run.test_losses if is_loss or "loss" in name.lower() else run.scores
    name += f" #{net}" if net != "0" else ""
    curves.setdefault(name, Curve()).add(iteration, value)


def plot_runs(runs: Sequence[Run], out: str | os.PathLike[str]) -> None:
    """Draw loss, scores and learning rate of trainings, one colour a run, into a picture.

    Parameters
    ----------
    runs : sequence of Run
    out : path-like
        A .png, .svg or .pdf file.

    Raises
    ------
    ArgumentError
        Another ending, or no run.
    FileError
        The file cannot be written.
    MissingPackageError
        Without matplotlib.
    """
    _check_ending(out)
    if not runs:
        raise ArgumentError("plot_runs: there is no run to plot")
    with_scores = any(run.scores for run in runs)
    with_rates = any(run.rate.values for run in runs)
    heights = [3.2] + [2.2] * with_scores + [1.4] * with_rates
    figure = _figure(8, sum(heights) + 0.4)
    panels = list(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0])
    left = iter(panels)
    loss = next(left)
    scores = next(left) if with_scores else None
    rates = next(left) if with_rates else None
    for i, run in enumerate(runs):
        colour, prefix = f"C{i % 10}", f"{run.name}: " if len(runs) > 1 else ""
        loss.plot(
            run.loss.iterations, run.loss.values, color=colour, alpha=0.6, lw=1, label=f"{prefix}training"
        )
        for axes, curves in ((loss, run.test_losses), (scores or loss, run.scores)):
            for marker, (name, curve) in zip("osv^D*" * len(curves), curves.items(), strict=False):
                axes.plot(
                    curve.iterations,
                    curve.values,
                    color=colour,
                    marker=marker,
                    ms=4,
                    lw=1.5,
                    label=f"{prefix}{name} (test)",
                )
        if rates is not None:
            rates.plot(run.rate.iterations, run.rate.values, color=colour, drawstyle="steps-post", lw=1.2)
    for axes, label in ((loss, "loss"), (scores, "score"), (rates, "learning rate")):
        if axes is not None:
            axes.set_ylabel(label)
            axes.grid(alpha=0.3)
            if label != "learning rate":
                axes.legend(fontsize="small", frameon=False)
    if rates is not None and all(value > 0 for run in runs for value in run.rate.values):
        rates.set_yscale("log")
        rates.yaxis.set_major_formatter("{x:g}")
        rates.yaxis.set_minor_formatter("{x:g}")
        rates.tick_params(axis="y", which="both", labelsize="small")
    panels[-1].set_xlabel("iteration")
    _save(figure, out)


def _check_ending(out: str | os.PathLike[str]) -> None:
    if Path(out).suffix.lower() not in FORMATS:
        raise ArgumentError(f"{out}: expected a name that ends in one of {', '.join(FORMATS)}")


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise missing_package("matplotlib", "plot", "Plotting") from None
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, out: str | os.PathLike[str]) -> None:
    with replacing(out) as unnamed:
        figure.savefig(unnamed, format=Path(out).suffix.lower()[1:], dpi=120)


# -- what is in a net ------------------------------------------------------------------------------------

PERCENTILES = (0, 5, 50, 95, 100)


@dataclass
class Panel:
    """The distributions of one quantity, layer by layer.

    Attributes
    ----------
    title : str
    log : bool
        Whether the axis is logarithmic.
    layers : list of str
    percentiles : list of (float, ...)
        Smallest value, 5 %, median, 95 %, largest value of each layer.
    dead : list of int
        Channels of each layer that do nothing.
    channels : list of int
        How many each layer has.
    """

    title: str
    log: bool = False
    layers: list[str] = field(default_factory=list)
    percentiles: list[tuple[float, ...]] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)
    channels: list[int] = field(default_factory=list)

    def add(self, layer: str, values: np.ndarray, dead: np.ndarray) -> None:
        """Append a layer: its values, and which of its channels are dead."""
        finite = values[np.isfinite(values)]
        self.layers.append(layer)
        self.percentiles.append(tuple(np.percentile(finite, PERCENTILES)) if finite.size else (np.nan,) * 5)
        self.dead.append(int(dead.sum()))
        self.channels.append(dead.size)


def statistics_panels(net: Net) -> list[Panel]:
    """Gather mean, variance, factor (gamma) and shift (beta) of each BatchNorm of a net and the Scale behind it.

    Mean and variance are divided by BatchNorm's factor; the mean is shown in deviations, ``mean / sqrt(var + eps)``.
    Dead are channels whose variance or gamma is 0, and those that a ReLU behind keeps at 0 although the input moves
    four standard deviations: ``beta + 4 |gamma| < 0``.

    Raises
    ------
    ArgumentError
        The net has no BatchNorm layer.
    """
    mean, var = Panel("mean / deviation"), Panel("variance", log=True)
    gamma, beta = Panel("gamma (Scale)"), Panel("beta (bias of Scale)")
    for i, layer in enumerate(net.layers):
        if layer.type != "BatchNorm":
            continue
        sum_mean, sum_var, factor = (blob.data.astype(np.float64).reshape(-1) for blob in layer.blobs)
        share = 1 / factor[0] if factor[0] else 0.0
        still = sum_var * share == 0
        mean.add(layer.name, sum_mean * share / np.sqrt(np.abs(sum_var * share) + layer.param.eps), still)
        var.add(layer.name, sum_var * share, still)
        scale, relu = _behind(net, i)
        if scale is None or not scale.learned or scale.blobs[0].count != still.size:
            continue
        g = scale.blobs[0].data.astype(np.float64).reshape(-1)
        b = scale.blobs[1].data.astype(np.float64).reshape(-1) if len(scale.blobs) > 1 else np.zeros_like(g)
        dead = (g == 0) | (b + 4 * np.abs(g) < 0 if relu else np.zeros_like(still))
        gamma.add(scale.name, g, dead)
        beta.add(scale.name, b, dead)
    if not mean.layers:
        raise ArgumentError(f'the net "{net.name}" has no BatchNorm layer')
    return [mean, var] + ([gamma, beta] if gamma.layers else [])


def _behind(net: Net, index: int) -> tuple[Any, bool]:
    """Return the Scale layer that reads a BatchNorm, and whether a ReLU reads that."""
    blob, scale = net.top_names[net.layers[index].name][0], None
    for layer in net.layers[index + 1 :]:
        if blob in net.bottom_names[layer.name]:
            if scale is None and layer.type == "Scale":
                scale, blob = layer, net.top_names[layer.name][0]
                continue
            return scale, scale is not None and layer.type == "ReLU"
    return scale, False


def weight_panels(net: Net) -> list[Panel]:
    """Gather the weights of each layer that learns some, but BatchNorm and Scale.

    Dead are outputs whose weights are all 0.

    Raises
    ------
    ArgumentError
        The net has none.
    """
    weights, norms, bias = (
        Panel("weights"),
        Panel("norm of the weights of an output", log=True),
        Panel("bias"),
    )
    for name, blobs in net.params.items():
        layer = net.layer_dict[name]
        if layer.type in ("BatchNorm", "Scale", "Bias"):
            continue
        w = blobs[0].data.astype(np.float64)
        if layer.type == "Deconvolution":
            w = w.swapaxes(0, 1)
        if layer.type == "InnerProduct" and layer.param.transpose:
            w = w.T
        norm = np.sqrt((w.reshape(len(w), -1) ** 2).sum(1)) if w.ndim else np.abs(w.reshape(1))
        weights.add(name, w.reshape(-1), norm == 0)
        norms.add(name, norm, norm == 0)
        if len(blobs) > 1:
            bias.add(name, blobs[1].data.astype(np.float64).reshape(-1), np.zeros(blobs[1].count, bool))
    if not weights.layers:
        raise ArgumentError(f'the net "{net.name}" has no weights')
    return [weights, norms] + ([bias] if bias.layers else [])


def activation_panels(net: Net) -> list[Panel]:
    """Run a net on the inputs that it has, and gather what each layer makes.

    Dead are channels (axis 1) that hold one and the same value at all places of all items.

    Raises
    ------
    ArgumentError
        No layer makes more than one value.
    """
    values, zeros = Panel("activations"), Panel("share of zeros")

    for layer in net.layers:
        # one by one, so that every value can be seen before a layer in place overwrites it
        net.forward(start=layer.name, end=layer.name)
        for name in net.top_names[layer.name][:1]:
            x = net.blobs[name].data
            if layer.type in ("Split", "Silence") or x.size < 2:
                continue
            rows = x.swapaxes(0, 1).reshape(x.shape[1], -1) if x.ndim > 1 else x.reshape(1, -1)
            with np.errstate(invalid="ignore"):
                dead = np.ptp(rows, axis=1) == 0 if rows.shape[1] > 1 else np.zeros(len(rows), bool)
            values.add(layer.name, x.reshape(-1), dead)
            zeros.add(layer.name, (rows == 0).mean(1), dead)
    if not values.layers:
        raise ArgumentError(
            f'the net "{net.name}" makes no values: its layers have no tops, or its blobs no items'
        )
    return [values, zeros]


def plot_panels(panels: Sequence[Panel], out: str | os.PathLike[str], title: str = "") -> None:
    """Draw distributions, layer by layer: the median, the middle 90 %, the whole range, and dead channels in red.

    Parameters
    ----------
    panels : sequence of Panel
    out : path-like
        A .png, .svg or .pdf file.
    title : str, optional

    Raises
    ------
    ArgumentError
        Another ending, or no panel.
    FileError
        The file cannot be written.
    MissingPackageError
        Without matplotlib.
    """
    _check_ending(out)
    if not panels:
        raise ArgumentError("plot_panels: there is nothing to plot")
    most = max(len(panel.layers) for panel in panels)
    figure = _figure(min(6 + 0.16 * most, 40), 2.2 * len(panels) + 1.4)
    if title:
        figure.suptitle(title, fontsize="medium")
    axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for i, (panel, axis) in enumerate(zip(panels, axes, strict=True)):
        _draw_panel(panel, axis, names=i + 1 == len(panels) or panels[i + 1].layers != panel.layers)
    _save(figure, out)


def _draw_panel(panel: Panel, axis: Any, names: bool) -> None:
    x = np.arange(len(panel.layers))
    low, five, median, ninety_five, high = np.array(panel.percentiles).T
    axis.vlines(x, low, high, color="#9db8d2", lw=1.2)
    axis.vlines(x, five, ninety_five, color="#2f6ea5", lw=4)
    axis.plot(x, median, "o", color="white", mec="#1b3f5f", ms=3.5, lw=0)
    positive = low[low > 0]
    if panel.log and positive.size:
        axis.set_yscale("log")
        axis.set_ylim(bottom=positive.min() / 2)
    for i, (dead, channels) in enumerate(zip(panel.dead, panel.channels, strict=True)):
        if dead:
            axis.axvspan(i - 0.45, i + 0.45, color="#c0392b", alpha=0.15, lw=0)
            axis.annotate(
                f"{dead}/{channels}", (i, 1), xycoords=("data", "axes fraction"), fontsize=6, color="#c0392b",
                rotation=90, ha="center", va="bottom",
            )  # fmt: skip
    axis.set_ylabel(panel.title, fontsize="small")
    axis.set_xlim(-0.7, len(x) - 0.3)
    axis.grid(axis="y", alpha=0.3)
    axis.set_xticks(x, panel.layers if names else [""] * len(x), rotation=90, fontsize=6)
