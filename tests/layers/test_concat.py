"""Concat."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.nets import check_layer, make, outcome, refusal, values

CONCAT = (
    'layer { name: "cat" type: "Concat" bottom: "a" bottom: "b" bottom: "c" top: "y" concat_param { %s } }'
)
SINGLE = 'layer { name: "cat" type: "Concat" bottom: "a" top: "y" }'


@pytest.mark.parametrize(
    ("param", "axis"), [("", 1), ("axis: 0", 0), ("axis: 1", 1), ("axis: -1", 2), ("concat_dim: 2", 2)]
)
def test_axes(param, axis, device):
    sizes = {"a": 2, "b": 1, "c": 3}
    inputs = {}
    for seed, (name, size) in enumerate(sizes.items()):
        shape = [2, 3, 4]
        shape[axis] = size
        inputs[name] = values(*shape, seed=seed)
    check_layer(CONCAT % param, device, **inputs)
    found = outcome(make(CONCAT % param, inputs, device=device))
    np.testing.assert_array_equal(found["y 0"], np.concatenate(list(inputs.values()), axis))


def test_backward_by_hand(device):
    net = make(CONCAT % "", {"a": values(2, 1), "b": values(2, 2), "c": values(2, 0)}, device=device)
    net.forward()
    net.blobs["y"].diff[...] = [[1, 2, 3], [4, 5, 6]]
    net.backward()
    assert net.blobs["a"].diff.tolist() == [[1], [4]]
    assert net.blobs["b"].diff.tolist() == [[2, 3], [5, 6]]


def test_one_bottom(device):
    check_layer(SINGLE, device, a=values(2, 3))
    np.testing.assert_array_equal(
        outcome(make(SINGLE, {"a": values(2, 3)}, device=device))["y 0"], values(2, 3)
    )


def test_empty_batch(device):
    inputs = {"a": np.zeros((0, 2, 4)), "b": np.zeros((0, 1, 4)), "c": np.zeros((0, 3, 4))}
    assert outcome(make(CONCAT % "", inputs, device=device))["y 0"].shape == (0, 6, 4)


@pytest.mark.parametrize(
    ("param", "shapes", "said"),
    [
        (
            "axis: 1 concat_dim: 1",
            [(2, 3)] * 3,
            "axis and concat_dim say the same thing: give only one of them",
        ),
        ("axis: 2", [(2, 3)] * 3, "axis 2 does not exist: the bottom has 2 axes"),
        ("axis: -3", [(2, 3)] * 3, "axis -3 does not exist: the bottom has 2 axes"),
        ("concat_dim: 2", [(2, 3)] * 3, "concat_dim 2 does not exist: the bottom has 2 axes"),
        (
            "",
            [(2, 3, 4), (2, 1, 4), (2, 1, 5)],
            'the bottoms must have equal sizes except along axis 1, found "a" (2x3x4) and "c" (2x1x5)',
        ),
        (
            "",
            [(2, 3), (2,), (2, 3)],
            'the bottoms must have equal sizes except along axis 1, found "a" (2x3) and "b" (2)',
        ),
    ],
)
def test_refusals(param, shapes, said):
    message = refusal(CONCAT % param, **dict(zip("abc", shapes, strict=True)))
    assert message == f'layer "cat" (Concat): {said}'


def test_in_place_is_refused():
    text = 'layer { name: "cat" type: "Concat" bottom: "a" bottom: "b" top: "a" }'
    assert "cannot work in place" in refusal(text, a=(2, 3), b=(2, 3))
