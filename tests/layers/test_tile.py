"""Tile."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.nets import check_layer, make, outcome, refusal, values

TILE = 'layer { name: "t" type: "Tile" bottom: "x" top: "y" tile_param { %s } }'


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("param", ["tiles: 3", "tiles: 2 axis: 0", "tiles: 4 axis: -1", "tiles: 1"])
def test_gradients_and_back_ends(param, phase, device):
    assert check_layer(TILE % param, device, phase, x=values(2, 3, 4)).excluded == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_blocks_are_repeated_as_a_whole(axis, device):
    net = make(TILE % f"tiles: 3 axis: {axis}", {"x": values(2, 3, 4)}, device=device)
    expected = np.concatenate([values(2, 3, 4)] * 3, axis)
    np.testing.assert_array_equal(net.forward()["y"], expected)


def test_gradients_of_copies_add_up(device):
    net = make(TILE % "tiles: 2", {"x": [[1.0, 2]]}, device=device)
    net.forward()
    net.blobs["y"].diff[...] = [[1, 2, 10, 20]]
    net.backward()
    assert net.blobs["x"].diff.tolist() == [[11, 22]]


def test_empty_batch(device):
    assert outcome(make(TILE % "tiles: 2", {"x": np.zeros((0, 3))}, device=device))["y 0"].shape == (0, 6)


@pytest.mark.parametrize(
    ("param", "said"),
    [
        ("", "tiles must be given and positive, found 0"),
        ("tiles: -2", "tiles must be given and positive, found -2"),
        ("tiles: 2 axis: 2", "axis 2 does not exist: the bottom has 2 axes"),
    ],
)
def test_refusals(param, said):
    assert refusal(TILE % param, x=(2, 3)) == f'layer "t" (Tile): {said}'
