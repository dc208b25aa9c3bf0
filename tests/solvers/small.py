"""A small net to train, and solvers of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from caffebn.net import Net
from caffebn.proto import Message, text
from caffebn.solvers import Event, Solver, get_solver

__all__ = ["NET", "count_updates", "feed", "message", "recorded", "solver", "state_of", "train"]

NET = """
name: "small"
layer { name: "data" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 6 dim: 5 } shape { dim: 6 } } }
layer { name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
        param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
        inner_product_param { num_output: 8 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "ip1" top: "ip1" }
layer { name: "scale" type: "Scale" bottom: "ip1" top: "ip1" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "drop" type: "Dropout" bottom: "ip1" top: "ip1" dropout_param { dropout_ratio: 0.3 } }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
        inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy" include { phase: TEST } }
"""

SETTINGS = {"base_lr": "0.1", "lr_policy": '"fixed"', "max_iter": "10", "random_seed": "3"}


def message(more: str = "", net: str | None = NET, **settings: str | None) -> Message:
    """A SolverParameter of `SETTINGS`, changed by `settings` (None: without it), and more text."""
    lines = [f"{name}: {value}" for name, value in (SETTINGS | settings).items() if value is not None]
    p = text.parse("\n".join([*lines, more]), "SolverParameter", "solver.prototxt")
    if net is not None:
        p.net_param = text.parse(net)
    return p


def solver(
    more: str = "", net: str = NET, options: dict[str, Any] | None = None, **settings: str | None
) -> Solver:
    """A solver of that message, whose nets feed themselves."""
    made = get_solver(message(more, net, **settings), **(options or {}))
    feed(made.net, made)
    for test_net in made.test_nets:
        feed(test_net, made)
    return made


def feed(net: Net, solver: Solver) -> None:
    """Fill the inputs before each pass with what depends on the iteration alone."""

    def fill(layer: int) -> None:
        if layer == 0:
            rng = np.random.default_rng(solver.iter)
            net.blobs["data"].data[...] = rng.normal(size=net.blobs["data"].shape)
            net.blobs["label"].data[...] = rng.integers(3, size=net.blobs["label"].shape)

    net.before_forward(fill)


def recorded(solver: Solver) -> list[Event]:
    """A list into which all events will go."""
    events: list[Event] = []
    solver.listeners.append(events.append)
    return events


def count_updates(solver: Solver, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list into which goes the iteration of each piece that is updated by a call of the op."""
    calls: list[int] = []
    op = solver._updater._op
    monkeypatch.setattr(solver._updater, "_op", lambda *a: calls.append(solver.iter) or op(*a))
    return calls


def state_of(solver: Solver) -> dict[str, bytes]:
    """All bits that training has changed."""
    net = solver.net
    found = {
        f"{name}[{i}]": b.data.tobytes() for name, blobs in net.params.items() for i, b in enumerate(blobs)
    }
    return found | {f"history {i}": array.tobytes() for i, array in enumerate(solver.history)}


def train(solver: Solver, n: int) -> list[float]:
    """Run `n` iterations and return the loss of each."""
    losses = []
    for _ in range(n):
        solver.step(1)
        losses.append(solver.loss)
    return losses
