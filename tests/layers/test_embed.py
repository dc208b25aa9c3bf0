"""Embed."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import ArgumentError, NetError
from tests.layers.nets import check_layer, make, outcome, randomise, refusal

EMBED = (
    'layer {{ name: "e" type: "Embed" bottom: "x" top: "y" embed_param {{ input_dim: 4 num_output: 3 {} }} }}'
)


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("param", ["", "bias_term: false"])
@pytest.mark.parametrize("index", [[0, 3, 3, 1], [[2], [2]], 3])
def test_gradients_and_back_ends(index, param, phase, device):
    assert check_layer(EMBED.format(param), device, phase, x=np.array(index, float)).excluded == 0


def test_by_hand(device):
    net = make(EMBED.format(""), {"x": [[2.0, 0], [2.9, -0.5]]}, device=device)
    weights, bias = net.params["e"]
    weights.data[...] = np.arange(12).reshape(4, 3)
    bias.data[...] = [100, 200, 300]
    rows = weights.data[[[2, 0], [2, 0]]]
    np.testing.assert_array_equal(net.forward()["y"], rows + bias.data, "fractions are cut")
    net.blobs["y"].diff[...] = np.arange(12).reshape(2, 2, 3)
    net.backward()
    np.testing.assert_array_equal(weights.diff, [[12, 14, 16], [0, 0, 0], [6, 8, 10], [0, 0, 0]])
    np.testing.assert_array_equal(bias.diff, [18, 22, 26])


def test_first_values():
    text = EMBED.format('weight_filler { type: "uniform" } bias_filler { value: 2 }')
    weights, bias = make(text, {"x": [0.0]}).params["e"]
    assert (weights.shape, bias.shape) == ((4, 3), (3,))
    assert weights.data.std() > 0 and (bias.data == 2).all()
    assert not make(EMBED.format(""), {"x": [0.0]}).params["e"][0].data.any()


def test_empty_batch(device):
    net = make(EMBED.format(""), {"x": np.zeros((0, 2))}, device=device)
    randomise(net)
    found = outcome(net)
    assert found["y 0"].shape == (0, 2, 3) and not found["gradient of e[0]"].any()


@pytest.mark.parametrize(("bad", "said"), [(4, "4"), (-1, "-1"), (np.nan, "nan")])
def test_a_number_that_is_no_row(bad, said, device):
    net = make(EMBED.format(""), {"x": [0, bad]}, device=device)
    with pytest.raises(ArgumentError) as e:
        net.forward()
    assert str(e.value) == (
        f'layer "e" (Embed): row_indices: expected indices from 0 to 3, found {said} at index 1'
    )


def test_force_backward_does_not_ask_for_the_indices(device):
    net = make(EMBED.format(""), {"x": [1.0]}, device=device)
    net.blobs["x"].diff[...] = 7
    net.forward()
    net.backward()
    assert net.blobs["x"].diff.tolist() == [7]


def test_a_gradient_of_the_indices_is_refused():
    text = 'layer { name: "s" type: "Scale" bottom: "d" top: "x" scale_param { axis: 0 } }' + EMBED.format("")
    loss = 'layer { name: "sum" type: "Reduction" bottom: "y" top: "sum" loss_weight: 1 }'
    net = make(text + loss, {"d": [1.0]}, force_backward=False)
    net.forward()
    with pytest.raises(
        NetError,
        match=r'layer "e" \(Embed\): the indices, "x", have no gradient: make them with layers that learn nothing, '
        "or write propagate_down: false$",
    ):
        net.backward()


@pytest.mark.parametrize("field", ["input_dim", "num_output"])
def test_refusals(field):
    other = {"input_dim": "num_output", "num_output": "input_dim"}[field]
    text = f'layer {{ name: "e" type: "Embed" bottom: "x" top: "y" embed_param {{ {other}: 3 }} }}'
    assert refusal(text, x=(2,)) == f'layer "e" (Embed): {field} must be given and positive'
