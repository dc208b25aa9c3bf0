"""The family lrn: across channels and within a channel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import caffebn.ops
from caffebn.errors import ArgumentError

REFERENCE, CPU = caffebn.ops.get("reference"), caffebn.ops.get("cpu")


def forward(ops, kind, x, size, alpha, beta, *k):
    scale, y = np.full_like(x, np.nan), np.full_like(x, np.nan)
    getattr(ops, f"lrn_{kind}")(x, scale, y, size, alpha, beta, *k)
    return scale, y


def test_across_in_closed_form(ops, dtype):
    x = np.array([1, 2, 3, 4], dtype).reshape(1, 4, 1, 1)
    scale, y = forward(ops, "across", x, 3, 6, 1, 2)
    np.testing.assert_allclose(scale.ravel(), [2 + 2 * 5, 2 + 2 * 14, 2 + 2 * 29, 2 + 2 * 25], rtol=1e-6)
    np.testing.assert_allclose(y, x / scale, rtol=1e-6)


def test_within_in_closed_form(ops, dtype):
    x = np.array([[1, 2], [3, 4]], dtype).reshape(1, 1, 2, 2)
    scale, y = forward(ops, "within", x, 3, 9, 0.5)
    np.testing.assert_allclose(scale, 31, rtol=1e-6)
    np.testing.assert_allclose(y, x / np.sqrt(31), rtol=1e-6)


def test_a_window_of_one(ops, dtype):
    x = np.linspace(-2, 2, 24, dtype=dtype).reshape(1, 2, 3, 4)
    for kind, k in (("across", (1,)), ("within", ())):
        scale, y = forward(ops, kind, x, 1, 0.5, 0.75, *k)
        np.testing.assert_allclose(scale, 1 + 0.5 * x * x, rtol=1e-6)
        np.testing.assert_allclose(y, x * scale**-0.75, rtol=1e-6)


def test_a_large_neighbour_leaves_no_trace(ops):
    """A running sum would still hold the rounding error of the square of 1e8 behind it."""
    x = np.ones((1, 9, 1, 1), np.float32)
    x[0, 0] = 1e8
    scale, _ = forward(ops, "across", x, 3, 3, 0.75, 1)
    np.testing.assert_array_equal(scale[0, 2:-1], 4)


@pytest.mark.parametrize("beta", [0.75, 0.5])
@pytest.mark.parametrize("kind", ["across", "within"])
def test_gradients(ops, kind, beta):
    rng = np.random.default_rng(2)
    x, dy, direction = (rng.standard_normal((2, 6, 3, 4)) for _ in range(3))
    k = (1.5,) if kind == "across" else ()
    scale, y = forward(ops, kind, x, 3, 0.8, beta, *k)
    dx = np.full_like(x, np.nan)
    getattr(ops, f"lrn_{kind}_backward")(x, y, scale, dy, dx, 3, 0.8, beta)
    h = 1e-6
    above, below = (forward(ops, kind, x + s * h * direction, 3, 0.8, beta, *k)[1] for s in (1, -1))
    np.testing.assert_allclose((dx * direction).sum(), ((above - below) * dy).sum() / (2 * h), rtol=1e-7)


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(0, 6), st.integers(0, 20)),
    size=st.sampled_from([1, 3, 5, 11]),
    beta=st.sampled_from([0.75, 1.0, -0.3]),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_any_shape(shape, size, beta, dtype):
    rng = np.random.default_rng(size)
    x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    for kind, k in (("across", (2.0,)), ("within", ())):
        results = []
        for ops in (REFERENCE, CPU):
            scale, y = forward(ops, kind, x, size, 0.7, beta, *k)
            dx = np.full_like(x, np.nan)
            getattr(ops, f"lrn_{kind}_backward")(x, y, scale, dy, dx, size, 0.7, beta)
            results.append((scale, y, dx))
        for expected, found in zip(*results, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_messages():
    x = np.ones((1, 2, 3, 4), np.float32)
    y, scale = x.copy(), x.copy()
    with pytest.raises(ArgumentError, match=r"^lrn_across: size must be an odd number, .*; found 4$"):
        CPU.lrn_across(x, scale, y, 4, 1, 0.75, 1)
    with pytest.raises(
        ArgumentError, match=r"^lrn_within_backward: size must be an odd number, .*; found -1$"
    ):
        CPU.lrn_within_backward(x, y, scale, x, y, -1, 1, 0.75)
    with pytest.raises(
        ArgumentError, match=r"^lrn_within: x must be .* with 4 axes; found float32 array of shape \(24,\)"
    ):
        CPU.lrn_within(x.ravel(), scale, y, 3, 1, 0.75)


@pytest.mark.parametrize("beta", [0.75, 0.6, 1.0, 2.0, -0.5])
def test_error_of_the_power(dtype, beta):
    """With the scales as they were written; 4 units of rounding."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((2, 3, 20, 40)) * 10 ** rng.uniform(-3, 3, (2, 3, 20, 40))).astype(dtype)
    scale, y, dx = (np.full_like(x, np.nan) for _ in range(3))
    CPU.lrn_across(x, scale, y, 3, 1e-2, beta, 1.0)
    expected = x * scale.astype(np.longdouble) ** -beta
    np.testing.assert_allclose(y, expected.astype(np.float64), rtol=4 * np.finfo(dtype).eps)
    CPU.lrn_across_backward(np.zeros_like(x), y, scale, x, dx, 3, 1e-2, beta)
    assert dx.tobytes() == y.tobytes(), "without the second term the gradient is the same product"
