"""DummyData."""

from __future__ import annotations

import numpy as np
import pytest

import caffebn
from caffebn.net import Net
from tests.layers.nets import refusal

DUMMY = 'layer {{ name: "d" type: "DummyData" top: "a" top: "b" dummy_data_param {{ {} }} }}'
SHAPES = "shape { dim: 2 dim: 3 } shape { dim: 4 }"


def make(param, phase="TRAIN", device="reference"):
    return Net.from_text(DUMMY.format(param), phase, device=device)


def data(net):
    return [net.blobs[name].data.copy() for name in "ab"]


@pytest.mark.parametrize(
    ("param", "shapes"),
    [
        (SHAPES, [(2, 3), (4,)]),
        ("shape { dim: 2 dim: 3 }", [(2, 3), (2, 3)]),
        ("shape { } shape { dim: 0 dim: 3 }", [(), (0, 3)]),
        ("num: 2 channels: 3 height: 4 width: 5", [(2, 3, 4, 5), (2, 3, 4, 5)]),
        ("num: 2 num: 7 channels: 3 height: 4 width: 5 width: 1", [(2, 3, 4, 5), (7, 3, 4, 1)]),
    ],
)
def test_shapes(param, shapes, device):
    net = make(param, device=device)
    assert [a.shape for a in data(net)] == shapes
    net.forward()
    assert [a.any() for a in data(net)] == [False, False], "without a filler the values are 0"


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_constants_are_filled_once_and_others_anew(phase, device):
    fillers = 'data_filler { value: 3 } data_filler { type: "gaussian" }'
    net = make(SHAPES + fillers, phase, device)
    constant, first = data(net)
    assert (constant == 3).all() and first.std() > 0, "filled when the net is made"
    net.blobs["a"].data[...] = 8
    net.forward()
    assert (net.blobs["a"].data == 8).all()
    second = data(net)[1]
    net.forward()
    assert (first != second).any() and (second != data(net)[1]).any()


def test_one_filler_for_all_tops(device):
    net = make(SHAPES + " data_filler { value: 2 }", device=device)
    assert [a.min() for a in data(net)] == [2, 2]


def test_the_seed_decides():
    results = []
    for _ in range(2):
        caffebn.set_random_seed(3)
        net = make(SHAPES + ' data_filler { type: "uniform" }')
        net.forward()
        results.append(np.concatenate([a.ravel() for a in data(net)]))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    ("param", "said"),
    [
        ("", "shape must be given once or 2 times, for each top, found 0 times"),
        (
            "shape { } shape { } shape { }",
            "shape must be given once or 2 times, for each top, found 3 times",
        ),
        (
            SHAPES + " data_filler { } data_filler { } data_filler { }",
            "data_filler must be given once or 2 times, for each top, found 3 times",
        ),
        ("num: 2 channels: 3 height: 4", "width must be given once or 2 times, for each top, found 0 times"),
        ("num: 2 shape { dim: 2 }", "give either shape or num, not both"),
        ("shape { dim: -2 }", "a size cannot be negative, found shape -2"),
    ],
)
def test_refusals(param, said):
    assert refusal(DUMMY.format(param)) == f'layer "d" (DummyData): {said}'


def test_a_filler_that_cannot_fill():
    message = refusal(DUMMY.format(SHAPES + ' data_filler { type: "bilinear" }'))
    assert message == 'layer "d" (DummyData): filler bilinear needs a square kernel with 4 axes, found 2x3'
