"""HingeLoss."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import ArgumentError, NetError
from tests.layers.nets import check_layer, make, outcome, refusal, values

LOSS = 'layer {{ name: "loss" type: "HingeLoss" bottom: "x" bottom: "label" top: "loss" hinge_loss_param {{ {} }} }}'


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("norm", ["", "norm: L1", "norm: L2"])
@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2), (1, 1)])
def test_gradients_and_back_ends(shape, norm, phase, device):
    label = np.arange(shape[0]) % np.prod(shape[1:])
    assert check_layer(LOSS.format(norm), device, phase, x=values(*shape), label=label * 1.0).excluded == 0


@pytest.mark.parametrize(
    ("norm", "loss", "dx"),
    [
        ("", (0.5 + 4 + 1) / 2, [[-0.5, 0, 0], [0.5, 0, 0.5]]),
        ("norm: L2", (0.25 + 16 + 1) / 2, [[-0.5, 0, 0], [4, 0, 1]]),
    ],
)
def test_by_hand(norm, loss, dx, device):
    """Margins 0.5, 0, 0 and 4, 0, 1: the gradient is 0 on the margin."""
    net = make(LOSS.format(norm), {"x": [[0.5, -1, -2], [3, 1, 0]], "label": [0, 1.9]}, device=device)
    assert net.forward()["loss"] == loss
    net.backward()
    assert net.blobs["x"].diff.tolist() == dx


def test_the_weight_is_in_the_gradient(device):
    text = LOSS.format("").replace("hinge_loss_param", "loss_weight: 0.25 hinge_loss_param")
    inputs = {"x": values(3, 4), "label": [0, 1, 2]}
    plain, weighted = (outcome(make(t, inputs, device=device)) for t in (LOSS.format(""), text))
    assert weighted["loss 0"] == plain["loss 0"]
    np.testing.assert_allclose(weighted["gradient of x"], plain["gradient of x"] / 4)


def test_empty_batch(device):
    assert (
        outcome(make(LOSS.format(""), {"x": np.zeros((0, 3)), "label": np.zeros(0)}, device=device))["loss 0"]
        == 0
    )


def test_a_label_that_is_no_class(device):
    net = make(LOSS.format(""), {"x": values(2, 3), "label": [0, 3]}, device=device)
    with pytest.raises(
        ArgumentError,
        match=r'^layer "loss" \(HingeLoss\): hinge_loss: label must hold classes from 0 to 2; found 3',
    ):
        net.forward()


def test_a_gradient_of_the_labels_is_refused():
    scale = 'layer { name: "s" type: "Scale" bottom: "d" top: "label" scale_param { axis: 0 } }'
    net = make(scale + LOSS.format(""), {"x": values(2, 3), "d": [0.0, 1]}, force_backward=False)
    net.forward()
    with pytest.raises(NetError, match=r'\(HingeLoss\): the labels, "label", have no gradient'):
        net.backward()


@pytest.mark.parametrize(
    ("x", "label", "said"),
    [
        ((2, 3), (3,), 'the bottoms must have the same first axis, found "x" (2x3) and "label" (3)'),
        ((2, 3), (2, 2), 'expected one label for each of the 2 items of "x" (2x3), found "label" (2x2)'),
    ],
)
def test_refusals(x, label, said):
    assert refusal(LOSS.format(""), x=x, label=label) == f'layer "loss" (HingeLoss): {said}'
