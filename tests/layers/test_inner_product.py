"""InnerProduct."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import NetError
from tests.layers.nets import check_layer, make, outcome, randomise, refusal, values

IP = 'layer {{ name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param {{ {} }} }}'


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize(
    "more", ["", "bias_term: false", "transpose: true", "transpose: true bias_term: false"]
)
@pytest.mark.parametrize(
    ("axis", "shape"), [(1, (4, 3)), (1, (2, 3, 2, 2)), (0, (2, 3)), (2, (2, 3, 4)), (-1, (3, 2, 4))]
)
def test_against_numpy(axis, shape, more, phase, device):
    text = IP.format(f"num_output: 5 axis: {axis} {more}")
    x = values(*shape)
    check_layer(text, device, phase, x=x)

    net = make(text, {"x": x}, phase, device)
    randomise(net)
    net.forward()
    w = net.params["ip"][0].data
    flat = x.reshape(int(np.prod(shape[: axis % len(shape)])), -1)
    y = flat @ (w if "transpose" in more else w.T)
    if "bias_term" not in more:
        y = y + net.params["ip"][1].data
    else:
        assert len(net.params["ip"]) == 1
    found = net.blobs["y"].data
    assert found.shape == (*shape[: axis % len(shape)], 5)
    np.testing.assert_allclose(found, y.reshape(found.shape), rtol=1e-12, atol=1e-12)


def test_parameters(device):
    fillers = 'weight_filler { type: "constant" value: 2 } bias_filler { type: "constant" value: -1 }'
    net = make(IP.format(f"num_output: 3 {fillers}"), {"x": values(2, 4)}, device=device)
    assert [blob.shape for blob in net.params["ip"]] == [(3, 4), (3,)]
    assert (net.params["ip"][0].data == 2).all()
    assert (net.params["ip"][1].data == -1).all()
    net = make(IP.format("num_output: 3 transpose: true"), {"x": values(2, 4)}, device=device)
    assert net.params["ip"][0].shape == (4, 3)
    assert not net.params["ip"][0].data.any(), "the default filler is the constant 0"


def test_frozen_parameters_get_no_gradient(device):
    text = IP.format("num_output: 3").replace('top: "y"', 'top: "y" loss_weight: 1 param { lr_mult: 0 }')
    net = make(text, {"x": values(2, 4)}, device=device, force_backward=False)
    net.forward()
    net.backward()
    assert not net.params["ip"][0].diff.any()
    assert net.params["ip"][1].diff.tolist() == [2, 2, 2]


def test_macs():
    net = make(IP.format("num_output: 5 axis: 2"), {"x": values(2, 3, 4)})
    assert net.layers[1].macs([net.blobs["x"]], [net.blobs["y"]]) == 2 * 3 * 4 * 5


@pytest.mark.parametrize("shape", [(1, 1), (0, 4), (1, 3, 1, 1)])
def test_shapes(shape, device):
    assert outcome(make(IP.format("num_output: 2"), {"x": values(*shape)}, device=device))["y 0"].shape == (
        shape[0],
        2,
    )


def test_the_batch_may_change_and_the_inputs_may_not(device):
    net = make(IP.format("num_output: 2"), {"x": values(3, 4, 5)}, device=device)
    net.blobs["x"].reshape(7, 5, 4)
    net.forward()
    assert net.blobs["y"].shape == (7, 2)
    net.blobs["x"].reshape(7, 5, 5)
    with pytest.raises(
        NetError, match=r'has weights for 20 inputs \(all axes from axis 1 on\), found "x" \(7x5x5\)'
    ):
        net.forward()


@pytest.mark.parametrize(
    ("param", "said"),
    [
        ("", "num_output must be given and positive"),
        ("num_output: 0", "num_output must be given and positive"),
        ("num_output: 3 axis: 2", "axis 2 does not exist: the bottom has 2 axes"),
    ],
)
def test_refusals(param, said):
    assert refusal(IP.format(param), x=(2, 4)) == f'layer "ip" (InnerProduct): {said}'


def test_an_error_of_a_filler_names_the_layer():
    param = 'num_output: 3 weight_filler { type: "gausian" }'
    message = refusal(IP.format(param), x=(2, 4))
    assert message.startswith(
        'layer "ip" (InnerProduct): unknown filler type "gausian"; did you mean "gaussian"?'
    )


def test_in_place_is_refused():
    text = IP.format("num_output: 4").replace('top: "y"', 'top: "x"')
    assert "cannot work in place" in refusal(text, x=(2, 4))
