"""Flatten."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.nets import check_layer, make, outcome, refusal, values

FLATTEN = 'layer { name: "f" type: "Flatten" bottom: "x" top: "y" flatten_param { %s } }'
RELU = 'layer { name: "to_%s" type: "ReLU" bottom: "%s" top: "%s" }'


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_gradients_and_back_ends(phase, device):
    assert check_layer(FLATTEN % "", device, phase, x=values(2, 3, 4)).excluded == 0


@pytest.mark.parametrize(
    ("param", "expected"),
    [
        ("", (2, 60)),
        ("axis: 0", (120,)),
        ("axis: 2", (2, 3, 20)),
        ("axis: 0 end_axis: 1", (6, 4, 5)),
        ("axis: -3 end_axis: -2", (2, 12, 5)),
        ("axis: 3", (2, 3, 4, 5)),
    ],
)
def test_shapes(param, expected, device):
    found = outcome(make(FLATTEN % param, {"x": values(2, 3, 4, 5)}, device=device))
    np.testing.assert_array_equal(found["y 0"], values(2, 3, 4, 5).reshape(expected))
    assert found["gradient of x"].shape == (2, 3, 4, 5)


def test_the_top_looks_at_the_bottom(device):
    net = make(FLATTEN % "", {"x": values(2, 3, 4)}, device=device)
    assert np.shares_memory(net.blobs["x"].data, net.blobs["y"].data)
    net.blobs["x"].reshape(3, 4, 5)
    net.blobs["x"].data[...] = 7
    net.forward()
    assert net.blobs["y"].data.shape == (3, 20) and (net.blobs["y"].data == 7).all()


def test_a_layer_in_place_behind_it_does_not_spoil_a_gradient(device):
    """ReLU overwrites the values that Sigmoid, in front of the view, reads going backward."""
    front = 'layer { name: "s" type: "TanH" bottom: "d" top: "x" }' + FLATTEN % ""
    apart, in_place = (
        outcome(make(front + RELU % (top, "y", top), {"d": values(2, 3, 4)}, device=device)) for top in "zy"
    )
    np.testing.assert_array_equal(in_place["gradient of d"], apart["gradient of d"])


def test_a_loss_weight_on_the_top_stays(device):
    """The bottom is worked on in place, so that its gradient changes; the weight must not."""
    text = RELU % ("x", "x", "x") + FLATTEN % "" + RELU % ("z", "y", "z")
    net = make(text.replace('top: "z"', 'top: "z" loss_weight: 3'), {"x": values(2, 3)}, device=device)
    for _ in range(2):
        net.forward()
        net.backward()
        np.testing.assert_array_equal(net.blobs["x"].diff, 3 * (values(2, 3) > 0))


def test_empty_batch(device):
    assert outcome(make(FLATTEN % "", {"x": np.zeros((0, 3, 4))}, device=device))["y 0"].shape == (0, 12)


@pytest.mark.parametrize(
    ("param", "shape", "said"),
    [
        ("axis: 2", (2, 3), "axis 2 does not exist: the bottom has 2 axes"),
        ("end_axis: 2", (2, 3), "end_axis 2 does not exist: the bottom has 2 axes"),
        ("axis: 1 end_axis: 0", (2, 3), 'end_axis 0 lies before axis 1 of "x" (2x3)'),
        ("", (2,), "axis 1 does not exist: the bottom has 1 axes"),
    ],
)
def test_refusals(param, shape, said):
    assert refusal(FLATTEN % param, x=shape) == f'layer "f" (Flatten): {said}'


def test_in_place_is_refused():
    assert "cannot work in place" in refusal((FLATTEN % "").replace('"y"', '"x"'), x=(2, 3))
