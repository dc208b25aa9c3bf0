"""Slice."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.nets import check_layer, make, outcome, refusal, values

SLICE = 'layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" top: "c" slice_param { %s } }'


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize(
    "param",
    [
        "",
        "slice_point: 1 slice_point: 4",
        "axis: 2",
        "axis: -1 slice_point: 2 slice_point: 3",
        "slice_dim: 2",
    ],
)
def test_gradients_and_back_ends(param, phase, device):
    assert check_layer(SLICE % param, device, phase, x=values(2, 6, 3, 4)).excluded == 0


def test_by_hand(device):
    net = make(SLICE % "slice_point: 1 slice_point: 3", {"x": np.arange(8.0).reshape(2, 4)}, device=device)
    net.forward()
    assert [net.blobs[name].data.tolist() for name in "abc"] == [
        [[0], [4]],
        [[1, 2], [5, 6]],
        [[3], [7]],
    ]
    for i, name in enumerate("abc"):
        net.blobs[name].diff[...] = i
    net.backward()
    assert net.blobs["x"].diff.tolist() == [[0, 1, 1, 2]] * 2


def test_slice_undoes_concat(device):
    text = 'layer { name: "cat" type: "Concat" bottom: "p" bottom: "q" top: "x" concat_param { axis: 0 } }'
    text += 'layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" slice_param { axis: 0 slice_point: 2 } }'
    net = make(text, {"p": values(2, 3), "q": values(5, 3)}, device=device)
    net.forward()
    np.testing.assert_array_equal(net.blobs["a"].data, values(2, 3))
    np.testing.assert_array_equal(net.blobs["b"].data, values(5, 3))


def test_one_top(device):
    text = 'layer { name: "s" type: "Slice" bottom: "x" top: "y" }'
    check_layer(text, device, x=values(2, 3))


def test_empty_batch(device):
    found = outcome(make(SLICE % "", {"x": np.zeros((0, 6, 2))}, device=device))
    assert found["a 0"].shape == (0, 2, 2)


@pytest.mark.parametrize(
    ("param", "shape", "said"),
    [
        ("axis: 1 slice_dim: 1", (2, 3), "axis and slice_dim say the same thing: give only one of them"),
        ("slice_point: 1", (2, 3), "3 tops need 2 slice_point entries, or none for equal pieces, found 1"),
        ("axis: 2", (2, 3), "axis 2 does not exist: the bottom has 2 axes"),
        ("slice_dim: 2", (2, 3), "slice_dim 2 does not exist: the bottom has 2 axes"),
        ("", (2, 4), 'a size of 4 cannot be cut into 3 equal pieces: "x" (2x4)'),
        (
            "slice_point: 2 slice_point: 2",
            (2, 4),
            'slice_point must grow and lie between 0 and 4, the size of the axis in "x" (2x4), found 2, 2',
        ),
        (
            "slice_point: 0 slice_point: 2",
            (2, 4),
            'slice_point must grow and lie between 0 and 4, the size of the axis in "x" (2x4), found 0, 2',
        ),
        (
            "slice_point: 1 slice_point: 4",
            (2, 4),
            'slice_point must grow and lie between 0 and 4, the size of the axis in "x" (2x4), found 1, 4',
        ),
    ],
)
def test_refusals(param, shape, said):
    assert refusal(SLICE % param, x=shape) == f'layer "s" (Slice): {said}'
