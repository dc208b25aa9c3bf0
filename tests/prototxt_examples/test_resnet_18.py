"""The example resnet_18: what the spec in Python makes, and that it is the net of the prototxt beside it."""

from __future__ import annotations

import importlib.util
import inspect
import textwrap

import numpy as np
import pytest

import caffebn
from caffebn import blocks
from caffebn.proto import text


@pytest.fixture(scope="module")
def folder(checkout):
    return checkout / "prototxt_examples" / "resnet_18"


@pytest.fixture(scope="module")
def netspec(folder):
    spec = importlib.util.spec_from_file_location("resnet_18_netspec", folder / "netspec.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_net_has_the_size_of_the_paper(netspec):
    net = caffebn.Net(netspec.deploy(), caffebn.TEST)
    learned = [blob.count for layer in net.layers if layer.type != "BatchNorm" for blob in layer.blobs]
    assert sum(learned) == 11_689_512
    assert sum(layer.type == "Convolution" for layer in net.layers) == 20
    assert [net.blobs[name].shape for name in ("pool1", "res2b", "res3b", "res4b", "res5b", "pool5", "prob")] == [
        (1, 64, 56, 56), (1, 64, 56, 56), (1, 128, 28, 28), (1, 256, 14, 14), (1, 512, 7, 7), (1, 512, 1, 1), (1, 1000),
    ]  # fmt: skip


def test_the_net_runs(netspec):
    caffebn.set_random_seed(0)
    net = caffebn.Net(netspec.deploy(), caffebn.TEST)
    for layer in net.layers:
        if layer.type == "BatchNorm":
            for blob in layer.blobs[1:]:
                blob.data[...] = 1  # variance 1, factor 1
    net.blobs["data"].reshape(2, 3, 64, 64)
    prob = net.forward(data=np.random.default_rng(0).normal(size=(2, 3, 64, 64)))["prob"]
    np.testing.assert_allclose(prob.sum(1), 1, rtol=1e-5)
    assert np.ptp(prob) > 1e-6


def test_names_are_those_of_the_published_nets(netspec):
    names = [layer.name for layer in netspec.deploy().layer]
    assert names[:6] == ["input", "conv1", "bn_conv1", "scale_conv1", "conv1_relu", "pool1"]
    assert names[15:26] == [
        "res2b_branch2a", "bn2b_branch2a", "scale2b_branch2a", "res2b_branch2a_relu", "res2b_branch2b",
        "bn2b_branch2b", "scale2b_branch2b", "res2b", "res2b_relu", "res3a_branch1", "bn3a_branch1",
    ]  # fmt: skip
    assert names[-3:] == ["pool5", "fc1000", "prob"]


def test_train_val_has_the_same_layers_between_data_and_loss(netspec):
    deploy, train_val = netspec.deploy().layer, netspec.train_val().layer
    assert deploy[1:-1] == train_val[3:-3]
    ends = [*train_val[:3], *train_val[-3:]]
    assert [(layer.name, layer.type, list(layer.top)) for layer in ends] == [
        ("data", "Data", ["data", "label"]), ("data", "Data", ["data", "label"]),
        ("data", "DummyData", ["data", "label"]), ("loss", "SoftmaxWithLoss", ["loss"]),
        ("accuracy", "Accuracy", ["accuracy"]), ("accuracy_top5", "Accuracy", ["accuracy_top5"]),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["deploy", "train_val"])
def test_the_spec_is_the_prototxt(netspec, folder, name):
    expected, found = blocks.read(folder / f"{name}.prototxt"), getattr(netspec, name)()
    for ours, theirs in zip(found.layer, expected.layer, strict=False):
        assert ours == theirs  # layer by layer, so that the first difference is shown
    assert found == expected


@pytest.mark.parametrize("name", ["normalised", "block", "scores", "deploy"])
def test_the_documentation_shows_it_as_it_is(netspec, checkout, name):
    source = inspect.getsource(getattr(netspec, name))
    assert textwrap.indent(source, "    ") in (checkout / "docs" / "netspec.md").read_text()


def test_three_ways_of_writing_are_one_net(netspec, folder, checkout):
    plain = text.read(folder / "plain.prototxt", strict=True)
    assert plain == blocks.read(folder / "deploy.prototxt") == netspec.deploy()
    page = (checkout / "docs" / "three_ways.md").read_text()
    for file in ("net", "deploy", "plain"):
        assert textwrap.indent((folder / f"{file}.prototxt").read_text(), "    ") in page
    for name in ("normalised", "block", "scores", "deploy"):
        assert textwrap.indent(inspect.getsource(getattr(netspec, name)), "    ") in page
