"""Where Split layers go, and what they are called."""

import pytest

from caffebn.errors import NetError
from caffebn.net.splits import insert_splits
from caffebn.proto import text


def split(body: str) -> dict[str, tuple[str, list[str], list[str]]]:
    net = insert_splits(text.parse(body, "NetParameter"))
    return {layer.name: (layer.type, list(layer.bottom), list(layer.top)) for layer in net.layer}


TWO_READERS = """
layer { name: "in" type: "Input" top: "x" }
layer { name: "a" type: "TanH" bottom: "x" top: "a" }
layer { name: "b" type: "TanH" bottom: "x" top: "b" }
"""


def test_two_readers_get_a_copy_each():
    layers = split(TWO_READERS)
    assert list(layers) == ["in", "x_in_0_split", "a", "b"]
    assert layers["x_in_0_split"] == ("Split", ["x"], ["x_in_0_split_0", "x_in_0_split_1"])
    assert layers["a"][1] == ["x_in_0_split_0"]
    assert layers["b"][1] == ["x_in_0_split_1"]


def test_one_reader_needs_none():
    assert list(
        split('layer { name: "in" type: "Input" top: "x" } layer { name: "a" bottom: "x" top: "a" }')
    ) == [
        "in",
        "a",
    ]


def test_versions_made_in_place_are_split_on_their_own():
    layers = split(
        'layer { name: "in" type: "Input" top: "x" } layer { name: "r" type: "ReLU" bottom: "x" top: "x" }'
        'layer { name: "a" bottom: "x" top: "a" } layer { name: "b" bottom: "x" top: "b" }'
    )
    assert list(layers) == ["in", "r", "x_r_0_split", "a", "b"]
    assert layers["r"][1:] == (["x"], ["x"])


def test_one_layer_reading_twice():
    layers = split(
        'layer { name: "in" type: "Input" top: "x" }'
        'layer { name: "s" type: "Eltwise" bottom: "x" bottom: "x" top: "s" }'
    )
    assert layers["s"][1] == ["x_in_0_split_0", "x_in_0_split_1"]


def test_a_stated_loss_weight_counts_and_moves_to_the_first_copy():
    net = insert_splits(
        text.parse(
            'layer { name: "in" type: "Input" top: "x" }'
            'layer { name: "l" type: "Reduction" bottom: "x" top: "l" loss_weight: 3 }'
            'layer { name: "p" type: "Power" bottom: "l" top: "p" }',
            "NetParameter",
        )
    )
    _, reduction, made, power = net.layer
    assert made.name == "l_l_0_split"
    assert made.loss_weight == [3, 0]
    assert reduction.loss_weight == [0]
    assert list(power.bottom) == ["l_l_0_split_1"]


def test_the_default_weight_of_a_loss_layer_does_not_count():
    layers = split(
        'layer { name: "in" type: "Input" top: "x" top: "y" }'
        'layer { name: "l" type: "SoftmaxWithLoss" bottom: "x" bottom: "y" top: "l" }'
        'layer { name: "p" type: "Power" bottom: "l" top: "p" }'
    )
    assert list(layers) == ["in", "l", "p"]


def test_unknown_bottom():
    with pytest.raises(
        NetError,
        match=r'<text>:1:\d+: layer "a" \(TanH\): bottom "dat" is made by no earlier layer; did you mean "data"\?',
    ):
        split(
            'layer { name: "in" type: "Input" top: "data" } layer { name: "a" type: "TanH" bottom: "dat" top: "a" }'
        )


def test_in_place_beside_another_reader():
    with pytest.raises(
        NetError,
        match=r'layer "r" \(ReLU\): works in place on "x", but layer "a" reads it, too: give "r" a top of its own',
    ):
        split(
            'layer { name: "in" type: "Input" top: "x" } layer { name: "a" type: "TanH" bottom: "x" top: "a" }'
            'layer { name: "r" type: "ReLU" bottom: "x" top: "x" }'
        )
