"""Crop."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.nets import check_layer, make, outcome, refusal, values

CROP = 'layer { name: "c" type: "Crop" bottom: "x" bottom: "ref" top: "y" crop_param { %s } }'


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize(
    "param", ["", "offset: 1", "offset: 2 offset: 0", "axis: 1 offset: 1 offset: 2 offset: 0"]
)
def test_gradients_and_back_ends(param, phase, device):
    x, ref = values(2, 4, 5, 6), values(9, 3, 3, 4)
    assert check_layer(CROP % param, device, phase, x=x, ref=ref).excluded == 0


@pytest.mark.parametrize(
    ("param", "where"),
    [
        ("", np.s_[:, :, :2, :3]),
        ("offset: 1", np.s_[:, :, 1:3, 1:4]),
        ("offset: 3 offset: 0", np.s_[:, :, 3:5, :3]),
        ("axis: 3 offset: 2", np.s_[:, :, :, 2:5]),
        ("axis: -1 offset: 2", np.s_[:, :, :, 2:5]),
        ("axis: 0 offset: 1 offset: 0 offset: 1 offset: 2", np.s_[1:2, :2, 1:3, 2:5]),
    ],
)
def test_by_hand(param, where, device):
    x = values(2, 4, 5, 6)
    net = make(CROP % param, {"x": x, "ref": np.zeros((1, 2, 2, 3))}, device=device)
    np.testing.assert_array_equal(net.forward()["y"], x[where])
    net.blobs["y"].diff[...] = dy = values(*x[where].shape, seed=1)
    net.blobs["ref"].diff[...] = 7
    net.backward()
    expected = np.zeros_like(x)
    expected[where] = dy
    np.testing.assert_array_equal(net.blobs["x"].diff, expected)
    assert not net.blobs["ref"].diff.any(), "the gradient of what gives the size is 0"


def test_any_number_of_axes(device):
    for n_axes in (1, 2, 5):
        x = values(*[3] * n_axes)
        net = make(CROP % "axis: 0 offset: 1", {"x": x, "ref": np.zeros([2] * n_axes)}, device=device)
        np.testing.assert_array_equal(net.forward()["y"], x[(slice(1, 3),) * n_axes])


def test_empty_batch(device):
    found = outcome(
        make(CROP % "", {"x": np.zeros((0, 2, 5, 5)), "ref": np.zeros((1, 1, 3, 3))}, device=device)
    )
    assert found["y 0"].shape == (0, 2, 3, 3)


@pytest.mark.parametrize(
    ("param", "x", "ref", "said"),
    [
        (
            "",
            (1, 2, 5, 5),
            (5, 5),
            'the bottoms must have the same number of axes, found "x" (1x2x5x5) and "ref" (5x5)',
        ),
        ("axis: 4", (1, 2, 5, 5), (1, 2, 3, 3), "axis 4 does not exist: the bottom has 4 axes"),
        (
            "axis: 1 offset: 1 offset: 1",
            (1, 2, 5, 5),
            (1, 2, 3, 3),
            "offset must be given once or 3 times, for each axis from 1 on, found 2 times",
        ),
        (
            "offset: 3",
            (1, 2, 5, 5),
            (1, 2, 2, 3),
            'axis 3: a block of 3 at offset 3 does not lie within "x" (1x2x5x5); bottom 1 is "ref" (1x2x2x3)',
        ),
    ],
)
def test_refusals(param, x, ref, said):
    assert refusal(CROP % param, x=x, ref=ref) == f'layer "c" (Crop): {said}'
