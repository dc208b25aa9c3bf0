"""ContrastiveLoss."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import NetError
from tests.layers.nets import check_layer, make, outcome, refusal, values

LOSS = """
layer {{ name: "loss" type: "ContrastiveLoss" bottom: "a" bottom: "b" bottom: "s" top: "loss"
         contrastive_loss_param {{ {} }} }}
"""
PARAMS = ["", "margin: 4", "margin: 6 legacy_version: true"]


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("param", [*PARAMS, "margin: 0.1 legacy_version: true"])
def test_back_ends(param, phase, device):
    inputs = {"a": values(4, 3), "b": values(4, 3, seed=1), "s": np.array([1, 0, 0, -2.0])}
    found, reference = (
        outcome(make(LOSS.format(param), inputs, phase, d, "float32")) for d in (device, "reference")
    )
    for what, value in reference.items():
        np.testing.assert_allclose(found[what], value, rtol=1e-6, atol=1e-7, err_msg=what)


@pytest.mark.parametrize("param", ["margin: 6 legacy_version: true", "margin: 0.1"])
def test_gradients(param, device):
    """The small number in the gradient makes it differ from the derivative of other pairs inside the margin,
    of the newer form: there are none here."""
    s = np.array([1.0, 0, 0, 1])
    report = check_layer(LOSS.format(param), device, a=values(4, 3), b=values(4, 3, seed=1), s=s)
    assert report.excluded == 0


@pytest.mark.parametrize(
    ("param", "loss", "factors"),
    [
        ("margin: 2", (4 + 0 + 2.25 + 4) / 8, [1, 0, -1.5 / (0.5 + 1e-4), 0]),
        ("margin: 2 legacy_version: true", (4 + 0 + 1.75 + 2) / 8, [1, 0, -1, 0]),
        ("", (4 + 0 + 0.25 + 1) / 8, [1, 0, -0.5 / (0.5 + 1e-4), 0]),
    ],
)
def test_by_hand(param, loss, factors, device):
    """Distances 2 (similar), 2, 0.5 and 0; a mark of 0.9 is cut to 0."""
    a = np.array([[2.0, 0], [0, 2], [0.5, 0], [0, 0]])
    net = make(LOSS.format(param), {"a": a, "b": np.zeros((4, 2)), "s": [2, 0.9, 0, 0]}, device=device)
    assert net.forward()["loss"] == pytest.approx(loss, rel=1e-14)
    net.backward()
    np.testing.assert_allclose(net.blobs["a"].diff, np.array(factors)[:, None] * a / 4, rtol=1e-14)
    np.testing.assert_array_equal(net.blobs["b"].diff, -net.blobs["a"].diff)


def test_pairs_may_have_more_axes(device):
    inputs = {"a": values(2, 3, 1, 1), "b": values(2, 3, 1, 1, seed=1), "s": np.ones((2, 1, 1, 1))}
    check_layer(LOSS.format(""), device, **inputs)


def test_empty_batch(device):
    inputs = {"a": np.zeros((0, 3)), "b": np.zeros((0, 3)), "s": np.zeros(0)}
    assert outcome(make(LOSS.format(""), inputs, device=device))["loss 0"] == 0


def test_a_gradient_of_the_marks_is_refused():
    scale = 'layer { name: "sc" type: "Scale" bottom: "d" top: "s" scale_param { axis: 0 } }'
    inputs = {"a": values(2, 3), "b": values(2, 3), "d": [0.0, 1]}
    net = make(scale + LOSS.format(""), inputs, force_backward=False)
    net.forward()
    with pytest.raises(NetError, match=r'the marks, "s", have no gradient'):
        net.backward()


@pytest.mark.parametrize(
    ("a", "b", "s", "said"),
    [
        (
            (2, 3),
            (2, 4),
            (2,),
            'the pairs must have the same number of values, found "a" (2x3) and "b" (2x4)',
        ),
        ((2, 3), (3, 2), (2,), 'the bottoms must have the same first axis, found "a" (2x3) and "b" (3x2)'),
        ((2, 3), (2, 3), (2, 3), 'expected one mark for each of the 2 pairs, found "s" (2x3)'),
    ],
)
def test_refusals(a, b, s, said):
    assert refusal(LOSS.format(""), a=a, b=b, s=s) == f'layer "loss" (ContrastiveLoss): {said}'
