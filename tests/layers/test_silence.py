"""Silence."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.nets import make, values

SILENCE = 'layer { name: "s" type: "Silence" bottom: "x" bottom: "z" }'


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_gradients_are_zero(phase, device):
    net = make(SILENCE, {"x": values(2, 3), "z": values(4)}, phase, device)
    assert net.outputs == []
    net.forward()
    for name in "xz":
        net.blobs[name].diff[...] = 7
    net.backward()
    assert not net.blobs["x"].diff.any() and not net.blobs["z"].diff.any()


def test_without_a_loss_nothing_is_written(device):
    net = make(SILENCE, {"x": values(2, 3), "z": values(4)}, device=device, force_backward=False)
    net.blobs["x"].diff[...] = 7
    net.forward()
    net.backward()
    assert (net.blobs["x"].diff == 7).all()


def test_it_adds_nothing_to_another_gradient(device):
    """Silence and a loss read the same blob: its gradient is that of the loss."""
    text = 'layer { name: "sum" type: "Reduction" bottom: "x" top: "sum" loss_weight: 2 }'
    net = make(SILENCE + text, {"x": values(2, 3), "z": values(4)}, device=device)
    net.forward()
    net.backward()
    assert (net.blobs["x"].diff == 2).all()


def test_empty_batch(device):
    make(SILENCE, {"x": np.zeros((0, 3)), "z": values(4)}, device=device).forward()
