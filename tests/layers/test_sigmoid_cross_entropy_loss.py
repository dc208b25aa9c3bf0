"""SigmoidCrossEntropyLoss."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import NetError
from tests.layers.nets import check_layer, make, outcome, refusal, values

LOSS = """
layer {{ name: "loss" type: "SigmoidCrossEntropyLoss" bottom: "x" bottom: "t" top: "loss" loss_param {{ {} }} }}
"""

X = values(2, 3, 2)
T = np.array([[[0, 1], [0.3, -1], [1, 0]], [[0, 2], [0.5, -1], [1, 1]]])


def expected(x, t, ignore, z):
    p = 1 / (1 + np.exp(-x))
    losses = -(t * np.log(p) + (1 - t) * np.log(1 - p))
    return losses[np.trunc(t) != ignore].sum() / z if ignore is not None else losses.sum() / z


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize(
    ("param", "ignore", "z"),
    [
        ("", None, 2),
        ("normalization: FULL", None, 12),
        ("normalization: VALID", None, 12),
        ("normalization: NONE", None, 1),
        ("ignore_label: -1", -1, 2),
        ("ignore_label: -1 normalization: VALID", -1, 10),
        ("ignore_label: -1 normalization: FULL", -1, 12),
        ("ignore_label: 0 normalization: VALID", 0, 7),
        ("ignore_label: 2 normalize: true", 2, 11),
        ("ignore_label: 2 normalize: false", 2, 2),
        ("normalize: true normalization: NONE", None, 1),
    ],
)
def test_normalization(param, ignore, z, phase, device):
    """The default is BATCH_SIZE; ignore_label 0 ignores the targets 0, 0.3 and 0.5."""
    net = make(LOSS.format(param), {"x": X, "t": T}, phase, device)
    assert net.forward()["loss"] == pytest.approx(expected(X, T, ignore, z), rel=1e-13)
    check_layer(LOSS.format(param), device, phase, x=X, t=T)


def test_all_ignored_is_zero(device):
    param = "ignore_label: 1 normalization: VALID"
    found = outcome(make(LOSS.format(param), {"x": X, "t": np.ones(X.shape)}, device=device))
    assert found["loss 0"] == 0 and not found["gradient of x"].any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_scores(dtype, device):
    inputs = {"x": [[1e4, -1e4, 1e4, -1e4]], "t": [[1, 0, 0, 1]]}
    net = make(LOSS.format(""), inputs, device=device, dtype=dtype)
    assert net.forward()["loss"] == 2e4
    net.backward()
    assert net.blobs["x"].diff.tolist() == [[0, 0, 1, -1]]


def test_shapes_may_differ(device):
    check_layer(LOSS.format(""), device, x=values(2, 6), t=np.ones((2, 3, 2)))


def test_empty_batch(device):
    assert (
        outcome(make(LOSS.format(""), {"x": np.zeros((0, 3)), "t": np.zeros((0, 3))}, device=device))[
            "loss 0"
        ]
        == 0
    )


def test_a_gradient_of_the_targets_is_refused():
    scale = 'layer { name: "s" type: "Scale" bottom: "d" top: "t" scale_param { axis: 0 } }'
    net = make(scale + LOSS.format(""), {"x": values(2, 3), "d": values(2, 3)}, force_backward=False)
    net.forward()
    with pytest.raises(
        NetError, match=r'the targets, "t", have no gradient: make them with layers that learn nothing'
    ):
        net.backward()


@pytest.mark.parametrize(
    ("x", "t", "said"),
    [
        ((2, 3), (2, 4), 'the bottoms must have the same number of values, found "x" (2x3) and "t" (2x4)'),
        ((2, 3), (3, 2), 'the bottoms must have the same first axis, found "x" (2x3) and "t" (3x2)'),
    ],
)
def test_refusals(x, t, said):
    assert refusal(LOSS.format(""), x=x, t=t) == f'layer "loss" (SigmoidCrossEntropyLoss): {said}'
