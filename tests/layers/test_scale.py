"""Scale."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import NetError
from tests.layers.nets import check_in_place, check_layer, make, outcome, randomise, refusal, values
from tests.layers.test_bias import GIVEN, LEARNED

SCALE = 'layer {{ name: "s" type: "Scale" bottom: "x" top: "y" scale_param {{ {} }} }}'
TWO = SCALE.replace('bottom: "x"', 'bottom: "x" bottom: "s"')
BIAS_TERM = ["", " bias_term: true"]


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("bias", BIAS_TERM)
@pytest.mark.parametrize(("text", "shape", "scale", "broadcast"), LEARNED)
def test_learned(text, shape, scale, broadcast, bias, phase, device):
    x = values(*shape)
    check_layer(SCALE.format(text + bias), device, phase, x=x)
    check_in_place(SCALE.format(text + bias), device, phase, x=x)
    net = make(SCALE.format(text + bias), {"x": x}, phase, device)
    assert [blob.shape for blob in net.params["s"]] == [scale] * (2 if bias else 1)
    randomise(net)
    net.forward()
    y = x * net.params["s"][0].data.reshape(broadcast)
    if bias:
        y = y + net.params["s"][1].data.reshape(broadcast)
    np.testing.assert_array_equal(net.blobs["y"].data, y)


@pytest.mark.parametrize("bias", BIAS_TERM)
@pytest.mark.parametrize(("text", "shape", "scale", "broadcast"), GIVEN)
def test_given(text, shape, scale, broadcast, bias, device):
    x, s = values(*shape), values(*scale, seed=1)
    check_layer(TWO.format(text + bias), device, x=x, s=s)
    check_in_place(TWO.format(text + bias), device, x=x, s=s)
    net = make(TWO.format(text + bias), {"x": x, "s": s}, device=device)
    randomise(net)
    y = x * s.reshape(broadcast)
    if bias:
        assert [blob.shape for blob in net.params["s"]] == [scale], "the only blob is the bias"
        y = y + net.params["s"][0].data.reshape(broadcast)
    np.testing.assert_array_equal(outcome(net)["y 0"], y)


def test_by_hand(device):
    net = make(SCALE.format("bias_term: true"), {"x": [[1, 2], [3, 4]]}, device=device)
    net.params["s"][0].data[...] = [10, 100]
    net.params["s"][1].data[...] = [1, -1]
    net.forward()
    assert net.blobs["y"].data.tolist() == [[11, 199], [31, 399]]
    net.blobs["y"].diff[...] = [[1, 0], [1, 5]]
    net.backward()
    assert net.blobs["x"].diff.tolist() == [[10, 0], [10, 500]]
    assert net.params["s"][0].diff.tolist() == [4, 20]
    assert net.params["s"][1].diff.tolist() == [2, 5]


@pytest.mark.parametrize(
    ("text", "scale", "bias"),
    [
        ("", 1, 0),
        ('filler { type: "constant" }', 0, 0),
        ("filler { }", 0, 0),
        ('filler { value: 3 } bias_filler { type: "constant" value: 2 }', 3, 2),
    ],
)
def test_fillers(text, scale, bias, device):
    net = make(SCALE.format(f"bias_term: true {text}"), {"x": values(2, 3)}, device=device)
    assert net.params["s"][0].data.tolist() == [scale] * 3
    assert net.params["s"][1].data.tolist() == [bias] * 3


@pytest.mark.parametrize("frozen", [0, 1])
def test_frozen_parameters_get_no_gradient(frozen, device):
    rates = " ".join(f"param {{ lr_mult: {int(i != frozen)} }}" for i in range(2))
    text = SCALE.format("bias_term: true").replace('top: "y"', f'top: "y" loss_weight: 1 {rates}')
    net = make(text, {"x": np.ones((2, 3))}, device=device, force_backward=False)
    net.forward()
    net.backward()
    diffs = [blob.diff.tolist() for blob in net.params["s"]]
    assert diffs[frozen] == [0, 0, 0]
    assert diffs[1 - frozen] == [2, 2, 2]


@pytest.mark.parametrize(
    ("text", "shape", "said"),
    [
        ("axis: -3", (2, 3), "axis -3 does not exist: the bottom has 2 axes"),
        ("num_axes: -2", (2, 3), "num_axes must be at least 0, or -1 for all axes from axis on, found -2"),
        ("axis: 2 num_axes: 2", (2, 3, 4), 'num_axes 2 from axis 2 on runs past the end of "x" (2x3x4)'),
    ],
)
def test_refusals(text, shape, said):
    assert refusal(SCALE.format(text), x=shape) == f'layer "s" (Scale): {said}'


def test_a_bottom_that_does_not_fit_is_refused():
    assert refusal(TWO.format(""), x=(2, 3, 4), s=(4,)) == (
        'layer "s" (Scale): "s" (4) does not fit on "x" (2x3x4) from axis 1 on: expected sizes 3'
    )


def test_learned_blobs_keep_their_shapes():
    net = make(SCALE.format(""), {"x": values(2, 3)})
    net.blobs["x"].reshape(2, 4)
    with pytest.raises(NetError, match=r'the learned blob \(3\) does not fit on "x" \(2x4\) from axis 1 on'):
        net.forward()
    net = make(TWO.format("bias_term: true"), {"x": values(2, 3), "s": values(3)})
    net.blobs["x"].reshape(2, 4)
    net.blobs["s"].reshape(4)
    with pytest.raises(NetError, match=r'"s" \(4\) must keep the shape of the bias, 3'):
        net.forward()


def test_macs():
    net = make(SCALE.format(""), {"x": values(2, 3, 4)})
    assert net.layers[1].macs([net.blobs["x"]], [net.blobs["y"]]) == 24
