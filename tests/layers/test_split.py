"""Split."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.nets import check_layer, make, outcome, refusal, values


def split(n: int) -> str:
    tops = " ".join(f'top: "y{k}"' for k in range(n))
    return f'layer {{ name: "sp" type: "Split" bottom: "x" {tops} }}'


@pytest.mark.parametrize("n", [1, 2, 4])
def test_gradients_and_back_ends(n, device):
    check_layer(split(n), device, x=values(2, 3, 4))


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_tops_are_the_bottom_and_gradients_add_up(n, device):
    net = make(split(n), {"x": values(2, 3, 4)}, device=device, dtype="float32")
    net.forward()
    tops = [net.blobs[f"y{k}"] for k in range(n)]
    for k, top in enumerate(tops):
        assert np.shares_memory(top.data, net.blobs["x"].data)
        assert not np.shares_memory(top.diff, net.blobs["x"].diff)
        top.diff[...] = 10**k
    net.backward()
    assert (net.blobs["x"].diff == sum(10**k for k in range(n))).all()


def test_the_tops_follow_a_new_shape(device):
    net = make(split(2), {"x": values(2, 3)}, device=device)
    net.blobs["x"].reshape(50, 40)
    net.blobs["x"].data[...] = values(50, 40)
    net.forward()
    for name in ("y0", "y1"):
        np.testing.assert_array_equal(net.blobs[name].data, values(50, 40))


@pytest.mark.parametrize("shape", [(), (0, 3), (1, 1)])
def test_shapes(shape, device):
    assert outcome(make(split(2), {"x": values(*shape)}, device=device))["y1 1"].shape == shape


def test_in_place_is_refused():
    message = refusal('layer { name: "sp" type: "Split" bottom: "x" top: "x" top: "y" }', x=(2, 3))
    assert message == 'layer "sp" (Split): cannot work in place: give it a top other than "x"'
