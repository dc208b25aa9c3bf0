"""Im2col."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.nets import check_layer, make, outcome, refusal, values

IM2COL = 'layer {{ name: "i" type: "Im2col" bottom: "x" top: "y" convolution_param {{ {} }} }}'


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize(
    ("param", "shape"),
    [
        ("kernel_size: 3", (2, 2, 4, 3)),
        ("kernel_size: 2 stride: 2 pad: 1 dilation: 2", (1, 2, 4, 3)),
        ("kernel_h: 1 kernel_w: 2 pad_w: 1", (1, 2, 3, 2)),
        ("kernel_size: 2 axis: 2", (2, 2, 1, 3)),
        ("kernel_size: 2 kernel_size: 1 kernel_size: 2", (1, 2, 2, 2, 3)),
    ],
)
def test_gradients_and_back_ends(param, shape, phase, device):
    assert check_layer(IM2COL.format(param), device, phase, x=values(*shape)).excluded == 0


def test_by_hand(device):
    x = np.arange(1.0, 10).reshape(1, 1, 3, 3)
    y = make(IM2COL.format("kernel_size: 2"), {"x": x}, device=device).forward()["y"]
    assert y[0].tolist() == [[[1, 2], [4, 5]], [[2, 3], [5, 6]], [[4, 5], [7, 8]], [[5, 6], [8, 9]]]


def test_the_channel_is_slowest(device):
    x = np.arange(2.0).reshape(1, 2, 1, 1) + np.zeros((1, 1, 2, 2))
    y = make(IM2COL.format("kernel_size: 2"), {"x": x}, device=device).forward()["y"]
    assert y.ravel().tolist() == [0] * 4 + [1] * 4


def test_items_before_the_channel_axis_are_independent(device):
    x = values(2, 3, 4, 5, 6)
    whole = make(IM2COL.format("kernel_size: 3 axis: 2"), {"x": x}, device=device).forward()["y"]
    part = make(IM2COL.format("kernel_size: 3"), {"x": x[1]}, device=device).forward()["y"]
    np.testing.assert_array_equal(whole[1], part)


def test_empty_batch(device):
    found = outcome(make(IM2COL.format("kernel_size: 2"), {"x": np.zeros((0, 2, 3, 3))}, device=device))
    assert found["y 0"].shape == (0, 8, 2, 2)


def test_new_shapes(device):
    net = make(IM2COL.format("kernel_size: 2 pad: 1"), {"x": values(1, 2, 3, 4)}, device=device)
    net.blobs["x"].reshape(3, 1, 5, 2)
    assert net.forward()["y"].shape == (3, 4, 6, 3)
    net.blobs["x"].reshape(3, 1, 5)
    with pytest.raises(ValueError, match=r'layer "i" \(Im2col\): was made for 4 axes, found "x" \(3x1x5\)'):
        net.forward()


@pytest.mark.parametrize(
    ("param", "said"),
    [
        ("", "kernel_size must be given once or 2 times, for each spatial axis, found 0 times"),
        ("kernel_size: 2 axis: 4", "axis 4 does not exist: the bottom has 4 axes"),
        (
            "kernel_size: 3 dilation: 2 pad: 0",
            'the kernel spans 5x5 and does not fit into "x" (1x2x3x4) with pad 0x0',
        ),
    ],
)
def test_refusals(param, said):
    assert refusal(IM2COL.format(param), x=(1, 2, 3, 4)) == f'layer "i" (Im2col): {said}'
