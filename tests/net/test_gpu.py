"""Nets on a GPU: which side values are on, memory, losses that are read late."""

from __future__ import annotations

import numpy as np
import pytest

import caffebn
from caffebn import ops
from caffebn.errors import ArgumentError, DeviceError
from tests.layers.nets import randomise
from tests.net.test_captured import NET, fill

pytestmark = pytest.mark.gpu


@pytest.fixture
def net() -> caffebn.Net:
    made = caffebn.Net.from_text(NET, caffebn.TRAIN, device="gpu")
    randomise(made)
    fill(made, 0)
    return made


def test_users_see_arrays_of_the_host_and_layers_do_not(net):
    outputs = net.forward()
    assert type(outputs["loss"]) is np.ndarray
    assert type(net.params["ip"][0].data) is np.ndarray and type(net.layers[1].blobs[0].data) is np.ndarray
    is_array = ops.arrays("gpu").is_array
    assert is_array(net.blobs["y"].gpu_data) and is_array(net.layer_dict["ip"].parameters[0].data)
    assert repr(net).endswith("on gpu>")


def test_a_pass_copies_nothing_to_the_host(net, monkeypatch):
    net.forward_backward()
    monkeypatch.setattr(ops.arrays("gpu"), "to_host", lambda *_: pytest.fail("copied"))
    monkeypatch.setattr(ops.arrays("gpu"), "put", lambda *_: pytest.fail("copied"))
    for _ in range(2):
        net.clear_param_diffs()
        net.run_forward()
        net.run_backward()
        assert net.loss > 0


def test_a_bad_label_is_raised_when_values_are_read(net):
    net.blobs["label"].data[...] = 5
    words = r'^layer "loss" \(SoftmaxWithLoss\): softmax_loss: label must hold classes from 0 to 4; found 5 at index 0'
    net.run_forward()
    with pytest.raises(ArgumentError, match=words):
        net.synchronize()
    with pytest.raises(ArgumentError, match=words):
        net.forward_backward()


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({}, r"keep=\[\]: then blobs share memory \(`caffebn info` says how much that needs\)"),
        ({"keep": []}, "recompute=True: then outputs of BatchNorm are not kept .*"),
        ({"keep": [], "recompute": True}, ""),
    ],
)
def test_out_of_memory_tells_a_batch_that_may_fit(options, advice):
    net = caffebn.Net.from_text(NET, caffebn.TRAIN, device="gpu", **options)
    fill(net, 0)
    net.forward_backward()
    net.blobs["x"].reshape(400000, 3)
    net.blobs["label"].reshape(400000)
    ops.arrays("gpu").limit_memory(8 << 20)
    try:
        end = f"; or make the net with {advice}" if advice else ""
        with pytest.raises(DeviceError, match=rf"out of memory: .*; the batch is 400000: try \d+{end}$"):
            net.forward()
    finally:
        ops.arrays("gpu").limit_memory(None)


def test_a_layer_in_python_finds_arrays_of_the_host(net):
    class Doubled(caffebn.Layer):
        def reshape(self, bottom, top):
            top[0].reshape(*bottom[0].shape)

        def forward(self, bottom, top):
            assert type(bottom[0].data) is np.ndarray
            top[0].data[...] = 2 * bottom[0].data

        def backward(self, top, propagate_down, bottom):
            bottom[0].diff[...] = 2 * top[0].diff

    globals()["Doubled"] = Doubled
    python = 'layer { name: "p" type: "Python" bottom: "y" top: "z" python_param { module: "%s" layer: "Doubled" } }'
    text = NET.replace('bottom: "y" bottom: "label"', 'bottom: "z" bottom: "label"')
    text = text.replace('layer { name: "loss"', python % __name__ + ' layer { name: "loss"')
    found = []
    for device in ("cpu", "gpu"):
        made = caffebn.Net.from_text(text, caffebn.TRAIN, device=device, dtype="float64")
        randomise(made)
        fill(made, 1)
        found.append([made.forward_backward(), made.params["ip"][0].diff.copy()])
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-10, atol=1e-12)


def test_a_net_stays_on_its_gpu(net):
    arrays = ops.arrays("gpu")
    if arrays.count() < 2:
        pytest.skip("there is one GPU")
    graph = net.capture()
    caffebn.set_device(1)
    try:
        words = r"is on GPU 0, and this thread is at GPU 1: call set_device\(0\) before"
        for call in (net.forward, net.backward, net.capture, graph.launch):
            with pytest.raises(DeviceError, match=words):
                call()
    finally:
        caffebn.set_device(0)
    net.forward()


def test_weights_are_saved_and_loaded(net, tmp_path):
    net.forward()
    net.save(tmp_path / "net.caffemodel")
    other = caffebn.Net.from_text(NET, caffebn.TRAIN, weights=tmp_path / "net.caffemodel")
    on_gpu = caffebn.Net.from_text(NET, caffebn.TRAIN, weights=tmp_path / "net.caffemodel", device="gpu")
    for a, b, c in zip(net.parameters, other.parameters, on_gpu.parameters, strict=True):
        np.testing.assert_array_equal(a.blob.data, b.blob.data)
        np.testing.assert_array_equal(a.blob.data, c.blob.data)


def test_nets_share_parameters(net):
    other = caffebn.Net.from_text(NET, caffebn.TEST, device="gpu")
    other.share_with(net)
    net.params["ip"][0].gpu_data[...] = 3
    assert (other.params["ip"][0].data == 3).all()
    other.params["ip"][0].data[...] = 4
    assert (ops.arrays("gpu").to_host(net.params["ip"][0].gpu_data) == 4).all()
