"""ONNX models for pictures of any size: right for each, or refused."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from caffebn import Net, export
from caffebn.errors import ArgumentError, NetError
from tests.export.nets import fill_statistics

onnxruntime = pytest.importorskip("onnxruntime")

HEAD = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 dim: 12 dim: 10 } } }\n'
CONV = 'convolution_param {{ num_output: 4 kernel_size: {} stride: {} pad: {} weight_filler {{ type: "xavier" }} }}'


def net_of(text: str) -> Net:
    return fill_statistics(Net.from_text(HEAD + text, "TEST"))


def agree_on_sizes(net: Net, exported, sizes) -> None:
    """The model and the net, on pictures of these sizes."""
    session = onnxruntime.InferenceSession(exported.model.SerializeToString())
    rng = np.random.default_rng(0)
    for h, w in sizes:
        x = rng.standard_normal((2, 4, h, w)).astype(np.float32)
        net.blobs["data"].reshape(*x.shape)
        expected = net.forward(data=x)
        for name, found in zip(expected, session.run(list(expected), {"data": x}), strict=True):
            np.testing.assert_allclose(found, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rounding", ["", "round_mode: FLOOR"])
@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 1, 1), (5, 3, 2), (4, 3, 0), (3, 3, 0)]
)
def test_pooling_is_caffes_for_each_size(kernel, stride, pad, pool, rounding):
    """Rounded up, and by Caffe's divisors: the padding of the text counts, what hangs over does not."""
    text = f"pooling_param {{ pool: {pool} kernel_size: {kernel} stride: {stride} pad: {pad} {rounding} }}"
    net = net_of(f'layer {{ name: "p" type: "Pooling" bottom: "data" top: "p" {text} }}')
    agree_on_sizes(net, export.onnx(net, open_size=True), product(range(5, 13), (6, 7, 9)))


FULLY_CONVOLUTIONAL = f"""
layer {{ name: "c1" type: "Convolution" bottom: "data" top: "c1" {CONV.format(3, 1, 4)} }}
layer {{ name: "bn" type: "BatchNorm" bottom: "c1" top: "c1" }}
layer {{ name: "sc" type: "Scale" bottom: "c1" top: "c1" scale_param {{ bias_term: true }} }}
layer {{ name: "r1" type: "ReLU" bottom: "c1" top: "c1" }}
layer {{ name: "n1" type: "LRN" bottom: "c1" top: "n1" }}
layer {{ name: "p1" type: "Pooling" bottom: "n1" top: "p1" pooling_param {{ kernel_size: 2 stride: 2 }} }}
layer {{ name: "c2" type: "Convolution" bottom: "p1" top: "c2" {CONV.format(1, 1, 0)} }}
layer {{ name: "up" type: "Deconvolution" bottom: "c2" top: "up" {CONV.format(4, 2, 0)} }}
layer {{ name: "crop" type: "Crop" bottom: "up" bottom: "data" top: "crop"
        crop_param {{ axis: 2 offset: 3 offset: 2 }} }}
layer {{ name: "both" type: "Eltwise" bottom: "crop" bottom: "data" top: "both" }}
layer {{ name: "cat" type: "Concat" bottom: "both" bottom: "crop" top: "cat" }}
layer {{ name: "prob" type: "Softmax" bottom: "cat" top: "prob" }}
layer {{ name: "label" type: "ArgMax" bottom: "cat" top: "label" argmax_param {{ axis: 1 }} }}
"""


def test_a_net_that_labels_each_place():
    """Upsampled, cropped to the picture, summed with it, as nets for segmentation do."""
    net = net_of(FULLY_CONVOLUTIONAL)
    exported = export.onnx(net, open_size=True)
    assert exported.verification.pictures == [(12, 10), (44, 74), (19, 28), (25, 11)]
    assert "pictures of 12x10, 44x74, 19x28, 25x11" in str(exported.verification)
    shape = exported.model.graph.input[0].type.tensor_type.shape
    assert [d.dim_param or d.dim_value for d in shape.dim] == ["batch", 4, "height", "width"]
    agree_on_sizes(net, exported, [(12, 10), (13, 17), (31, 8)])
    assert net.blobs["data"].shape  # it can be run again


