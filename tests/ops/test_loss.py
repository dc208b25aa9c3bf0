"""The family loss: cross-entropy, infogain, multinomial, hinge and contrastive losses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import caffebn.ops
from caffebn.errors import ArgumentError

CPU, REFERENCE = caffebn.ops.get("cpu"), caffebn.ops.get("reference")


def total(function, *arguments, size=1):
    out = np.full(size, np.nan)
    function(*arguments, out)
    return out


def gradient(function, like, *arguments):
    """What a backward op fills in; the last of the arguments is the scale, a number."""
    dx = np.full_like(like, np.nan)
    function(*arguments[:-1], np.array(arguments[-1:], np.float64), dx)
    return dx


def slopes(loss, x, h=1e-6):
    """Central differences of a loss by every element of x."""
    found = np.empty_like(x)
    for i in np.ndindex(x.shape):
        shifted = [x.copy(), x.copy()]
        shifted[0][i] += h
        shifted[1][i] -= h
        found[i] = (loss(shifted[0]) - loss(shifted[1])) / (2 * h)
    return found


def test_sigmoid_cross_entropy(ops, dtype):
    x, target = np.array([0, np.log(3), -np.log(3), 2], dtype), np.array([1, 0, 0.5, -1], dtype)
    expected = np.log(2) + np.log(4) + (np.log(4) + np.log(4 / 3)) / 2
    found = total(ops.sigmoid_cross_entropy, x, target, -1, size=2)
    np.testing.assert_allclose(found, [expected, 3], rtol=1e-6 if dtype == np.float32 else 1e-14)
    dx = gradient(ops.sigmoid_cross_entropy_backward, x, x, target, -1, 4.0)
    np.testing.assert_allclose(dx, [-2, 3, -1, 0], rtol=1e-6)


def test_sigmoid_cross_entropy_of_large_scores(ops, dtype):
    x, target = np.array([1e4, -1e4, 1e4], dtype), np.array([0, 0, 1], dtype)
    np.testing.assert_array_equal(total(ops.sigmoid_cross_entropy, x, target, None, size=2), [1e4, 3])


@pytest.mark.parametrize(("ignore", "counted"), [(None, 7), (0, 4), (1, 6), (-1, 5), (3, 6), (7, 7)])
def test_targets_are_cut_before_they_are_ignored(ops, dtype, ignore, counted):
    target = np.array([-1.9, -1, -0.9, 0, 0.9, 1.5, 3], dtype)
    x = np.zeros_like(target)
    assert total(ops.sigmoid_cross_entropy, x, target, ignore, size=2)[1] == counted
    dx = gradient(ops.sigmoid_cross_entropy_backward, x, x, target, ignore, 1.0)
    assert np.count_nonzero(dx) == counted


def test_targets_that_are_no_numbers_are_not_ignored(ops, dtype):
    target = np.array([np.nan, np.inf, 1e30], dtype)
    assert total(ops.sigmoid_cross_entropy, np.ones(3, dtype), target, 0, size=2)[1] == 3


PROB = np.array([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]])
MATRIX = np.array([[1.0, 0.5, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]])


def test_infogain(ops, dtype):
    prob, matrix = PROB.astype(dtype)[:, :, None], MATRIX.astype(dtype)
    label = np.array([0, 1], dtype)
    expected = np.log(2) + np.log(4) / 2 - 2 * np.log(1e-20)
    rtol = 1e-6 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(
        total(ops.infogain_loss, prob, label, None, matrix, size=2), [expected, 2], rtol=rtol
    )
    np.testing.assert_allclose(
        total(ops.infogain_loss, prob, label, 1, matrix, size=2), [np.log(2) + np.log(4) / 2, 1], rtol=rtol
    )
    dx = gradient(ops.infogain_loss_backward, prob, prob, label, None, matrix, 2.0)[:, :, 0]
    np.testing.assert_allclose(dx, [[-0.5, -0.25, 0.75], [4, -4, 0]], rtol=rtol)
    dx = gradient(ops.infogain_loss_backward, prob, prob, label, 1, matrix, 2.0)[:, :, 0]
    np.testing.assert_allclose(dx, [[-0.5, -0.25, 0.75], [0, 0, 0]], rtol=rtol)


@settings(deadline=None, max_examples=20)
@given(classes=st.integers(1, 5), places=st.integers(0, 4), seed=st.integers(0, 99))
def test_infogain_with_the_unit_matrix_is_the_softmax_loss(classes, places, seed):
    rng = np.random.default_rng(seed)
    scores, prob = rng.standard_normal((3, classes, places)), np.empty((3, classes, places))
    CPU.softmax(scores, prob)
    label, unit = rng.integers(0, classes, 3 * places).astype(float), np.eye(classes)
    np.testing.assert_allclose(
        total(CPU.infogain_loss, prob, label, 1, unit, size=2),
        total(CPU.softmax_loss, prob, label, 1, size=2),
    )
    np.testing.assert_allclose(
        gradient(CPU.infogain_loss_backward, prob, prob, label, 1, unit, 0.7),
        gradient(CPU.softmax_loss_backward, prob, prob, label, 1, 0.7),
        atol=1e-15,
    )


def test_multinomial(ops, dtype):
    prob, label = PROB.astype(dtype), np.array([1, 2.9], dtype)
    rtol = 1e-6 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(total(ops.multinomial_loss, prob, label), np.log(4) - np.log(1e-20), rtol=rtol)
    dx = gradient(ops.multinomial_loss_backward, prob, prob, label, 0.5)
    np.testing.assert_allclose(dx, [[0, -2, 0], [0, 0, -0.5e20]], rtol=rtol)


def test_hinge(ops, dtype):
    x, label = np.array([[0.5, -1, -2], [3, 1, 0]], dtype), np.array([0, 1], dtype)
    # margins: 1 - 0.5, 0 (on the margin), 0; 4, 0 (on the margin), 1
    assert total(ops.hinge_loss, x, label, False) == 5.5
    assert total(ops.hinge_loss, x, label, True) == 0.25 + 16 + 1
    assert gradient(ops.hinge_loss_backward, x, x, label, False, 2.0).tolist() == [[-2, 0, 0], [2, 0, 2]]
    assert gradient(ops.hinge_loss_backward, x, x, label, True, 2.0).tolist() == [[-2, 0, 0], [16, 0, 4]]


SQUARE = np.array([4.0, 4.0, 0.25, 0.0])
SIMILAR = np.array([1.0, 0.5, 0.0, 0.0])


@pytest.mark.parametrize(
    ("legacy", "expected", "factors"),
    [
        (False, 4 + 0 + 0.25 + 1, [1, 0, -0.5 / (0.5 + 1e-4), -1e4]),
        (True, 4 + 0 + 0.75 + 1, [1, 0, -1, -1]),
    ],
)
def test_contrastive(ops, dtype, legacy, expected, factors):
    """Margin 1; a mark of 0.5 is cut to 0: not similar."""
    similar = SIMILAR.astype(dtype)
    found = total(ops.contrastive_loss, SQUARE, similar, 1.0, legacy)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    difference = np.ones((4, 2), dtype)
    dx = gradient(ops.contrastive_loss_backward, difference, difference, SQUARE, similar, 1.0, legacy, 3.0)
    np.testing.assert_allclose(dx, 3 * np.array(factors)[:, None] * np.ones(2), rtol=1e-6)


def test_contrastive_gradient_of_equal_points_is_finite(ops, dtype):
    zeros = np.zeros((1, 2), dtype)
    dx = gradient(
        ops.contrastive_loss_backward, zeros, zeros, np.zeros(1), np.zeros(1, dtype), 1.0, False, 1.0
    )
    assert not dx.any()


def test_gradients_are_those_of_the_losses(ops):
    rng = np.random.default_rng(0)
    x, target, label = rng.standard_normal((4, 3)), rng.uniform(0, 1, (4, 3)), np.array([0.0, 2, 1, 2])
    matrix = rng.uniform(0, 1, (3, 3))

    def infogain(x):
        prob = np.empty((4, 3, 1))
        ops.softmax(x[:, :, None], prob)
        return total(ops.infogain_loss, prob, label, 1, matrix, size=2)[0]

    cases = [
        (
            lambda x: total(ops.sigmoid_cross_entropy, x, target, None, size=2)[0],
            gradient(ops.sigmoid_cross_entropy_backward, x, x, target, None, 1.0),
        ),
        (
            lambda x: total(ops.hinge_loss, x, label, True)[0],
            gradient(ops.hinge_loss_backward, x, x, label, True, 1.0),
        ),
        (
            lambda p: total(ops.multinomial_loss, p, label)[0],
            gradient(ops.multinomial_loss_backward, x, np.abs(x) + 0.1, label, 1.0),
        ),
    ]
    for loss, found in cases[:2]:
        np.testing.assert_allclose(found, slopes(loss, x), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(cases[2][1], slopes(cases[2][0], np.abs(x) + 0.1), rtol=1e-6, atol=1e-8)
    prob = np.empty((4, 3, 1))
    ops.softmax(x[:, :, None], prob)
    found = gradient(ops.infogain_loss_backward, prob, prob, label, 1, matrix, 1.0)[:, :, 0]
    np.testing.assert_allclose(found, slopes(infogain, x), rtol=1e-6, atol=1e-8)


@settings(deadline=None, max_examples=15)
@given(n=st.sampled_from([0, 1, 2047, 2048, 2049, 5000]), seed=st.integers(0, 9))
def test_sums_over_blocks(n, seed):
    rng = np.random.default_rng(seed)
    x, target = rng.standard_normal(n).astype("f"), rng.integers(-1, 2, n).astype("f")
    np.testing.assert_allclose(
        total(CPU.sigmoid_cross_entropy, x, target, -1, size=2),
        total(REFERENCE.sigmoid_cross_entropy, x, target, -1, size=2),
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    ("bad", "said"), [(3, "3"), (-1, "-1"), (math.nan, "nan"), (math.inf, "inf"), (1e30, "1e+30")]
)
def test_a_label_that_is_no_class(ops, dtype, bad, said):
    x, label = np.full((2, 3), 1 / 3, dtype), np.array([0, bad], dtype)
    places, matrix = x[:, :, None], np.eye(3, dtype=dtype)
    calls = {
        "infogain_loss": (places, label, None, matrix, np.empty(2)),
        "infogain_loss_backward": (places, label, None, matrix, np.ones(1), np.empty_like(places)),
        "multinomial_loss": (x, label, np.empty(1)),
        "multinomial_loss_backward": (x, label, np.ones(1), np.empty_like(x)),
        "hinge_loss": (x, label, False, np.empty(1)),
        "hinge_loss_backward": (x, label, False, np.ones(1), np.empty_like(x)),
    }
    for op, arguments in calls.items():
        with pytest.raises(ArgumentError) as e:
            getattr(ops, op)(*arguments)
        assert str(e.value).startswith(f"{op}: label must hold classes from 0 to 2; found {said} at index 1.")


def test_messages():
    x, label = np.ones((2, 3), np.float32), np.zeros(2, np.float32)
    with pytest.raises(
        ArgumentError, match=r"^infogain_loss: matrix must be .*of shape \(3, 3\); found .*\(2, 2\)$"
    ):
        CPU.infogain_loss(x[:, :, None], label, None, np.ones((2, 2), np.float32), np.empty(2))
    with pytest.raises(ArgumentError, match=r"^hinge_loss: label must be .*of shape \(2,\); found .*\(3,\)$"):
        CPU.hinge_loss(x, np.zeros(3, np.float32), False, np.empty(1))
