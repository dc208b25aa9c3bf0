"""The family channel: sums, moments, normalisation, scale and shift."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import caffebn.ops
from caffebn.errors import ArgumentError

REFERENCE, CPU = caffebn.ops.get("reference"), caffebn.ops.get("cpu")

shapes = st.tuples(st.integers(0, 70), st.integers(0, 40), st.integers(0, 40))
dtypes = st.sampled_from([np.dtype("float32"), np.dtype("float64")])


def moments_of(ops, x):
    mean, var = np.full(x.shape[1], np.nan), np.full(x.shape[1], np.nan)
    ops.moments(x, mean, var)
    return mean, var


def test_sums_in_closed_form(ops, dtype):
    x = np.arange(24, dtype=dtype).reshape(2, 3, 4)
    out = np.empty(3, dtype)
    ops.channel_sum(x, out)
    np.testing.assert_array_equal(out, [60, 92, 124])
    ops.channel_sum(x, out, accumulate=True)
    np.testing.assert_array_equal(out, [120, 184, 248])
    ops.channel_dot(x, np.ones_like(x), out)
    np.testing.assert_array_equal(out, [60, 92, 124])
    ops.channel_dot(x, x, out, accumulate=True)
    np.testing.assert_array_equal(out, [60 + 748, 92 + 1356, 124 + 2220])


@pytest.mark.parametrize("out_dtype", ["same", "float64"])
def test_sums_are_rounded_once(ops, dtype, out_dtype):
    # in float32 the small terms would vanish one by one
    x = np.full((1, 2, 3000), 2.0**-26, dtype)
    x[:, :, 0] = 1
    out = np.empty(2, dtype if out_dtype == "same" else np.float64)
    ops.channel_sum(x, out)
    np.testing.assert_array_equal(out, np.full(2, 1 + 2999 * 2.0**-26).astype(out.dtype))


def test_sum_of_nothing_is_zero(ops, dtype):
    for shape in ((0, 3, 4), (2, 3, 0), (0, 3, 0)):
        x = np.empty(shape, dtype)
        out = np.full(3, 7, dtype)
        ops.channel_sum(x, out, accumulate=True)
        np.testing.assert_array_equal(out, 7)
        ops.channel_sum(x, out)
        np.testing.assert_array_equal(out, 0)
        ops.channel_dot(x, x, out)
        np.testing.assert_array_equal(out, 0)
        np.testing.assert_array_equal(moments_of(ops, x), 0)


def test_moments_in_closed_form(ops, dtype):
    x = np.array([[[1, 3], [5, 5]], [[5, 7], [5, 5]]], dtype)
    mean, var = moments_of(ops, x)
    np.testing.assert_array_equal(mean, [4, 5])
    np.testing.assert_array_equal(var, [5, 0])


def test_one_value_per_channel(ops, dtype):
    x = np.array([[[3], [-2]]], dtype)
    mean, var = moments_of(ops, x)
    np.testing.assert_array_equal(mean, [3, -2])
    np.testing.assert_array_equal(var, [0, 0])


@pytest.mark.parametrize("shape", [(8, 3, 500), (300, 5, 1), (40, 3, 9)])
def test_a_large_mean_costs_no_digits(ops, dtype, shape):
    """Mean 1e4 and variance 1e-2, where float32 itself has three digits left behind the point."""
    rng = np.random.default_rng(1)
    x = (1e4 + 0.1 * rng.standard_normal(shape)).astype(dtype)
    exact = x.astype(np.longdouble)
    exact_mean = exact.mean(axis=(0, 2))
    centred = exact - exact_mean[:, None]
    exact_var = (centred**2).mean(axis=(0, 2))
    mean, var = moments_of(ops, x)
    np.testing.assert_allclose(mean, exact_mean.astype(float), rtol=1e-15)
    np.testing.assert_allclose(var, exact_var.astype(float), rtol=1e-9)
    inv_std, y = np.empty(shape[1]), np.empty_like(x)
    ops.inv_std(var, 1e-5, inv_std)
    ops.normalize(x, mean, inv_std, y)
    expected = (centred / np.sqrt(exact_var[:, None] + 1e-5)).astype(float)
    # two differences, the rounded factor and the product, each half a unit in the last place
    np.testing.assert_allclose(y, expected, rtol=4 * np.finfo(dtype).eps / 2 + 1e-9, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(shape=shapes, dtype=dtypes, seed=st.integers(0, 99))
def test_any_shape(shape, dtype, seed):
    rng = np.random.default_rng(seed)
    x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    C = shape[1]
    tolerance = 1e-5 if dtype == np.float32 else 1e-11
    results = []
    for ops in (REFERENCE, CPU):
        total, dot, inv_std = np.empty(C), np.empty(C), np.empty(C)
        y, z, dx = np.empty_like(x), np.empty_like(x), np.empty_like(x)
        ops.channel_sum(x, total)
        ops.channel_dot(x, dy, dot)
        mean, var = moments_of(ops, x)
        ops.inv_std(var, 0.1, inv_std)
        ops.normalize(x, mean, inv_std, y)
        ops.affine(y, mean, inv_std, z)
        ops.normalize_backward(dy, y, inv_std, dx)
        results.append((total, dot, mean, var, y, z, dx))
    for expected, found in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@settings(deadline=None, max_examples=40)
@given(shape=shapes, seed=st.integers(0, 99))
def test_a_normalised_tensor_has_mean_0_and_variance_1(shape, seed):
    x = np.random.default_rng(seed).standard_normal(shape) * 3 + 50
    mean, var = moments_of(CPU, x)
    if x.size == 0 or var.min() < 1e-3:
        return
    inv_std = np.empty(shape[1])
    CPU.inv_std(var, 0, inv_std)
    CPU.normalize(x, mean, inv_std, x)
    np.testing.assert_allclose(moments_of(CPU, x), [np.zeros(shape[1]), np.ones(shape[1])], atol=1e-11)


def test_inv_std(ops):
    out = np.empty(3)
    ops.inv_std(np.array([0.0, 3.0, 15.0]), 1.0, out)
    np.testing.assert_array_equal(out, [1, 0.5, 0.25])


def test_inv_deviation(ops):
    out = np.empty(3)
    ops.inv_deviation(np.array([4, 0.25, 0]), 0.5, out)
    np.testing.assert_array_equal(out, [0.4, 1, 2])
    ops.inv_deviation(np.zeros(3), 0, out)
    np.testing.assert_array_equal(out, np.inf)


def test_prelu(ops, dtype):
    x = np.array([[[-2, 3], [-2, 0]], [[0, -1], [np.nan, 5]]], dtype)
    slope, out = np.array([0.5, -1], dtype), np.empty_like(x)
    ops.prelu(x, slope, out)
    np.testing.assert_array_equal(out, [[[-1, 3], [2, 0]], [[0, -0.5], [np.nan, 5]]])
    ops.prelu_backward(x, np.full_like(x, 4), slope, out)
    np.testing.assert_array_equal(
        out, [[[2, 4], [-4, -4]], [[2, 2], [-4, 4]]], "0 belongs to the negative side"
    )


def test_stored_statistics(ops, dtype):
    mean, var = np.empty(2), np.empty(2)
    sums = np.array([10, -4], dtype), np.array([6, 2], dtype)
    ops.stored_statistics(*sums, np.array([4], dtype), mean, var)
    np.testing.assert_array_equal([mean, var], [[2.5, -1], [1.5, 0.5]])
    ops.stored_statistics(*sums, np.array([0], dtype), mean, var)
    np.testing.assert_array_equal([mean, var], 0)


def test_update_statistics(ops, dtype):
    sum_mean, sum_var, factor = np.array([8], dtype), np.array([4], dtype), np.array([2], dtype)
    ops.update_statistics(np.array([3.0]), np.array([6.0]), 4, 0.5, sum_mean, sum_var, factor)
    np.testing.assert_array_equal([sum_mean, sum_var, factor], [[7], [10], [2]])  # k = 4/3


def test_the_variance_of_one_value_is_stored_as_it_is(ops, dtype):
    sum_mean, sum_var, factor = np.zeros(1, dtype), np.zeros(1, dtype), np.zeros(1, dtype)
    ops.update_statistics(np.array([3.0]), np.array([6.0]), 1, 0.5, sum_mean, sum_var, factor)
    np.testing.assert_array_equal([sum_mean, sum_var, factor], [[3], [6], [1]])


def test_the_factor_tends_to_1000(ops):
    """With Caffe's default fraction, in float32, it stops a little short of the limit 1 / (1 - b)."""
    state = [np.zeros(1, np.float32) for _ in range(3)]
    for _ in range(20000):
        ops.update_statistics(np.ones(1), np.ones(1), 10, 0.999, *state)
    assert 999.9 < state[2][0] <= 1000
    mean, var = np.empty(1), np.empty(1)
    ops.stored_statistics(*state, mean, var)
    np.testing.assert_allclose([mean[0], var[0]], [1, 10 / 9], rtol=1e-4)


