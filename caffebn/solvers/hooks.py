"""What a solver does beside training: tests, display, debug_info, snapshots."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from caffebn.solvers.diagnosis import DebugInfo
from caffebn.solvers.events import Debug, Progress, outputs_of

if TYPE_CHECKING:
    from caffebn.solvers.solver import Solver

__all__ = ["Debugging", "Display", "Hook", "Snapshots", "Tests"]


class Hook:
    """Base of what is called around each iteration; a subclass overrides one method or both."""

    def before(self, solver: Solver) -> None:
        """Do something before iteration `solver.iter`, when all gradients are 0."""

    def after(self, solver: Solver) -> None:
        """Do something after an iteration, which `solver.iter` counts already."""


class Tests(Hook):
    """Tests every `test_interval` iterations, before iteration 0 only with `test_initialization`."""

    __test__ = False  # no tests of pytest's

    def before(self, solver: Solver) -> None:
        interval, i = solver.param.test_interval, solver.iter
        if interval and i % interval == 0 and (i > 0 or solver.param.test_initialization):
            solver.test_all()


class Display(Hook):
    """Tells the progress every `display` iterations; time spent on tests and snapshots does not count."""

    def __init__(self) -> None:
        self._start = self._seconds = 0.0
        self._iterations = 0

    def before(self, solver: Solver) -> None:
        self._start = time.perf_counter()

    def after(self, solver: Solver) -> None:
        self._seconds += time.perf_counter() - self._start
        self._iterations += 1
        i, net = solver.iter - 1, solver.net  # the iteration just done
        if solver.param.display and i % solver.param.display == 0:
            outputs = {name: net.blobs[name].data for name in net.outputs}
            solver.tell(
                Progress(
                    i,
                    solver.loss,
                    solver.rate,
                    *outputs_of(outputs, net.blob_loss_weights),
                    self._seconds,
                    self._iterations,
                )
            )
            self._seconds, self._iterations = 0.0, 0


class Debugging(Hook):
    """The lines of `debug_info`: of the train net in iterations that are displayed, of test nets always."""

    def __init__(self, solver: Solver):
        def tell(line: str) -> None:
            solver.tell(Debug(solver.iter, line))

        self._train = DebugInfo(solver.net, tell)
        for net in solver.test_nets:
            DebugInfo(net, tell).on = True

    def before(self, solver: Solver) -> None:
        self._train.on = bool(solver.param.display) and solver.iter % solver.param.display == 0

    def after(self, solver: Solver) -> None:
        self._train.on = False


class Snapshots(Hook):
    """Writes a snapshot every `snapshot` iterations."""

    def after(self, solver: Solver) -> None:
        if solver.param.snapshot and solver.iter % solver.param.snapshot == 0:
            solver.snapshot()
