"""Pictures of trainings: loss, scores and learning rate over the iterations, from logs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from caffebn.errors import ArgumentError, FileError, FormatError, missing_package
from caffebn.files import replacing

__all__ = ["Curve", "Run", "plot_runs", "read_run"]

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
    ending = Path(out).suffix.lower()
    if ending not in FORMATS:
        raise ArgumentError(f"{out}: expected a name that ends in one of {', '.join(FORMATS)}")
    if not runs:
        raise ArgumentError("plot_runs: there is no run to plot")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise missing_package("matplotlib", "plot", "Plotting") from None
    with_scores = any(run.scores for run in runs)
    with_rates = any(run.rate.values for run in runs)
    heights = [3.2] + [2.2] * with_scores + [1.4] * with_rates
    figure = Figure(figsize=(8, sum(heights) + 0.4), layout="constrained")
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
    with replacing(out) as unnamed:
        figure.savefig(unnamed, format=ending[1:], dpi=120)
