"""Filter."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import NetError
from tests.layers.nets import check_layer, make, outcome, refusal, values

FILTER = 'layer { name: "f" type: "Filter" bottom: "a" bottom: "b" bottom: "s" top: "y" top: "z" }'


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("selector", [[1, 0, 1, 1], [0, -2, 0.5, 0], [1, 1, 1, 1]])
def test_gradients_and_back_ends(selector, phase, device):
    a, b = values(4, 3), values(4, 2, 2, seed=1)
    assert check_layer(FILTER, device, phase, a=a, b=b, s=np.array(selector, float)).excluded == 0


def test_by_hand(device):
    net = make(FILTER, {"a": [[1.0], [2], [3]], "b": [4.0, 5, 6], "s": [0.25, 0, -1]}, device=device)
    assert net.blobs["y"].shape == (3, 1), "when the net is made all items pass"
    net.forward()
    assert net.blobs["y"].data.tolist() == [[1], [3]] and net.blobs["z"].data.tolist() == [4, 6]
    net.blobs["y"].diff[...], net.blobs["z"].diff[...] = [[10], [20]], [30, 40]
    net.backward()
    assert net.blobs["a"].diff.tolist() == [[10], [0], [20]]
    assert net.blobs["b"].diff.tolist() == [30, 0, 40]


def test_shapes_change_from_pass_to_pass_and_layers_behind_follow(device):
    text = 'layer { name: "f" type: "Filter" bottom: "a" bottom: "s" top: "y" }'
    text += 'layer { name: "sum" type: "Reduction" bottom: "y" top: "z" reduction_param { axis: 1 } }'
    net = make(text, {"a": np.arange(8.0).reshape(4, 2), "s": np.ones(4)}, device=device)
    for selector, sums in (
        ([1, 0, 0, 1], [1, 13]),
        ([0, 0, 0, 0], []),
        ([0, 1, 0, 0], [5]),
        ([1] * 4, [1, 5, 9, 13]),
    ):
        net.blobs["s"].data[...] = selector
        assert net.forward()["z"].tolist() == sums
        net.blobs["z"].diff[...] = 1
        net.backward()
        np.testing.assert_array_equal(net.blobs["a"].diff, np.outer(selector, [1, 1]))


def test_a_selector_with_axes_of_1(device):
    net = make(FILTER, {"a": values(2, 3), "b": values(2), "s": np.ones((2, 1, 1))}, device=device)
    assert net.forward()["y"].shape == (2, 3)


def test_empty_batch(device):
    found = outcome(make(FILTER, {"a": np.zeros((0, 3)), "b": np.zeros(0), "s": np.zeros(0)}, device=device))
    assert found["y 0"].shape == (0, 3)


def test_a_gradient_of_the_selector_is_refused():
    scale = 'layer { name: "sc" type: "Scale" bottom: "d" top: "s" scale_param { axis: 0 } }'
    text = 'layer { name: "f" type: "Filter" bottom: "a" bottom: "s" top: "y" }'
    loss = 'layer { name: "sum" type: "Reduction" bottom: "y" top: "sum" loss_weight: 1 }'
    net = make(scale + text + loss, {"a": values(3, 2), "d": values(3)}, force_backward=False)
    net.forward()
    with pytest.raises(NetError, match='the selectors, "s", have no gradient'):
        net.backward()


@pytest.mark.parametrize(
    ("text", "shapes", "said"),
    [
        (
            FILTER.replace('top: "z"', ""),
            {"a": (2,), "b": (2,), "s": (2,)},
            "needs one top for each bottom but the last, the selector, found 3 bottoms and 1 tops",
        ),
        (
            FILTER,
            {"a": (2,), "b": (3,), "s": (2,)},
            'the bottoms must have the same first axis, found "b" (3) and "s" (2)',
        ),
        (
            FILTER,
            {"a": (2,), "b": (2,), "s": (2, 2)},
            'the selector must hold one value for each item, found "s" (2x2)',
        ),
        (
            FILTER,
            {"a": (2,), "b": (2,), "s": ()},
            'the selector must hold one value for each item, found "s" (no axes)',
        ),
    ],
)
def test_refusals(text, shapes, said):
    assert refusal(text, **shapes) == f'layer "f" (Filter): {said}'
