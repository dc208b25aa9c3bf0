"""SPP."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.nets import check_layer, make, outcome, refusal, values

SPP = 'layer {{ name: "s" type: "SPP" bottom: "x" top: "y" spp_param {{ {} }} }}'


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize(("height", "shape"), [(1, (2, 3, 5, 4)), (2, (2, 2, 5, 7)), (3, (1, 2, 9, 8))])
def test_gradients_and_back_ends(height, shape, pool, phase, device):
    text = SPP.format(f"pyramid_height: {height} pool: {pool}")
    assert check_layer(text, device, phase, x=values(*shape)).excluded == 0


def test_by_hand(device):
    x = np.arange(1.0, 17).reshape(1, 1, 4, 4)
    net = make(SPP.format("pyramid_height: 2"), {"x": x}, device=device)
    assert net.forward()["y"].tolist() == [[16, 6, 8, 14, 16]]
    net.blobs["y"].diff[...] = [100, 1, 2, 3, 4]
    net.backward()
    expected = np.zeros((4, 4))
    expected[1, 1], expected[1, 3], expected[3, 1], expected[3, 3] = 1, 2, 3, 104
    np.testing.assert_array_equal(net.blobs["x"].diff[0, 0], expected)
    averages = make(SPP.format("pyramid_height: 2 pool: AVE"), {"x": x}, device=device).forward()["y"]
    assert averages.tolist() == [[8.5, 3.5, 5.5, 11.5, 13.5]]


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_each_level_is_a_pooling(pool, device):
    """Level i: kernel = stride = ceil(size / 2^i), pad = (kernel 2^i - size + 1) / 2."""
    x = values(2, 3, 9, 7)
    whole = make(SPP.format(f"pyramid_height: 3 pool: {pool}"), {"x": x}, device=device).forward()["y"]
    sizes = {1: (9, 7, 0, 0), 2: (5, 4, 1, 1), 4: (3, 2, 2, 1)}
    parts = []
    for h, w, pad_h, pad_w in sizes.values():
        text = (
            f'layer {{ name: "p" type: "Pooling" bottom: "x" top: "y" pooling_param {{ pool: {pool} kernel_h: {h} '
            f"kernel_w: {w} stride_h: {h} stride_w: {w} pad_h: {pad_h} pad_w: {pad_w} }} }}"
        )
        parts.append(make(text, {"x": x}, device=device).forward()["y"].reshape(2, -1))
    np.testing.assert_array_equal(whole, np.concatenate(parts, 1))


def test_one_level_keeps_4_axes(device):
    assert make(SPP.format("pyramid_height: 1"), {"x": values(2, 3, 5, 6)}, device=device).forward()[
        "y"
    ].shape == (2, 3, 1, 1)


def test_new_shapes(device):
    net = make(SPP.format("pyramid_height: 2"), {"x": values(2, 3, 4, 4)}, device=device)
    net.blobs["x"].reshape(1, 3, 10, 8)
    net.blobs["x"].data[...] = values(1, 3, 10, 8)
    assert net.forward()["y"].shape == (1, 15)


def test_empty_batch(device):
    found = outcome(make(SPP.format("pyramid_height: 2"), {"x": np.zeros((0, 3, 4, 4))}, device=device))
    assert found["y 0"].shape == (0, 15)


@pytest.mark.parametrize(
    ("param", "shape", "said"),
    [
        ("", (1, 2, 4, 4), "pyramid_height must be given and positive"),
        (
            "pyramid_height: 1 pool: STOCHASTIC",
            (1, 2, 4, 4),
            "pool: STOCHASTIC is not supported (nor is it by Caffe's CPU): use MAX or AVE",
        ),
        ("pyramid_height: 1", (2, 4, 4), 'needs exactly 4 axes (N, C, H, W), found "x" (2x4x4)'),
        (
            "pyramid_height: 4",
            (1, 2, 2, 9),
            '"x" (1x2x2x9) is too small for a level of 4x4 bins: write a smaller pyramid_height',
        ),
    ],
)
def test_refusals(param, shape, said):
    assert refusal(SPP.format(param), x=shape) == f'layer "s" (SPP): {said}'
