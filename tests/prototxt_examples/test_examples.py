"""The example nets: what they are made of, against the published ones; that they run; that their files agree."""

from __future__ import annotations

import csv
import math
from typing import NamedTuple

import numpy as np
import pytest

from caffebn import Net, blocks, layer_type_list, set_random_seed
from caffebn.layers import base
from caffebn.net.filter import filter_net
from caffebn.proto import Message, binary, text


class Example(NamedTuple):
    """Values in all parameter blobs, number of layers, the top with the scores, and the published net, if any."""

    parameters: int
    layers: int
    score: str
    published: str = ""


# Where there is a sum, the first number is that of a well-known model of another framework with the same shape; then
# come the statistics of Caffe's BatchNorms, two for each channel and one for each layer.
EXAMPLES = {
    "lenet": Example(431080, 9, "ip2"),
    "lenet_bn": Example(431650 + 1143, 17, "score"),
    "mnist_bn": Example(100010 + 603, 15, "score"),
    "vgg16_bn": Example(138365992 + 2 * 4224 + 13, 66, "fc8"),
    "resnet_18": Example(11689512 + 2 * 4800 + 20, 90, "fc1000"),
    "resnet_34": Example(21797672 + 2 * 8512 + 36, 162, "fc1000"),
    "resnet_50": Example(25610269, 229, "fc1000", "ResNet-50-deploy"),
    "resnet_101": Example(44654608, 450, "fc1000", "ResNet-101-deploy"),
    "resnet_152": Example(60344387, 671, "fc1000", "ResNet-152-deploy"),
    "resnet_50_v2": Example(25549352 + 2 * 22720 + 49, 221, "fc1000"),
    "resnext_50": Example(25028904 + 2 * 34112 + 53, 229, "fc1000"),
    "cifar_resnet_20": Example(274063, 95, "fc10"),
    "cifar_resnet_56": Example(860083, 257, "fc10"),
    "cifar_resnet_110": Example(1739113, 500, "fc10"),
    "inception_bn": Example(33641638, 302, "fc1", "InceptionBN-21K"),
    "densenet_121": Example(8062625, 548, "fc6", "DenseNet-121"),
    "mobilenet_v1": Example(4253891, 112, "fc7", "mobilenet"),
    "mobilenet_v2": Example(3540189, 209, "fc7", "mobilenet_v2"),
}


@pytest.fixture(scope="module")
def folder(checkout):
    return checkout / "prototxt_examples"


@pytest.fixture
def unfilled(monkeypatch):
    """Parameters keep their zeros: filling those of all nets with random numbers takes half a minute."""
    monkeypatch.setattr(base, "fill", lambda *arguments: None)


def facts(definition, net):
    """What there is to know of a net's layers, as the published tables have it."""
    bottoms = {layer.name: layer.bottom for layer in definition.layer}
    return [
        {
            "layer": layer.name,
            "type": layer.type,
            "bottoms": " ".join(bottoms[layer.name]),
            "tops": " ".join(net.top_names[layer.name]),
            "top_shapes": shapes(net.blobs[top] for top in net.top_names[layer.name]),
            "param_shapes": shapes(layer.blobs),
        }
        for layer in net.layers
        if layer.type != "Split"
    ]


def shapes(blobs):
    return " ".join("x".join(map(str, blob.shape)) for blob in blobs)


def with_inputs(definition, shape, phase, stage):
    """The net in that phase with Input layers in place of its data layers, which need databases."""
    net = filter_net(definition, Message("NetState", phase=phase, stage=stage))
    data = [layer for layer in net.layer if layer.type in ("Data", "DummyData")]
    assert [layer.top for layer in data] == [["data", "label"]]
    assert (data[0].type == "DummyData") == (stage == ["dry"])
    made = Message("LayerParameter", name="data", type="Input", top=["data", "label"])
    made.input_param = {"shape": [{"dim": shape}, {"dim": shape[:1]}]}
    net.layer = [made, *(layer for layer in net.layer if layer is not data[0])]
    return net


def input_shape(deploy):
    return list(deploy.layer[0].input_param.shape[0].dim)


