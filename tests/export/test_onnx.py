"""ONNX models: valid, run by ONNX Runtime, with the net's numbers."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from caffebn import Net, export
from caffebn.errors import ArgumentError, MissingPackageError, NetError
from caffebn.export.onnx_model import OPSETS
from caffebn.export.onnx_ops import CONVERTERS
from tests.export.nets import SMALL, fill_statistics, golden_files, golden_net

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

HEAD = (
    'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 4 dim: 7 dim: 6 } } }'
)


def net_of(text: str, head: str = HEAD) -> Net:
    return fill_statistics(Net.from_text(head + text, "TEST"))


def operators(exported) -> list[str]:
    return [node.op_type for node in exported.model.graph.node]


# -- all layer types, on the nets that real Caffe was recorded with


@pytest.mark.parametrize("path", golden_files(), ids=lambda path: path.stem)
def test_recorded_layers(path):
    net, ends = golden_net(path)
    try:
        exported = export.onnx(net, outputs=ends)
    except NetError as e:
        assert "--fixed-batch" in str(e)
        exported = export.onnx(net, outputs=ends, fixed_batch=True)
    assert exported.verification.agrees
    assert all(np.isfinite(d.size) for d in exported.verification.differences)


@pytest.mark.parametrize("opset", OPSETS)
def test_each_opset(opset):
    net = net_of(
        'layer { name: "mvn" type: "MVN" bottom: "data" top: "mvn" }'
        'layer { name: "sl" type: "Slice" bottom: "mvn" top: "a" top: "b" slice_param { slice_point: 1 } }'
        'layer { name: "bn" type: "BatchNorm" bottom: "b" top: "b" }'
        'layer { name: "cat" type: "Concat" bottom: "a" bottom: "b" top: "cat" }'
        'layer { name: "pool" type: "Pooling" bottom: "cat" top: "pool" '
        "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }"
        'layer { name: "red" type: "Reduction" bottom: "pool" top: "red" '
        "reduction_param { axis: 2 operation: MEAN } }"
        'layer { name: "am" type: "ArgMax" bottom: "red" top: "am" argmax_param { top_k: 2 } }'
    )
    exported = export.onnx(net, opset=opset, outputs=["red", "am"])
    assert exported.model.opset_import[0].version == opset
    assert exported.verification.agrees


def test_every_type_of_a_deployed_net_has_a_converter():
    from caffebn.layers import layer_type_list

    without = {t for t in layer_type_list() if t not in CONVERTERS}
    losses = {t for t in without if t.endswith("Loss")}
    reads = {"Data", "DummyData", "HDF5Data", "ImageData", "MemoryData", "WindowData"}
    nothing = {"Accuracy", "Filter", "HDF5Output", "Input", "Python", "Silence", "Split"}
    assert without - losses - reads - nothing == set()


# -- what the model looks like


def test_names_and_open_batch(small, tmp_path):
    exported = export.onnx(small, tmp_path / "small.onnx")
    model = onnx.load(tmp_path / "small.onnx")
    assert model == exported.model
    (inp,), (out,) = model.graph.input, model.graph.output
    assert (inp.name, out.name) == ("data", "prob")
    assert inp.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [d.dim_value for d in inp.type.tensor_type.shape.dim[1:]] == [3, 9, 8]
    assert operators(exported) == [
        "Conv",
        "BatchNormalization",
        "Relu",
        "MaxPool",
        "Reshape",
        "Gemm",
        "Softmax",
    ]
    assert "agree: batch sizes 1, 2, 5" in str(exported.verification)


def test_fixed_batch(small):
    exported = export.onnx(small, fixed_batch=True)
    shape = exported.model.graph.input[0].type.tensor_type.shape
    assert [d.dim_value for d in shape.dim] == [2, 3, 9, 8]
    assert "batch sizes 2," in str(exported.verification)


def test_the_net_is_as_it_was(small):
    before = {name: blob.shape for name, blob in small.blobs.items()}
    weights = [blob.data.copy() for blobs in small.params.values() for blob in blobs]
    export.onnx(small)
    assert {name: blob.shape for name, blob in small.blobs.items()} == before
    after = [blob.data for blobs in small.params.values() for blob in blobs]
    assert all(np.array_equal(a, b) for a, b in zip(weights, after, strict=True))


def test_end_at_blobs(small):
    exported = export.onnx(small, outputs=["pool", "conv"])
    assert [out.name for out in exported.model.graph.output] == ["pool", "conv"]
    assert operators(exported)[-1] == "MaxPool"
    with pytest.raises(ArgumentError, match='there is no blob "pol" to end in; did you mean "pool"'):
        export.onnx(small, outputs=["pol"])


def test_in_place_on_the_input():
    net = net_of('layer { name: "relu" type: "ReLU" bottom: "data" top: "data" }')
    exported = export.onnx(net)
    assert exported.model.graph.input[0].name == "data"
    assert exported.model.graph.output[0].name == "data/output"


def test_shared_weights_are_stored_once():
    conv = (
        'layer {{ name: "{0}" type: "Convolution" bottom: "{1}" top: "{0}" param {{ name: "w" }} '
        "convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 bias_term: false weight_filler {{ type: "
        '"xavier" }} }} }}'
    )
    net = net_of(conv.format("a", "data") + conv.format("b", "a"))
    assert len(export.onnx(net).model.graph.initializer) == 1


# -- BatchNorm


def test_statistics_are_divided_by_the_factor(small):
    model = export.onnx(small).model
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    mean, var, factor = (blob.data for blob in small.params["bn"])
    np.testing.assert_array_equal(stored["bn/mean"], (mean.astype(np.float64) / factor).astype(np.float32))
    np.testing.assert_array_equal(stored["bn/var"], (var.astype(np.float64) / factor).astype(np.float32))
    np.testing.assert_array_equal(stored["bn/scale"], small.params["scale"][0].data)


def test_factor_0_counts_as_no_statistics(small):
    small.params["bn"][2].data[...] = 0
    model = export.onnx(small).model
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert not stored["bn/mean"].any() and not stored["bn/var"].any()


def test_batch_statistics_are_exported_and_noted():
    net = net_of(
        'layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" batch_norm_param { use_global_stats: false } }'
        'layer { name: "s" type: "Scale" bottom: "bn" top: "s" scale_param { bias_term: true } }'
    )
    exported = export.onnx(net)
    assert "BatchNormalization" not in operators(exported)
    assert "depends on the others in its batch" in exported.notes[0]


# -- pooling


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize("rounding", ["CEIL", "FLOOR"])
@pytest.mark.parametrize(
    "kernel, stride, pad", [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 3, 2), (4, 3, 1), (5, 2, 4), (2, 3, 1)]
)
def test_pooling_by_the_rules_of_caffe(pool, rounding, kernel, stride, pad):
    """All sizes modulo the stride, in both directions."""
    for height in range(5, 11):
        head = (
            f'layer {{ name: "data" type: "Input" top: "data" '
            f"input_param {{ shape {{ dim: 1 dim: 2 dim: {height} dim: 8 }} }} }}"
        )
        net = net_of(
            f'layer {{ name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param {{ pool: {pool} '
            f"kernel_size: {kernel} stride: {stride} pad: {pad} round_mode: {rounding} }} }}",
            head,
        )
        assert export.onnx(net, tolerance=1e-6).verification.agrees


def test_a_window_outside_of_the_image_is_refused():
    net = net_of(
        'layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { kernel_size: 1 stride: 4 } }',
        HEAD.replace("dim: 7 dim: 6", "dim: 4 dim: 4"),
    )
    with pytest.raises(NetError, match='layer "p" .Pooling.: its last window lies wholly outside'):
        export.onnx(net)


# -- preprocessing


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_preprocessing_in_the_model(small, layout, dtype):
    steps = export.Preprocess(
        layout=layout, dtype=dtype, channel_swap=(2, 1, 0), raw_scale=0.5, mean=(10, 20, 30), input_scale=0.02
    )
    exported = export.onnx(small, preprocess=steps)
    inp = exported.model.graph.input[0]
    assert (inp.name, inp.type.tensor_type.elem_type) == ("data", 2 if dtype == "uint8" else 1)
    assert exported.verification.agrees

    pictures = np.random.default_rng(1).integers(0, 256, (2, 9, 8, 3)).astype(dtype)
    session = onnxruntime.InferenceSession(exported.model.SerializeToString())
    given = pictures if layout == "nhwc" else pictures.transpose(0, 3, 1, 2)
    (found,) = session.run(None, {"data": given})
    x = (pictures[..., ::-1] * 0.5 - [10, 20, 30]) * 0.02
    np.testing.assert_allclose(found, small.forward(data=x.transpose(0, 3, 1, 2))["prob"], atol=1e-6)


def test_preprocessing_like_the_transformer(small):
    from caffebn.io import Transformer

    mean = np.random.default_rng(0).uniform(0, 99, (3, 9, 8))
    t = Transformer({"data": (1, 3, 9, 8)})
    t.set_transpose("data", (2, 0, 1))
    t.set_channel_swap("data", (2, 0, 1))
    t.set_raw_scale("data", 255)
    t.set_mean("data", mean)
    t.set_input_scale("data", 0.017)
    steps = export.Preprocess(
        layout="nhwc", channel_swap=(2, 0, 1), raw_scale=255, mean=mean, input_scale=0.017
    )
    picture = np.random.default_rng(1).uniform(0, 1, (9, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(steps.apply(picture[None])[0], t.preprocess("data", picture), rtol=1e-6)
    assert export.onnx(small, preprocess=steps).verification.agrees


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layout": "hwc"}, "layout: expected nchw or nhwc, found 'hwc'"),
        ({"dtype": "int8"}, "dtype: expected float32 or uint8, found 'int8'"),
        ({"channel_swap": (0, 1)}, "expected the numbers 0 to 2 in some order, found 0,1"),
        (
            {"mean": (1, 2)},
            "mean: expected one value, 3 .one for each channel. or an array of 3 x 9 x 8, found 2 x 1 x 1",
        ),
        ({"input": "picture"}, "say which input takes pictures, one of data; found picture"),
    ],
)
def test_preprocessing_that_does_not_fit(small, options, said):
    with pytest.raises(ArgumentError, match=said):
        export.onnx(small, preprocess=export.Preprocess(**options))


# -- refusals


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'layer { name: "r" type: "Reshape" bottom: "data" top: "r" reshape_param { shape { dim: 2 dim: 168 } } }',
            'cannot run with another batch size than its own: .*layer "r".*--fixed-batch',
        ),
        (
            'layer { name: "s" type: "Slice" bottom: "data" top: "a" top: "b" slice_param { axis: 0 slice_point: 1 } }',
            'layer "s" .Slice.: cuts the axis of the batch',
        ),
        (
            'layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape { dim: 2 } } }'
            'layer { name: "e" type: "BatchReindex" bottom: "data" bottom: "d" top: "e" }',
            'layer "d" .DummyData.: makes its values itself',
        ),
        (
            'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 2 } }'
            'layer { name: "l" type: "EuclideanLoss" bottom: "fc" bottom: "fc" top: "l" }',
            'layer "l" .EuclideanLoss.: has no place in a net that only predicts',
        ),
    ],
)
def test_refusals(text, said):
    with pytest.raises(NetError, match=said):
        export.onnx(net_of(text))


def test_arguments(small):
    with pytest.raises(ArgumentError, match="opset: expected 13 to 26, found 12"):
        export.onnx(small, opset=12)
    with pytest.raises(ArgumentError, match="exported in the phase TEST"):
        export.onnx(Net.from_text(SMALL, "TRAIN"))


def test_without_the_packages(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        MissingPackageError, match=r'verifying a model .*--no-check.* pip install "caffebn\[onnx\]"'
    ):
        export.onnx(small)
    assert export.onnx(small, check=False).verification is None
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        MissingPackageError, match=r'export to ONNX needs the package "onnx": pip install "caffebn\[onnx\]"'
    ):
        export.onnx(small)


def test_a_model_that_differs_is_not_written(small, tmp_path, monkeypatch):
    def wrong(b, node):
        b.op("Sigmoid", [node.bottoms[0].name], [node.tops[0].name])

    monkeypatch.setitem(CONVERTERS, "ReLU", wrong)
    with pytest.raises(
        export.VerifyError, match='DIFFER: batch sizes 1, 2, 5, largest difference .* in "prob"'
    ):
        export.onnx(small, tmp_path / "wrong.onnx")
    assert not (tmp_path / "wrong.onnx").exists()
