"""Ctrl-C and hang-up in the middle of a training."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from caffebn.errors import ArgumentError
from caffebn.solvers import Hook, Signals
from tests.solvers.small import solver

pytestmark = pytest.mark.usefixtures("here")

TEST = 'snapshot_prefix: "snap" test_iter: 3 test_interval: 4 '


def sending(made, number: int, iteration: int, times: int = 1):
    """Send a signal in the middle of the forward pass of that iteration."""

    def send(layer: int) -> None:
        if made.iter == iteration and layer == 3:
            for _ in range(times):
                os.kill(os.getpid(), number)

    made.net.before_forward(send)


def states() -> list[str]:
    return sorted(path.name for path in Path().glob("*.solverstate"))


@pytest.mark.parametrize("more", ["", "snapshot_after_train: false"])
def test_a_stop_ends_the_iteration_and_writes_one_snapshot(more):
    made = solver(TEST + more)
    sending(made, signal.SIGINT, 5)
    told = []
    before = signal.getsignal(signal.SIGINT)
    with Signals(made, on_stop=lambda: told.append(made.iter)) as signals:
        made.solve()
    assert (made.iter, signals.stopped, told) == (6, True, [5])
    assert states() == ["snap_iter_6.solverstate"]
    assert signal.getsignal(signal.SIGINT) is before and signals not in made.hooks


def test_a_hang_up_writes_a_snapshot_and_goes_on():
    made = solver(TEST)
    sending(made, signal.SIGHUP, 5)
    with Signals(made) as signals:
        made.solve()
    assert (made.iter, signals.stopped) == (10, False)
    assert states() == ["snap_iter_10.solverstate", "snap_iter_6.solverstate"]


def test_the_second_stop_is_at_once_and_writes_nothing():
    made = solver(TEST)
    sending(made, signal.SIGINT, 5, times=2)
    with pytest.raises(KeyboardInterrupt), Signals(made):
        made.solve()
    assert made.iter == 5 and states() == []


def test_a_stop_cuts_a_test_short():
    made = solver(TEST)
    passes = []

    class Count(Hook):
        def before_test_pass(self, solver):
            passes.append(solver.iter)
            if passes.count(4) == 1:
                os.kill(os.getpid(), signal.SIGINT)

    made.hooks.append(Count())
    with Signals(made):
        made.solve()
    assert made.iter == 4 and states() == ["snap_iter_4.solverstate"]
    assert passes == [0, 0, 0, 4]  # a whole test at 0, and one pass of another


def test_effects():
    made = solver(TEST)
    sending(made, signal.SIGINT, 2)
    sending(made, signal.SIGHUP, 5)
    with Signals(made, sigint="none", sighup="stop"):
        made.solve()
    assert made.iter == 6 and states() == ["snap_iter_6.solverstate"]


def test_unknown_effect():
    with pytest.raises(ArgumentError, match='sigint: expected one of .* found .stopp.; did you mean "stop"'):
        Signals(solver(TEST), sigint="stopp")
