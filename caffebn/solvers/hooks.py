"""What a solver does beside training: tests, display, snapshots."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from caffebn.solvers.events import Progress, outputs_of

if TYPE_CHECKING:
    from caffebn.solvers.solver import Solver

__all__ = ["Display", "Hook", "Snapshots", "Tests"]


class Hook:
    """Base of what is called around each iteration; a subclass overrides what it needs."""

    def before(self, solver: Solver) -> None:
        """Do something before iteration `solver.iter`, when all gradients are 0."""

    def after(self, solver: Solver) -> None:
        """Do something after an iteration, which `solver.iter` counts already."""

    def before_test_pass(self, solver: Solver) -> None:
        """Do something before each forward pass of a test."""


class Tests(Hook):
    """Tests every `test_interval` iterations, before iteration 0 only with `test_initialization`."""

    __test__ = False  # no tests of pytest's

    def before(self, solver: Solver) -> None:
        interval, i = solver.param.test_interval, solver.iter
        if interval and i % interval == 0 and (i > 0 or solver.param.test_initialization):
            solver.test_all()


class Display(Hook):
    """Tells the progress every `display` iterations, and switches the lines of `debug_info` on for them.

    Time spent on tests and snapshots does not count.
    """

    def __init__(self) -> None:
        self._start = self._seconds = 0.0
        self._iterations = 0
        self._due = False

    def before(self, solver: Solver) -> None:
        p = solver.param
        self._due = bool(p.display) and solver.iter % p.display == 0
        solver.net.debug_info = self._due and p.debug_info
        self._start = time.perf_counter()

    def after(self, solver: Solver) -> None:
        self._seconds += time.perf_counter() - self._start
        self._iterations += 1
        i, net = solver.iter - 1, solver.net  # the iteration just done
        if self._due:
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


class Snapshots(Hook):
    """Writes a snapshot every `snapshot` iterations."""

    def after(self, solver: Solver) -> None:
        if solver.param.snapshot and solver.iter % solver.param.snapshot == 0:
            solver.snapshot()
