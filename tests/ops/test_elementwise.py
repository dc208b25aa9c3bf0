"""The family elementwise: activations, Dropout, Eltwise, vector arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import caffebn.ops
from caffebn.errors import ArgumentError

CPU = caffebn.ops.get("cpu")


def filled(function, *arguments, like, **more):
    """What `function` writes into its last array argument, `like` giving shape and dtype."""
    out = np.full(like.shape, np.nan, like.dtype)
    function(*arguments, out, **more)
    return out


def test_relu(ops, dtype):
    x = np.array([-2, -0.0, 0, 3, np.inf, -np.inf, np.nan], dtype)
    y = np.empty_like(x)
    ops.relu(x, y, 0)
    np.testing.assert_array_equal(y, [0, 0, 0, 3, np.inf, 0, np.nan])
    assert not np.signbit(y[0])
    ops.relu(x, y, 0.5)
    np.testing.assert_array_equal(y, [-1, 0, 0, 3, np.inf, -np.inf, np.nan])


def test_relu_gradient_at_0_is_that_of_the_negative_side(ops, dtype):
    y, dy = np.array([-2, 0, 3], dtype), np.array([5, 5, 5], dtype)
    dx = np.empty_like(y)
    ops.relu_backward(y, dy, dx, 0.1)
    np.testing.assert_array_equal(dx, np.array([0.5, 0.5, 5], dtype))
    ops.relu_backward(y, dy, dx, 0)
    np.testing.assert_array_equal(dx, [0, 0, 5])


def test_sigmoid_and_tanh(ops, dtype):
    x = np.array([-1000, -1, 0, 1, 1000], dtype)
    rtol = 1e-6 if dtype == np.float32 else 1e-14
    e = np.exp(1.0)
    np.testing.assert_allclose(
        filled(ops.sigmoid, x, like=x), [0, 1 / (1 + e), 0.5, e / (1 + e), 1], rtol=rtol
    )
    t = (e - 1 / e) / (e + 1 / e)
    np.testing.assert_allclose(filled(ops.tanh, x, like=x), [-1, -t, 0, t, 1], rtol=rtol)


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_gradients(ops, name):
    x = np.linspace(-3, 3, 13)
    dy = np.cos(x)
    y = filled(getattr(ops, name), x, like=x)
    dx = filled(getattr(ops, f"{name}_backward"), y, dy, like=x)
    h = 1e-6
    numeric = (filled(getattr(ops, name), x + h, like=x) - filled(getattr(ops, name), x - h, like=x)) / (
        2 * h
    )
    np.testing.assert_allclose(dx, numeric * dy, rtol=1e-6, atol=1e-9)


def tolerance(dtype):
    return {"rtol": 1e-6, "atol": 1e-7} if dtype == np.float32 else {"rtol": 1e-13, "atol": 1e-14}


def test_elu(ops, dtype):
    x, dy = np.array([-np.inf, -np.log(2), -1e-6, 0, 3, np.nan], dtype), np.full(6, 4, dtype)
    y = filled(ops.elu, x, like=x, alpha=0.5)
    np.testing.assert_allclose(y, [-0.5, -0.25, np.expm1(-1e-6) / 2, 0, 3, np.nan], **tolerance(dtype))
    dx = filled(ops.elu_backward, x, y, dy, like=x, alpha=0.5)
    np.testing.assert_allclose(dx, [0, 1, 2, 2, 4, np.nan], rtol=2e-6)
    from_output = filled(ops.elu_backward, y, y, dy, like=x, alpha=0.5)
    np.testing.assert_array_equal(from_output, dx)


def test_bnll(ops, dtype):
    x = np.array([-1000, -np.log(3), 0, np.log(3), 60, 1000, np.nan], dtype)
    y = filled(ops.bnll, x, like=x)
    np.testing.assert_allclose(
        y, [0, np.log(4 / 3), np.log(2), np.log(4), 60, 1000, np.nan], **tolerance(dtype)
    )
    dx = filled(ops.bnll_backward, x, np.full(7, 2, dtype), like=x)
    np.testing.assert_allclose(dx, [0, 0.5, 1, 1.5, 2, 2, np.nan], **tolerance(dtype))


def test_swish(ops, dtype):
    x = np.array([-1000, -np.log(3), 0, np.log(3), 1000], dtype)
    y = filled(ops.swish, x, like=x, beta=1)
    np.testing.assert_allclose(y, [0, -np.log(3) / 4, 0, np.log(3) * 0.75, 1000], **tolerance(dtype))
    dx = filled(ops.swish_backward, x, np.ones(5, dtype), like=x, beta=1)
    bend = np.log(3) * 3 / 16  # x s (1 - s)
    np.testing.assert_allclose(dx, [0, 0.25 - bend, 0.5, 0.75 + bend, 1], **tolerance(dtype))
    np.testing.assert_allclose(
        filled(ops.swish, x / 2, like=x, beta=2), y / 2, **tolerance(dtype), err_msg="beta scales x"
    )


@pytest.mark.parametrize(
    ("power", "y", "slope"),
    [
        (1, [5, 2, -1], [-3, -3, -3]),
        (2, [25, 4, 1], [-30, -12, 6]),
        (3, [125, 8, -1], [-225, -36, -9]),
        (-1, [0.2, 0.5, -1], [0.12, 0.75, 3]),
        (0.5, [5**0.5, 2**0.5, np.nan], [-1.5 / 5**0.5, -1.5 / 2**0.5, np.nan]),
    ],
)
def test_power(ops, dtype, power, y, slope):
    numbers = {"power": power, "scale": -3, "shift": 2}
    x = np.array([-1, 0, 1], dtype)
    found = filled(ops.power, x, like=x, **numbers)
    np.testing.assert_allclose(found, y, **tolerance(dtype))
    dx = filled(ops.power_backward, x, found, np.full(3, 2, dtype), like=x, **numbers)
    np.testing.assert_allclose(dx, 2 * np.array(slope), **tolerance(dtype))


def test_power_gradient_is_nan_where_the_base_is_0(ops, dtype):
    x = np.zeros(1, dtype)
    numbers = {"scale": 1, "shift": 0}
    for power, expected in ((3, np.nan), (2, 0), (1, 1)):
        y = filled(ops.power, x, like=x, power=power, **numbers)
        dx = filled(ops.power_backward, x, y, np.ones(1, dtype), like=x, power=power, **numbers)
        np.testing.assert_array_equal(dx, expected)


def test_exp_and_log(ops, dtype):
    x = np.array([-1, 0, 2], dtype)
    np.testing.assert_allclose(
        filled(ops.exp, x, like=x, inner=np.log(2), outer=3), [1.5, 3, 12], **tolerance(dtype)
    )
    numbers = {"scale": 2, "shift": 3, "factor": 1 / np.log(7)}
    np.testing.assert_allclose(
        filled(ops.log, x, like=x, **numbers), [0, np.log(3) / np.log(7), 1], **tolerance(dtype)
    )
    np.testing.assert_allclose(
        filled(ops.log_backward, x, np.full(3, np.log(7), dtype), like=x, **numbers),
        [2, 2 / 3, 2 / 7],
        **tolerance(dtype),
    )
    beyond = np.array([-2, -1.5], dtype)
    np.testing.assert_array_equal(filled(ops.log, beyond, like=beyond, **numbers), [np.nan, -np.inf])


def spread(dtype, low, high, seed=0):
    """Numbers of all sizes between two, denormal ones among them, and evenly spread ones."""
    rng, info = np.random.default_rng(seed), np.finfo(dtype)
    even = rng.uniform(max(low, info.min / 4), min(high, info.max / 4), 30000)
    smallest = math.log10(info.smallest_subnormal)
    sizes = 10 ** rng.uniform(smallest, math.log10(max(-low, high)), 30000)
    values = np.concatenate([even, sizes, -sizes, 1 + 1e-3 * rng.standard_normal(3000)]).astype(dtype)
    return values[(values >= low) & (values <= high)]


MOST = {"float32": 88.7, "float64": 709.7}
LEAST = {"float32": -103.9, "float64": -745.1}


@pytest.mark.parametrize(
    ("name", "numbers", "exact", "low", "high", "ulps"),
    [
        ("exp", {"inner": 1, "outer": 1}, np.exp, LEAST, MOST, 1.0),
        ("log", {"scale": 1, "shift": 0, "factor": 1}, np.log, 0, math.inf, 1.0),
        ("tanh", {}, np.tanh, -40, 40, 2.6),
        ("elu", {"alpha": 1}, lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), -60, 1, 1.2),
        ("bnll", {}, lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), -80, 80, 2.4),
        (
            "power",
            {"power": 1.7, "scale": 1, "shift": 0},
            lambda x: np.abs(x) ** x.dtype.type(1.7),
            0,
            1e20,
            1.0,
        ),
        ("power", {"power": -3, "scale": 1, "shift": 0}, lambda x: x**-3, -1e9, 1e9, 1.0),
    ],
)
def test_errors_in_units_in_the_last_place(dtype, name, numbers, exact, low, high, ulps):
    low, high = (v[dtype.name] if isinstance(v, dict) else v for v in (low, high))
    x = spread(dtype, low, min(high, float(np.finfo(dtype).max)))
    wide = x.astype(np.float64 if dtype == np.float32 else np.longdouble)
    if name == "power":
        numbers = {**numbers, "power": float(dtype.type(numbers["power"]))}
        wide, x = wide[np.abs(x) > 1e-9], x[np.abs(x) > 1e-9]
        power = numbers["power"]
        exact = (lambda x: np.abs(x) ** power) if power > 0 else (lambda x: x**power)
    with np.errstate(all="ignore"):
        expected = exact(wide)
        unit = np.spacing(np.abs(expected.astype(dtype)))
    found = filled(getattr(CPU, name), x, like=x, **numbers)
    error = np.abs(found - expected) / unit
    assert len(x) > 20000 and np.isfinite(error).all()
    assert error.max() <= ulps, (error.max(), x[error.argmax()])


def test_special_values(ops, dtype):
    info = np.finfo(dtype)
    x = np.array(
        [0, -0.0, np.inf, -np.inf, np.nan, info.smallest_subnormal, -info.smallest_subnormal, info.tiny, info.max,
         info.min, 1, -1], dtype
    )  # fmt: skip
    maps = [
        ("exp", {"inner": 1, "outer": 1}, np.exp),
        ("log", {"scale": 1, "shift": 0, "factor": 1}, np.log),
        ("tanh", {}, np.tanh),
        ("elu", {"alpha": 1}, lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
        ("bnll", {}, lambda x: np.logaddexp(x, 0)),
        *[
            ("power", {"power": p, "scale": 1, "shift": -0.0}, lambda x, p=p: np.power(x, p))
            for p in (0, 3, -1, 4, -2, 0.75, -1.5, math.inf, -math.inf)
        ],
    ]
    for op, numbers, exact in maps:
        with np.errstate(all="ignore"):
            expected = exact(x.astype(np.float64)).astype(dtype)
        found = filled(getattr(ops, op), x, like=x, **numbers)
        np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=f"{op} {numbers}")
        if op in ("tanh", "power"):
            signs = np.signbit(found) == np.signbit(expected)
            assert (signs | np.isnan(found)).all(), (op, numbers)


def test_maps_in_place_are_vectorised_too(dtype):
    """The same bits, wherever an array begins and however long it is: vectors and what is left over agree."""
    rng = np.random.default_rng(2)
    values = rng.standard_normal(200).astype(dtype)
    for op, numbers in (("sigmoid", {}), ("swish", {"beta": 1.5}), ("exp", {"inner": 2, "outer": 1})):
        y = filled(getattr(CPU, op), values, like=values, **numbers)
        for start, end in ((0, 200), (1, 18), (3, 150), (7, 8)):
            part = values.copy()
            getattr(CPU, op)(part[start:end], part[start:end], **numbers)
            assert part[start:end].tobytes() == y[start:end].tobytes()
            assert (part[:start] == values[:start]).all() and (part[end:] == values[end:]).all()


def test_absolute_sign_and_threshold(ops, dtype):
    x = np.array([-2, -0.0, 0, 0.5, np.inf, np.nan], dtype)
    np.testing.assert_array_equal(filled(ops.absolute, x, like=x), [2, 0, 0, 0.5, np.inf, np.nan])
    np.testing.assert_array_equal(filled(ops.sign, x, like=x), [-1, 0, 0, 1, 1, 0])
    np.testing.assert_array_equal(filled(ops.threshold, x, like=x, threshold=0.5), [0, 0, 0, 0, 1, 0])
    np.testing.assert_array_equal(filled(ops.threshold, x, like=x, threshold=0), [0, 0, 0, 1, 1, 0])


def test_clip(ops, dtype):
    x, dy = np.array([-3, -1, 0, 2, 5, np.nan], dtype), np.full(6, 4, dtype)
    np.testing.assert_array_equal(filled(ops.clip, x, like=x, low=-1, high=2), [-1, -1, 0, 2, 2, np.nan])
    np.testing.assert_array_equal(
        filled(ops.clip_backward, x, dy, like=x, low=-1, high=2), [0, 4, 4, 4, 0, 0], "bounds pass"
    )


@pytest.mark.parametrize(
    ("name", "numbers", "reads_y"),
    [
        ("elu", {"alpha": 0.7}, True),
        ("bnll", {}, False),
        ("swish", {"beta": 1.7}, False),
        ("power", {"power": 2.5, "scale": 0.4, "shift": 3}, True),
        ("log", {"scale": 0.4, "shift": 3, "factor": 0.3}, False),
    ],
)
def test_gradients_are_those_of_the_maps(ops, name, numbers, reads_y):
    x, h = np.linspace(-3, 3, 14), 1e-6
    y = filled(getattr(ops, name), x, like=x, **numbers)
    inputs = (x, y) if reads_y else (x,)
    dx = filled(getattr(ops, f"{name}_backward"), *inputs, np.cos(x), like=x, **numbers)
    ahead, behind = (filled(getattr(ops, name), x + s * h, like=x, **numbers) for s in (1, -1))
    np.testing.assert_allclose(dx, (ahead - behind) / (2 * h) * np.cos(x), rtol=1e-6, atol=1e-9)


def test_dropout(ops, dtype):
    x, mask = np.array([1, 2, 3, 4], dtype), np.array([1, 0, 0, 1], np.uint8)
    np.testing.assert_array_equal(filled(ops.dropout, x, mask, 2.0, like=x), [2, 0, 0, 8])


def test_vector_arithmetic(ops, dtype):
    a, b = np.array([1, 2, 3], dtype), np.array([4, 5, 6], dtype)
    np.testing.assert_array_equal(filled(ops.scale_copy, a, -2, like=a), [-2, -4, -6])
    np.testing.assert_array_equal(filled(ops.weighted_sum, a, 2, b, -1, like=a), [-2, -1, 0])
    np.testing.assert_array_equal(filled(ops.multiply, a, b, like=a), [4, 10, 18])
    y = b.copy()
    ops.axpy(a, 10, y)
    np.testing.assert_array_equal(y, [14, 25, 36])
    ops.axpy(y, 1, y)
    np.testing.assert_array_equal(y, [28, 50, 72])
    ops.fill(y, 0.1)
    np.testing.assert_array_equal(y, dtype.type(0.1))


def test_sum_with_weights_of_1_is_the_plain_sum(ops, dtype):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(1000).astype(dtype) for _ in range(2))
    np.testing.assert_array_equal(filled(ops.weighted_sum, a, 1, b, 1, like=a), a + b)


@pytest.mark.parametrize("slope", [0.0, 0.1, -0.3])
def test_rectified_sum_has_the_bits_of_the_two_steps(ops, dtype, slope):
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal(1003).astype(dtype) for _ in range(2))
    a[:6], b[:6] = [np.nan, -np.inf, np.inf, 0, -0.0, -1], [0, 0, 0, -0.0, -0.0, 1]
    steps = filled(ops.weighted_sum, a, 0.7, b, 1.3, like=a)
    ops.relu(steps, steps, slope)
    assert filled(ops.weighted_sum, a, 0.7, b, 1.3, like=a, slope=slope).tobytes() == steps.tobytes()
    ops.weighted_sum(a, 0.7, b, 1.3, a, slope)
    assert a.tobytes() == steps.tobytes(), "in place"


def test_numbers_are_rounded_to_the_dtype_first(ops):
    x = np.full(3, 3, np.float32)
    np.testing.assert_array_equal(filled(ops.scale_copy, x, 0.1, like=x), np.float32(0.1) * np.float32(3))


def test_product_gradient_is_nan_at_0(ops, dtype):
    y, x, dy = np.array([6, 0], dtype), np.array([2, 0], dtype), np.array([5, 5], dtype)
    np.testing.assert_array_equal(filled(ops.product_gradient, y, x, dy, like=y), [15, np.nan])


def test_maximum_of_three(ops, dtype):
    """The second of two wins a tie; later ones must be strictly larger; NaN is never larger."""
    a = np.array([1, 5, 2, 0, np.nan], dtype)
    b = np.array([1, 4, 3, 0, 1], dtype)
    c = np.array([1, 5, 9, 1, np.nan], dtype)
    y, index = np.empty_like(a), np.full(5, -1, np.int32)
    ops.maximum(a, b, 0, 1, y, index)
    ops.maximum_update(c, 2, y, index)
    np.testing.assert_array_equal(y, [1, 5, 9, 1, 1])
    np.testing.assert_array_equal(index, [1, 0, 2, 2, 1])


@settings(deadline=None, max_examples=30)
@given(n=st.integers(0, 300), seed=st.integers(0, 99))
def test_a_maximum_hands_each_gradient_to_one_input(n, seed):
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, 4, (3, n)).astype(np.float32)
    dy = rng.standard_normal(n).astype(np.float32)
    y, index = np.empty(n, np.float32), np.empty(n, np.int32)
    CPU.maximum(inputs[0], inputs[1], 0, 1, y, index)
    CPU.maximum_update(inputs[2], 2, y, index)
    np.testing.assert_array_equal(y, inputs.max(axis=0))
    gradients = np.empty((3, n), np.float32)
    for i in range(3):
        CPU.select_gradient(index, i, dy, gradients[i])
    np.testing.assert_array_equal(gradients.sum(axis=0), dy)
    np.testing.assert_array_equal((gradients != 0) <= (inputs == y), True)


def test_messages():
    x = np.ones((2, 3), np.float32)
    with pytest.raises(
        ArgumentError,
        match=r"^relu: y must be a writable C-contiguous float32 array of shape \(2, 3\); found float64 array of "
        r"shape \(2, 3\)$",
    ):
        CPU.relu(x, x.astype(np.float64), 0)
    with pytest.raises(
        ArgumentError,
        match=r"^fill: x must be a writable C-contiguous float32 or float64 array; found int32 array",
    ):
        CPU.fill(np.ones(3, np.int32), 0)
    with pytest.raises(
        ArgumentError, match=r"^dropout: mask must be a C-contiguous uint8 array of shape \(2, 3\)"
    ):
        CPU.dropout(x, x, 1, x)
