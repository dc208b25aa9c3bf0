"""MultinomialLogisticLoss."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import ArgumentError, NetError
from tests.layers.nets import check_layer, make, outcome, refusal, values

LOSS = 'layer { name: "loss" type: "MultinomialLogisticLoss" bottom: "p" bottom: "label" top: "loss" }'


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2), (1, 1)])
def test_gradients_and_back_ends(shape, phase, device):
    label = np.arange(shape[0]) % np.prod(shape[1:])
    p = np.abs(values(*shape)) + 0.2
    assert check_layer(LOSS, device, phase, p=p, label=label * 1.0).excluded == 0


def test_by_hand(device):
    net = make(LOSS, {"p": [[0.5, 0.25], [0.8, 0.2]], "label": [1, 0.9]}, device=device)
    np.testing.assert_allclose(net.forward()["loss"], (np.log(4) - np.log(0.8)) / 2, rtol=1e-14)
    net.backward()
    np.testing.assert_allclose(net.blobs["p"].diff, [[0, -2], [-0.625, 0]], rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_floor_is_in_the_gradient_too(dtype, device):
    net = make(LOSS, {"p": [[0.0, 1]], "label": [0]}, device=device, dtype=dtype)
    assert net.forward()["loss"] == pytest.approx(-np.log(1e-20), rel=1e-6)
    net.backward()
    np.testing.assert_allclose(net.blobs["p"].diff, [[-1e20, 0]], rtol=1e-6)


def test_with_a_softmax_it_is_softmax_with_loss(device):
    softmax = 'layer { name: "s" type: "Softmax" bottom: "x" top: "p" }'
    inputs = {"x": values(3, 4), "label": [0, 3, 1]}
    apart = outcome(make(softmax + LOSS, inputs, device=device))
    joined = outcome(
        make(
            LOSS.replace("MultinomialLogisticLoss", "SoftmaxWithLoss").replace('"p"', '"x"'),
            inputs,
            device=device,
        )
    )
    for what, value in joined.items():
        np.testing.assert_allclose(apart[what], value, rtol=1e-12, atol=1e-15, err_msg=what)


def test_empty_batch(device):
    assert outcome(make(LOSS, {"p": np.zeros((0, 3)), "label": np.zeros(0)}, device=device))["loss 0"] == 0


def test_a_label_that_is_no_class(device):
    net = make(LOSS, {"p": values(2, 3), "label": [0, -1]}, device=device)
    with pytest.raises(
        ArgumentError, match=r'^layer "loss" \(Multi.*: label must hold classes from 0 to 2; found -1'
    ):
        net.forward()


def test_a_gradient_of_the_labels_is_refused():
    scale = 'layer { name: "s" type: "Scale" bottom: "d" top: "label" scale_param { axis: 0 } }'
    net = make(scale + LOSS, {"p": values(2, 3), "d": [0.0, 1]}, force_backward=False)
    net.forward()
    with pytest.raises(NetError, match='the labels, "label", have no gradient'):
        net.backward()


def test_refusals():
    message = refusal(LOSS, p=(2, 3), label=(2, 1, 2))
    assert message == (
        'layer "loss" (MultinomialLogisticLoss): expected one label for each of the 2 items of "p" (2x3), '
        'found "label" (2x1x2)'
    )
