"""The family softmax: probabilities, loss, accuracy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import caffebn.ops
from caffebn.errors import ArgumentError

REFERENCE, CPU = caffebn.ops.get("reference"), caffebn.ops.get("cpu")


def loss(ops, prob, label, ignore=None):
    out = np.full(2, np.nan)
    ops.softmax_loss(prob, np.asarray(label, prob.dtype), ignore, out)
    return out


def loss_gradient(ops, prob, label, ignore=None, scale=1.0):
    dx = np.full_like(prob, np.nan)
    ops.softmax_loss_backward(prob, np.asarray(label, prob.dtype), ignore, np.array([scale], np.float64), dx)
    return dx


def accuracy(ops, x, label, ignore=None, top_k=1):
    out, hits, counts = np.full(2, np.nan), np.full(x.shape[1], np.nan), np.full(x.shape[1], np.nan)
    ops.accuracy(x, np.asarray(label, x.dtype), ignore, top_k, out, hits, counts)
    return out.tolist(), hits.tolist(), counts.tolist()


def test_softmax_in_closed_form(ops, dtype):
    x = np.log(np.array([[[1, 2], [3, 2]]], dtype))
    y = np.empty_like(x)
    ops.softmax(x, y)
    np.testing.assert_allclose(y, [[[0.25, 0.5], [0.75, 0.5]]], rtol=1e-6)


def test_large_scores_do_not_overflow(ops, dtype):
    x = np.array([[[1e30], [1e30], [-1e30]]], dtype)
    y = np.empty_like(x)
    ops.softmax(x, y)
    np.testing.assert_array_equal(y.ravel(), [0.5, 0.5, 0])


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(st.integers(0, 5), st.integers(1, 20), st.integers(0, 20)),
    dtype=st.sampled_from(["float32", "float64"]),
    shift=st.floats(-50, 50),
)
def test_softmax_laws(shape, dtype, shift):
    """Probabilities add up to 1, a common shift of the scores changes nothing, the back ends agree."""
    x = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    y, shifted, expected = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    CPU.softmax(x, y)
    REFERENCE.softmax(x, expected)
    CPU.softmax(x + x.dtype.type(shift), shifted)
    tolerance = 1e-6 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(y, expected, rtol=tolerance)
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=tolerance)
    np.testing.assert_allclose(shifted, y, rtol=50 * tolerance)


def test_softmax_gradient(ops):
    rng = np.random.default_rng(4)
    x, dy, direction = (rng.standard_normal((2, 5, 3)) for _ in range(3))

    def probabilities(x):
        y = np.empty_like(x)
        ops.softmax(x, y)
        return y

    dx = np.empty_like(x)
    ops.softmax_backward(probabilities(x), dy, dx)
    h = 1e-6
    numeric = ((probabilities(x + h * direction) - probabilities(x - h * direction)) * dy).sum() / (2 * h)
    np.testing.assert_allclose((dx * direction).sum(), numeric, rtol=1e-7)


def test_loss_in_closed_form(ops, dtype):
    prob = np.array([[[0.5, 0.25], [0.5, 0.75]]], dtype)
    np.testing.assert_allclose(loss(ops, prob, [0, 1]), [math.log(2) - math.log(0.75), 2], rtol=1e-6)
    np.testing.assert_allclose(loss(ops, prob, [0, 1], ignore=1), [math.log(2), 1], rtol=1e-6)
    np.testing.assert_array_equal(loss(ops, prob, [7, 7], ignore=7), [0, 0])


def test_the_floor_of_the_loss(ops, dtype):
    """The largest loss of an item is 87.3365; the gradient does not know it."""
    prob = np.array([[[0], [1]]], dtype)
    np.testing.assert_allclose(loss(ops, prob, [0]), [87.33654475, 1], rtol=1e-8)
    np.testing.assert_array_equal(loss_gradient(ops, prob, [0]).ravel(), [-1, 1])


def test_labels_are_cut_to_integers(ops, dtype):
    prob = np.array([[[0.25], [0.75]], [[0.25], [0.75]]], dtype)
    np.testing.assert_array_equal(loss(ops, prob, [-0.9, 1.9]), loss(ops, prob, [0, 1]))
    np.testing.assert_array_equal(loss(ops, prob, [-1.9, 1], ignore=-1), loss(ops, prob, [-1, 1], ignore=-1))
    np.testing.assert_array_equal(loss(ops, prob, [-0.9, 1], ignore=0), loss(ops, prob, [0, 1], ignore=0))


def test_loss_gradient(ops, dtype):
    prob = np.array([[[0.5, 0.25], [0.5, 0.75]]], dtype)
    np.testing.assert_array_equal(loss_gradient(ops, prob, [0, 1], scale=4), [[[-2, 1], [2, -1]]])
    np.testing.assert_array_equal(
        loss_gradient(ops, prob, [255, 1], ignore=255, scale=4), [[[0, 1], [0, -1]]]
    )


def test_accuracy_in_closed_form(ops, dtype):
    x = np.array([[1, 2, 3], [3, 2, 1], [1, 3, 2]], dtype)[:, :, None]
    assert accuracy(ops, x, [2, 1, 2]) == ([1, 3], [0, 0, 1], [0, 1, 2])
    assert accuracy(ops, x, [2, 1, 2], top_k=2) == ([3, 3], [0, 1, 2], [0, 1, 2])
    assert accuracy(ops, x, [2, 1, 9], ignore=9) == ([1, 2], [0, 0, 1], [0, 1, 1])


def test_accuracy_over_places(ops, dtype):
    x = np.array([[[1, 5], [2, 4]], [[9, 0], [0, 9]]], dtype)
    assert accuracy(ops, x, [1, 0, 0, 0]) == ([3, 4], [2, 1], [3, 1])


def test_ties_count_against_the_label(ops, dtype):
    x = np.array([[2, 2, 1]], dtype)[:, :, None]
    assert accuracy(ops, x, [0]) == accuracy(ops, x, [0]) == ([0, 1], [0, 0, 0], [1, 0, 0])
    assert accuracy(ops, x, [0], top_k=2)[0] == [1, 1]


def test_accuracy_without_classes(ops, dtype):
    out = np.empty(2)
    ops.accuracy(np.array([[[1], [2]]], dtype), np.array([1], dtype), None, 1, out, None, None)
    assert out.tolist() == [1, 1]


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(st.integers(0, 9), st.integers(1, 9), st.integers(0, 9)),
    top_k=st.integers(1, 10),
    ignore=st.sampled_from([None, 0, 3, 200]),
    seed=st.integers(0, 99),
)
def test_any_shape(shape, top_k, ignore, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 5, shape).astype(np.float32)
    label = rng.integers(0, shape[1], shape[0] * shape[2]).astype(np.float32)
    prob = np.empty_like(x)
    REFERENCE.softmax(x, prob)
    assert accuracy(CPU, x, label, ignore, top_k) == accuracy(REFERENCE, x, label, ignore, top_k)
    np.testing.assert_allclose(
        loss(CPU, prob, label, ignore), loss(REFERENCE, prob, label, ignore), rtol=1e-12
    )
    np.testing.assert_array_equal(
        loss_gradient(CPU, prob, label, ignore), loss_gradient(REFERENCE, prob, label, ignore)
    )


@pytest.mark.parametrize(
    ("bad", "said"),
    [(3, "3"), (-1, "-1"), (math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf"), (1e30, "1e+30")],
)
@pytest.mark.parametrize("ignore", [None, 255])
def test_a_label_that_is_no_class(ops, dtype, bad, said, ignore):
    x, label = np.full((2, 3, 2), 1 / 3, dtype), [0, 2, bad, bad]
    for op, call in (
        ("softmax_loss", loss),
        ("softmax_loss_backward", loss_gradient),
        ("accuracy", accuracy),
    ):
        with pytest.raises(ArgumentError) as e:
            call(ops, x, label, ignore)
        assert str(e.value).startswith(
            f"{op}: label must hold classes from 0 to 2; found {said} at index 2. Check the labels of the data"
        )


def largest(ops, x, top_k):
    index, value = (np.full((len(x), top_k, x.shape[2]), np.nan, x.dtype) for _ in range(2))
    ops.arg_max(x, index, value)
    return index, value


def test_arg_max_prefers_the_larger_index_on_ties(ops, dtype):
    x = np.array([3, 7, 3, 7, 1], dtype).reshape(1, 5, 1)
    index, value = largest(ops, x, 5)
    assert index.ravel().tolist() == [3, 1, 2, 0, 4]
    assert value.ravel().tolist() == [7, 7, 3, 3, 1]


def test_arg_max_gives_what_is_asked_for(ops, dtype):
    x = np.array([[[1, 9], [4, 2]]], dtype)
    index, value = largest(ops, x, 1)
    assert (index.tolist(), value.tolist()) == ([[[1, 0]]], [[[4, 9]]])
    for index, value in ((np.zeros((1, 1, 2), dtype), None), (None, np.zeros((1, 1, 2), dtype))):
        ops.arg_max(x, index, value)
        assert (index if value is None else value).tolist() == ([[[1, 0]]] if value is None else [[[4, 9]]])


def test_arg_max_survives_what_is_not_a_number(ops, dtype):
    x = np.array([1, np.nan, 3, np.nan], dtype).reshape(1, 4, 1)
    assert largest(ops, x, 4)[0].ravel().tolist() == [3, 1, 2, 0]


@settings(deadline=None, max_examples=25)
@given(
    shape=st.tuples(st.integers(0, 3), st.integers(1, 8), st.integers(0, 4)),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_the_largest_scores_of_any_shape(shape, share, seed):
    x = np.random.default_rng(seed).integers(0, 5, shape).astype(np.float32)
    top_k = 1 + round(share * (shape[1] - 1))
    found, expected = largest(CPU, x, top_k), largest(REFERENCE, x, top_k)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found[1], -np.sort(-x, axis=1)[:, :top_k])


def test_messages():
    x, out = np.ones((2, 3, 4), np.float32), np.empty(2)
    with pytest.raises(ArgumentError, match=r"^accuracy: top_k must be 1 or more; found 0$"):
        CPU.accuracy(x, np.zeros(8, np.float32), None, 0, out, None, None)
    with pytest.raises(
        ArgumentError,
        match=r"^softmax_loss: label must be a C-contiguous float32 array of shape \(8,\); found int64 array of shape",
    ):
        CPU.softmax_loss(x, np.zeros(8, np.int64), None, out)
    for room in (0, 4):
        with pytest.raises(ArgumentError) as e:
            CPU.arg_max(x, np.ones((2, room, 4), np.float32), None)
        assert str(e.value) == f"arg_max: expected room for 1 to 3 of the scores, found {room}"
