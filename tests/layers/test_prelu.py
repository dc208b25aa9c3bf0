"""PReLU."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.nets import check_in_place, check_layer, make, outcome, refusal, values

PRELU = 'layer {{ name: "p" type: "PReLU" bottom: "x" top: "y" prelu_param {{ {} }} }}'


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("param", ["", "channel_shared: true", 'filler { type: "uniform" }'])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5), (2, 3, 4, 5), (2, 2, 2, 3, 2)])
def test_gradients_and_back_ends(shape, param, phase, device):
    assert check_layer(PRELU.format(param), device, phase, x=values(*shape)).excluded == 0


@pytest.mark.parametrize("param", ["", "channel_shared: true"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_in_place_equals_not_in_place(param, dtype, device):
    check_in_place(PRELU.format(param), device, dtype=dtype, x=values(2, 3, 4, 5))


def test_by_hand(device):
    net = make(PRELU.format(""), {"x": [[-2.0, 0, 3], [4, -8, 5]]}, device=device)
    net.params["p"][0].data[...] = [0.5, -1, 7]
    net.forward()
    assert net.blobs["y"].data.tolist() == [[-1, 0, 3], [4, 8, 5]]
    net.blobs["y"].diff[...] = 2
    net.backward()
    assert net.blobs["x"].diff.tolist() == [[1, -2, 2], [2, -2, 2]], "0 belongs to the negative side"
    assert net.params["p"][0].diff.tolist() == [-4, -16, 0]


@pytest.mark.parametrize(
    ("param", "expected"),
    [
        ("", [0.25] * 3),
        ("channel_shared: true", 0.25),
        ("filler { value: 0.75 }", [0.75] * 3),
        ("filler { }", [0] * 3),
    ],
)
def test_first_values(param, expected):
    net = make(PRELU.format(param), {"x": values(2, 3)})
    assert net.params["p"][0].data.tolist() == expected


def test_a_fixed_slope_gets_no_gradient(device):
    text = PRELU.format("").replace("prelu_param", "param { lr_mult: 0 } prelu_param")
    found = outcome(make(text + SUM, {"x": values(2, 3)}, device=device, force_backward=False))
    assert not found["gradient of p[0]"].any()


SUM = 'layer { name: "sum" type: "Reduction" bottom: "y" top: "sum" loss_weight: 1 }'


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (1, 1), (2, 3, 0)])
def test_small_shapes(shape, device):
    assert outcome(make(PRELU.format(""), {"x": np.zeros(shape)}, device=device))["y 0"].shape == shape


def test_one_axis_is_refused():
    assert refusal(PRELU.format(""), x=(3,)) == (
        'layer "p" (PReLU): needs at least 2 axes, of which axis 1 is the channel, found "x" (3)'
    )


def test_other_channels_are_refused():
    net = make(PRELU.format(""), {"x": values(2, 3)})
    net.blobs["x"].reshape(2, 4)
    with pytest.raises(ValueError, match=r'has slopes for 3 channels \(axis 1\), found "x" \(2x4\)'):
        net.forward()
