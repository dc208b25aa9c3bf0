"""Softmax."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.nets import check_in_place, check_layer, make, outcome, refusal, values

SOFTMAX = 'layer {{ name: "s" type: "Softmax" bottom: "x" top: "y" softmax_param {{ {} }} }}'


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize(("param", "axis"), [("", 1), ("axis: 0", 0), ("axis: 2", 2), ("axis: -1", 3)])
def test_axes(param, axis, phase, device):
    text, x = SOFTMAX.format(param), values(2, 3, 4, 2)
    check_layer(text, device, phase, x=x)
    e = np.exp(x)
    found = outcome(make(text, {"x": x}, phase, device))["y 0"]
    np.testing.assert_allclose(found, e / e.sum(axis, keepdims=True), rtol=1e-13)


def test_by_hand(device):
    net = make(SOFTMAX.format(""), {"x": [[0, np.log(2), np.log(5)]]}, device=device)
    net.forward()
    np.testing.assert_allclose(net.blobs["y"].data, [[0.125, 0.25, 0.625]], rtol=1e-14)
    net.blobs["y"].diff[...] = [[8, 0, 0]]
    net.backward()
    np.testing.assert_allclose(net.blobs["x"].diff, [[0.875, -0.25, -0.625]], rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_scores_do_not_overflow(dtype, device):
    net = make(SOFTMAX.format(""), {"x": [[1e4, 1e4, -1e4], [3e38, -3e38, 0]]}, device=device, dtype=dtype)
    net.forward()
    np.testing.assert_array_equal(net.blobs["y"].data, [[0.5, 0.5, 0], [1, 0, 0]])


@pytest.mark.parametrize("param", ["", "axis: 2", "axis: 0"])
def test_in_place_equals_not_in_place(param, device):
    check_in_place(SOFTMAX.format(param), device, x=values(2, 3, 4))


def test_a_layer_in_place_behind_it_does_not_spoil_its_gradient(device):
    tanh = 'layer {{ name: "t" type: "TanH" bottom: "y" top: "{}" }}'
    apart, in_place = (
        outcome(make(SOFTMAX.format("") + tanh.format(top), {"x": values(2, 3)}, device=device))
        for top in "zy"
    )
    np.testing.assert_array_equal(in_place["gradient of x"], apart["gradient of x"])


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (0, 3), (2, 3, 0)])
def test_shapes(shape, device):
    assert outcome(make(SOFTMAX.format(""), {"x": values(*shape)}, device=device))["y 0"].shape == shape


@pytest.mark.parametrize(("axis", "shape"), [(1, (5,)), (2, (2, 3)), (-3, (2, 3))])
def test_an_axis_that_does_not_exist_is_refused(axis, shape):
    message = refusal(SOFTMAX.format(f"axis: {axis}"), x=shape)
    assert message == f'layer "s" (Softmax): axis {axis} does not exist: the bottom has {len(shape)} axes'
