"""Reshape."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.nets import check_layer, make, outcome, refusal, values

RESHAPE = 'layer { name: "r" type: "Reshape" bottom: "x" top: "y" reshape_param { %s } }'


def shape(*sizes: int, more: str = "") -> str:
    return RESHAPE % (f"shape {{ {' '.join(f'dim: {n}' for n in sizes)} }} {more}")


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_gradients_and_back_ends(phase, device):
    assert check_layer(shape(0, -1, 2), device, phase, x=values(2, 3, 4)).excluded == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (shape(2, 60), (2, 60)),
        (shape(-1), (120,)),
        (shape(0, -1, 2), (2, 30, 2)),
        (shape(0, 0, 0, 0), (2, 3, 4, 5)),
        (shape(5, 12, more="axis: 1"), (2, 5, 12)),
        (shape(-1, more="axis: 1 num_axes: 2"), (2, 12, 5)),
        (shape(0, 2, -1, more="axis: 1"), (2, 3, 2, 10)),
        (shape(1, more="axis: 2 num_axes: 0"), (2, 3, 1, 4, 5)),
        (shape(1, 1, more="axis: -1"), (2, 3, 4, 5, 1, 1)),
        (shape(2, 10, more="axis: -3"), (2, 3, 2, 10)),
        (shape(1, more="axis: 0 num_axes: 0"), (1, 2, 3, 4, 5)),
        (shape(-1, more="axis: 0 num_axes: 0"), (1, 2, 3, 4, 5)),
    ],
)
def test_shapes(text, expected, device):
    found = outcome(make(text, {"x": values(2, 3, 4, 5)}, device=device))
    np.testing.assert_array_equal(found["y 0"], values(2, 3, 4, 5).reshape(expected))
    assert found["gradient of x"].shape == (2, 3, 4, 5)


@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        (shape(0, -1), (0, 3, 4), (0, 12)),
        (shape(-1, 4), (0, 3, 4), (0, 4)),
        (shape(0, -1, 2), (5, 0, 4), (5, 0, 2)),
        (shape(0, 0, -1), (0, 0, 6), (0, 0, 6)),
    ],
)
def test_empty_blobs(text, given, expected, device):
    assert outcome(make(text, {"x": np.zeros(given)}, device=device))["y 0"].shape == expected


def test_one_value(device):
    text = RESHAPE % "shape { }"
    assert outcome(make(text, {"x": values(1, 1)}, device=device))["y 0"].shape == ()


def test_the_top_looks_at_the_bottom_also_after_it_has_grown(device):
    net = make(shape(0, -1), {"x": values(2, 3, 4)}, device=device)
    net.blobs["x"].reshape(7, 3, 4)
    net.forward()
    assert np.shares_memory(net.blobs["x"].data, net.blobs["y"].data)
    assert net.blobs["y"].shape == (7, 12)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (shape(-1, -1), "only one size can be inferred (-1)"),
        (shape(2, -3), "a size cannot be negative, except -1, found 2x-3"),
        (shape(1, more="axis: 4"), "axis 4 does not exist: the bottom has 3 axes"),
        (shape(1, more="axis: -5"), "axis -5 does not exist: the bottom has 3 axes"),
        (
            shape(1, more="num_axes: -2"),
            "num_axes must be at least 0, or -1 for all axes from axis on, found -2",
        ),
        (
            shape(1, more="axis: 2 num_axes: 2"),
            'num_axes 2 from axis 2 on runs past the end of "x" (2x3x4)',
        ),
        (
            shape(24, 0, 0, 0),
            'size 3 of the shape is 0, which copies axis 3 of "x" (2x3x4), but there is none',
        ),
        (shape(5, -1), '"x" (2x3x4) has 24 values and does not fit the shape 5x4'),
        (shape(5, 5), '"x" (2x3x4) has 24 values and does not fit the shape 5x5'),
    ],
)
def test_refusals(text, said):
    assert refusal(text, x=(2, 3, 4)) == f'layer "r" (Reshape): {said}'


def test_in_place_is_refused():
    assert "cannot work in place" in refusal(shape(6).replace('"y"', '"x"'), x=(2, 3))
