"""Iterations recorded as CUDA graphs."""

from __future__ import annotations

import numpy as np
import pytest

import caffebn
from caffebn.errors import ArgumentError, SolverError
from caffebn.solvers import get_solver
from tests.solvers.small import count_updates, message

pytestmark = pytest.mark.gpu


def fill(net: caffebn.Net, seed: int) -> None:
    rng = np.random.default_rng(seed)
    net.blobs["data"].data[...] = rng.normal(size=(6, 5))
    net.blobs["label"].data[...] = rng.integers(3, size=6)


def train(settings: dict, captured: bool, iterations: int = 7) -> tuple[list[float], list[np.ndarray]]:
    made = get_solver(message(**settings), device="gpu", dtype="float64")
    if captured:
        made.capture()
    losses = []
    for k in range(iterations):
        fill(made.net, k)
        made.step(1)
        losses.append(made.loss)
        if k == 2:
            made.net.params["ip1"][0].data[0, 0] = 0.25  # a look from the host, and a change
    return losses, [p.blob.data.copy() for p in made.net.parameters] + [h.copy() for h in made.history]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"lr_policy": '"step"', "gamma": "0.1", "stepsize": "3", "momentum": "0.9"},
        {"lr_policy": '"inv"', "gamma": "0.1", "power": "0.5"},
        {"type": '"Adam"', "momentum2": "0.99"},
        {"clip_gradients": "0.01"},
        {"test_iter": "1", "test_interval": "2"},
    ],
)
def test_the_training_is_the_same(settings):
    expected, found = train(settings, False), train(settings, True)
    assert found[0] == expected[0] and len(set(found[0])) == 7
    for a, b in zip(expected[1], found[1], strict=True):
        np.testing.assert_array_equal(b, a)


def test_updates_of_equal_numbers_are_launched(monkeypatch):
    made = get_solver(message(lr_policy='"step"', gamma="0.1", stepsize="4"), device="gpu")
    fill(made.net, 0)
    made.capture()
    calls = count_updates(made, monkeypatch)
    made.step(12)
    pieces = len(made._updater._pieces)
    # each rate: by itself, recorded (the work runs twice), then launched
    assert calls == [i for first in (0, 4, 8) for i in (first, *[first + 1] * 2) for _ in range(pieces)]


def test_refusals():
    made = get_solver(message("iter_size: 2"), device="gpu")
    with pytest.raises(
        SolverError, match=r"5:1: capture: a recorded pass begins with gradients of 0, so iter_size"
    ):
        made.capture()
    made = get_solver(message(), device="gpu")
    made.net.after_forward(print)
    with pytest.raises(ArgumentError, match=r"^capture: the net has callbacks \(debug_info is one\)"):
        made.net.capture()


def test_a_solver_of_the_host_cannot_be_recorded():
    with pytest.raises(ArgumentError, match=r"^capture: the net runs on the cpu"):
        get_solver(message("")).capture()