@pytest.mark.parametrize("shape", [(3, 2, 1), (2, 3, 5), (2, 2, 17)])
def test_gradient_of_the_normalisation(ops, shape):
    """Against differences along a random direction, through mean and variance."""
    rng = np.random.default_rng(3)
    x, dy, direction = (rng.standard_normal(shape) for _ in range(3))

    def normalised(x):
        mean, var = moments_of(ops, x)
        inv_std, y = np.empty(shape[1]), np.empty(shape)
        ops.inv_std(var, 1e-2, inv_std)
        ops.normalize(x, mean, inv_std, y)
        return y, inv_std

    y, inv_std = normalised(x)
    dx = np.empty(shape)
    ops.normalize_backward(dy, y, inv_std, dx)
    h = 1e-6
    numeric = ((normalised(x + h * direction)[0] - normalised(x - h * direction)[0]) * dy).sum() / (2 * h)
    np.testing.assert_allclose((dx * direction).sum(), numeric, rtol=1e-7)


def test_affine_without_scale_or_shift(ops, dtype):
    x = np.array([[[-0.0, 1], [2, np.nan]]], dtype)
    scale, shift = np.array([2, 3], dtype), np.array([0.5, -1], dtype)
    y = np.empty_like(x)
    ops.affine(x, scale, shift, y)
    np.testing.assert_array_equal(y, [[[0.5, 2.5], [5, np.nan]]])
    ops.affine(x, scale, None, y)
    np.testing.assert_array_equal(y, [[[0, 2], [6, np.nan]]])
    ops.affine(x, None, shift, y)
    np.testing.assert_array_equal(y, [[[0.5, 1.5], [1, np.nan]]])
    ops.affine(x, None, None, y)
    np.testing.assert_array_equal(y, x)
    assert np.signbit(y[0, 0, 0])


