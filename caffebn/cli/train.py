"""``caffebn train``: train a net by a solver."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from caffebn.cli import nets, show
from caffebn.errors import ArgumentError
from caffebn.proto import Message
from caffebn.solvers import (
    CaffeFormatter,
    Event,
    Hook,
    JsonLines,
    KeepSnapshots,
    Progress,
    Signals,
    Solver,
    TextLog,
    freeze_solver,
    get_solver,
    trainable,
)
from caffebn.solvers.log import items_per_iteration
from caffebn.solvers.signals import EFFECTS

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["command"]

_log = logging.getLogger("caffebn.solvers")

_STOPPING = b"\nStopping when this iteration is done, with a snapshot; Ctrl-C again stops at once.\n"


class Bar(Hook):
    """A line on the terminal that shows how far the training is; what happens scrolls by above it.

    Parameters
    ----------
    solver : Solver
    console : rich.console.Console
    """

    def __init__(self, solver: Solver, console: Console):
        from rich import progress

        self._items = items_per_iteration(solver)
        self._console = console
        self._progress = progress.Progress(
            progress.TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            progress.BarColumn(bar_width=None),
            progress.TextColumn(
                "loss {task.fields[loss]}  lr {task.fields[rate]}  {task.fields[speed]} images/s"
            ),
            progress.TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
        )
        total = max(solver.param.max_iter, solver.iter)
        self._task = self._progress.add_task(
            "train", total=total, completed=solver.iter, loss="-", rate="-", speed="-"
        )

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def after(self, solver: Solver) -> None:
        """Show the iteration that was done."""
        speed = self._progress.tasks[0].speed
        self._progress.update(
            self._task,
            completed=solver.iter,
            loss=f"{solver.loss:.4g}",
            rate=f"{solver.rate:.4g}",
            speed="-" if speed is None else f"{speed * self._items:.4g}",
        )

    def tell(self, event: Event) -> None:
        """Print tests and snapshots above the line; the progress is in it already."""
        if not isinstance(event, Progress):
            self._console.print(str(event), highlight=False, markup=False)


@contextmanager
def logging_to(handler: logging.Handler) -> Iterator[None]:
    """Let the solvers' log records go to `handler`, too."""
    before = _log.level
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    try:
        yield
    finally:
        _log.removeHandler(handler)
        _log.setLevel(before)
        handler.close()


@contextmanager
def framed(log: JsonLines, solver: Solver, **facts: Any) -> Iterator[None]:
    """Write how a training starts and how it ends."""
    log.write(
        "start",
        solver.iter,
        net=solver.net.name,
        type=solver.type,
        max_iter=solver.param.max_iter,
        items_per_iteration=items_per_iteration(solver),
        trainable=trainable(solver.net),
        **facts,
    )
    reason = "done"
    try:
        yield
        if solver.iter < solver.param.max_iter:
            reason = "stopped"
    except KeyboardInterrupt:
        reason = "stopped"
        raise
    except Exception as e:
        reason = f"error: {e}"
        raise
    finally:
        log.write("end", solver.iter, reason=reason)
        log.close()


def describe_trainable(solver: Solver) -> str:
    """Say which parameters are trained."""
    names = trainable(solver.net)
    owned = [p for p in solver.net.parameters if p.owner is None]
    numbers = sum(p.blob.count for p in owned if p.lr_mult)
    return (
        f"Trained are {len(names)} of {len(owned)} parameter blobs, {show.amount(numbers) or 0} of "
        f"{show.amount(sum(p.blob.count for p in owned))} numbers: {', '.join(names) or 'none'}"
    )


def make_solver(
    file: str,
    weights: tuple[str, ...],
    snapshot: str | None,
    iterations: int | None,
    freeze: str | None,
    recompute: bool,
) -> Solver:
    """Make the solver of a file, changed by the options, and restore it."""
    param: Message = nets.read_message(file)
    if param.schema.name != "SolverParameter":
        raise ArgumentError(f"{file}: expected a solver, found a net; the solver names the net")
    if iterations is not None:
        param.max_iter = iterations
    if freeze is not None:
        param = freeze_solver(param, freeze)
    param.weights += weights
    solver = get_solver(param, keep=[], recompute=recompute)
    if snapshot is not None:
        solver.restore(snapshot)
    return solver