def test_sizes_that_the_net_itself_refuses_are_not_tried():
    """Halved and doubled: the sum needs even sizes."""
    down, up = CONV.format(2, 2, 0), CONV.format(2, 2, 0)
    net = net_of(
        f'layer {{ name: "down" type: "Convolution" bottom: "data" top: "down" {down} }}'
        f'layer {{ name: "up" type: "Deconvolution" bottom: "down" top: "up" {up} }}'
        'layer { name: "sum" type: "Eltwise" bottom: "up" bottom: "data" top: "sum" }'
    )
    assert export.onnx(net, open_size=True).verification.pictures == [(12, 10), (44, 74)]


def test_global_pooling_and_what_is_behind_it():
    net = net_of(
        f'layer {{ name: "c" type: "Convolution" bottom: "data" top: "c" {CONV.format(3, 2, 0)} }}'
        'layer { name: "g" type: "Pooling" bottom: "c" top: "g" pooling_param { pool: AVE global_pooling: true } }'
        'layer { name: "f" type: "Flatten" bottom: "g" top: "f" }'
        'layer { name: "fc" type: "InnerProduct" bottom: "f" top: "fc" inner_product_param { num_output: 3 '
        'weight_filler { type: "xavier" } } }'
    )
    agree_on_sizes(net, export.onnx(net, open_size=True), [(12, 10), (9, 33)])


def test_pictures_prepared_in_the_model():
    net = Net.from_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }'
        f'layer {{ name: "c" type: "Convolution" bottom: "data" top: "c" {CONV.format(3, 1, 1)} }}',
        "TEST",
    )
    steps = export.Preprocess(layout="nhwc", dtype="uint8", mean=(104, 117, 123))
    exported = export.onnx(net, open_size=True, preprocess=steps)
    shape = exported.model.graph.input[0].type.tensor_type.shape
    assert [d.dim_param or d.dim_value for d in shape.dim] == ["batch", "height", "width", 3]
    steps = export.Preprocess(mean=np.zeros((3, 8, 8)))
    with pytest.raises(ArgumentError, match="a picture of means has one height and width"):
        export.onnx(net, open_size=True, preprocess=steps)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            'type: "InnerProduct" inner_product_param { num_output: 2 }',
            "InnerProduct.*surgery, to_convolution",
        ),
        ('type: "Flatten"', "written for one height and width: export without --open-size"),
        ('type: "Reshape" reshape_param { shape { dim: 0 dim: -1 } }', "written for one height and width"),
        ('type: "SPP" spp_param { pyramid_height: 2 }', "written for one height and width"),
        (
            'type: "Pooling" pooling_param { kernel_size: 3 stride: 3 pad: 1 }',
            "outside of the bottom for some sizes",
        ),
        ('type: "Pooling" pooling_param { kernel_size: 2 stride: 2 pad: 1 }', "pad . stride > kernel_size"),
    ],
)
def test_refusals_name_the_layer(text, words):
    net = net_of(f'layer {{ name: "x" bottom: "data" top: "x" {text} }}')
    with pytest.raises(NetError, match=rf'(?s)layer "x".*{words}'):
        export.onnx(net, open_size=True)
    export.onnx(net)  # and the way out works


def test_places_of_maxima_are_refused():
    net = net_of(
        'layer { name: "x" type: "Pooling" bottom: "data" top: "x" top: "m" pooling_param { kernel_size: 2 } }'
    )
    with pytest.raises(NetError, match='layer "x".*places of its maxima'):
        export.onnx(net, open_size=True)


def test_no_input_with_height_and_width():
    net = Net.from_text(
        'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 4 } } }', "TEST"
    )
    with pytest.raises(ArgumentError, match="no input of the net has height and width"):
        export.onnx(net, open_size=True)
