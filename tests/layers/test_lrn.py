"""LRN."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.nets import check_layer, make, outcome, refusal, values

LRN = 'layer {{ name: "n" type: "LRN" bottom: "x" top: "y" lrn_param {{ {} }} }}'
WITHIN = "norm_region: WITHIN_CHANNEL "


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize(
    "param",
    [
        "",
        "local_size: 3 alpha: 2 beta: 0.6 k: 2",
        "local_size: 1",
        WITHIN + "local_size: 3 alpha: 2",
        WITHIN + "local_size: 5 beta: 0.6",
    ],
)
def test_gradients_and_back_ends(param, phase, device):
    assert check_layer(LRN.format(param), device, phase, x=values(2, 6, 3, 4)).excluded == 0


def test_across_channels_by_hand(device):
    x = np.array([3, 4, 2, 1.0]).reshape(1, 4, 1, 1)
    y = make(LRN.format("local_size: 3 alpha: 6 beta: 1 k: 5"), {"x": x}, device=device).forward()["y"]
    # alpha is divided by the size of the window
    scale = 5 + 2 * np.array([9 + 16, 9 + 16 + 4, 16 + 4 + 1, 4 + 1])
    np.testing.assert_allclose(y, x / scale.reshape(x.shape), rtol=1e-14)


def test_defaults(device):
    x = np.full((1, 1, 1, 1), 2.0)
    y = make(LRN.format(""), {"x": x}, device=device).forward()["y"]
    np.testing.assert_allclose(y, 2 / (1 + 4 / 5) ** 0.75, rtol=1e-14)


def test_within_a_channel_by_hand(device):
    x = np.array([[1, 2], [3, 4.0]]).reshape(1, 1, 2, 2)
    y = make(LRN.format(WITHIN + "local_size: 3 alpha: 9 beta: 1 k: 7"), {"x": x}, device=device).forward()[
        "y"
    ]
    # the window meets all four places everywhere, and the constant is 1 whatever k is
    np.testing.assert_allclose(y, x / (1 + 30), rtol=1e-14)


@pytest.mark.parametrize("param", ["", WITHIN])
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (1, 1, 1, 1), (2, 3, 0, 4)])
def test_small_shapes(param, shape, device):
    found = outcome(make(LRN.format(param), {"x": np.zeros(shape)}, device=device))
    assert found["gradient of x"].shape == shape


@pytest.mark.parametrize(
    ("param", "shape", "said"),
    [
        ("local_size: 4", (1, 2, 3, 4), "local_size must be odd, so that the window has a middle, found 4"),
        ("local_size: 0", (1, 2, 3, 4), "local_size must be odd, so that the window has a middle, found 0"),
        ("", (2, 3, 4), 'needs exactly 4 axes (N, C, H, W), found "x" (2x3x4)'),
    ],
)
def test_refusals(param, shape, said):
    assert refusal(LRN.format(param), x=shape) == f'layer "n" (LRN): {said}'


def test_in_place_is_refused():
    text = LRN.format("").replace('top: "y"', 'top: "x"')
    assert "cannot work in place" in refusal(text, x=(1, 2, 3, 4))
