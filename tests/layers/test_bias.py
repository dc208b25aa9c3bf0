"""Bias."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.nets import check_in_place, check_layer, make, outcome, randomise, refusal, values

BIAS = 'layer {{ name: "b" type: "Bias" bottom: "x" top: "y" bias_param {{ {} }} }}'
TWO = BIAS.replace('bottom: "x"', 'bottom: "x" bottom: "b"')

# text, shape of x, shape of the bias, and that shape with ones so that it broadcasts
LEARNED = [
    ("", (2, 3, 4, 5), (3,), (3, 1, 1)),
    ("", (4, 3), (3,), (3,)),
    ("axis: 0", (2, 3, 4), (2,), (2, 1, 1)),
    ("axis: -1", (2, 3, 4), (4,), (4,)),
    ("axis: 0 num_axes: 2", (2, 3, 4), (2, 3), (2, 3, 1)),
    ("axis: -2 num_axes: 2", (2, 3, 4), (3, 4), (3, 4)),
    ("num_axes: -1", (2, 3, 4), (3, 4), (3, 4)),
    ("axis: 0 num_axes: -1", (2, 3, 4), (2, 3, 4), (2, 3, 4)),
    ("num_axes: 0", (2, 3, 4), (), ()),
    ("num_axes: 0", (4,), (), ()),
    ("axis: 7 num_axes: 0", (2, 3), (), ()),
    ("", (0, 3, 4), (3,), (3, 1)),
    ("", (1, 1), (1,), (1,)),
]
GIVEN = [
    ("", (2, 3, 4), (3,), (3, 1)),
    ("", (2, 3, 4), (3, 4), (3, 4)),
    ("axis: 0", (2, 3, 4), (2, 3), (2, 3, 1)),
    ("axis: 0", (2, 3, 4), (2, 3, 4), (2, 3, 4)),
    ("axis: -1", (2, 3, 4), (4,), (4,)),
    ("axis: 0 num_axes: 9", (2, 3, 4), (2,), (2, 1, 1)),
    ("axis: 9", (2, 3, 4), (), ()),
]


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize(("text", "shape", "bias", "broadcast"), LEARNED)
def test_learned(text, shape, bias, broadcast, phase, device):
    x = values(*shape)
    check_layer(BIAS.format(text), device, phase, x=x)
    check_in_place(BIAS.format(text), device, phase, x=x)
    net = make(BIAS.format(text), {"x": x}, phase, device)
    assert net.params["b"][0].shape == bias
    randomise(net)
    net.forward()
    np.testing.assert_array_equal(net.blobs["y"].data, x + net.params["b"][0].data.reshape(broadcast))


@pytest.mark.parametrize(("text", "shape", "bias", "broadcast"), GIVEN)
def test_given(text, shape, bias, broadcast, device):
    x, b = values(*shape), values(*bias, seed=1)
    check_layer(TWO.format(text), device, x=x, b=b)
    check_in_place(TWO.format(text), device, x=x, b=b)
    net = make(TWO.format(text), {"x": x, "b": b}, device=device)
    assert "b" not in net.params
    np.testing.assert_array_equal(outcome(net)["y 0"], x + b.reshape(broadcast))


def test_fillers(device):
    net = make(BIAS.format(""), {"x": values(2, 3)}, device=device)
    assert net.params["b"][0].data.tolist() == [0, 0, 0]
    net = make(BIAS.format('filler { type: "constant" value: 2 }'), {"x": values(2, 3)}, device=device)
    assert net.params["b"][0].data.tolist() == [2, 2, 2]


def test_the_gradient_is_added_for_a_blob_and_written_for_a_bottom(device):
    net = make(
        BIAS.format("") + TWO.format("").replace('"y"', '"z"').replace('"b" type', '"two" type'),
        {"x": np.zeros((2, 3)), "b": np.zeros(3)},
        device=device,
    )
    net.forward()
    for _ in range(2):
        net.blobs["y"].diff[...] = 1
        net.blobs["z"].diff[...] = 1
        net.backward()
    assert net.params["b"][0].diff.tolist() == [4, 4, 4]
    assert net.blobs["b"].diff.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("text", "shape", "said"),
    [
        ("axis: 2", (2, 3), "axis 2 does not exist: the bottom has 2 axes"),
        ("num_axes: -2", (2, 3), "num_axes must be at least 0, or -1 for all axes from axis on, found -2"),
        ("num_axes: 2", (2, 3), 'num_axes 2 from axis 1 on runs past the end of "x" (2x3)'),
    ],
)
def test_refusals(text, shape, said):
    assert refusal(BIAS.format(text), x=shape) == f'layer "b" (Bias): {said}'


@pytest.mark.parametrize(
    ("text", "b", "expected"),
    [("", (2,), "3"), ("", (3, 4, 1), "3x4"), ("axis: 0", (3,), "2"), ("axis: 2", (3, 4), "4")],
)
def test_a_bottom_that_does_not_fit_is_refused(text, b, expected):
    axis = int(text[-1]) if text else 1
    shown = "x".join(map(str, b))
    assert refusal(TWO.format(text), x=(2, 3, 4), b=b) == (
        f'layer "b" (Bias): "b" ({shown}) does not fit on "x" (2x3x4) from axis {axis} on: expected sizes {expected}'
    )
