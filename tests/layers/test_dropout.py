"""Dropout."""

from __future__ import annotations

import numpy as np
import pytest

import caffebn.seeding
from tests.layers.nets import check_in_place, check_layer, make, outcome, refusal, values

DROPOUT = 'layer { name: "d" type: "Dropout" bottom: "x" top: "y" dropout_param { dropout_ratio: %g } }'


@pytest.mark.parametrize("ratio", [0, 0.3, 0.9])
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_gradients_and_back_ends(ratio, phase, device, monkeypatch):
    # the nets that are compared must draw the same masks
    monkeypatch.setattr(caffebn.seeding, "generator", lambda: np.random.default_rng(3))
    check_layer(DROPOUT % ratio, device, phase, x=values(2, 3, 4, 5))


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_in_place_equals_not_in_place(phase, device, monkeypatch):
    monkeypatch.setattr(caffebn.seeding, "generator", lambda: np.random.default_rng(3))
    check_in_place(DROPOUT % 0.4, device, phase, x=values(2, 3, 4, 5))


def test_training_drops_and_scales(device):
    net = make(DROPOUT % 0.25, {"x": np.ones((100, 100))}, device=device, dtype="float32")
    net.forward()
    first = net.blobs["y"].data.copy()
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((first == 0).mean() - 0.25) < 0.02
    net.blobs["y"].diff[...] = 3
    net.backward()
    np.testing.assert_array_equal(net.blobs["x"].diff, first * 3)
    net.forward()
    assert (net.blobs["y"].data != first).any(), "each pass draws a new mask"


def test_default_ratio_is_a_half(device):
    net = make(
        'layer { name: "d" type: "Dropout" bottom: "x" top: "y" }', {"x": np.ones((100, 100))}, device=device
    )
    net.forward()
    assert set(np.unique(net.blobs["y"].data)) == {0, 2}


def test_testing_copies(device):
    net = make(DROPOUT % 0.5, {"x": values(3, 4)}, "TEST", device)
    found = outcome(net)
    np.testing.assert_array_equal(found["y 0"], values(3, 4))
    np.testing.assert_array_equal(found["gradient of x"], net.blobs["y"].diff)


def test_a_seed_repeats_the_masks(device):
    results = []
    for _ in range(2):
        caffebn.seeding.set_random_seed(5)
        results.append(outcome(make(DROPOUT % 0.5, {"x": values(30, 4)}, device=device))["y 0"])
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("shape", [(1, 1), (), (0, 3)])
def test_shapes(phase, shape, device):
    assert outcome(make(DROPOUT % 0.5, {"x": values(*shape)}, phase, device))["y 0"].shape == shape


@pytest.mark.parametrize("ratio", [1, 1.5, -0.1])
def test_ratio_outside_its_range_is_refused(ratio):
    assert refusal(DROPOUT % ratio, x=(2, 3)) == (
        'layer "d" (Dropout): dropout_ratio is the probability of dropping a value: '
        f"expected at least 0 and less than 1, found {ratio:g}"
    )
