"""Surgery on nets with their weights."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import caffebn
from caffebn import Net
from caffebn.errors import ArgumentError, FileError, NetError, ParseError, WeightsError
from caffebn.proto import text
from caffebn.surgery import Surgery

NET = """
name: "patient"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 16 dim: 16 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "scale1" type: "Scale" bottom: "conv1" top: "conv1" scale_param { bias_term: true } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2" param { lr_mult: 1 }
        convolution_param { num_output: 8 kernel_size: 3 stride: 2 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "bn2" type: "BatchNorm" bottom: "conv2" top: "bn2" }
layer { name: "scale2" type: "Scale" bottom: "bn2" top: "bn2" scale_param { bias_term: true } }
layer { name: "relu2" type: "ReLU" bottom: "bn2" top: "relu2" }
layer { name: "pool" type: "Pooling" bottom: "relu2" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
        inner_product_param { num_output: 10 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files of the documentation, which is the current one."""
    monkeypatch.chdir(tmp_path)
    Path("deploy.prototxt").write_text(NET)
    caffebn.set_random_seed(3)
    net = Net("deploy.prototxt", "TEST")
    rng = np.random.default_rng(0)
    for name in ("bn1", "bn2"):
        for blob in net.params[name]:
            blob.data[...] = rng.uniform(0.5, 2, blob.shape)
    for blob in net.params["fc"]:
        blob.data[...] = rng.standard_normal(blob.shape)
    net.save("weights.caffemodel")
    other = Net.from_text(
        NET.replace('name: "conv', 'name: "res_conv').replace("num_output: 8", "num_output: 7"), "TEST"
    )
    other.save("other.caffemodel")
    Path("train_val.prototxt").write_text(
        NET.replace(
            'type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 16 dim: 16 } }',
            'type: "HDF5Data" top: "data"',
        )
    )
    return tmp_path


@pytest.fixture
def s(folder) -> Surgery:
    return Surgery("deploy.prototxt", "weights.caffemodel")


@pytest.fixture
def x():
    return np.random.default_rng(1).standard_normal((1, 3, 16, 16)).astype(np.float32)


def test_the_examples_of_the_documentation(folder, checkout):
    """Every block of docs/surgery.md runs; what they claim is checked here."""
    page = (checkout / "docs" / "surgery.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", page, re.S)
    picture = np.random.default_rng(2).standard_normal((1, 3, 24, 24)).astype(np.float32)
    names = {"np": np, "Surgery": Surgery, "picture": picture}
    assert len(examples) == 8
    for example in examples:
        exec(example, names)
    assert names["answers"].shape == (1, 10, 3, 3)
    birds = Net("birds.prototxt", "birds.caffemodel", "TEST")
    assert birds.blobs["prob"].shape == (1, 5) and "fc_birds" in birds.params
    assert "num_output: 5" in Path("birds_train_val.prototxt").read_text()
    assert names["s"].names[-1] == "prob"


def test_fully_convolutional_is_the_same_net(s, x):
    """On a larger picture every answer is that of its own window."""
    expected = s.net().forward(blobs=["fc"], data=x)["fc"].copy()
    s.to_convolution("fc")
    found = s.net().forward(blobs=["fc"], data=x)["fc"]
    assert found.shape == (1, 10, 1, 1)
    np.testing.assert_allclose(found.reshape(1, 10), expected, rtol=1e-5, atol=1e-5)
    assert list(s.layer("fc").convolution_param.kernel_size) == [4]


def test_several_and_transposed_inner_products(folder, x):
    more = NET.replace('"prob" type: "Softmax" bottom: "fc"', '"prob" type: "Softmax" bottom: "fc2"').replace(
        'layer { name: "prob"',
        'layer { name: "fc2" type: "InnerProduct" bottom: "fc" top: "fc2" inner_product_param { num_output: 3 '
        "transpose: true "
        'weight_filler { type: "xavier" } } } layer { name: "prob"',
    )
    Path("two.prototxt").write_text(more)
    Net("two.prototxt", "TEST").save("two.caffemodel")
    s = Surgery("two.prototxt", "two.caffemodel")
    expected = s.net().forward(data=x)["prob"].copy()
    found = s.to_convolution("fc*").net().forward(data=x)["prob"]
    np.testing.assert_allclose(found.reshape(1, 3), expected, rtol=1e-5, atol=1e-6)


def test_change_outputs_keeps_what_is_asked(s, x):
    before = [np.array(a) for a in s.weights["fc"]]
    s.change_outputs("fc", 4, new_name="score", keep={2: 0, 9: 3})
    weights, bias = s.weights["score"]
    np.testing.assert_array_equal(weights[[0, 3]], before[0][[2, 9]])
    np.testing.assert_array_equal(bias, [before[1][2], 0, 0, before[1][9]])
    assert weights[1].std() == pytest.approx(0.1, rel=0.3)
    assert s.net().forward(data=x)["prob"].shape == (1, 4)
    with pytest.raises(ArgumentError, match="keep 9: 1: there are 4 outputs now and 2 then"):
        s.change_outputs("score", 2, keep={9: 1})
    with pytest.raises(ArgumentError, match='"pool" is a Pooling, neither Convolution nor InnerProduct'):
        s.change_outputs("pool", 2)


def test_round_trip(s, folder, x):
    s.save("a.prototxt", "a.caffemodel")
    expected = Net("deploy.prototxt", "weights.caffemodel", "TEST").forward(data=x)["prob"].copy()
    np.testing.assert_array_equal(Net("a.prototxt", "a.caffemodel", "TEST").forward(data=x)["prob"], expected)
    np.testing.assert_array_equal(s.net().forward(data=x)["prob"], expected)
    assert repr(s) == "<Surgery deploy.prototxt: 12 layers, 7 with weights>"


def test_the_source_is_not_changed(folder):
    net = text.parse(NET)
    Surgery(net).drop("relu*").rename("conv*", "c*")
    assert net == text.parse(NET)


# -- names


def test_rename(s, x):
    expected = s.net().forward(data=x)["prob"].copy()
    s.rename("bn*", "stage_*_bn").rename("fc", "score").rename_blob("prob", "answer")
    assert "stage_1_bn" in s.names and "score" in s.weights
    np.testing.assert_array_equal(s.net().forward(data=x)["answer"], expected)
    with pytest.raises(ArgumentError, match='there would be two layers "conv2"'):
        s.rename("conv1", "conv2")
    with pytest.raises(ArgumentError, match='there would be two layers "conv"'):
        s.rename("conv*", "conv")
    with pytest.raises(ArgumentError, match='no layer matches "con1"; did you mean "conv1"'):
        s.rename("con1", "a")
    with pytest.raises(ArgumentError, match='there is no blob "pol"; did you mean "pool"'):
        s.rename_blob("pol", "a")
    with pytest.raises(ArgumentError, match='there is a blob "fc" already'):
        s.rename_blob("pool", "fc")


# -- taking out, putting in


def test_drop_bridges_the_gap(s):
    s.drop("relu2", "bn2", "scale2")
    assert list(s.layer("pool").bottom) == ["conv2"] and "bn2" not in s.weights
    s.net()
    s.drop("relu1")  # in place: nothing to bridge
    assert list(s.layer("conv2").bottom) == ["conv1"]
    s.drop("prob")
    assert s.net().outputs == ["fc"]


def test_drop_before_layers_in_place():
    s = Surgery(
        text.parse(
            'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 2 } } }'
            'layer { name: "a" type: "Power" bottom: "d" top: "a" }'
            'layer { name: "b" type: "ReLU" bottom: "a" top: "a" }'
            'layer { name: "c" type: "Eltwise" bottom: "a" bottom: "d" top: "c" }'
        )
    ).drop("a")
    assert [list(layer.bottom) for layer in s.definition.layer] == [[], ["d"], ["a", "d"]]
    assert s.net().forward(d=np.array([[-1.0, 2]]))["c"].tolist() == [[-1, 4]]


def test_drop_what_nothing_can_replace(s):
    s.insert("conv2", 'name: "sum" type: "Eltwise" bottom: "conv2" bottom: "conv2" top: "sum"')
    with pytest.raises(
        NetError, match='drop: layer "sum" .Eltwise. has 2 bottoms, and layer "bn2" reads its top "sum"'
    ):
        s.drop("sum")


def test_keep(s):
    s.keep("conv2")
    assert s.names[-1] == "conv2" and list(s.weights) == ["conv1", "bn1", "scale1", "conv2"]
    with pytest.raises(ArgumentError, match='there is no blob "fc"'):
        s.keep("fc")


def test_insert(s, x):
    s.insert("conv2", 'name: "double" type: "Power" top: "double" power_param { scale: 2 }')
    assert list(s.layer("bn2").bottom) == ["double"]
    s.insert("fc", 'name: "drop" type: "Dropout"')
    assert (list(s.layer("drop").bottom), list(s.layer("drop").top)) == (["fc"], ["fc"])
    s.insert(
        "pool",
        'name: "p" type: "PReLU" top: "p" prelu_param { channel_shared: true }',
        weights=[np.array(0.5, np.float32)],
    )
    assert s.net().params["p"][0].data == 0.5
    with pytest.raises(ArgumentError, match='insert: there is a layer "conv1" already'):
        s.insert("pool", 'name: "conv1" type: "ReLU"')
    with pytest.raises(ArgumentError, match='there is no layer "pol"; did you mean "pool"'):
        s.insert("pol", 'name: "r" type: "ReLU"')
    with pytest.raises(ParseError, match="<layer>:1"):
        s.insert("pool", 'name "r"')


def test_replace(s):
    s.replace("relu2", 'type: "TanH"').replace(
        "pool", 'name: "pool_ave" type: "Pooling" pooling_param { pool: AVE kernel_size: 2 stride: 2 }'
    )
    assert (s.layer("relu2").type, list(s.layer("relu2").bottom), list(s.layer("pool_ave").top)) == (
        "TanH",
        ["bn2"],
        ["pool"],
    )
    s.replace("conv1", 'type: "Convolution" convolution_param { num_output: 4 kernel_size: 1 }')
    assert "conv1" not in s.weights
    s.net()
    with pytest.raises(ArgumentError, match='replace: there is a layer "fc" already'):
        s.replace("conv1", 'name: "fc" type: "ReLU"')


def test_split(s, x):
    expected = s.net().forward(data=x)["prob"].copy()
    front, back = s.split("pool")
    middle = front.net().forward(data=x)["pool"].copy()
    np.testing.assert_array_equal(back.net().forward(pool=middle)["prob"], expected)
    assert not set(front.weights) & set(back.weights)
    s.insert("fc", 'name: "again" type: "Reduction" bottom: "conv1" top: "again"')
    with pytest.raises(NetError, match='split: layer "again" behind "pool" reads "conv1" from before it'):
        s.split("pool")


@pytest.mark.parametrize("name, sizes", [("conv1", [1, 3]), ("conv2", [5, 2, 1]), ("fc", [4, 6])])
def test_split_layer(s, x, name, sizes):
    expected = s.net().forward(data=x)["prob"].copy()
    s.split_layer(name, sizes)
    assert [n for n in s.names if n.startswith(f"{name}_")] == [f"{name}_{i}" for i in range(len(sizes))]
    np.testing.assert_allclose(s.net().forward(data=x)["prob"], expected, rtol=1e-5, atol=1e-6)


def test_split_layer_refusals(s):
    with pytest.raises(ArgumentError, match=r'"conv1" has 4 outputs, the sizes \[1, 2\] have 3'):
        s.split_layer("conv1", [1, 2])
    with pytest.raises(ArgumentError, match='"pool" .Pooling. is no InnerProduct'):
        s.split_layer("pool", [1, 2])


# -- parameters


def test_share():
    branch = (
        'layer {{ name: "conv_{0}" type: "Convolution" bottom: "{0}" top: "conv_{0}" '
        "convolution_param {{ num_output: 2 kernel_size: 1 }} }}"
    )
    net = text.parse(
        'layer { name: "in" type: "Input" top: "a" top: "b" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 3 } } }'
        + branch.format("a") + branch.format("b")
    )  # fmt: skip
    made = Surgery(net).share("conv_a", "conv_*").net()
    assert made.params["conv_a"][0].shares_data_with(made.params["conv_b"][0])
    assert made.params["conv_a"][1].shares_data_with(made.params["conv_b"][1])
    with pytest.raises(ArgumentError, match='share: "in" is a Input, "conv_a" a Convolution'):
        Surgery(net).share("conv_a", "in")


def test_freeze_and_learn(s, x):
    assert s.trainable() == ["conv1", "scale1", "conv2", "scale2", "fc"]
    s.freeze("*1", "bn2").learn("fc", lr_mult=10, decay_mult=0)
    assert s.trainable() == ["conv2", "scale2", "fc"]
    net = s.net("TRAIN")
    before = [blob.data.copy() for name in ("conv1", "bn1", "scale1", "bn2") for blob in net.params[name]]
    net.forward(data=x)
    after = [blob.data for name in ("conv1", "bn1", "scale1", "bn2") for blob in net.params[name]]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert [p.lr_mult for p in s.layer("fc").param] == [10, 10]
    s.learn("bn*")
    assert not s.layer("bn1").batch_norm_param.has("use_global_stats")
    net = s.net("TRAIN")
    net.forward(data=x)
    assert net.params["bn1"][2].data[0] != before[4][0]


def test_freezing_a_net_that_reads_files(folder):
    s = Surgery("train_val.prototxt").freeze("conv*", "bn*")
    assert s.trainable() == ["scale1", "scale2", "fc"]
    assert [len(s.layer(name).param) for name in ("conv1", "conv2", "bn1")] == [2, 1, 3]


def test_copy_weights(s, folder):
    fresh = Surgery("deploy.prototxt")
    assert fresh.copy_weights(s, "conv*") == ["conv1", "conv2"]
    np.testing.assert_array_equal(fresh.net().params["conv1"][0].data, s.weights["conv1"][0])
    with pytest.raises(
        WeightsError, match='layer "conv2": expected 8x4x3x3, weights of "res_conv2" have 7x4x3x3'
    ):
        fresh.copy_weights("other.caffemodel", {"res_*": "*"})
    assert fresh.copy_weights("other.caffemodel", {"res_*": "*"}, strict=False) == ["conv1"]
    with pytest.raises(ArgumentError, match='no weights match "cov1"; did you mean "conv1"'):
        fresh.copy_weights(s, "cov1")
    with pytest.raises(ArgumentError, match='no layer "conv3" with parameters; did you mean'):
        fresh.copy_weights(s, {"conv1": "conv3"})


def test_weights_that_do_not_fit_are_refused(s):
    s.layer("conv1").convolution_param.num_output = 5
    with pytest.raises(WeightsError, match='layer "conv1": expected 5x3x3x3, 5, its weights have 4x3x3x3, 4'):
        s.net()


def test_to_convolution_refusals(s):
    with pytest.raises(ArgumentError, match='to_convolution: "pool" is a Pooling, no InnerProduct'):
        s.to_convolution("pool")
    s.insert("pool", 'name: "flat" type: "Flatten" top: "flat"').insert("flat", 'name: "r" type: "Reshape" top: "r" '
             "reshape_param { shape { dim: 1 dim: 2 dim: 64 } }")  # fmt: skip
    with pytest.raises(
        ArgumentError, match=r'"fc" must read \(N, C, H, W\) from axis 1 on, found 1x2x64 and axis 1'
    ):
        s.to_convolution("fc")


def test_files_that_are_no_net_or_not_its_weights(folder):
    Path("empty.prototxt").write_text("")
    with pytest.raises(NetError, match="empty.prototxt: no layer is in it; expected a net"):
        Surgery("empty.prototxt")
    other = NET
    for name in ("conv1", "bn1", "scale1", "conv2", "bn2", "scale2", "fc"):
        other = other.replace(f'name: "{name}"', f'name: "my_{name}"')
    Path("renamed.prototxt").write_text(other)
    with pytest.raises(WeightsError, match="weights.caffemodel: not the weights of renamed.prototxt"):
        Surgery("renamed.prototxt", "weights.caffemodel")


def test_one_file_for_both_is_refused(folder):
    s = Surgery("deploy.prototxt", "weights.caffemodel")
    with pytest.raises(FileError, match="deploy.prototxt: the net and its weights need two files"):
        s.save("deploy.prototxt", "./deploy.prototxt")
    assert Path("deploy.prototxt").read_text() == NET


def test_no_outputs(folder):
    with pytest.raises(ArgumentError, match="expected at least 1 output, found 0"):
        Surgery("deploy.prototxt").change_outputs("fc", 0)
