"""The family im2col: patches laid out as channels, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import caffebn.ops
from caffebn.errors import ArgumentError
from caffebn.ops import level
from caffebn.ops.geometry import ConvGeometry

CPU, REFERENCE = caffebn.ops.get("cpu"), caffebn.ops.get("reference")


def laid_out(ops, x, g):
    y = np.full((len(x), g.channels * g.kernel_count, *g.out_spatial), np.nan, x.dtype)
    ops.im2col(x, y, g, np.full(CPU.conv_scratch_size(g, len(x)), np.nan, x.dtype))
    return y


def added_up(ops, dy, g):
    dx = np.full((len(dy), g.channels, *g.spatial), np.nan, dy.dtype)
    ops.col2im(dy, dx, g, np.full(CPU.conv_scratch_size(g, len(dy)), np.nan, dy.dtype))
    return dx


def test_in_closed_form(ops, dtype):
    g = ConvGeometry(1, (2, 3), 1, (2, 2), (1, 2), (0, 1), (1, 1))
    x = np.array([[[[1, 2, 3], [4, 5, 6]]]], dtype)
    # windows begin at columns -1 and 1
    expected = np.array([[[0, 2]], [[1, 3]], [[0, 5]], [[4, 6]]])
    np.testing.assert_array_equal(laid_out(ops, x, g)[0], expected)
    dx = added_up(ops, np.array([10, 20, 30, 40, 50, 60, 70, 80], dtype).reshape(1, 4, 1, 2), g)
    np.testing.assert_array_equal(dx, [[[[30, 20, 40], [70, 60, 80]]]])


@st.composite
def geometries(draw):
    axes = draw(st.integers(0, 3))

    def each(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(axes))

    kernel, stride, pad, dilation = each(1, 3), each(1, 3), each(0, 2), each(1, 2)
    spatial = tuple(
        max(1, d * (k - 1) + 1 - 2 * p) + draw(st.integers(0, 3))
        for k, p, d in zip(kernel, pad, dilation, strict=True)
    )
    return ConvGeometry(draw(st.integers(1, 3)), spatial, 1, kernel, stride, pad, dilation)


@settings(deadline=None, max_examples=40)
@given(geometries(), st.integers(0, 3), st.sampled_from(["float32", "float64"]))
def test_back_ends_agree_and_adding_is_the_transposed(g, n, dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, (n, g.channels, *g.spatial)).astype(dtype)
    y = laid_out(CPU, x, g)
    np.testing.assert_array_equal(y, laid_out(REFERENCE, x, g))
    dy = rng.integers(-9, 9, y.shape).astype(dtype)
    dx = added_up(CPU, dy, g)
    np.testing.assert_array_equal(dx, added_up(REFERENCE, dy, g))
    assert np.sum(y * dy) == np.sum(x * dx)


@settings(deadline=None, max_examples=20)
@given(geometries())
def test_weights_times_patches_are_a_convolution(g):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, g.channels, *g.spatial)), rng.standard_normal(g.weight_shape)
    y = np.empty((2, g.num_output, *g.out_spatial))
    REFERENCE.conv_forward(x, w, None, y, g, np.empty(0))
    columns = laid_out(CPU, x, g).reshape(2, -1, g.places)
    np.testing.assert_allclose((w.reshape(1, -1) @ columns).reshape(y.shape), y, atol=1e-12)


def test_any_number_of_threads_gives_the_same_bits(dtype, use_threads):
    g = ConvGeometry(5, (9, 8), 1, (3, 3), (2, 1), (1, 2), (1, 1))
    x = np.random.default_rng(0).standard_normal((3, 5, 9, 8)).astype(dtype)
    found = []
    for n in (1, 2, 3):
        use_threads(n)
        y = laid_out(CPU, x, g)
        found.append((y.tobytes(), added_up(CPU, np.sin(y), g).tobytes()))
    assert found[0] == found[1] == found[2]


def test_every_level_gives_the_same_bits(dtype, cpu_at_level):
    g = ConvGeometry(5, (9, 8), 1, (3, 3), (2, 1), (1, 2), (1, 1))
    x = np.random.default_rng(0).standard_normal((3, 5, 9, 8)).astype(dtype)
    found = set()
    for name in level.available():
        cpu = cpu_at_level(name)
        y = laid_out(cpu, x, g)
        found.add((y.tobytes(), added_up(cpu, np.sin(y), g).tobytes()))
    assert len(found) == 1


def test_inputs_may_be_read_only():
    g = ConvGeometry(2, (4,), 1, (2,), (1,), (0,), (1,))
    x = np.ones((1, 2, 4))
    x.flags.writeable = False
    y = laid_out(CPU, x, g)
    y.flags.writeable = False
    assert added_up(CPU, y, g).sum() == y.sum()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x": np.ones((2, 3, 5, 4), "f")}, r"^im2col: x must be .*\(2, 3, 5, 5\); found .*\(2, 3, 5, 4\)$"),
        ({"x": np.ones((2, 3, 5, 5), "i4")}, "^im2col: x must be .*float64 array with 4 axes; found int32"),
        ({"y": np.ones((2, 12, 6, 5), "f")}, r"^im2col: y must be .*\(2, 12, 6, 6\); found"),
    ],
)
def test_messages(change, said):
    g = ConvGeometry(3, (5, 5), 1, (2, 2), (1, 1), (1, 1), (1, 1))
    call = {"x": np.ones((2, 3, 5, 5), "f"), "y": np.ones((2, 12, 6, 6), "f"), "scratch": np.ones(294, "f")}
    with pytest.raises(ArgumentError, match=said):
        CPU.im2col(geometry=g, **{**call, **change})
