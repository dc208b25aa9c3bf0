"""EuclideanLoss."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.nets import check_layer, make, outcome, refusal, values

LOSS = 'layer {{ name: "loss" type: "EuclideanLoss" bottom: "a" bottom: "b" top: "loss" {} }}'


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("shape", [(4,), (4, 3), (2, 3, 4, 5), (1, 1)])
def test_gradients_and_back_ends(shape, phase, device):
    check_layer(LOSS.format(""), device, phase, a=values(*shape), b=values(*shape, seed=1))


def test_by_hand(device):
    net = make(
        LOSS.format("loss_weight: 3"), {"a": [[1.0, 2], [3, 4]], "b": [[1.0, 0], [0, 0]]}, device=device
    )
    assert net.forward()["loss"] == (4 + 9 + 16) / 4
    net.backward()
    assert net.blobs["a"].diff.tolist() == [[0, 3], [4.5, 6]]
    np.testing.assert_array_equal(net.blobs["b"].diff, -net.blobs["a"].diff)


def test_shapes_may_differ(device):
    net = make(LOSS.format(""), {"a": values(2, 6), "b": values(2, 3, 2, 1)}, device=device)
    assert net.forward()["loss"] == 0
    net.backward()
    assert net.blobs["b"].diff.shape == (2, 3, 2, 1)


def test_only_what_is_asked_for(device):
    scale = 'layer { name: "s" type: "Scale" bottom: "d" top: "a" scale_param { axis: 0 } }'
    net = make(
        scale + LOSS.format(""), {"d": values(3), "b": values(3, seed=1)}, device=device, force_backward=False
    )
    net.forward()
    net.blobs["b"].diff[...] = 7
    net.backward()
    np.testing.assert_allclose(net.blobs["a"].diff, (values(3) - values(3, seed=1)) / 3, rtol=1e-14)
    assert (net.blobs["b"].diff == 7).all()


def test_empty_batch(device):
    assert (
        outcome(make(LOSS.format(""), {"a": np.zeros((0, 3)), "b": np.zeros((0, 3))}, device=device))[
            "loss 0"
        ]
        == 0
    )


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ((2, 3), (3, 2), 'the bottoms must have the same first axis, found "a" (2x3) and "b" (3x2)'),
        ((2, 3), (2, 4), 'the bottoms must have as many values for each item, found "a" (2x3) and "b" (2x4)'),
        ((), (), 'the bottoms must have the same first axis, found "a" (no axes) and "b" (no axes)'),
    ],
)
def test_refusals(a, b, said):
    assert refusal(LOSS.format(""), a=a, b=b) == f'layer "loss" (EuclideanLoss): {said}'
