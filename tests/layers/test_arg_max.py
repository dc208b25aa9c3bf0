"""ArgMax."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import NetError
from tests.layers.nets import make, refusal, values

ARGMAX = 'layer { name: "a" type: "ArgMax" bottom: "x" top: "y" argmax_param { %s } }'


def run(param, x, phase="TRAIN", device="reference", dtype="float64"):
    return make(ARGMAX % param, {"x": x}, phase, device, dtype, force_backward=False).forward()["y"]


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_over_all_axes_but_the_first(phase, dtype, device):
    x = values(3, 4, 5)
    flat = x.reshape(3, 20)
    order = np.argsort(-flat, axis=1)[:, :4]
    found = run("top_k: 4", x, phase, device, dtype)
    np.testing.assert_array_equal(found, order[:, None])
    both = run("top_k: 4 out_max_val: true", x, phase, device, dtype)
    np.testing.assert_array_equal(both[:, 0], order)
    np.testing.assert_allclose(both[:, 1], np.take_along_axis(flat, order, 1), rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_along_an_axis(axis, device):
    x = values(3, 4, 5)
    order = np.take(np.argsort(-x, axis=axis), range(2), axis=axis)
    np.testing.assert_array_equal(run(f"axis: {axis} top_k: 2", x, device=device), order)
    largest = run(f"axis: {axis} top_k: 2 out_max_val: true", x, device=device)
    np.testing.assert_array_equal(largest, np.take_along_axis(x, order, axis))


def test_the_larger_index_wins_a_tie(device):
    x = [[1.0, 5, 2, 5, 5]]
    assert run("top_k: 4", x, device=device).ravel().tolist() == [4, 3, 1, 2]
    assert run("axis: 1 top_k: 2", x, device=device).ravel().tolist() == [4, 3]


@pytest.mark.parametrize(
    ("shape", "param", "expected"),
    [
        ((3,), "", (3, 1, 1)),
        ((3, 4), "", (3, 1, 1)),
        ((3, 4, 5), "top_k: 2", (3, 1, 2)),
        ((3, 4, 5, 6), "top_k: 2", (3, 1, 2, 1)),
        ((3, 4, 5, 6, 7), "top_k: 2 out_max_val: true", (3, 2, 2, 1, 1)),
        ((3, 4, 5), "axis: 2 top_k: 2", (3, 4, 2)),
        ((0, 4), "", (0, 1, 1)),
        ((0, 4), "axis: 1", (0, 1)),
    ],
)
def test_shapes(shape, param, expected, device):
    assert run(param, values(*shape), device=device).shape == expected


def test_there_is_no_gradient(device):
    net = make(ARGMAX % "", {"x": values(2, 3)}, device=device)
    net.forward()
    with pytest.raises(NetError, match=r'layer "a" \(ArgMax\): has no gradient'):
        net.backward()


@pytest.mark.parametrize(
    ("param", "shape", "said"),
    [
        ("axis: 2", (2, 3), "axis 2 does not exist: the bottom has 2 axes"),
        (
            "top_k: 7",
            (2, 3, 2),
            'top_k must be from 1 to 6, the number of values to choose from in "x" (2x3x2), found 7',
        ),
        (
            "axis: 1 top_k: 0",
            (2, 3),
            'top_k must be from 1 to 3, the number of values to choose from in "x" (2x3), found 0',
        ),
        ("", (), "needs at least 1 axis, found a blob with none"),
    ],
)
def test_refusals(param, shape, said):
    assert refusal(ARGMAX % param, x=shape) == f'layer "a" (ArgMax): {said}'