_effect = click.Choice(EFFECTS)


@click.command("train")
@click.option("--solver", "-s", "solver_file", type=nets.File, required=True, help="The solver, a .prototxt.")
@click.option(
    "--weights",
    "-w",
    metavar="FILE[,FILE]",
    multiple=True,
    help="Weights to start from, by layer name; of several, later ones win.",
)
@click.option("--snapshot", type=nets.File, help="A .solverstate or .solverstate.h5 to go on from.")
@click.option(
    "--iterations",
    "-n",
    type=click.IntRange(min=0),
    help="Train up to this iteration, as if max_iter in the solver said it.",
)
@click.option(
    "--freeze-bn",
    type=click.Choice(["stats", "stats+scale"]),
    help="Keep the statistics of each BatchNorm, or also the Scale behind it, as they are.",
)
@click.option(
    "--recompute",
    is_flag=True,
    help="Need less memory and more time: compute what BatchNorm layers have written once more going backward.",
)
@click.option("--log", metavar="FILE", help="Log to FILE in Caffe's form, and to FILE.jsonl as JSON.")
@click.option("--quiet", "-q", is_flag=True, help="Show nothing but warnings and errors.")
@click.option("--keep", type=click.IntRange(min=1), metavar="N", help="Delete all snapshots but the last N.")
@click.option(
    "--keep-best",
    metavar="NAME[:min|:max]",
    help="Keep the snapshot with the best value of this output of the test net.",
)
@click.option(
    "--sigint-effect",
    "--sigint_effect",
    type=_effect,
    default="stop",
    show_default=True,
    help="What Ctrl-C does; a stop makes a snapshot, too.",
)
@nets.gpu
@click.option(
    "--sighup-effect",
    "--sighup_effect",
    type=_effect,
    default="snapshot",
    show_default=True,
    help="What a hang-up does.",
)
def command(
    solver_file: str,
    weights: tuple[str, ...],
    snapshot: str | None,
    iterations: int | None,
    freeze_bn: str | None,
    recompute: bool,
    log: str | None,
    quiet: bool,
    keep: int | None,
    keep_best: str | None,
    sigint_effect: str,
    sighup_effect: str,
) -> None:
    """Train a net by a solver, from the start, from weights, or from a snapshot.

    On a terminal a line shows the progress; elsewhere, lines as Caffe logs them go to standard error.
    Ctrl-C ends the iteration, writes a snapshot and stops; a second Ctrl-C stops at once.
    """
    if weights and snapshot:
        raise click.UsageError(
            "--weights and --snapshot exclude each other: a snapshot names the weights that belong to it"
        )
    from rich.console import Console

    console = Console(stderr=True)
    with ExitStack() as stack:
        # the log is opened first: one that cannot be written is no reason to read a net
        if log is not None:
            stack.enter_context(logging_to(TextLog(log)))
        bar_wanted = console.is_terminal and not quiet
        if not bar_wanted and not quiet:
            handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(CaffeFormatter())
            stack.enter_context(logging_to(handler))
        solver = make_solver(solver_file, weights, snapshot, iterations, freeze_bn, recompute)
        if freeze_bn is not None and not quiet:
            click.echo(describe_trainable(solver))
        _log.info("Solving %s", solver.net.name)
        _log.info("Learning Rate Policy: %s", solver.param.lr_policy)
        if snapshot is not None:
            _log.info("Resumed from %s, iteration %d", snapshot, solver.iter)
        elif weights:
            _log.info("Finetuning from %s", ", ".join(weights))
        if log is not None:
            events = JsonLines(f"{log}.jsonl", solver)
            solver.listeners.append(events)
            stack.enter_context(framed(events, solver, file=os.path.abspath(solver_file)))
        if keep is not None or keep_best is not None:
            solver.listeners.append(KeepSnapshots(solver, keep, keep_best))
        if bar_wanted:
            bar = stack.enter_context(Bar(solver, console))
            solver.hooks.append(bar)
            solver.listeners.append(bar.tell)
        with Signals(
            solver, sigint_effect, sighup_effect, None if quiet else lambda: os.write(2, _STOPPING)
        ) as signals:
            solver.solve()
        _log.info("Optimization stopped early." if signals.stopped else "Optimization Done.")