def test_affine_rounds_product_and_sum(ops):
    """There is no fused multiply-add: the product loses its last digits before the shift cancels the first."""
    x = np.full((1, 1, 20), 1 + 2.0**-23, np.float32)
    y = np.empty_like(x)
    ops.affine(x, x[0, 0, :1], np.array([-1], np.float32), y)
    np.testing.assert_array_equal(y, np.float32(2.0**-22))


def test_messages():
    x = np.ones((2, 3, 4), np.float32)
    with pytest.raises(
        ArgumentError,
        match=r"^affine: x must be a C-contiguous float32 or float64 array with 3 axes; found float32 array of "
        r"shape \(6, 4\)$",
    ):
        CPU.affine(x.reshape(6, 4), None, None, x)
    with pytest.raises(
        ArgumentError,
        match=r"^affine: scale must be a C-contiguous float32 array of shape \(3,\); found float16 array of "
        r"shape \(3,\)$",
    ):
        CPU.affine(x, np.ones(3, np.float16), None, x)
    with pytest.raises(
        ArgumentError,
        match=r"^moments: var_out must be a writable C-contiguous float64 array of shape \(3,\); found float32",
    ):
        CPU.moments(x, np.ones(3), np.ones(3, np.float32))
    with pytest.raises(
        ArgumentError,
        match=r"^normalize: y must be .* of shape \(2, 3, 4\); found float32 array of shape \(2, 3, 4\), not C-cont",
    ):
        CPU.normalize(x, np.ones(3), np.ones(3), np.ones((4, 3, 2), np.float32).T)
    with pytest.raises(ArgumentError, match=r"^channel_sum: out must be .*; found list$"):
        CPU.channel_sum(x, [0.0, 0.0, 0.0])
