"""Ctrl-C and hang-up during training."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from caffebn.errors import ArgumentError, did_you_mean
from caffebn.solvers.events import Event, SnapshotWritten
from caffebn.solvers.hooks import Hook
from caffebn.solvers.solver import Solver

__all__ = ["EFFECTS", "Signals"]

EFFECTS = ("snapshot", "stop", "none")


class _TestCutShortError(Exception):
    """A stop that comes between the passes of a test."""


class Signals(Hook):
    """While the block runs, signals make snapshots or stop the training.

    What a signal asks for is done when the running iteration is complete; a test is cut short by a stop.
    A second stop raises KeyboardInterrupt at once.

    Parameters
    ----------
    solver : Solver
    sigint : {"stop", "snapshot", "none"}
        What Ctrl-C does.  "stop" writes a snapshot, too, whatever `snapshot_after_train` says, if there has been
        an iteration since the last.
    sighup : {"snapshot", "stop", "none"}
        What a hang-up does.
    on_stop : callable, optional
        Called from the signal handler when a stop is asked for the first time.

    Attributes
    ----------
    stopped : bool
        A stop was asked for.

    Examples
    --------
    >>> with Signals(solver):  # doctest: +SKIP
    ...     solver.solve()
    """

    def __init__(
        self,
        solver: Solver,
        sigint: str = "stop",
        sighup: str = "snapshot",
        on_stop: Callable[[], Any] | None = None,
    ):
        for name, effect in (("sigint", sigint), ("sighup", sighup)):
            if effect not in EFFECTS:
                raise ArgumentError(
                    f"{name}: expected one of {', '.join(EFFECTS)}; found {effect!r}{did_you_mean(effect, EFFECTS)}"
                )
        self.stopped = False
        self._solver = solver
        self._effects = {signal.SIGINT: sigint, signal.SIGHUP: sighup}
        self._on_stop = on_stop
        self._due = False
        self._saved = solver.iter
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        self._solver.hooks.append(self)
        self._solver.listeners.append(self._heed)
        self._before = {number: signal.signal(number, self._handle) for number in self._effects}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        cut = kind is _TestCutShortError
        try:
            if self.stopped and (kind is None or cut) and self._saved != self._solver.iter:
                self._solver.snapshot()
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            self._before.clear()
            self._solver.hooks.remove(self)
            self._solver.listeners.remove(self._heed)
        return cut

    def after(self, solver: Solver) -> None:
        """Write the snapshot that is due."""
        if self._due:
            self._due = False
            if self._saved != solver.iter:
                solver.snapshot()
        if self.stopped:
            solver.stop()

    def before_test_pass(self, solver: Solver) -> None:
        """Cut a test short when a stop has been asked for."""
        if self.stopped:
            raise _TestCutShortError

    def _handle(self, number: int, frame: FrameType | None) -> None:
        effect = self._effects[signal.Signals(number)]
        if effect == "snapshot":
            self._due = True
        elif effect == "stop" and self.stopped:
            raise KeyboardInterrupt
        elif effect == "stop":
            self.stopped = True
            self._solver.stop()
            if self._on_stop is not None:
                self._on_stop()

    def _heed(self, event: Event) -> None:
        if isinstance(event, SnapshotWritten):
            self._saved = event.iteration
