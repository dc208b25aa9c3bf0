"""Parameter."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.net import Net
from tests.layers.nets import make, refusal

PARAMETER = 'layer { name: "p" type: "Parameter" top: "y" parameter_param { shape { dim: 2 dim: 3 } } }'
SQUARE = """
layer { name: "sq" type: "Reduction" bottom: "y" top: "z" loss_weight: 1 reduction_param { operation: SUMSQ } }
"""


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_the_top_is_the_blob(phase, device):
    net = make(PARAMETER, {}, phase, device)
    blob = net.params["p"][0]
    assert blob.shape == (2, 3) and not blob.data.any()
    blob.data[...] = 5
    assert (net.forward()["y"] == 5).all()
    assert np.shares_memory(net.blobs["y"].data, blob.data)


def test_gradients_add_up(device):
    net = make(PARAMETER + SQUARE, {}, device=device, force_backward=False)
    net.params["p"][0].data[...] = [[1, 2, 3], [4, 5, 6]]
    net.forward()
    for k in (1, 2):
        net.backward()
        np.testing.assert_array_equal(net.params["p"][0].diff, 2 * k * net.params["p"][0].data)


def test_a_fixed_parameter_gets_no_gradient(device):
    text = PARAMETER.replace("parameter_param", "param { lr_mult: 0 } parameter_param")
    net = make(text + SQUARE, {}, device=device, force_backward=False)
    net.params["p"][0].data[...] = 1
    net.forward()
    net.backward()
    assert not net.params["p"][0].diff.any()


def test_several_readers(device):
    net = make(PARAMETER + SQUARE + SQUARE.replace('"sq"', '"sq2"').replace('"z"', '"w"'), {}, device=device)
    net.params["p"][0].data[...] = 3
    assert net.forward() == {"z": 54, "w": 54}
    net.backward()
    assert (net.params["p"][0].diff == 12).all()


def test_it_follows_a_parameter_that_is_shared_with_another_net():
    one, other = (Net.from_text(PARAMETER, "TEST") for _ in range(2))
    other.params["p"][0].data[...] = 4
    one.share_with(other)
    assert (one.forward()["y"] == 4).all()


@pytest.mark.parametrize(
    ("param", "said"),
    [
        ("", "parameter_param must give the shape of the parameter"),
        ("parameter_param { shape { dim: -1 } }", "a size cannot be negative, found -1"),
    ],
)
def test_refusals(param, said):
    text = f'layer {{ name: "p" type: "Parameter" top: "y" {param} }}'
    assert refusal(text) == f'layer "p" (Parameter): {said}'
