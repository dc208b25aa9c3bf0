"""Passes recorded as CUDA graphs."""

from __future__ import annotations

import numpy as np
import pytest

import caffebn
from caffebn import seeding
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
@pytest.mark.parametrize("recompute", [False, True])
def test_a_net_that_keeps_little(recompute):
    """Blobs share memory, and outputs of BatchNorm are computed once more: what is launched does, too."""
    more = """
layer { name: "ip2" type: "InnerProduct" bottom: "y" top: "y2" inner_product_param { num_output: 5 } }
layer { name: "bn2" type: "BatchNorm" bottom: "y2" top: "y2" }
layer { name: "relu2" type: "ReLU" bottom: "y2" top: "y2" }
"""
    head, loss = NET[: NET.index('layer { name: "loss"')], NET[NET.index('layer { name: "loss"') :]
    text = head + more + loss.replace('bottom: "y"', 'bottom: "y2"')
    losses = []
    for options in ({}, {"keep": [], "recompute": recompute}):
        net = caffebn.Net.from_text(text, caffebn.TRAIN, device="gpu", dtype="float64", **options)
        randomise(net)
        fill(net, 0)
        graph = net.capture(backward=True) if options else None
        for seed in range(3):
            fill(net, seed)
            if graph:
                graph.launch()
            else:
                net.clear_param_diffs()
                net.run_forward()
                net.run_backward()
            losses.append((net.loss, [p.blob.diff.copy() for p in net.parameters]))
    for (loss, diffs), (found, others) in zip(losses[:3], losses[3:], strict=True):
        assert found == loss
        for a, b in zip(diffs, others, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-14)


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
    filtered = 'layer { name: "f" type: "Filter" bottom: "x" bottom: "label" top: "z" }'
    net = caffebn.Net.from_text(NET + filtered, caffebn.TRAIN, device="gpu")
    with pytest.raises(ArgumentError, match=r'^capture: layer "f" \(Filter\) works on the host in each pass'):
        net.capture()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dropout_goes_on_with_the_numbers_of_the_host(dtype):
    """One seed gives one training: on the CPU, on the GPU, and recorded; drawing on the host in between, too."""
    drops = """
layer { name: "d1" type: "Dropout" bottom: "x" top: "z1" dropout_param { dropout_ratio: 0.3 } }
layer { name: "d2" type: "Dropout" bottom: "z1" top: "z2" }
"""
    text = NET[: NET.index('layer { name: "ip"')] + drops
    found = []
    for device, recorded in (("cpu", False), ("gpu", False), ("gpu", True)):
        caffebn.set_random_seed(7)
        net = caffebn.Net.from_text(text, caffebn.TRAIN, device=device, dtype=dtype)
        net.blobs["x"].data[...] = 1
        run = net.capture().launch if recorded else net.run_forward
        values = []
        for k in range(4):
            run()
            values.append([net.blobs[name].data.copy() for name in ("z1", "z2")])
            if k == 1:
                values.append(seeding.generator().random(3, np.float32))
        found.append([np.concatenate([np.ravel(v) for v in row]) for row in values])
        found[-1].append(seeding.generator().random(1))
    for row in zip(*found, strict=True):
        np.testing.assert_array_equal(row[1], row[0])
        np.testing.assert_array_equal(row[2], row[0])
    assert (found[0][0] != found[0][1]).any()


def test_a_net_of_the_host_cannot_be_recorded():
    with pytest.raises(ArgumentError, match=r'^capture: the net runs on the cpu; make it with device="gpu"$'):
        caffebn.Net.from_text(NET, caffebn.TRAIN).capture()
