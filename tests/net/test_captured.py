"""Passes recorded as CUDA graphs."""

from __future__ import annotations

import numpy as np
import pytest

import caffebn
from caffebn.errors import ArgumentError
from tests.layers.nets import randomise

NET = """
layer { name: "in" type: "Input" top: "x" top: "label" input_param { shape { dim: 4 dim: 3 } shape { dim: 4 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 5 } }
layer { name: "bn" type: "BatchNorm" bottom: "y" top: "y" }
layer { name: "scale" type: "Scale" bottom: "y" top: "y" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "label" top: "loss" }
"""
DUMMY = """
layer { name: "d" type: "DummyData" top: "x" top: "label"
  dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 } data_filler { type: "gaussian" } data_filler {} } }
"""


def fill(net: caffebn.Net, seed: int) -> None:
    rng = np.random.default_rng(seed)
    net.blobs["x"].data[...] = rng.normal(size=(4, 3))
    net.blobs["label"].data[...] = rng.integers(0, 5, 4)


@pytest.mark.gpu
@pytest.mark.parametrize("backward", [False, True])
def test_a_recorded_pass_is_the_pass(backward):
    made = [caffebn.Net.from_text(NET, caffebn.TRAIN, device="gpu", dtype="float64") for _ in range(2)]
    for net in made:
        randomise(net)
        fill(net, 0)
    plain, recorded = made
    before = [blob.data.copy() for blobs in recorded.params.values() for blob in blobs]
    graph = recorded.capture(backward=backward)
    for value, blob in zip(before, (b for blobs in recorded.params.values() for b in blobs), strict=True):
        np.testing.assert_array_equal(blob.data, value)  # recording leaves no trace
    for seed in range(1, 4):
        for net in made:
            fill(net, seed)
            net.params["ip"][0].data[0, 0] = seed
        plain.clear_param_diffs()
        plain.run_forward()
        if backward:
            plain.run_backward()
        graph.launch()
        assert recorded.loss == plain.loss
        for a, b in zip(plain.parameters, recorded.parameters, strict=True):
            np.testing.assert_array_equal(b.blob.data, a.blob.data)
            np.testing.assert_array_equal(b.blob.diff, a.blob.diff)


@pytest.mark.gpu
def test_layers_of_data_run_before_the_graph():
    text = DUMMY + NET[NET.index('layer { name: "ip"') :]
    net = caffebn.Net.from_text(text, caffebn.TRAIN, device="gpu")
    randomise(net)
    graph = net.capture(backward=True)
    losses = []
    for _ in range(2):
        graph.launch()
        losses.append(net.loss)
    assert losses[0] != losses[1]


@pytest.mark.gpu
def test_refusals():
    net = caffebn.Net.from_text(NET, caffebn.TRAIN, device="gpu")
    fill(net, 0)
    graph = net.capture()
    net.blobs["x"].reshape(8, 3)
    net.blobs["label"].reshape(8)
    net.run_forward()
    with pytest.raises(
        ArgumentError, match="other shapes or memory than when the pass was recorded: capture it again"
    ):
        graph.launch()
    dropout = 'layer { name: "drop" type: "Dropout" bottom: "x" top: "z" }'
    net = caffebn.Net.from_text(NET + dropout, caffebn.TRAIN, device="gpu")
    with pytest.raises(
        ArgumentError, match=r'^capture: layer "drop" \(Dropout\) works on the host in each pass'
    ):
        net.capture()


def test_a_net_of_the_host_cannot_be_recorded():
    with pytest.raises(ArgumentError, match=r'^capture: the net runs on the cpu; make it with device="gpu"$'):
        caffebn.Net.from_text(NET, caffebn.TRAIN).capture()
