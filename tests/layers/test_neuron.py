"""ReLU, Sigmoid, TanH."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.nets import check_in_place, check_layer, make, outcome, refusal, values

RELU = 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" relu_param { negative_slope: %g } }'
SIGMOID = 'layer { name: "s" type: "Sigmoid" bottom: "x" top: "y" }'
TANH = 'layer { name: "t" type: "TanH" bottom: "x" top: "y" }'
ALL = [RELU % 0, RELU % 0.25, RELU % -0.5, RELU % 2, SIGMOID, TANH]


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("text", ALL)
def test_gradients_and_back_ends(text, phase, device):
    assert check_layer(text, device, phase, x=values(2, 3, 4, 5)).excluded == 0


@pytest.mark.parametrize("text", ALL)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_in_place_equals_not_in_place(text, dtype, device):
    check_in_place(text, device, dtype=dtype, x=values(2, 3, 4, 5))


@pytest.mark.parametrize("text", ALL)
@pytest.mark.parametrize("shape", [(1, 1), (7,), (), (2, 1, 3, 1, 2), (0, 3, 4)])
def test_shapes(text, shape, device):
    found = outcome(make(text, {"x": values(*shape)}, device=device))
    assert found["y 0"].shape == found["gradient of x"].shape == shape


def test_relu_by_hand(device):
    net = make(RELU % 0.25, {"x": [-2.0, -0.0, 0.0, 3.0]}, device=device)
    net.forward()
    assert net.blobs["y"].data.tolist() == [-0.5, 0.0, 0.0, 3.0]
    net.blobs["y"].diff[...] = [1, 2, 4, 8]
    net.backward()
    assert net.blobs["x"].diff.tolist() == [0.25, 0.5, 1.0, 8.0], "at 0 the gradient is the negative slope's"


def test_relu_default_slope_is_zero(device):
    net = make('layer { name: "r" type: "ReLU" bottom: "x" top: "y" }', {"x": [-2.0, 3.0]}, device=device)
    net.forward()
    assert net.blobs["y"].data.tolist() == [0, 3]


def test_sigmoid_by_hand(device):
    net = make(SIGMOID, {"x": [0.0, np.log(3), -np.log(3), 1000, -1000]}, device=device)
    net.forward()
    np.testing.assert_allclose(net.blobs["y"].data, [0.5, 0.75, 0.25, 1, 0], rtol=1e-14, atol=1e-300)
    net.blobs["y"].diff[...] = 1
    net.backward()
    np.testing.assert_allclose(net.blobs["x"].diff, [0.25, 0.1875, 0.1875, 0, 0], rtol=1e-14)


def test_tanh_by_hand(device):
    net = make(TANH, {"x": [0.0, np.log(3), -1000]}, device=device)
    net.forward()
    np.testing.assert_allclose(net.blobs["y"].data, [0, 0.8, -1], rtol=1e-14)
    net.blobs["y"].diff[...] = 2
    net.backward()
    np.testing.assert_allclose(net.blobs["x"].diff, [2, 0.72, 0], rtol=1e-14)


def test_in_place_layers_after_each_other_do_not_spoil_a_gradient(device):
    """Each reads its own output going backward, which the next one overwrites."""
    names = ["a", "b", "c", "d"]
    kinds = ["ReLU", "Sigmoid", "TanH", "ReLU"]
    chain = "".join(
        f'layer {{ name: "l{i}" type: "{kind}" bottom: "{names[i]}" top: "{names[i + 1]}" }}'
        for i, kind in enumerate(kinds[:3])
    )
    in_place = "".join(
        f'layer {{ name: "l{i}" type: "{k}" bottom: "a" top: "a" }}' for i, k in enumerate(kinds[:3])
    )
    apart, together = (outcome(make(text, {"a": values(3, 4)}, device=device)) for text in (chain, in_place))
    np.testing.assert_array_equal(together["a 0"], apart["d 0"])
    np.testing.assert_array_equal(together["gradient of a"], apart["gradient of a"])


def test_one_bottom_and_one_top():
    message = refusal('layer { name: "r" type: "ReLU" bottom: "x" bottom: "z" top: "y" }', x=(2, 3), z=(2, 3))
    assert message == 'layer "r" (ReLU): needs 1 bottom, found 2'
    message = refusal('layer { name: "r" type: "ReLU" bottom: "x" top: "y" top: "z" }', x=(2, 3))
    assert message == 'layer "r" (ReLU): needs 1 top, found 2'