def test_every_example_is_tested(folder):
    assert sorted(path.parent.name for path in folder.glob("*/deploy.prototxt")) == sorted(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_deploy(name, folder, golden, unfilled):
    example, path = EXAMPLES[name], folder / name / "deploy.prototxt"
    definition = blocks.read(path, strict=True)
    net = Net(path, "TEST")
    found = facts(definition, net)
    assert len(found) == len(definition.layer) == example.layers
    assert sum(blob.count for layer in net.layers for blob in layer.blobs) == example.parameters
    if example.published:
        with open(golden / "published" / f"{example.published}.csv", newline="") as f:
            assert found == list(csv.DictReader(f))
    statistics = sum(b.count for layer in net.layers for b in layer.blobs if layer.type == "BatchNorm")
    readme = (folder / name / "README.md").read_text()
    assert f"{example.parameters - statistics:,}" in readme
    assert f"{statistics:,}" in readme or not statistics
    assert " x ".join(map(str, input_shape(definition)[2:])) in readme


@pytest.mark.parametrize("name", EXAMPLES)
def test_plain_text_is_read_by_protobuf(name, folder):
    caffe_pb2 = pytest.importorskip("caffebn.proto.caffe_pb2", reason="needs the package protobuf")
    from google.protobuf import text_format

    for file in ("deploy", "train_val"):
        definition = blocks.read(folder / name / f"{file}.prototxt", strict=True)
        plain = text.dump(definition)
        assert text.parse(plain, strict=True) == definition
        read = text_format.Parse(plain, caffe_pb2.NetParameter())
        assert [layer.name for layer in read.layer] == [layer.name for layer in definition.layer]
        assert read.SerializeToString() == binary.dump(definition)


@pytest.mark.parametrize("name", EXAMPLES)
def test_train_val(name, folder, unfilled):
    deploy = blocks.read(folder / name / "deploy.prototxt", strict=True)
    definition = blocks.read(folder / name / "train_val.prototxt", strict=True)
    shape = [2, *input_shape(deploy)[1:]]
    for phase, stage in (("TRAIN", []), ("TEST", ["dry"])):
        filtered = with_inputs(definition, shape, phase, stage)
        net = Net(filtered, phase)
        accuracies = (
            {"accuracy", "accuracy_top5"} if net.blobs[EXAMPLES[name].score].shape[1] > 10 else {"accuracy"}
        )
        assert set(net.outputs) == {"loss"} | (accuracies if phase == "TEST" else set())
        # between data and scores it is the net of deploy, so weights go from one to the other
        scores = [layer.name for layer in deploy.layer].index(EXAMPLES[name].score) + 1
        assert filtered.layer[1:scores] == deploy.layer[1:scores]
    for data in definition.layer[:3]:
        if data.type == "DummyData":
            assert list(data.dummy_data_param.shape[0].dim) == shape
        elif data.transform_param.has("crop_size"):
            assert data.transform_param.crop_size == shape[-1]


@pytest.mark.parametrize("name", EXAMPLES)
def test_solver(name, folder):
    solver = text.read(folder / name / "solver.prototxt", "SolverParameter", strict=True)
    # those with the images of mnist_bn are trained from the folder of the checkout, the others from their own
    start, images = (
        f"prototxt_examples/{folder}/" if name.endswith("t_bn") else "" for folder in (name, "mnist_bn")
    )
    assert (solver.net, solver.snapshot_prefix) == (f"{start}train_val.prototxt", start + name)
    assert (
        list(solver.stepvalue) == sorted(solver.stepvalue) and max([0, *solver.stepvalue]) < solver.max_iter
    )
    train, test = (
        filter_net(blocks.read(folder / name / "train_val.prototxt"), Message("NetState", phase=phase)).layer[
            0
        ]
        for phase in ("TRAIN", "TEST")
    )
    batch = train.data_param.batch_size * solver.iter_size
    assert all(d.data_param.source.startswith(images) for d in (train, test))
    assert batch == {"lenet": 64, "lenet_bn": 64, "mnist_bn": 60}.get(
        name, 128 if name.startswith("cifar") else 256
    )
    assert test.data_param.batch_size * solver.test_iter[0] == (10000 if batch < 256 else 50000)


SMALL = {"lenet": (8, 1, 28, 28), "cifar_resnet_20": (2, 3, 32, 32), "mobilenet_v1": (1, 3, 64, 64)}


@pytest.mark.parametrize("name", SMALL)
def test_run(name, folder):
    # in TRAIN, for BatchNorms without statistics make numbers without bound in TEST
    net = Net(folder / name / "deploy.prototxt", "TRAIN")
    net.blobs["data"].reshape(*SMALL[name])
    prob = net.forward(data=np.random.default_rng(0).normal(size=SMALL[name]))["prob"]
    assert prob.shape[:2] == (SMALL[name][0], 1000 if name.startswith("mobile") else 10)
    np.testing.assert_allclose(prob.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", ["lenet", "cifar_resnet_20"])
def test_train_a_little(name, folder):
    set_random_seed(0)  # one set of weights in forty diverges at this rate
    definition = blocks.read(folder / name / "train_val.prototxt")
    net = Net(with_inputs(definition, list(SMALL[name]), "TRAIN", []), "TRAIN")
    rng = np.random.default_rng(0)
    values = {"data": rng.normal(size=SMALL[name]), "label": rng.integers(0, 10, SMALL[name][:1])}
    losses = []
    for _ in range(4):
        losses.append(float(net.forward(**values)["loss"]))
        net.clear_param_diffs()
        net.backward()
        for layer in net.layers:
            for blob in layer.blobs:
                blob.data[...] -= 0.02 * blob.diff
    assert losses[0] == pytest.approx(math.log(10), rel=0.6)
    assert losses[-1] < losses[0]


@pytest.mark.skipif("DummyData" not in layer_type_list(), reason="needs the layer DummyData")
@pytest.mark.parametrize("name", ["lenet", "cifar_resnet_20"])
def test_dry_run(name, folder):
    train, test = (
        Net(folder / name / "train_val.prototxt", phase, stages=["dry"]) for phase in ("TRAIN", "TEST")
    )
    assert math.isfinite(train.forward()["loss"])
    train.backward()
    assert test.outputs == ["accuracy", "loss"]


def test_resnet_50_is_short(folder):
    files = [(folder / "resnet_50" / f"{file}.prototxt").read_text() for file in ("deploy", "net")]
    assert sum(len(file.splitlines()) for file in files) <= 60
