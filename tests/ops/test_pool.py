"""The family pool: Caffe's rules for windows, padding, ties and divisors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import caffebn.ops
from caffebn.errors import ArgumentError

REFERENCE, CPU = caffebn.ops.get("reference"), caffebn.ops.get("cpu")
LOWEST = np.float32(-3.4028235e38)


def max_pool(ops, x, rows, columns, kernel, stride=(1, 1), pad=(0, 0)):
    y = np.full((*x.shape[:2], rows, columns), np.nan, x.dtype)
    index = np.full(y.shape, -77, np.int32)
    ops.max_pool(x, y, index, kernel, stride, pad)
    return y, index


def ave_pool(ops, x, rows, columns, kernel, stride=(1, 1), pad=(0, 0)):
    y = np.full((*x.shape[:2], rows, columns), 7, x.dtype)
    ops.ave_pool(x, y, kernel, stride, pad)
    return y


def image(dtype, *rows):
    return np.array([[rows]], dtype)


def test_max_and_its_place(ops, dtype):
    x = image(dtype, [1, 2, 3], [6, 5, 4], [7, 9, 8])
    y, index = max_pool(ops, x, 2, 2, (2, 2))
    np.testing.assert_array_equal(y, image(dtype, [6, 5], [9, 9]))
    np.testing.assert_array_equal(index, [[[[3, 4], [7, 7]]]])


def test_the_first_of_equal_values_wins(ops, dtype):
    x = image(dtype, [5, 5, 5], [5, 5, 5])
    _, index = max_pool(ops, x, 1, 2, (2, 2))
    np.testing.assert_array_equal(index, [[[[0, 1]]]])


def test_padding_never_wins_a_maximum(ops, dtype):
    y, index = max_pool(ops, image(dtype, [-3, -1]), 3, 4, (3, 3), pad=(2, 2))
    np.testing.assert_array_equal(y, image(dtype, *[[-3, -1, -1, -1]] * 3))
    np.testing.assert_array_equal(index, [[[[0, 1, 1, 1]] * 3]])


def test_windows_without_a_maximum(ops, dtype):
    """Outside the image, all minus infinity, or all NaN: the start value, and no place."""
    x = image(dtype, [-np.inf, np.nan])
    y, index = max_pool(ops, x, 2, 3, (1, 1), stride=(3, 1))
    np.testing.assert_array_equal(y, image(dtype, *[[LOWEST] * 3] * 2))
    np.testing.assert_array_equal(index, -1)
    y, index = max_pool(ops, np.empty((1, 1, 0, 2), dtype), 1, 2, (1, 1))
    np.testing.assert_array_equal(y, LOWEST)
    np.testing.assert_array_equal(index, -1)


def test_nan_is_passed_over(ops, dtype):
    y, index = max_pool(ops, image(dtype, [np.nan, -5, np.nan]), 1, 1, (1, 3))
    assert (y.item(), index.item()) == (-5, 1)


def test_gradient_of_a_maximum(ops, dtype):
    dy, dx = image(dtype, [1, 10], [100, 1000]), np.full((1, 1, 2, 2), np.nan, dtype)
    ops.max_pool_backward(dy, np.array([[[[3, 0], [3, -1]]]], np.int32), dx)
    np.testing.assert_array_equal(dx, image(dtype, [10, 0], [0, 101]))


def test_gradient_never_leaves_the_plane(ops, dtype):
    memory = np.full(12, 7, dtype)
    dx = memory[4:8].reshape(1, 1, 2, 2)
    index = np.array([[[[-1, 4, 2**31 - 1, -(2**31), 2]]]], np.int32)
    ops.max_pool_backward(np.ones((1, 1, 1, 5), dtype), index, dx)
    np.testing.assert_array_equal(memory, [7, 7, 7, 7, 0, 0, 1, 0, 7, 7, 7, 7])


def test_padding_counts_in_an_average(ops, dtype):
    y = ave_pool(ops, image(dtype, [4, 8]), 1, 2, (1, 2), stride=(1, 2), pad=(0, 1))
    np.testing.assert_array_equal(y, image(dtype, [2, 4]))


def test_what_hangs_over_beyond_the_padding_does_not_count(ops, dtype):
    x = image(dtype, [3, 6, 9])
    np.testing.assert_array_equal(ave_pool(ops, x, 1, 2, (1, 2), stride=(1, 2)), image(dtype, [4.5, 9]))
    # columns 0..3 of the padded image, then 3..4 where only 5 exist: 9 + padding, over 2
    y = ave_pool(ops, x, 1, 2, (1, 4), stride=(1, 3), pad=(0, 1))
    np.testing.assert_array_equal(y, image(dtype, [4.5, 4.5]))


def test_an_average_outside_is_nan_behind_the_edge_and_0_beyond(ops, dtype):
    y = ave_pool(ops, image(dtype, [3, 6]), 1, 3, (1, 1), stride=(1, 2))
    np.testing.assert_array_equal(y, image(dtype, [3, np.nan, 0]))


def test_global_average(ops, dtype):
    x = np.arange(2 * 3 * 49, dtype=dtype).reshape(2, 3, 7, 7)
    y = ave_pool(ops, x, 1, 1, (7, 7))
    np.testing.assert_array_equal(y[..., 0, 0], x.mean(axis=(2, 3)))


def test_gradient_of_an_average(ops, dtype):
    dx = np.full((1, 1, 1, 3), np.nan, dtype)
    ops.ave_pool_backward(image(dtype, [6, 8, 5]), dx, (1, 2), (1, 2), (0, 0))  # the third window is outside
    np.testing.assert_array_equal(dx, image(dtype, [3, 3, 8]))


# (planes, image, windows, kernel, stride, pad): cut in blocks both ways, many planes in one block, kernels of every
# code path, windows that are runs of memory, windows too large for a block, far outside, a plane wider than a block
GEOMETRIES = [
    ((1, 2), (70, 90), (35, 45), (3, 3), (2, 2), (0, 0)),
    ((1, 2), (70, 90), (70, 90), (3, 3), (1, 1), (1, 1)),
    ((1, 2), (90, 70), (45, 35), (2, 2), (2, 2), (0, 0)),
    ((3, 50), (7, 7), (7, 7), (3, 3), (1, 1), (1, 1)),
    ((3, 50), (7, 7), (4, 4), (3, 3), (2, 2), (1, 1)),
    ((3, 50), (7, 7), (1, 1), (7, 7), (1, 1), (0, 0)),
    ((2, 9), (9, 5), (4, 1), (3, 5), (2, 1), (0, 0)),
    ((2, 9), (9, 5), (11, 1), (3, 9), (1, 7), (2, 2)),
    ((2, 20), (14, 14), (4, 4), (5, 5), (3, 3), (0, 0)),
    ((2, 20), (14, 14), (5, 4), (4, 1), (3, 4), (1, 0)),
    ((1, 3), (80, 80), (3, 4), (50, 60), (10, 9), (5, 7)),
    ((1, 1), (3, 5000), (2, 2500), (2, 2), (1, 2), (0, 0)),
    ((1, 1), (3, 5000), (3, 4999), (1, 2), (1, 1), (0, 0)),
    ((1, 1), (300, 4), (100, 3), (1, 2), (3, 1), (0, 0)),
    ((1, 2), (6, 6), (5, 5), (2, 2), (40, 300), (0, 0)),
    ((2, 2), (40, 51), (24, 28), (3, 3), (2, 2), (2, 2)),
    ((1, 2), (45, 64), (22, 23), (4, 5), (2, 3), (1, 2)),
    ((1, 1), (35, 120), (39, 61), (2, 2), (1, 2), (1, 1)),
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_geometries_of_every_code_path(dtype, geometry):
    planes, size, windows, *window = geometry
    rng = np.random.default_rng(5)
    x = rng.integers(-9, 9, (*planes, *size)).astype(dtype)
    x[rng.random(x.shape) < 0.05] = -np.inf
    x[rng.random(x.shape) < 0.05] = np.nan
    y, index = max_pool(CPU, x, *windows, *window)
    expected = max_pool(REFERENCE, x, *windows, *window)
    np.testing.assert_array_equal(y, expected[0])
    np.testing.assert_array_equal(index, expected[1])
    values = np.full_like(y, np.nan)
    CPU.max_pool(x, values, None, *window)
    np.testing.assert_array_equal(values, y, err_msg="without places")
    x = rng.standard_normal(x.shape).astype(dtype)
    y, expected = ave_pool(CPU, x, *windows, *window), ave_pool(REFERENCE, x, *windows, *window)
    tolerance = 1e-6 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)
    dy, found, expected = rng.standard_normal(y.shape).astype(dtype), np.empty_like(x), np.empty_like(x)
    CPU.ave_pool_backward(dy, found, *window)
    REFERENCE.ave_pool_backward(dy, expected, *window)
    np.testing.assert_allclose(found, expected, rtol=20 * tolerance, atol=20 * tolerance)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_nothing_else_is_written(dtype, geometry):
    """Rows are copied in chunks that reach over their ends, never over that of the array."""
    planes, size, windows, *window = geometry
    image, output, room = (*planes, *size), (*planes, *windows), 100
    memory = np.full(max(np.prod(image), np.prod(output)) + room, 7, dtype)
    rest = np.full(len(memory), 7, np.int32)
    x, n = np.ones(image, dtype), int(np.prod(output))
    out, index = memory[:n].reshape(output), rest[:n].reshape(output)
    CPU.max_pool(x, out, index, *window)
    assert (rest[n:] == 7).all() and (memory[n:] == 7).all()
    CPU.max_pool(x, out, None, *window)
    assert (memory[n:] == 7).all()
    CPU.ave_pool(x, out, *window)
    assert (memory[n:] == 7).all()
    memory[:] = 7
    CPU.ave_pool_backward(np.ones(output, dtype), memory[: x.size].reshape(image), *window)
    assert (memory[x.size :] == 7).all()


def test_places_may_be_left_out(ops, dtype):
    x = image(dtype, [1, 2, 3], [6, 5, 4], [7, 9, 8])
    y = np.empty((1, 1, 2, 2), dtype)
    ops.max_pool(x, y, None, (2, 2), (1, 1), (0, 0))
    np.testing.assert_array_equal(y, image(dtype, [6, 5], [9, 9]))


sizes = st.tuples(st.integers(1, 9), st.integers(1, 40))
pairs = st.tuples(st.integers(1, 5), st.integers(1, 5))


@settings(deadline=None, max_examples=150)
@given(
    images=st.tuples(st.integers(0, 2), st.integers(0, 3)),
    size=sizes,
    windows=st.tuples(st.integers(0, 9), st.integers(0, 12)),
    kernel=pairs,
    stride=pairs,
    pad=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_any_geometry(images, size, windows, kernel, stride, pad, dtype):
    """Windows may hang over, lie in the padding or outside; the two back ends agree, and averages are adjoint
    to their gradients."""
    rng = np.random.default_rng(sum(kernel))
    x = rng.integers(-4, 5, (*images, *size)).astype(dtype)
    dy = rng.standard_normal((*images, *windows)).astype(dtype)
    window = (kernel, stride, pad)
    for expected, found in zip(
        max_pool(REFERENCE, x, *windows, *window), max_pool(CPU, x, *windows, *window), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    y = ave_pool(CPU, x, *windows, *window)
    np.testing.assert_allclose(y, ave_pool(REFERENCE, x, *windows, *window), rtol=1e-6)
    index = max_pool(CPU, x, *windows, *window)[1]
    gradients = []
    for ops in (REFERENCE, CPU):
        dx, dx_max = np.full_like(x, np.nan), np.full_like(x, np.nan)
        ops.ave_pool_backward(dy, dx, *window)
        ops.max_pool_backward(dy, index, dx_max)
        gradients.append((dx, dx_max))
    for expected, found in zip(*gradients, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assume(not np.isnan(y).any())
    np.testing.assert_allclose((y * dy).sum(), (x * gradients[1][0]).sum(), rtol=1e-4, atol=1e-4)


def test_messages():
    x, y = np.ones((2, 3, 4, 4), np.float32), np.ones((2, 3, 2, 2), np.float32)
    index = np.ones((2, 3, 2, 2), np.int32)
    with pytest.raises(
        ArgumentError, match=r"^ave_pool: stride must be two whole numbers from 1 up; found \(1, 0\)$"
    ):
        CPU.ave_pool(x, y, (2, 2), (1, 0), (0, 0))
    with pytest.raises(
        ArgumentError, match=r"^max_pool: pad must be two whole numbers from 0 up; found \(-1, 0\)$"
    ):
        CPU.max_pool(x, y, index, (2, 2), (1, 1), (-1, 0))
    with pytest.raises(
        ArgumentError, match=r"^ave_pool: kernel must be two whole numbers from 1 up; found \(2, 2, 2\)$"
    ):
        CPU.ave_pool(x, y, (2, 2, 2), (1, 1), (0, 0))
    with pytest.raises(
        ArgumentError, match=r"^max_pool: y must be .* of shape \(2, 3, \"H'\", \"W'\"\); found"
    ):
        CPU.max_pool(x, y[0], index, (2, 2), (1, 1), (0, 0))
    with pytest.raises(
        ArgumentError, match=r"^max_pool: y must be .* of shape \(2, 3, 2, 2\); found .* \(1, 3, 2, 2\)"
    ):
        CPU.max_pool(x, y[:1], index, (2, 2), (1, 1), (0, 0))
