"""BatchReindex."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import ArgumentError, NetError
from tests.layers.nets import check_layer, make, outcome, refusal, values

REINDEX = 'layer { name: "b" type: "BatchReindex" bottom: "x" bottom: "i" top: "y" }'


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 2, 3)])
def test_gradients_and_back_ends(shape, phase, device):
    index = np.array([2, 0, 2, 1, 2.0])
    assert check_layer(REINDEX, device, phase, x=values(*shape), i=index).excluded == 0


def test_by_hand(device):
    net = make(REINDEX, {"x": [[1.0, 2], [3, 4], [5, 6]], "i": [2, 2.9, 0, 2]}, device=device)
    assert net.forward()["y"].tolist() == [[5, 6], [5, 6], [1, 2], [5, 6]]
    net.blobs["y"].diff[...] = [[1, 2], [10, 20], [5, 5], [100, 200]]
    net.backward()
    assert net.blobs["x"].diff.tolist() == [[5, 5], [0, 0], [111, 222]], "gradients of repeated items add up"


@pytest.mark.parametrize(
    ("x", "i", "expected"), [((3, 2), (0,), (0, 2)), ((0, 2), (0,), (0, 2)), ((3, 0), (2,), (2, 0))]
)
def test_empty_blobs(x, i, expected, device):
    found = outcome(make(REINDEX, {"x": np.zeros(x), "i": np.zeros(i)}, device=device))
    assert found["y 0"].shape == expected and not found["gradient of x"].any()


def test_new_shapes(device):
    net = make(REINDEX, {"x": values(3, 2), "i": [0.0]}, device=device)
    net.blobs["i"].reshape(2)
    net.blobs["i"].data[...] = [2, 1]
    np.testing.assert_array_equal(net.forward()["y"], values(3, 2)[[2, 1]])


@pytest.mark.parametrize("bad", [3, -1])
def test_an_index_of_no_item(bad, device):
    net = make(REINDEX, {"x": values(3, 2), "i": [0, bad]}, device=device)
    with pytest.raises(ArgumentError) as e:
        net.forward()
    assert str(e.value) == (
        f'layer "b" (BatchReindex): row_indices: expected indices from 0 to 2, found {bad} at index 1'
    )


def test_a_gradient_of_the_indices_is_refused():
    scale = 'layer { name: "s" type: "Scale" bottom: "d" top: "i" scale_param { axis: 0 } }'
    loss = 'layer { name: "sum" type: "Reduction" bottom: "y" top: "sum" loss_weight: 1 }'
    net = make(scale + REINDEX + loss, {"x": values(3, 2), "d": [1.0]}, force_backward=False)
    net.forward()
    with pytest.raises(
        NetError, match='the indices, "i", have no gradient: .* propagate_down: true propagate_down: false'
    ):
        net.backward()


@pytest.mark.parametrize(
    ("x", "i", "said"),
    [
        ((), (2,), 'needs items along axis 0, found "x" (no axes)'),
        ((3, 2), (2, 1), 'the indices must have 1 axis, found "i" (2x1)'),
    ],
)
def test_refusals(x, i, said):
    assert refusal(REINDEX, x=x, i=i) == f'layer "b" (BatchReindex): {said}'
