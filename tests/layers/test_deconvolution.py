"""Deconvolution."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.nets import check_layer, make, outcome, randomise, refusal, values

DECONV = 'layer {{ name: "d" type: "Deconvolution" bottom: "x" top: "y" convolution_param {{ {} }} }}'
CONV = 'layer {{ name: "c" type: "Convolution" bottom: "y" top: "z" convolution_param {{ {} }} }}'


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize(
    ("param", "shape"),
    [
        ("num_output: 3 kernel_size: 3", (2, 2, 3, 4)),
        ("num_output: 4 kernel_size: 4 stride: 2 pad: 1 group: 2", (1, 2, 3, 2)),
        ("num_output: 2 kernel_size: 2 dilation: 2 bias_term: false", (2, 3, 2, 3)),
        ("num_output: 2 kernel_h: 1 kernel_w: 3 stride_h: 2 stride_w: 1 pad_h: 0 pad_w: 2", (1, 2, 3, 4)),
        ("num_output: 3 kernel_size: 4 stride: 2 pad: 1 group: 3 bias_term: false", (2, 3, 2, 2)),
        ("num_output: 2 kernel_size: 2 stride: 2", (1, 2, 2, 1, 2)),
        ("num_output: 2 kernel_size: 3", (2, 3, 4)),
        ("num_output: 2 kernel_size: 3 axis: 2", (2, 1, 3, 4)),
        ("num_output: 2 kernel_size: 1", (2, 3, 2, 2)),
    ],
)
def test_gradients_and_back_ends(param, shape, phase, device):
    assert check_layer(DECONV.format(param), device, phase, x=values(*shape)).excluded == 0


def test_by_hand(device):
    net = make(DECONV.format("num_output: 1 kernel_size: 2 stride: 2"), {"x": [[[[1.0, 2]]]]}, device=device)
    net.params["d"][0].data[...] = np.array([[1, 10], [100, 1000]])
    net.params["d"][1].data[...] = 0.5
    expected = np.array([[1, 10, 2, 20], [100, 1000, 200, 2000]]) + 0.5
    np.testing.assert_array_equal(net.forward()["y"], expected[None, None])


def test_overlapping_kernels_add_up(device):
    net = make(
        DECONV.format("num_output: 1 kernel_size: 3 bias_term: false"), {"x": [[[1.0, 2]]]}, device=device
    )
    net.params["d"][0].data[...] = [1, 10, 100]
    assert net.forward()["y"].ravel().tolist() == [1, 12, 120, 200]


@pytest.mark.parametrize(
    "param", ["kernel_size: 3 stride: 2 pad: 1", "kernel_size: 2 dilation: 2", "kernel_size: 3 group: 2"]
)
def test_it_is_the_transposed_of_a_convolution(param, device):
    """<deconv(x), y> = <x, conv(y)> with the same weights."""
    param += " bias_term: false num_output: "
    x = values(2, 4, 3, 4)
    deconv = make(DECONV.format(param + "2"), {"x": x}, device=device)
    randomise(deconv)
    up = deconv.forward()["y"]
    y = values(*up.shape, seed=1)
    conv = make(CONV.format(param + "4"), {"y": y}, device=device)
    conv.params["c"][0].data[...] = deconv.params["d"][0].data
    assert conv.params["c"][0].shape == deconv.params["d"][0].shape
    np.testing.assert_allclose(np.sum(up * y), np.sum(conv.forward()["z"] * x), rtol=1e-12)


def test_bilinear_weights_interpolate(device):
    param = (
        'num_output: 1 kernel_size: 4 stride: 2 pad: 1 bias_term: false weight_filler { type: "bilinear" }'
    )
    line = np.arange(6.0)
    net = make(DECONV.format(param), {"x": line.reshape(1, 1, 1, 6) * np.ones((1, 1, 6, 1))}, device=device)
    inside = net.forward()["y"][0, 0, 2:-2, 2:-2]
    np.testing.assert_allclose(inside, np.broadcast_to(np.arange(0.75, 4.5, 0.5), inside.shape), rtol=1e-14)


def test_shape_of_the_weights(device):
    net = make(
        DECONV.format("num_output: 4 kernel_size: 3 group: 2"), {"x": values(1, 6, 2, 2)}, device=device
    )
    assert [blob.shape for blob in net.params["d"]] == [(6, 2, 3, 3), (4,)]


def test_several_bottoms_share_the_weights(device):
    text = DECONV.format("num_output: 2 kernel_size: 2")
    text = text.replace('top: "y"', 'bottom: "w" top: "y" top: "v"')
    check_layer(text, device, x=values(1, 2, 2, 3), w=values(1, 2, 2, 3, seed=1))


def test_empty_batch(device):
    net = make(
        DECONV.format("num_output: 2 kernel_size: 3 pad: 1"), {"x": np.zeros((0, 2, 3, 3))}, device=device
    )
    found = outcome(net)
    assert found["y 0"].shape == (0, 2, 3, 3) and not found["gradient of d[0]"].any()


def test_new_shapes(device):
    net = make(
        DECONV.format("num_output: 2 kernel_size: 4 stride: 2 pad: 1"),
        {"x": values(1, 2, 3, 4)},
        device=device,
    )
    net.blobs["x"].reshape(3, 2, 5, 2)
    assert net.forward()["y"].shape == (3, 2, 10, 4)


def test_macs_are_those_of_the_convolution():
    net = make(DECONV.format("num_output: 4 kernel_size: 3 group: 2 stride: 2"), {"x": values(2, 6, 3, 5)})
    assert net.layers[1].macs([net.blobs["x"]], [net.blobs["y"]]) == 2 * 15 * 6 * 2 * 9


@pytest.mark.parametrize(
    ("param", "said"),
    [
        ("kernel_size: 3", "num_output must be given and positive"),
        ("num_output: 2", "kernel_size must be given once or 2 times, for each spatial axis, found 0 times"),
        (
            "num_output: 3 kernel_size: 3 group: 2",
            'num_output and the channels must be multiples of group 2, found num_output 3 and 4 channels in "x" '
            "(1x4x2x3)",
        ),
        (
            "num_output: 2 kernel_size: 3 pad: 2",
            'pad 2x2 leaves nothing of the top: "x" (1x4x2x3) would become 0x1',
        ),
    ],
)
def test_refusals(param, said):
    assert refusal(DECONV.format(param), x=(1, 4, 2, 3)) == f'layer "d" (Deconvolution): {said}'
