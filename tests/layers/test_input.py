"""Input."""

from __future__ import annotations

import pytest

from caffebn.net import Net
from tests.layers.nets import refusal


def net(tops: str, shapes: str) -> Net:
    return Net.from_text(f'layer {{ name: "in" type: "Input" {tops} input_param {{ {shapes} }} }}', "TEST")


A_AND_B = 'top: "a" top: "b"'


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ("shape { dim: 2 dim: 3 }", [(2, 3), (2, 3)]),
        ("shape { dim: 2 dim: 3 } shape { dim: 4 }", [(2, 3), (4,)]),
        ("shape { } shape { dim: 0 dim: 7 }", [(), (0, 7)]),
        ("", [(0,), (0,)]),
    ],
)
def test_shapes(shapes, expected):
    assert [blob.shape for blob in net(A_AND_B, shapes).blobs.values()] == expected


def test_the_caller_may_reshape():
    made = net('top: "a"', "shape { dim: 2 dim: 3 }")
    made.blobs["a"].reshape(5, 1)
    made.blobs["a"].data[...] = 7
    made.forward()
    assert made.blobs["a"].shape == (5, 1)
    assert (made.blobs["a"].data == 7).all()


def test_refusals():
    message = refusal('layer { name: "in" type: "Input" top: "a" input_param { shape { } shape { } } }')
    assert message == 'layer "in" (Input): expected one shape, one for each of the 1 tops, or none, found 2'
    message = refusal('layer { name: "in" type: "Input" top: "a" input_param { shape { dim: 2 dim: -1 } } }')
    assert message == 'layer "in" (Input): a size cannot be negative, found shape 2x-1'
    assert (
        refusal('layer { name: "in" type: "Input" }') == 'layer "in" (Input): needs at least 1 top, found 0'
    )
