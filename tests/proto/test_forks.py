"""Fields of forks of Caffe in common layers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from caffebn import Net
from caffebn.errors import ArgumentError, CaffebnWarning
from caffebn.proto import UnknownBinary, binary, forks, text, upgrade, wire

DATA = 'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 2 dim: 4 dim: 6 dim: 6 } } }'


def upgraded(layers: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error", CaffebnWarning)  # what is understood needs no word
        net = text.parse(layers)
    return net, upgrade.net(net)


@pytest.mark.parametrize(("given", "mode", "size"), [("false", "FLOOR", 2), ("true", "CEIL", 3)])
def test_ceil_mode(given, mode, size):
    pool = (
        f'layer {{ name: "p" type: "Pooling" bottom: "d" top: "p" '
        f"pooling_param {{ kernel_size: 3 stride: 2 ceil_mode: {given} }} }}"
    )
    net, changes = upgraded(pool)
    assert net.layer[0].pooling_param.round_mode == mode and not net.layer[0].pooling_param.unknown
    assert changes == ['ceil_mode is now round_mode: "p"']
    assert Net.from_text(DATA + pool, "TEST").blobs["p"].shape == (2, 4, size, size)


def test_round_mode_counts_beside_ceil_mode():
    net, _ = upgraded(
        'layer { name: "p" type: "Pooling" pooling_param { ceil_mode: true round_mode: FLOOR } }'
    )
    assert net.layer[0].pooling_param.round_mode == "FLOOR"


@pytest.mark.parametrize(
    ("fields", "dilation"),
    [
        ("hole: 2", [2]),
        ("hole_h: 2 hole_w: 3", [2, 3]),
        ("dilation_h: 4 dilation_w: 5", [4, 5]),
        ("hole_w: 2", [1, 2]),
    ],
)
def test_older_names_of_dilation(fields, dilation):
    net, changes = upgraded(f'layer {{ name: "c" type: "Convolution" convolution_param {{ {fields} }} }}')
    assert list(net.layer[0].convolution_param.dilation) == dilation
    assert changes == ['hole or dilation_h and dilation_w are now dilation: "c"']


@pytest.mark.parametrize(
    "kind, field", [("Convolution", "convolution_param"), ("InnerProduct", "inner_product_param")]
)
def test_fused_relu_of_intel(kind, field):
    net, _ = upgraded(
        f'layer {{ name: "c" type: "{kind}" bottom: "a" top: "c" {field} {{ relu: true negative_slope: 0.1 }} '
        "include { phase: TEST } }"
    )
    layer, relu = net.layer
    assert (relu.name, relu.type, relu.bottom, relu.top) == ("c_relu", "ReLU", ["c"], ["c"])
    assert relu.relu_param.negative_slope == pytest.approx(0.1) and relu.include == layer.include


def test_relu6_and_its_like():
    net, _ = upgraded(
        'layer { name: "a" type: "ReLU6" bottom: "x" top: "x" relu6_param { engine: CAFFE } }'
        'layer { name: "b" type: "ReLU" bottom: "x" top: "x" relu_param { relu6: true } }'
        'layer { name: "c" type: "ReLUX" bottom: "x" top: "x" relux_param { maximal_value: 2 } }'
    )
    assert [(layer.type, layer.clip_param.min, layer.clip_param.max) for layer in net.layer] == [
        ("Clip", 0, 6), ("Clip", 0, 6), ("Clip", 0, 2),
    ]  # fmt: skip


@pytest.mark.parametrize("shape", ["dim: 2 dim: 4", "dim: 2 dim: 4 dim: 1 dim: 1"])
def test_axpy_of_senet(shape):
    net = Net.from_text(
        f'{DATA} layer {{ name: "i" type: "Input" top: "a" top: "y" input_param {{ shape {{ {shape} }} '
        'shape { dim: 2 dim: 4 dim: 6 dim: 6 } } }'
        'layer { name: "axpy" type: "Axpy" bottom: "a" bottom: "d" bottom: "y" top: "z" }',
        "TEST", dtype=np.float64,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    values = {name: rng.standard_normal(net.blobs[name].shape) for name in ("a", "d", "y")}
    found = net.forward(**values)["z"]
    np.testing.assert_allclose(found, values["a"].reshape(2, 4, 1, 1) * values["d"] + values["y"])


def test_what_changes_nothing_is_kept_without_a_word():
    net, changes = upgraded(
        'default_forward_type: FLOAT16 layer { name: "c" type: "Convolution" forward_type: FLOAT '
        'convolution_param { conv_algos_override: "1,1,1" } } layer { name: "e" type: "Eltwise" eltwise_param { '
        "engine: MKLDNN } }"
    )
    assert changes == []
    assert "conv_algos_override" in str(net) and "default_forward_type" in str(net)


def test_what_does_change_something_is_still_told():
    with pytest.warns(CaffebnWarning, match='has no field "scale_train"; it is kept, but not used'):
        text.parse('layer { name: "d" type: "Dropout" dropout_param { scale_train: false } }')


def binary_net(*unknown, field="pooling_param", type="Pooling", **known):
    net = text.parse(f'layer {{ name: "p" type: "{type}" bottom: "d" top: "p" }}')
    param = net.layer[0].mutable(field)
    for name, value in known.items():
        setattr(param, name, value)
    param.unknown.extend(unknown)
    return binary.parse(binary.dump(net))


def varint(number, value):
    return UnknownBinary(number, wire.VARINT, wire.varint(value))


def test_numbers_that_clash():
    """On the wire ceil_mode: true is round_mode: FLOOR."""
    net = binary_net(round_mode="FLOOR")
    assert "round_mode to BVLC Caffe, ceil_mode (the opposite)" in forks.suspects(net)[0]
    assert forks.reinterpret(net, "py-rfcn") == ['ceil_mode is now round_mode: "p"']
    assert net.layer[0].pooling_param.round_mode == "CEIL"
    net = binary_net(round_mode="FLOOR")
    assert forks.reinterpret(net, "bvlc") == [] and net.layer[0].pooling_param.round_mode == "FLOOR"
    net = binary_net(varint(14, 0))
    forks.reinterpret(net, "synopsys")
    assert net.layer[0].pooling_param.round_mode == "FLOOR"


def test_dilations_that_clash():
    def conv(*unknown, **known):
        return binary_net(*unknown, field="convolution_param", type="Convolution", **known)

    net = conv(force_nd_im2col=True)
    forks.reinterpret(net, "deeplab-v1")
    assert list(net.layer[0].convolution_param.dilation) == [1]
    net = conv(dilation=[3], force_nd_im2col=True)
    forks.reinterpret(net, "yjxiong")
    assert list(net.layer[0].convolution_param.dilation) == [1, 3]
    net = conv(varint(19, 1))
    assert forks.reinterpret(net, "intel") == ['relu: true is now a ReLU layer: "p"']


def test_unknown_fork():
    with pytest.raises(ArgumentError, match='there is no fork "intl"; did you mean "intel"'):
        forks.reinterpret(binary_net(), "intl")
