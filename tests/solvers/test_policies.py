"""Learning-rate policies."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffebn.errors import SolverError
from caffebn.proto import Message, text
from caffebn.solvers import policies


def parse(policy: str, fields: str) -> Message:
    return text.parse(f'lr_policy: "{policy}" {fields}', "SolverParameter", "s.prototxt")


def rates(p: Message, n: int) -> list[float]:
    """Rates of the first iterations, with the counter going from one to the next."""
    policies.check(p)
    found, k = [], 0
    for i in range(n):
        k = policies.step_counter(p, i, k)
        found.append(policies.learning_rate(p, i, k))
    return found


@pytest.mark.parametrize(
    ("policy", "fields", "expected"),
    [
        ("fixed", "base_lr: 0.5", [0.5] * 4),
        ("step", "base_lr: 1 gamma: 0.5 stepsize: 2", [1, 1, 0.5, 0.5, 0.25]),
        ("exp", "base_lr: 2 gamma: 0.5", [2, 1, 0.5, 0.25]),
        ("inv", "base_lr: 3 gamma: 2 power: 0.5", [3, 3 / 3**0.5, 3 / 5**0.5]),
        ("multistep", "base_lr: 1 gamma: 0.5 stepvalue: 2 stepvalue: 3", [1, 1, 0.5, 0.25, 0.25]),
        ("multistep", "base_lr: 1 gamma: 0.5 stepvalue: 1 stepvalue: 1", [1, 0.5, 0.25, 0.25]),
        ("multistep", "base_lr: 1 gamma: 0.5 stepvalue: 0", [0.5, 0.5]),
        ("poly", "base_lr: 1 power: 2 max_iter: 4", [1, 0.5625, 0.25, 0.0625, 0]),
        ("poly", "base_lr: 1 power: 0 max_iter: 1", [1, 1]),
        ("sigmoid", "base_lr: 1 gamma: 1 stepsize: 1", [1 / (1 + math.e), 0.5, 1 / (1 + math.exp(-1))]),
        ("sigmoid", "base_lr: 1 gamma: 1e4 stepsize: 2", [0, 0, 0.5, 1]),
    ],
)
def test_in_closed_form(policy, fields, expected):
    assert rates(parse(policy, fields), len(expected)) == pytest.approx(expected, abs=1e-15)


@given(values=st.lists(st.integers(0, 30), max_size=6).map(sorted), begin=st.integers(0, 30))
def test_the_multistep_counter_may_be_resumed_anywhere(values, begin):
    """It is a function of the counter before, so a stored counter goes on as if nothing had been."""
    p = parse("multistep", "base_lr: 1 gamma: 0.5 " + " ".join(f"stepvalue: {v}" for v in values))
    counters, k = [], 0
    for i in range(40):
        k = policies.step_counter(p, i, k)
        counters.append(k)
    assert all(b - a in (0, 1) for a, b in zip(counters, counters[1:], strict=False))
    assert counters[-1] == len(values)
    k = counters[begin]
    for i in range(begin + 1, 40):
        k = policies.step_counter(p, i, k)
        assert k == counters[i]


@pytest.mark.parametrize(
    ("policy", "fields", "message"),
    [
        ("", "base_lr: 1", "s.prototxt:1:1: lr_policy: expected one of fixed, .*; found none"),
        (
            "setp",
            "base_lr: 1",
            'lr_policy: expected one of fixed, step, .*; found "setp"; did you mean "step"?',
        ),
        ("fixed", "", 'base_lr is missing: lr_policy: "fixed" needs base_lr$'),
        ("step", "base_lr: 1 gamma: 1", 'stepsize is missing: .*"step" needs base_lr and gamma and stepsize'),
        ("step", "base_lr: 1 stepsize: 1", "gamma is missing"),
        ("inv", "base_lr: 1 gamma: 1", "power is missing"),
        ("exp", "base_lr: 1", "gamma is missing"),
        ("multistep", "base_lr: 1 gamma: 1", "stepvalue is missing"),
        ("poly", "base_lr: 1 power: 1", "max_iter is missing"),
        ("sigmoid", "base_lr: 1 gamma: 1", "stepsize is missing"),
        (
            "step",
            "base_lr: 1 gamma: 1 stepsize: 0",
            "s.prototxt:1:39: stepsize: .* needs at least 1, found 0",
        ),
        ("exp", "base_lr: 1 gamma: -1", "gamma: .* needs at least 0, found -1"),
        ("poly", "base_lr: 1 power: 1 max_iter: 0", "max_iter: .* at least 1, found 0"),
        ("poly", "base_lr: 1 power: -1 max_iter: 5", "power: .* at least 0, found -1: the rate would grow"),
    ],
)
def test_refusals(policy, fields, message):
    with pytest.raises(SolverError, match=message):
        policies.check(parse(policy, fields))


def test_poly_has_an_end():
    p = parse("poly", "base_lr: 1 power: 0.5 max_iter: 3")
    with pytest.raises(
        SolverError, match=r'"poly" ends with iteration 3 \(max_iter\), this is iteration 4: raise'
    ):
        rates(p, 5)


def test_a_rate_that_is_no_number_is_refused():
    with pytest.raises(SolverError, match=r'lr_policy: "exp" gives no finite rate for iteration \d+'):
        rates(parse("exp", "base_lr: 1 gamma: 1e30"), 20)
