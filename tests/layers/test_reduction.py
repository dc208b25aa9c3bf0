"""Reduction."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.nets import check_layer, make, outcome, refusal, values

REDUCTION = 'layer { name: "r" type: "Reduction" bottom: "x" top: "y" reduction_param { %s } }'


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("operation", ["SUM", "ASUM", "SUMSQ", "MEAN"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gradients_and_back_ends(operation, axis, phase, device):
    text = REDUCTION % f"operation: {operation} axis: {axis} coeff: -1.5"
    assert check_layer(text, device, phase, x=values(2, 3, 4)).excluded == 0


@pytest.mark.parametrize(
    ("param", "y", "dx"),
    [
        ("", 4, [[1, 1], [1, 1]]),
        ("operation: SUM coeff: 3", 12, [[3, 3], [3, 3]]),
        ("operation: ASUM axis: 1", [3, 5], [[1, -1], [0, 2]]),
        ("operation: SUMSQ axis: 1 coeff: 0.5", [2.5, 12.5], [[1, -2], [0, 10]]),
        ("operation: MEAN axis: -1", [-0.5, 2.5], [[0.5, 0.5], [1, 1]]),
        ("operation: MEAN coeff: 8", 8, [[2, 2], [2, 2]]),
    ],
)
def test_by_hand(param, y, dx, device):
    net = make(REDUCTION % param, {"x": [[1.0, -2], [0, 5]]}, device=device)
    net.forward()
    assert net.blobs["y"].data.tolist() == y
    net.blobs["y"].diff[...] = [1, 2] if isinstance(y, list) else 1
    net.backward()
    np.testing.assert_array_equal(net.blobs["x"].diff, dx)


def test_shapes(device):
    for axis, expected in ((0, ()), (1, (2,)), (2, (2, 3)), (-1, (2, 3))):
        net = make(REDUCTION % f"axis: {axis}", {"x": values(2, 3, 4)}, device=device)
        assert net.forward()["y"].shape == expected


@pytest.mark.parametrize("operation", ["SUM", "ASUM", "SUMSQ", "MEAN"])
@pytest.mark.parametrize(("shape", "axis"), [((0, 3), 1), ((0, 3), 0), ((3, 0), 1)])
def test_empty_blobs(operation, shape, axis, device):
    found = outcome(
        make(REDUCTION % f"operation: {operation} axis: {axis}", {"x": np.zeros(shape)}, device=device)
    )
    assert not found["y 0"].any() and found["y 0"].shape == shape[:axis]


@pytest.mark.parametrize(("axis", "shape"), [(2, (2, 3)), (-3, (2, 3)), (0, ())])
def test_refusals(axis, shape):
    assert refusal(REDUCTION % f"axis: {axis}", x=shape) == (
        f'layer "r" (Reduction): axis {axis} does not exist: the bottom has {len(shape)} axes'
    )
