"""Updates whose numbers are those of the one before are repeated calls of kernels."""

import pytest

import caffebn
from tests.solvers.small import count_updates, solver, state_of, train

RULES = [
    {"momentum": "0.9"},
    {"type": '"Nesterov"', "momentum": "0.9", "weight_decay": "0.01", "regularization_type": '"L1"'},
    {"type": '"AdaGrad"'},
    {"type": '"RMSProp"', "rms_decay": "0.9"},
    {"type": '"AdaDelta"', "momentum": "0.9", "delta": "1e-6"},
    {"type": '"Adam"', "momentum": "0.9", "momentum2": "0.99"},
    {"lr_policy": '"step"', "gamma": "0.1", "stepsize": "4", "momentum": "0.9"},
    {"clip_gradients": "0.5", "iter_size": "2", "momentum": "0.9"},
]


@pytest.mark.parametrize("settings", RULES, ids=lambda s: s.get("type", "/".join(s)))
def test_the_training_is_the_same(settings):
    found = []
    for repeats in (True, False):
        made = solver(**settings)
        made._updater._records = repeats
        found.append((train(made, 10), state_of(made)))
    assert found[0] == found[1]


def test_equal_numbers_are_asked_for_twice(monkeypatch):
    made = solver(lr_policy='"step"', gamma="0.1", stepsize="4")
    calls = count_updates(made, monkeypatch)
    made.step(12)
    pieces = len(made._updater._pieces)
    assert calls == [i for i in (0, 1, 4, 5, 8, 9) for _ in range(pieces)]


def test_what_was_repeated_ends_where_something_changes(monkeypatch):
    threads = caffebn.num_threads()
    states = []
    for repeats in (True, False):
        made = solver(momentum="0.9")
        made._updater._records = repeats
        calls = count_updates(made, monkeypatch)
        made.step(3)
        made._updater.owned[0].lr_mult = 0.5
        made.step(3)
        made.param.base_lr = 0.01
        made.step(3)
        caffebn.set_num_threads(threads + 1)
        made.step(3)
        caffebn.set_num_threads(threads)
        assert sorted(set(calls)) == ([0, 1, 3, 4, 6, 7, 9, 10] if repeats else list(range(12)))
        states.append(state_of(made))
    assert states[0] == states[1]
