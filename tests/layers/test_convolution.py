"""Convolution."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import NetError
from tests.layers.nets import check_layer, make, outcome, randomise, refusal, values

CONV = 'layer {{ name: "c" type: "Convolution" bottom: "x" top: "y" convolution_param {{ {} }} }}'


def convolve(x, w, bias, stride, pad, dilation, group):
    """Sum over the window of each place, one place at a time."""
    spatial = x.ndim - 2
    x = np.pad(x, [(0, 0)] * 2 + [(p, p) for p in pad])
    kernel = w.shape[2:]
    out = [
        (n - (d * (k - 1) + 1)) // s + 1
        for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)
    ]
    y = np.zeros((len(x), len(w), *out))
    channels, outputs = w.shape[1], len(w) // group
    for o in range(len(w)):
        first = o // outputs * channels
        for place in np.ndindex(*out):
            window = tuple(
                slice(p * s, p * s + d * (k - 1) + 1, d)
                for p, s, d, k in zip(place, stride, dilation, kernel, strict=True)
            )
            part = x[(slice(None), slice(first, first + channels), *window)]
            y[(slice(None), o, *place)] = (part * w[o]).sum(axis=tuple(range(1, spatial + 2)))
    return y if bias is None else y + bias.reshape(-1, *[1] * spatial)


ONE, TWO, NONE = (1, 1), (2, 2), (0, 0)

# shape of x, parameters, stride, pad, dilation, group
CASES = [
    ((2, 3, 6, 5), "num_output: 4 kernel_size: 3", ONE, NONE, ONE, 1),
    ((2, 3, 6, 5), "num_output: 4 kernel_size: 3 bias_term: false", ONE, NONE, ONE, 1),
    ((2, 3, 6, 5), "num_output: 2 kernel_size: 3 stride: 2 pad: 1", TWO, ONE, ONE, 1),
    ((2, 3, 4, 5), "num_output: 4 kernel_size: 1", ONE, NONE, ONE, 1),
    ((2, 3, 4, 5), "num_output: 4 kernel_size: 1 stride: 2", TWO, NONE, ONE, 1),
    ((2, 3, 3, 4), "num_output: 2 kernel_size: 1 pad: 1", ONE, ONE, ONE, 1),
    ((1, 2, 7, 6), "num_output: 2 kernel_size: 3 dilation: 2 pad: 2", ONE, TWO, TWO, 1),
    (
        (1, 2, 7, 6),
        "num_output: 2 kernel_h: 3 kernel_w: 2 pad_h: 2 pad_w: 1 stride_h: 2 stride_w: 1",
        *((2, 1), (2, 1), ONE, 1),
    ),
    (
        (1, 2, 6, 6),
        "num_output: 2 kernel_size: 3 kernel_size: 2 stride: 2 stride: 1 pad: 0 pad: 1 dilation: 1 dilation: 3",
        *((2, 1), (0, 1), (1, 3), 1),
    ),
    ((1, 2, 4, 5), "num_output: 2 kernel_size: 2 pad_h: 1", ONE, (1, 0), ONE, 1),
    ((1, 2, 4, 5), "num_output: 2 kernel_size: 2 pad_w: 1", ONE, (0, 1), ONE, 1),
    ((2, 4, 5, 4), "num_output: 6 kernel_size: 3 group: 2", ONE, NONE, ONE, 2),
    ((2, 3, 5, 4), "num_output: 3 kernel_size: 3 group: 3 pad: 1", ONE, ONE, ONE, 3),
    ((2, 3, 5, 4), "num_output: 6 kernel_size: 3 group: 3 pad: 1 stride: 2", TWO, ONE, ONE, 3),
    ((2, 4, 7, 6), "num_output: 4 kernel_size: 3 group: 2 dilation: 2 pad: 2 stride: 2", TWO, TWO, TWO, 2),
    ((2, 3, 8), "num_output: 4 kernel_size: 3 pad: 1 stride: 2", (2,), (1,), (1,), 1),
    ((2, 4, 7), "num_output: 4 kernel_size: 3 dilation: 2 group: 4", (1,), (0,), (2,), 4),
    (
        (1, 2, 3, 5, 4),
        "num_output: 3 kernel_size: [2, 3, 2] stride: [1, 2, 1] pad: [1, 0, 1]",
        *((1, 2, 1), (1, 0, 1), (1, 1, 1), 1),
    ),
    ((1, 2, 2, 3, 2, 3), "num_output: 2 kernel_size: 2", (1,) * 4, (0,) * 4, (1,) * 4, 1),
    ((3, 4), "num_output: 2", (), (), (), 1),
    ((1, 1, 1, 1), "num_output: 1 kernel_size: 1", ONE, NONE, ONE, 1),
]


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize(("shape", "text", "stride", "pad", "dilation", "group"), CASES)
def test_geometries(shape, text, stride, pad, dilation, group, phase, device):
    x = values(*shape)
    check_layer(CONV.format(text), device, phase, x=x)
    net = make(CONV.format(text), {"x": x}, phase, device)
    randomise(net)
    weights, *bias = (blob.data for blob in net.params["c"])
    expected = convolve(x, weights, bias[0] if bias else None, stride, pad, dilation, group)
    found = net.forward()["y"]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("axis", "shape"), [(2, (2, 3, 4, 5, 6)), (-3, (2, 3, 4, 5, 6)), (0, (3, 5, 4)), (3, (2, 2, 2, 3, 4))]
)
def test_axes_before_the_channel_are_independent(axis, shape, device):
    x = values(*shape)
    text = CONV.format(f"num_output: 2 kernel_size: 2 axis: {axis}")
    check_layer(text, device, x=x)
    channel = axis % len(shape)
    flat = x.reshape(-1, *shape[channel:])
    net, one = (
        make(text, {"x": x}, device=device),
        make(CONV.format("num_output: 2 kernel_size: 2"), {"x": flat}),
    )
    randomise(net)
    randomise(one)
    found = net.forward()["y"]
    np.testing.assert_allclose(
        found.reshape(len(flat), *found.shape[channel:]), one.forward()["y"], rtol=1e-12
    )


def test_bottoms_share_the_weights(device):
    text = CONV.format("num_output: 2 kernel_size: 3 pad: 1")
    two = text.replace('bottom: "x" top: "y"', 'bottom: "x" bottom: "x2" top: "y" top: "y2"')
    x, x2 = values(2, 3, 4, 5), values(2, 3, 4, 5, seed=1)
    check_layer(two, device, x=x, x2=x2)
    net = make(two, {"x": x, "x2": x2}, device=device)
    randomise(net)
    both = outcome(net)
    one = make(text, {"x": x2}, device=device)
    randomise(one)
    np.testing.assert_array_equal(both["y2 1"], one.forward()["y"])
    message = refusal(two, x=(2, 3, 4, 5), x2=(2, 3, 5, 4))
    assert (
        message
        == 'layer "c" (Convolution): the bottoms must have one shape, found "x" (2x3x4x5) and "x2" (2x3x5x4)'
    )
    message = refusal(two.replace('top: "y2"', ""), x=(2, 3, 4, 5), x2=(2, 3, 4, 5))
    assert message == 'layer "c" (Convolution): needs as many tops as bottoms, found 2 bottoms and 1 tops'


def test_by_hand(device):
    """The kernel is not flipped."""
    net = make(CONV.format("num_output: 1 kernel_h: 1 kernel_w: 2"), {"x": [[[[1, 2, 4]]]]}, device=device)
    net.params["c"][0].data[...] = [10, 1]
    net.params["c"][1].data[...] = 0.5
    assert net.forward()["y"].tolist() == [[[[12.5, 24.5]]]]
    net.blobs["y"].diff[...] = [1, 3]
    net.backward()
    assert net.blobs["x"].diff.tolist() == [[[[10, 31, 3]]]]
    assert net.params["c"][0].diff.tolist() == [[[[7, 14]]]]
    assert net.params["c"][1].diff.tolist() == [4]


def test_parameters(device):
    fillers = 'weight_filler { type: "constant" value: 2 } bias_filler { type: "constant" value: -1 }'
    net = make(
        CONV.format(f"num_output: 4 kernel_size: 3 group: 2 {fillers}"),
        {"x": values(2, 6, 4, 4)},
        device=device,
    )
    assert [blob.shape for blob in net.params["c"]] == [(4, 3, 3, 3), (4,)]
    assert (net.params["c"][0].data == 2).all()
    assert (net.params["c"][1].data == -1).all()
    net = make(CONV.format("num_output: 4 kernel_size: 3"), {"x": values(2, 6, 4, 4)}, device=device)
    assert not net.params["c"][0].data.any(), "the default filler is the constant 0"


def test_implementation_fields_change_nothing(device):
    plain = "num_output: 4 kernel_size: 3"
    results = []
    for text in (plain, plain + " engine: CUDNN", plain + " force_nd_im2col: true"):
        net = make(CONV.format(text), {"x": values(2, 3, 4, 4)}, device=device)
        randomise(net)
        results.append(net.forward()["y"].copy())
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])


@pytest.mark.parametrize("frozen", [0, 1])
def test_frozen_parameters_get_no_gradient(frozen, device):
    rates = " ".join(f"param {{ lr_mult: {int(i != frozen)} }}" for i in range(2))
    text = CONV.format("num_output: 1 kernel_size: 2").replace('top: "y"', f'top: "y" loss_weight: 1 {rates}')
    net = make(text, {"x": np.ones((2, 1, 3, 3))}, device=device, force_backward=False)
    net.forward()
    net.backward()
    diffs = [blob.diff for blob in net.params["c"]]
    assert not diffs[frozen].any()
    assert (diffs[1 - frozen] == 8).all()


def test_empty_batch(device):
    net = make(
        CONV.format("num_output: 4 kernel_size: 3 pad: 1"), {"x": np.zeros((0, 3, 4, 4))}, device=device
    )
    randomise(net)
    found = outcome(net)
    assert found["y 0"].shape == (0, 4, 4, 4)
    assert not found["gradient of c[0]"].any()


def test_batch_and_plane_may_change(device):
    net = make(
        CONV.format("num_output: 2 kernel_size: 3 pad: 1 stride: 2"), {"x": values(1, 3, 4, 4)}, device=device
    )
    randomise(net)
    weights, bias = (blob.data for blob in net.params["c"])
    for shape in [(3, 3, 9, 8), (2, 3, 3, 3)]:
        net.blobs["x"].reshape(*shape)
        net.blobs["x"].data[...] = values(*shape)
        expected = convolve(values(*shape), weights, bias, (2, 2), (1, 1), (1, 1), 1)
        np.testing.assert_allclose(net.forward()["y"], expected, rtol=1e-11, atol=1e-11)
    net.blobs["x"].reshape(2, 4, 3, 3)
    with pytest.raises(
        NetError, match=r'has weights for 4 axes with 3 channels \(axis 1\), found "x" \(2x4x3x3\)'
    ):
        net.forward()
    net.blobs["x"].reshape(2, 3, 9)
    with pytest.raises(
        NetError, match=r'has weights for 4 axes with 3 channels \(axis 1\), found "x" \(2x3x9\)'
    ):
        net.forward()


def test_macs():
    net = make(CONV.format("num_output: 4 kernel_size: 3 group: 2 stride: 2"), {"x": values(2, 6, 7, 9)})
    x, y = net.blobs["x"], net.blobs["y"]
    assert net.layers[1].macs([x], [y]) == 2 * 4 * (3 * 4) * (3 * 3 * 3)
    assert net.layers[1].macs([x, x], [y, y]) == 2 * net.layers[1].macs([x], [y])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("num_output: 0 kernel_size: 3", "num_output must be given and positive"),
        ("kernel_size: 3", "num_output must be given and positive"),
        ("num_output: 2", "kernel_size must be given once or 2 times, for each spatial axis, found 0 times"),
        (
            "num_output: 2 kernel_size: [3, 3, 3]",
            "kernel_size must be given once or 2 times, for each spatial axis, found 3 times",
        ),
        ("num_output: 2 kernel_size: 0", "kernel_size must be positive"),
        ("num_output: 2 kernel_h: 0 kernel_w: 1", "kernel_size must be positive"),
        (
            "num_output: 2 kernel_size: 3 kernel_h: 3 kernel_w: 3",
            "give either kernel_size or kernel_h and kernel_w, not both",
        ),
        ("num_output: 2 kernel_h: 3", "kernel_h and kernel_w must be given together"),
        ("num_output: 2 kernel_size: 1 stride_w: 2", "stride_h and stride_w must be given together"),
        ("num_output: 2 kernel_size: 1 stride: 0", "stride must be positive"),
        (
            "num_output: 2 kernel_size: 1 stride: 1 stride_h: 1 stride_w: 1",
            "give either stride or stride_h and stride_w, not both",
        ),
        (
            "num_output: 2 kernel_size: 1 pad: [1, 1, 1]",
            "pad must be given once or 2 times, for each spatial axis, found 3 times",
        ),
        ("num_output: 2 kernel_size: 1 pad: 1 pad_w: 1", "give either pad or pad_h and pad_w, not both"),
        ("num_output: 2 kernel_size: 1 dilation: 0", "dilation must be positive"),
        ("num_output: 2 kernel_size: 1 group: 0", "group must be positive"),
        (
            "num_output: 2 kernel_size: 1 group: 4",
            "num_output and the channels must be multiples of group 4, "
            'found num_output 2 and 4 channels in "x" (1x4x5x6)',
        ),
        (
            "num_output: 6 kernel_size: 1 group: 3",
            "num_output and the channels must be multiples of group 3, "
            'found num_output 6 and 4 channels in "x" (1x4x5x6)',
        ),
        ("num_output: 2 kernel_size: 1 axis: 4", "axis 4 does not exist: the bottom has 4 axes"),
        (
            "num_output: 2 kernel_size: 6",
            'the kernel spans 6x6 and does not fit into "x" (1x4x5x6) with pad 0x0',
        ),
        (
            "num_output: 2 kernel_size: 5 pad: 1 dilation: 2 stride: 9",
            'the kernel spans 9x9 and does not fit into "x" (1x4x5x6) with pad 1x1',
        ),
    ],
)
def test_refusals(text, said):
    assert refusal(CONV.format(text), x=(1, 4, 5, 6)) == f'layer "c" (Convolution): {said}'


@pytest.mark.parametrize(
    ("field", "shape"), [("kernel", (1, 4, 5)), ("stride", (1, 4, 5, 5, 5)), ("pad", (1, 4, 5))]
)
def test_pairs_are_for_two_spatial_axes(field, shape):
    size = "" if field == "kernel" else "kernel_size: 1"
    message = refusal(CONV.format(f"num_output: 2 {size} {field}_h: 1 {field}_w: 1"), x=shape)
    square = "kernel_size" if field == "kernel" else field
    assert message == (
        f'layer "c" (Convolution): {field}_h is for 2 spatial axes, found {len(shape) - 2}: use {square}'
    )


def test_in_place_is_refused():
    text = CONV.format("num_output: 3 kernel_size: 1").replace('top: "y"', 'top: "x"')
    assert "cannot work in place" in refusal(text, x=(1, 3, 4, 4))
