"""The family update: steps of the solvers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import caffebn.ops
from caffebn.errors import ArgumentError

CPU = caffebn.ops.get("cpu")

RULES = ["sgd", "nesterov", "adagrad", "rmsprop", "adadelta", "adam", "nadam"]
NUMBERS = {
    "sgd": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9},
    "adagrad": {"delta": 1e-3},
    "rmsprop": {"rms_decay": 0.98, "delta": 1e-3},
    "adadelta": {"momentum": 0.95, "delta": 1e-3},
    "adam": {"beta1": 0.9, "beta2": 0.99, "delta": 1e-3},
    "nadam": {"beta1": 0.9, "beta2": 0.99, "of_m": 4.7, "of_g": 0.5, "of_v": 99.0, "delta": 1e-3},
}


def by_hand(rule: str, w: float, g: float, history: list[float], rate: float, **k: float):
    """One element: the update and the new history, from the formulas."""
    if rule == "sgd":
        h = k["momentum"] * history[0] + rate * g
        return h, [h]
    if rule == "nesterov":
        h = k["momentum"] * history[0] + rate * g
        return (1 + k["momentum"]) * h - k["momentum"] * history[0], [h]
    if rule == "adagrad":
        h = history[0] + g**2
        return rate * g / (math.sqrt(h) + k["delta"]), [h]
    if rule == "rmsprop":
        h = k["rms_decay"] * history[0] + (1 - k["rms_decay"]) * g**2
        return rate * g / (math.sqrt(h) + k["delta"]), [h]
    if rule == "adadelta":
        p, d = k["momentum"], k["delta"]
        h = p * history[0] + (1 - p) * g**2
        q = g * math.sqrt((d + history[1]) / (d + h))
        return rate * q, [h, p * history[1] + (1 - p) * q**2]
    m = k["beta1"] * history[0] + (1 - k["beta1"]) * g
    v = k["beta2"] * history[1] + (1 - k["beta2"]) * g**2
    if rule == "adam":
        return rate * m / (math.sqrt(v) + k["delta"]), [m, v]
    mean = k["of_m"] * m + k["of_g"] * g
    return rate * mean / (math.sqrt(k["of_v"] * v) + k["delta"]), [m, v]


@pytest.mark.parametrize("l1", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_in_closed_form(ops, dtype, rule, l1):
    w = np.array([1.5, -2.0, 0.0, 0.25], dtype)
    dw = np.array([0.5, 3.0, -1.0, 0.0], dtype)
    n_sets = 2 if rule in ("adadelta", "adam", "nadam") else 1
    sets = [np.array([0.1, 0.2, 0.3, 0.4], dtype) + k for k in range(n_sets)]
    rate, scale, decay = 0.1, 0.5, 0.01
    expected = []
    for i in range(4):
        value = float(w[i])
        sign = (value > 0) - (value < 0)
        g = scale * float(dw[i]) + decay * (sign if l1 else value)
        update, after = by_hand(rule, value, g, [float(s[i]) for s in sets], rate, **NUMBERS[rule])
        expected.append([value - update, update, *after])
    getattr(ops, f"update_{rule}")(w, dw, *sets, rate, **NUMBERS[rule], scale=scale, decay=decay, l1=l1)
    tolerance = 3e-7 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(
        np.stack([w, dw, *sets]), np.transpose(expected), rtol=tolerance, atol=tolerance
    )


def test_a_rate_of_zero_moves_nothing(ops, dtype, make):
    for rule in RULES:
        w, dw = make.tensor(50), make.tensor(50)
        before, sets = w.copy(), [np.zeros(50, dtype) for _ in range(2)]
        sets = sets[: 2 if rule in ("adadelta", "adam", "nadam") else 1]
        getattr(ops, f"update_{rule}")(w, dw, *sets, 0.0, **NUMBERS[rule], scale=1.0, decay=0.5, l1=False)
        np.testing.assert_array_equal(w, before)
        np.testing.assert_array_equal(dw, 0)
        assert rule in ("sgd", "nesterov") or all(s.any() for s in sets[:1])


def test_scale_and_decay_that_do_nothing_change_no_bit(ops, make):
    w, dw, h = make.tensor(100), make.tensor(100), np.zeros(100, make.dtype)
    gradient, before = dw.copy(), w.copy()
    ops.update_sgd(w, dw, h, 1.0, 0.0, 1.0, 0.0, False)
    np.testing.assert_array_equal(dw, gradient)
    np.testing.assert_array_equal(w, before - gradient)


@settings(deadline=None, max_examples=25)
@given(
    rule=st.sampled_from(RULES),
    n=st.one_of(st.integers(0, 70), st.integers(16000, 16500)),
    cut=st.floats(0, 1),
    l1=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_pieces_give_the_bits_of_the_whole(rule, n, cut, l1, dtype):
    """Where the buffer is cut into runs of equal settings cannot show."""
    rng = np.random.default_rng(n)
    arrays = [rng.uniform(0.5, 2, n).astype(dtype) for _ in range(4)]
    arrays = arrays if rule in ("adadelta", "adam", "nadam") else arrays[:3]
    twins = [a.copy() for a in arrays]
    at = int(cut * n)
    step = getattr(CPU, f"update_{rule}")
    settings = {"rate": 0.1, **NUMBERS[rule], "scale": 0.3, "decay": 0.01, "l1": l1}
    step(*arrays, **settings)
    step(*[t[:at] for t in twins], **settings)
    step(*[t[at:] for t in twins], **settings)
    for array, twin in zip(arrays, twins, strict=True):
        assert array.tobytes() == twin.tobytes()


def test_sum_of_squares(ops, dtype):
    out = np.empty(1)
    ops.sum_of_squares(np.array([3.0, -4.0, 12.0], dtype), out)
    assert out[0] == 169
    ops.sum_of_squares(np.empty(0, dtype), out)
    assert out[0] == 0


def test_sum_of_squares_is_taken_in_double(ops):
    """A running sum in single precision stops at 2**24, and squares of 1e30 do not fit."""
    out = np.empty(1)
    ops.sum_of_squares(np.ones(2**24 + 5, np.float32), out)
    assert out[0] == 2**24 + 5
    ops.sum_of_squares(np.full(3, 1e30, np.float32), out)
    assert out[0] == pytest.approx(3e60, rel=1e-6)


def test_histories_are_named_in_refusals(make):
    w, dw, m, v = (make.tensor(5) for _ in range(4))
    with pytest.raises(
        ArgumentError, match=r"^update_adam: v must be a writable .* of shape \(5,\); found .*\(4,\)"
    ):
        CPU.update_adam(w, dw, m, v[:4].copy(), 0.1, 0.9, 0.99, 1e-8, 1.0, 0.0, False)
