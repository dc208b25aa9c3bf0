"""The blocks that come with caffebn."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn import Net, blocks

INPUT = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: [2, 8, 16, 16] } } }\n'


def build(text, phase="TRAIN"):
    """A net behind an input of 8 channels, run once."""
    net = Net.from_text(INPUT + text, phase)
    net.blobs["data"].data[...] = np.random.default_rng(0).normal(size=(2, 8, 16, 16))
    net.forward()
    assert all(np.isfinite(blob.data).all() for blob in net.blobs.values())
    return net


def specs(expand, text):
    return {layer.name: layer for layer in expand(text)}


def kernels(net):
    return [(layer.name, layer.blobs[0].shape) for layer in net.layers if layer.type == "Convolution"]


def test_every_template_is_read():
    found = blocks.builtin()
    assert {"ConvBnRelu", "ResidualBasic", "ResidualBottleneck", "InceptionBn", "DenseBlock", "DenseTransition",
            "DepthwiseSeparable", "InvertedResidual"} <= found.keys()  # fmt: skip
    assert all(list(template.parameters)[:2] == ["name", "bottom"] for template in found.values())


def test_conv_states_only_what_is_not_the_default(expand):
    (conv,) = expand('block { type: "Conv" name: "c" num_output: 4 kernel_size: 1 bias_term: true }')
    assert [field.name for field, _ in conv.set_fields()] == [
        "name",
        "type",
        "bottom",
        "top",
        "convolution_param",
    ]
    stated = [field.name for field, _ in conv.convolution_param.set_fields()]
    assert stated == ["num_output", "kernel_size", "weight_filler"]


def test_conv_takes_everything(expand):
    (conv,) = expand("""block {
      type: "Conv" name: "c" bottom: "data" top: "t" num_output: 4 kernel_size: 5 stride: 2 dilation: 2 group: 2
      bias_term: true weight_filler { type: "gaussian" std: 0.5 } lr_mult: 0.0
    }""")
    param = conv.convolution_param
    assert (conv.bottom, conv.top, [p.lr_mult for p in conv.param]) == (["data"], ["t"], [0, 0])
    assert (param.num_output, param.kernel_size, param.stride, param.dilation, param.group) == (
        4,
        [5],
        [2],
        [2],
        2,
    )
    assert (param.pad, param.bias_term, param.weight_filler.std) == ([4], True, 0.5)


@pytest.mark.parametrize(("more", "tops"), [
    ("", ["c"] * 4),
    ('top: "t"', ["t"] * 4),
    ("relu: false", ["c"] * 3),
    ("in_place: false", ["c", "c/bn", "c/bn", "c/bn"]),
    ('in_place: false top: "t"', ["c", "t", "t", "t"]),
])  # fmt: skip
def test_conv_bn_relu(more, tops):
    net = build(f'block {{ type: "ConvBnRelu" name: "c" num_output: 4 {more} }}')
    assert [layer.name for layer in net.layers[1:]] == ["c", "c/bn", "c/scale", "c/relu"][: len(tops)]
    assert [top for layer in net.layers[1:] for top in layer.spec.top] == tops
    assert net.blobs[tops[-1]].shape == (2, 4, 16, 16)


def test_names_batch_norm_and_rates_reach_their_layers(expand):
    layers = expand("""block {
      type: "ConvBnRelu" name: "c" num_output: 4 bn_name: "b" scale_name: "s" relu_name: "r"
      batch_norm_param { eps: 0.001 moving_average_fraction: 0.9 } lr_mult: 0.5
    }""")
    assert [layer.name for layer in layers] == ["c", "b", "s", "r"]
    assert layers[1].batch_norm_param.moving_average_fraction == np.float32(0.9)
    assert [[p.lr_mult for p in layer.param] for layer in layers] == [[0.5], [], [0.5, 0.5], []]


RESIDUAL = ["ResidualBasic", "ResidualBottleneck"]


@pytest.mark.parametrize("kind", RESIDUAL)
@pytest.mark.parametrize("version", ["", "preactivation: true"])
@pytest.mark.parametrize(("more", "shape", "projects"), [
    ("num_output: 8", (2, 8, 16, 16), False),
    ("num_output: 12", (2, 12, 16, 16), True),
    ("num_output: 8 stride: 2", (2, 8, 8, 8), True),
    ('num_output: 8 shortcut: "projection"', (2, 8, 16, 16), True),
    ('num_output: 8 shortcut: "identity"', (2, 8, 16, 16), False),
])  # fmt: skip
def test_residual_shortcuts(kind, version, more, shape, projects):
    net = build(f'block {{ type: "{kind}" name: "res2" width: 4 repeat: 2 {more} {version} }}')
    assert net.blobs["res2b"].shape == shape
    assert ("res2a_branch1" in net.layer_dict, "res2b_branch1" in net.layer_dict) == (projects, False)


@pytest.mark.parametrize("kind", RESIDUAL)
def test_residual_names(kind, expand):
    letters = specs(expand, f'block {{ type: "{kind}" name: "res2" width: 3 repeat: 3 num_output: 3 }}')
    numbers = specs(
        expand,
        f'block {{ type: "{kind}" name: "res2" width: 3 repeat: 3 num_output: 3 numbered: true top: "t" }}',
    )
    assert [name for name, layer in letters.items() if layer.type == "Eltwise"] == ["res2a", "res2b", "res2c"]
    assert [name for name, layer in numbers.items() if layer.type == "Eltwise"] == [
        "res2a",
        "res2b1",
        "res2b2",
    ]
    assert numbers["res2b2"].top == numbers["res2b2_relu"].top == ["t"]
    assert {"bn2a_branch2a", "scale2a_branch2a", "res2a_branch2a_relu", "bn2c_branch2b"} <= letters.keys()
    other = specs(expand, f'block {{ type: "{kind}" name: "stage" width: 3 num_output: 3 }}')
    assert {"stagea_branch2a", "bnstagea_branch2a", "stagea"} <= other.keys()


def test_bottleneck_widths_and_strides():
    text = 'block { type: "ResidualBottleneck" name: "res2" width: 4 stride: 2 %s }'
    assert kernels(build(text % "")) == [
        ("res2a_branch1", (16, 8, 1, 1)), ("res2a_branch2a", (4, 8, 1, 1)), ("res2a_branch2b", (4, 4, 3, 3)),
        ("res2a_branch2c", (16, 4, 1, 1)),
    ]  # fmt: skip
    net = build(text % "stride_in_3x3: true group: 2 num_output: 6")
    assert net.params["res2a_branch2b"][0].shape == (4, 2, 3, 3)
    assert net.blobs["res2a_branch2a"].shape == (2, 4, 16, 16) and net.blobs["res2a"].shape == (2, 6, 8, 8)
    assert build(text % "").blobs["res2a_branch2a"].shape == (2, 4, 8, 8)


def test_preactivation_has_no_layer_behind_the_sum(expand):
    layers = expand('block { type: "ResidualBasic" name: "res2" width: 3 repeat: 2 preactivation: true }')
    types = [layer.type for layer in layers[: len(layers) // 2]]
    assert types == ["BatchNorm", "Scale", "ReLU", "Convolution"] * 2 + ["Eltwise"]
    assert layers[9].bottom == ["res2a"] and layers[-1].bottom == ["res2a", "res2b_branch2b"]


@pytest.mark.parametrize(("more", "words"), [
    ('shortcut: "none"', 'shortcut is auto, projection or identity, not "none"'),
    ("repeat: 0", "repeat has to be 1 or more, found 0"),
])  # fmt: skip
@pytest.mark.parametrize("kind", RESIDUAL)
def test_residual_refusals(kind, more, words, refusal):
    said = refusal(INPUT + f'block {{ type: "{kind}" name: "res2" width: 4 {more} }}')
    assert said.startswith(f'net.prototxt:2:1: in block "res2" ({kind}) at ')
    assert said.endswith(words)


def test_the_shortcut_has_to_be_stated_where_channels_are_not_known(refusal):
    text = 'layer { name: "d" type: "Data" top: "data" } block { type: "ResidualBasic" name: "res2" width: 4 %s }'
    assert 'cannot tell how many channels "data" has, for layer "d" (Data) does not say' in refusal(text % "")
    assert len(blocks.parse(text % 'shortcut: "projection"').layer) == 13


def test_inception():
    widths = "num_3x3_reduce: 2 num_3x3: 3 num_double_3x3_reduce: 4 num_double_3x3: 5"
    net = build(f'block {{ type: "InceptionBn" name: "3a" num_1x1: 6 {widths} num_proj: 7 bias_term: true }}')
    assert net.blobs["ch_concat_3a_chconcat"].shape == (2, 6 + 3 + 5 + 7, 16, 16)
    assert kernels(net) == [
        ("conv_3a_1x1", (6, 8, 1, 1)), ("conv_3a_3x3_reduce", (2, 8, 1, 1)), ("conv_3a_3x3", (3, 2, 3, 3)),
        ("conv_3a_double_3x3_reduce", (4, 8, 1, 1)), ("conv_3a_double_3x3_0", (5, 4, 3, 3)),
        ("conv_3a_double_3x3_1", (5, 5, 3, 3)), ("conv_3a_proj", (7, 8, 1, 1)),
    ]  # fmt: skip
    net = build(f'block {{ type: "InceptionBn" name: "3c" {widths} pool: MAX stride: 2 top: "t" }}')
    assert net.blobs["t"].shape == (2, 3 + 5 + 8, 8, 8)
    assert net.layer_dict["max_pool_3c_pool"].spec.pooling_param.pool == "MAX"


def test_dense():
    net = build(
        'block { type: "DenseBlock" name: "conv2" growth: 3 repeat: 2 bottleneck: 2 dropout_ratio: 0.5 }'
        'block { type: "DenseTransition" name: "conv2" }'
        'block { type: "DenseBlock" name: "conv3" growth: 3 repeat: 1 top: "t" }'
        'block { type: "DenseTransition" name: "conv3" num_output: 5 top: "u" }'
    )
    assert net.blobs["concat_2_2"].shape == (2, 14, 16, 16)
    assert net.blobs["pool2"].shape == (2, 7, 8, 8)
    assert (net.blobs["t"].shape, net.blobs["u"].shape) == ((2, 10, 8, 8), (2, 5, 4, 4))
    assert net.params["conv2_2/x1"][0].shape == (6, 11, 1, 1)
    assert net.layer_dict["conv2_1/dropout"].spec.dropout_param.dropout_ratio == 0.5
    assert "conv3_1/dropout" not in net.layer_dict


def test_mobile():
    net = build(
        'block { type: "DepthwiseSeparable" name: "conv2" num_output: 6 stride: 2 kernel_size: 5 }'
        'block { type: "InvertedResidual" name: "conv3" num_output: 6 expansion: 2 }'
        'block { type: "InvertedResidual" name: "conv4" num_output: 6 expansion: 2 residual: false }'
        'block { type: "InvertedResidual" name: "conv5" num_output: 4 top: "t" }'
    )
    assert net.params["conv2/dw"][0].shape == (8, 1, 5, 5)
    assert net.blobs["conv2/sep"].shape == net.blobs["block_3"].shape == (2, 6, 8, 8)
    assert net.params["conv3/dwise"][0].shape == (12, 1, 3, 3)
    assert "block_4" not in net.layer_dict and net.blobs["conv4/linear/bn"].shape == (2, 6, 8, 8)
    assert net.blobs["t"].shape == (2, 4, 8, 8)
