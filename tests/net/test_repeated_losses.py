"""Losses, accuracy and what looks up rows are part of a pass that is repeated."""

import re

import numpy as np
import pytest

import caffebn
from caffebn.errors import ArgumentError

LAYERS = {
    "SoftmaxWithLoss": "",
    "HingeLoss": "hinge_loss_param { norm: L2 }",
    "EuclideanLoss": "",
    "SigmoidCrossEntropyLoss": "",
    "ContrastiveLoss": "",
    "MultinomialLogisticLoss": "",
    "InfogainLoss": "",
    "Accuracy": "",
}
PAIRS = "EuclideanLoss", "SigmoidCrossEntropyLoss", "ContrastiveLoss"


def net_of(kind: str, param: str, **options) -> caffebn.Net:
    second = "dim: 6 dim: 4" if kind in PAIRS else "dim: 6"
    third = {"ContrastiveLoss": "dim: 6", "InfogainLoss": "dim: 1 dim: 1 dim: 4 dim: 4"}.get(kind)
    inputs = {"x": "dim: 6 dim: 5", "y": second, **({"z": third} if third else {})}
    text = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
        for name, dims in inputs.items()
    )
    bottoms = "".join(f'bottom: "{name}" ' for name in list(inputs)[1:])
    caffebn.set_random_seed(5)
    return caffebn.Net.from_text(
        f"""
        {text}
        layer {{ name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
                 inner_product_param {{ num_output: 4 weight_filler {{ type: "xavier" }} }} }}
        layer {{ name: "p" type: "Sigmoid" bottom: "ip" top: "p" }}
        layer {{ name: "l" type: "{kind}" bottom: "p" {bottoms} top: "l" {param} }}
        """,
        caffebn.TRAIN,
        **options,
    )


def run(net: caffebn.Net, kind: str, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    for name in net.inputs:
        data = net.blobs[name].data
        labels = name == "y" and kind not in PAIRS
        data[...] = rng.integers(4, size=data.shape) if labels else rng.uniform(0.1, 1, data.shape)
    net.clear_param_diffs()
    net.forward()
    net.backward()
    return [net.blobs["l"].data.copy(), *(blob.diff.copy() for blob in net.params["ip"])]


@pytest.mark.parametrize("kind", LAYERS)
def test_the_whole_pass_is_repeated(kind):
    net, layer_by_layer = (net_of(kind, LAYERS[kind], fuse=fuse) for fuse in (True, False))
    for seed in range(3):
        for found, expected in zip(run(net, kind, seed), run(layer_by_layer, kind, seed), strict=True):
            np.testing.assert_array_equal(found, expected)
    assert [k for _, k in net._forward_pass._script] == [-1], "some layer runs by itself"
    fresh = net_of(kind, LAYERS[kind])
    for found, expected in zip(run(net, kind, 7), run(fresh, kind, 7), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["SoftmaxWithLoss", "HingeLoss", "InfogainLoss", "MultinomialLogisticLoss"])
def test_a_bad_label_is_found_in_a_repeated_pass(kind):
    net = net_of(kind, LAYERS[kind])
    for seed in range(2):
        run(net, kind, seed)
    net.blobs["y"].data[3] = 4
    with pytest.raises(
        ArgumentError,
        match=rf'^layer "l" \({kind}\): \w+: label must hold classes from 0 to 3; found 4 at index 3',
    ) as found:
        net.forward()
    assert len(re.findall("layer", str(found.value).split(";")[0])) == 1
    net.blobs["y"].data[3] = 2
    net.forward()


def test_a_bad_index_is_found_in_a_repeated_pass():
    net = caffebn.Net.from_text(
        """
        layer { name: "i" type: "Input" top: "i" input_param { shape { dim: 5 } } }
        layer { name: "e" type: "Embed" bottom: "i" top: "e" embed_param { input_dim: 3 num_output: 2 } }
        """,
        caffebn.TEST,
    )
    for value in (0, 2, 1):
        net.blobs["i"].data[...] = value
        np.testing.assert_array_equal(
            net.forward()["e"][0], net.params["e"][0].data[value] + net.params["e"][1].data
        )
    assert [k for _, k in net._forward_pass._script] == [-1]
    net.blobs["i"].data[4] = -1
    with pytest.raises(
        ArgumentError,
        match=r'^layer "e" \(Embed\): row_indices: expected indices from 0 to 2, found -1 at index 4',
    ):
        net.forward()
