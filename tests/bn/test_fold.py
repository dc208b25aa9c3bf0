"""Folding: exact where it is done, refused with a reason where it would not be, and proved."""

from __future__ import annotations

import json

import numpy as np
import pytest

from caffebn import blocks
from caffebn.bn import fold
from caffebn.errors import CaffebnWarning, FileError
from caffebn.net import Net
from caffebn.proto import caffe_pb2, text
from tests.bn.nets import bn, conv, data, layer, random_weights, relu, run, scale

IN = data(2, 6, 7, 5)


def folded(definition, seed=0, weights=None):
    """Fold a net, check that both precisions agree, and give (result, action by layer, layers that are left)."""
    weights = weights or random_weights(definition, seed)
    done = fold(blocks.parse(definition), weights)
    certificate = done.certificate
    assert certificate.errors
    assert certificate.worst < 2e-5
    assert max(e["float64"] for e in certificate.errors) < 1e-6
    return done, {v.name: v for v in certificate.layers}, {spec.name: spec for spec in done.net.layer}


def actions(verdicts):
    return {name: v.action for name, v in verdicts.items()}


# -- into the layer before -------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", ["true", "false"])
@pytest.mark.parametrize(
    "linear",
    [
        conv("c", "data", num_output=4, pad=1, bias_term="BIAS"),
        conv("c", "data", num_output=6, group=3, stride=2, bias_term="BIAS"),
        conv("c", "data", num_output=6, group=6, dilation=2, bias_term="BIAS"),
        layer("Deconvolution", "c", "data", text="convolution_param { num_output: 4 kernel_size: 3 bias_term: BIAS }"),
        layer(
            "Deconvolution", "c", "data",
            text="convolution_param { num_output: 4 group: 2 kernel_size: 2 stride: 2 pad: 1 bias_term: BIAS }",
        ),
        layer("InnerProduct", "c", "data", text="inner_product_param { num_output: 4 bias_term: BIAS }"),
        layer(
            "InnerProduct", "c", "data", text="inner_product_param { num_output: 4 transpose: true bias_term: BIAS }"
        ),
    ],
)  # fmt: skip
def test_into_each_linear_layer(linear, bias):
    net = IN + linear.replace("BIAS", bias) + bn("bn", "c") + scale("sc", "c") + relu("r", "c")
    done, verdicts, left = folded(net)
    assert actions(verdicts) == {"bn": "folded", "sc": "folded"}
    assert verdicts["bn"].into == ["c"]
    assert list(left) == ["data", "c", "r"]
    param = left["c"].inner_product_param if left["c"].type == "InnerProduct" else left["c"].convolution_param
    assert param.bias_term and len(done.weights["c"]) == 2


def test_the_arithmetic_is_exact_before_rounding():
    """In double precision nothing but rounding of the folded weights to single is left."""
    net = IN + conv("c", "data") + bn("bn", "c") + scale("sc", "c")
    weights = random_weights(net)
    w, b = (a.astype(np.float64) for a in weights["c"])
    mean, var, factor = (a.astype(np.float64) for a in weights["bn"])
    gamma, beta = (a.astype(np.float64) for a in weights["sc"])
    a = gamma / np.sqrt(var / factor + np.float64(np.float32(1e-5)))
    done, _, _ = folded(net, weights=weights)
    np.testing.assert_array_equal(done.weights["c"][0], (w * a[:, None, None, None]).astype(np.float32))
    np.testing.assert_allclose(done.weights["c"][1], (b - mean / factor) * a + beta, rtol=1e-6)


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (bn("bn", "c"), ["bn"]),
        (bn("bn", "c", "x"), ["bn"]),
        (bn("bn", "c", "x") + scale("sc", "x", "y"), ["bn", "sc"]),
        (bn("bn", "c", "x") + scale("sc", "x"), ["bn", "sc"]),
        (bn("bn", "c") + scale("sc", "c", "y"), ["bn", "sc"]),
        (scale("sc", "c"), ["sc"]),
        (scale("sc", "c", text="bias_term: false"), ["sc"]),
        (scale("sc", "c", text="num_axes: 0"), ["sc"]),
        (scale("sc", "c", text="axis: -3"), ["sc"]),
        (layer("Bias", "b", "c", "c"), ["b"]),
        (bn("bn", "c") + scale("sc", "c", text="") + layer("Bias", "b", "c", "c"), ["bn", "sc", "b"]),
        (
            bn("bn", "c") + bn("bn2", "c") + scale("sc", "c") + scale("sc2", "c", "z"),
            ["bn", "bn2", "sc", "sc2"],
        ),
    ],
)
def test_rows_of_affine_layers(rows, names):
    done, verdicts, left = folded(IN + conv("c", "data", bias_term="false") + rows)
    assert actions(verdicts) == dict.fromkeys(names, "folded")
    assert list(left) == ["data", "c"]
    # the blob has the name of what it holds
    assert list(left["c"].top) == Net(blocks.parse(IN + conv("c", "data") + rows), "TEST").outputs


def test_the_blob_between_stays_when_others_read_it():
    net = IN + conv("c", "data") + bn("bn", "c", "x") + scale("sc", "x", "y") + layer("ReLU", "r", "c", "z")
    _, verdicts, left = folded(net)
    assert actions(verdicts) == {"bn": "merged", "sc": "merged"}
    assert '"c" is read by "bn" (BatchNorm) and "r" (ReLU)' in verdicts["bn"].reason
    assert list(left) == ["data", "c", "sc", "r"]
    assert list(left["sc"].bottom) == ["c"] and list(left["sc"].top) == ["y"] and left["sc"].type == "Scale"


def test_three_spatial_axes():
    net = data(2, 3, 5, 4, 4) + conv("c", "data", kernel=2) + bn("bn", "c") + scale("sc", "c")
    assert actions(folded(net)[1]) == {"bn": "folded", "sc": "folded"}


# -- through other layers --------------------------------------------------------------------------------


def pool(name, bottom, text):
    return layer("Pooling", name, bottom, text=f"pooling_param {{ {text} }}")


@pytest.mark.parametrize(
    "between",
    [
        layer("Dropout", "p", "c"),
        pool("p", "c", "pool: AVE kernel_size: 2 stride: 2"),
        pool("p", "c", "pool: AVE kernel_size: 3 stride: 2"),
        pool("p", "c", "pool: AVE global_pooling: true"),
        layer("Dropout", "d", "c", "c") + pool("p", "c", "pool: AVE kernel_size: 2"),
        conv("c2", "data") + layer("Concat", "p", "c c2"),
        conv("c2", "data") + layer("Eltwise", "p", "c c2", text="eltwise_param { coeff: 0 coeff: -2 }"),
        conv("c2", "data") + conv("c3", "data") + layer("Eltwise", "p", "c c2 c3"),
    ],
)
def test_up_through(between):
    net = IN + conv("c", "data") + between + bn("bn", "p", "q") + scale("sc", "q") + relu("r", "q")
    _, verdicts, left = folded(net)
    assert actions(verdicts) == {"bn": "folded", "sc": "folded"}
    assert all(name.startswith("c") for name in verdicts["bn"].into)
    assert not {"bn", "sc"} & left.keys()


def test_up_through_a_maximum_only_with_positive_factors():
    net = (
        IN
        + conv("c", "data")
        + pool("p", "c", "pool: MAX kernel_size: 3 pad: 1")
        + bn("bn", "p")
        + scale("sc", "p")
    )
    weights = random_weights(net)
    weights["sc"][0] = np.array([0.5, 0, 2, 1], np.float32)
    assert actions(folded(net, weights=weights)[1]) == {"bn": "folded", "sc": "folded"}
    weights["sc"][0] = np.array([0.5, -1, 2, 1], np.float32)
    _, verdicts, _ = folded(net, weights=weights)
    assert actions(verdicts) == {"bn": "merged", "sc": "merged"}
    assert "negative factors of 1 channels" in verdicts["bn"].reason


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (pool("p", "c", "pool: AVE kernel_size: 3 pad: 1"), "averages over padding"),
        (
            pool("p", "c", "pool: MAX kernel_size: 2").replace('top: "p"', 'top: "p" top: "places"'),
            "also gives the places of its maxima",
        ),
        (conv("c2", "data") + layer("Eltwise", "p", "c c2", text="eltwise_param { operation: PROD }"), "is a PROD"),
        (conv("c2", "data") + layer("Eltwise", "p", "c c2", text="eltwise_param { operation: MAX }"), "is a MAX"),
        (layer("Eltwise", "p", "c c"), 'is read by "p" (Eltwise) more than once'),
        (layer("Eltwise", "p", "c data"), '"data" is read by "c" (Convolution) and "p" (Eltwise)'),
        (layer("Sigmoid", "p", "c"), '"p" (Sigmoid) is not linear'),
        (layer("Concat", "p", "c c", text="concat_param { axis: 0 }"), "joins along axis 0"),
        (layer("Softmax", "p", "c"), '"p" (Softmax) is not linear'),
        (layer("Reshape", "p", "c", text="reshape_param { shape { dim: 0 dim: -1 } }"), "is not linear"),
        (layer("Flatten", "p", "c"), "is not linear"),
    ],
)  # fmt: skip
def test_not_through(between, reason):
    six = conv("c", "data", num_output=6, kernel=3, pad=1)
    net = IN + six + between.replace("num_output: 4 kernel_size: 3", "num_output: 6 kernel_size: 3 pad: 1")
    _, verdicts, left = folded(net + bn("bn", "p") + scale("sc", "p") + relu("last", "p"))
    assert actions(verdicts) == {"bn": "merged", "sc": "merged"}
    assert reason in verdicts["bn"].reason
    assert left["sc"].type == "Scale" and left["sc"].scale_param.bias_term


def test_no_shift_goes_through_padding():
    net = (IN + conv("c", "data") + pool("p", "c", "pool: AVE kernel_size: 3 pad: 1")
           + scale("sc", "p", text="bias_term: false"))  # fmt: skip
    assert actions(folded(net)[1]) == {"sc": "folded"}


# -- into the layers behind ------------------------------------------------------------------------------


START = IN + relu("r0", "data")


@pytest.mark.parametrize(
    "behind",
    [
        conv("c", "x"),
        conv("c", "x", kernel=1, bias_term="false"),
        conv("c", "x", group=2, stride=2),
        conv("c", "x", num_output=6, group=6),
        conv("c", "x") + conv("c2", "x", kernel=1),
        layer("Deconvolution", "c", "x", text="convolution_param { num_output: 4 kernel_size: 1 group: 2 }"),
        layer("InnerProduct", "c", "x", text="inner_product_param { num_output: 3 }"),
        layer(
            "InnerProduct",
            "c",
            "x",
            text="inner_product_param { num_output: 3 transpose: true bias_term: false }",
        ),
        layer("Flatten", "f", "x")
        + layer("InnerProduct", "c", "f", text="inner_product_param { num_output: 3 }"),
        layer("Flatten", "f", "x", text="flatten_param { axis: 2 }")
        + layer("InnerProduct", "c", "f", text="inner_product_param { num_output: 3 }"),
        layer("Dropout", "d", "x", "x") + conv("c", "x"),
        pool("p", "x", "pool: AVE kernel_size: 2 stride: 2") + conv("c", "p", kernel=1),
        layer("Sigmoid", "s", "data") + layer("Concat", "j", "s x data") + conv("c", "j"),
        layer("Concat", "j", "x x") + conv("c", "j"),
    ],
)
def test_into_what_reads_it(behind):
    net = START + bn("bn", "data", "w") + scale("sc", "w", "x") + behind
    if "Sigmoid" in behind:  # a layer in place may be the only reader
        net = net.replace(relu("r0", "data"), "")
    _, verdicts, left = folded(net)
    assert actions(verdicts) == {"bn": "folded", "sc": "folded"}
    assert set(verdicts["bn"].into) <= {"c", "c2"}
    assert not {"bn", "sc"} & left.keys()


def test_zero_padding_forbids_a_shift_and_allows_a_factor():
    padded = conv("c", "x", pad=1)
    _, verdicts, _ = folded(START + bn("bn", "data", "x") + padded)
    assert verdicts["bn"].action == "merged"
    assert '"c" (Convolution) pads with zeros (pad 1x1)' in verdicts["bn"].reason
    _, verdicts, _ = folded(START + scale("sc", "data", "x", text="bias_term: false") + padded)
    assert verdicts["sc"].action == "folded"


@pytest.mark.parametrize(
    ("behind", "reason"),
    [
        (
            layer("Deconvolution", "c", "x", text="convolution_param { num_output: 4 kernel_size: 2 }"),
            "differs from place",
        ),
        (conv("c", "x") + layer("ReLU", "r", "x"), '"r" (ReLU) reads it'),
        (relu("r", "x"), '"r" (ReLU) reads it'),
        ("", '"x" is an output of the net'),
        (conv("c", "x") + pool("p", "x", "pool: AVE kernel_size: 3 pad: 1"), "averages over padding"),
        (layer("Flatten", "f", "x", text="flatten_param { axis: 0 }"), "reads it, and is not linear"),
        ('layer { name: "c" type: "Convolution" bottom: "x" bottom: "data" top: "c" top: "c2" '
         "convolution_param { num_output: 4 kernel_size: 1 } }", "reads 2 blobs with the same weights"),
    ],
)  # fmt: skip
def test_not_into_what_reads_it(behind, reason):
    # the input itself is read by two, so that nothing changes before
    net = IN + relu("r0", "data") + layer("Sigmoid", "s", "data") + bn("bn", "data", "x") + behind
    _, verdicts, left = folded(net)
    assert verdicts["bn"].action == "merged"
    assert verdicts["bn"].into == ["bn"] and left["bn"].type == "Scale"
    assert reason in verdicts["bn"].reason


def test_preactivation_stays_one_scale():
    net = (IN + conv("c", "data", kernel=1, num_output=6) + layer("Eltwise", "sum", "c data")
           + bn("bn", "sum", "pre") + scale("sc", "pre") + relu("r", "pre") + conv("c2", "pre", kernel=1, num_output=6)
           + layer("Eltwise", "sum2", "sum c2"))  # fmt: skip
    _, verdicts, left = folded(net)
    assert actions(verdicts) == {"bn": "merged", "sc": "merged"}
    assert [s.type for s in left.values()].count("Scale") == 1


# -- what cannot be folded -------------------------------------------------------------------------------


def test_batch_statistics_are_kept():
    text_ = "batch_norm_param { use_global_stats: false }"
    _, verdicts, left = folded(IN + conv("c", "data") + bn("bn", "c", text=text_) + scale("sc", "c"))
    assert actions(verdicts) == {"bn": "kept", "sc": "kept"}
    assert "statistics of each batch" in verdicts["bn"].reason
    assert left["bn"].batch_norm_param.has("use_global_stats")


def test_factor_0_is_folded_as_caffe_computes_it_and_noted():
    net = IN + conv("c", "data") + bn("bn", "c", "x") + relu("r", "x")
    weights = random_weights(net)
    weights["bn"][2][:] = 0
    with pytest.warns(CaffebnWarning, match="factor"):
        _, verdicts, _ = folded(net, weights=weights)
    assert verdicts["bn"].action == "folded"
    assert "factor is 0" in verdicts["bn"].notes[0]


@pytest.mark.filterwarnings("ignore::caffebn.errors.CaffebnWarning")
def test_no_weights_are_noted():
    net = IN + conv("c", "data") + bn("bn", "c")
    weights = random_weights(net)
    del weights["bn"]
    done, verdicts, _ = folded(net, weights=weights)
    assert "no weights were loaded" in verdicts["bn"].notes[0]
    assert done.certificate.without_weights == ["bn"]


def test_negative_variance_is_refused():
    net = IN + conv("c", "data") + bn("bn", "c") + scale("sc", "c")
    weights = random_weights(net)
    weights["bn"][1][1] = -1
    with pytest.warns(CaffebnWarning, match="negative"):
        done = fold(blocks.parse(net), weights, check=False)
    verdict = done.certificate.layers[0]
    assert verdict.action == "kept" and "in 1 of 4 channels" in verdict.reason


def test_shared_weights_are_refused():
    share = 'param { name: "w" }'
    both = (conv("c", "data") + conv("c2", "data")).replace(" }\n", f" {share} }}\n")
    net = (IN + both
           + bn("bn", "c") + scale("sc", "c"))  # fmt: skip
    _, verdicts, _ = folded(net)
    assert verdicts["bn"].action == "merged"
    assert '"c" (Convolution) shares its weights with "c2"' in verdicts["bn"].reason


def test_a_scale_of_two_bottoms_ends_the_row():
    net = (IN + conv("c", "data") + conv("g", "data") + bn("bn", "c") + scale("sc", "c")
           + layer("Scale", "gate", "c g", "y", "scale_param { axis: 0 }"))  # fmt: skip
    _, verdicts, left = folded(net)
    assert actions(verdicts) == {"bn": "folded", "sc": "folded"}
    assert list(left["gate"].bottom) == ["c", "g"]


def test_a_scale_over_other_axes_is_kept():
    net = IN + conv("c", "data") + scale("sc", "c", text="num_axes: -1") + bn("bn", "c")
    _, verdicts, _ = folded(net)
    assert verdicts["sc"].action == "kept" and "covers 3 axes from axis 1 on" in verdicts["sc"].reason
    assert verdicts["bn"].action == "merged"


def test_layers_of_training_are_left_out():
    net = (IN + 'layer { name: "d" type: "DummyData" top: "t" include { phase: TRAIN } '
           "dummy_data_param { shape { dim: 1 } } }\n" + conv("c", "data") + bn("bn", "c"))  # fmt: skip
    _, _, left = folded(net)
    assert list(left) == ["data", "c"]


def test_splits_of_a_saved_text_do_not_hide_the_readers():
    net = IN + relu("r0", "data") + bn("bn", "data", "x") + (
        'layer { name: "x_split" type: "Split" bottom: "x" top: "x_0" top: "x_1" }\n'
    ) + conv("a", "x_0") + conv("b", "x_1")  # fmt: skip
    _, verdicts, left = folded(net)
    assert verdicts["bn"].into == ["a", "b"]
    assert "x_split" not in left


@pytest.mark.filterwarnings("ignore::caffebn.errors.CaffebnWarning")
def test_layers_of_unknown_types_are_carried_over():
    net = (IN + conv("c", "data") + bn("bn", "c") + scale("sc", "c") + relu("r", "c")
           + conv("d", "c", kernel=1) + bn("bn2", "d", "e")
           + layer("Permute", "perm", "e", text="permute_param { order: 0 order: 2 }")
           + bn("bn3", "perm"))  # fmt: skip
    known = net[: net.index('layer { name: "perm"')]
    weights = random_weights(known) | {"bn3": [np.ones(4, np.float32)] * 3}
    done, verdicts, left = folded(net, weights=weights)
    assert actions(verdicts) == {"bn": "folded", "sc": "folded", "bn2": "folded", "bn3": "kept"}
    assert "unknown types" in verdicts["bn3"].reason
    assert done.certificate.not_run == ["perm", "bn3"]
    assert list(left["d"].top) == ["e"] and list(left["perm"].bottom) == ["e"]
    assert len(done.weights["bn3"]) == 3
    assert "permute_param" in text.dump(done.net)


# -- random nets -----------------------------------------------------------------------------------------


def random_net(rng):
    """A random row of layers, some in place, with branches that join."""
    net, blob, channels, n = data(2, 6, 9, 9), "data", 6, 0
    for _ in range(rng.integers(4, 12)):
        n += 1
        name, kind = f"l{n}", rng.integers(0, 9)
        top = blob if kind in (0, 1, 2, 3) and blob != "data" and rng.random() < 0.6 else name
        if kind == 0:
            net += bn(name, blob, top)
        elif kind in (1, 2):
            net += scale(name, blob, top, rng.choice(["bias_term: true", ""]))
        elif kind == 3:
            net += layer("ReLU", name, blob, top)
        elif kind in (4, 5):
            channels = int(rng.choice([4, 6]))
            group = 2 if rng.random() < 0.3 else 1
            kernel, pad, bias = (
                int(rng.choice([1, 3])),
                int(rng.integers(0, 2)),
                rng.choice(["true", "false"]),
            )
            net += conv(name, blob, top, channels, kernel, pad=pad, group=group, bias_term=bias)
        elif kind == 6:
            net += pool(name, blob, f"pool: {rng.choice(['AVE', 'MAX'])} kernel_size: 3 stride: 1 pad: 1")
        elif kind == 7:
            net += conv(name + "a", blob, None, channels, 3, pad=1) + layer("Concat", name, f"{blob} {name}a")
            channels *= 2
        else:
            net += conv(name + "a", blob, None, channels, 3, pad=1) + layer(
                "Eltwise", name, f"{name}a {blob}"
            )
        blob = top
    return net


@pytest.mark.parametrize("seed", range(40))
def test_random_nets(seed):
    net = random_net(np.random.default_rng(seed))
    done = fold(blocks.parse(net), random_weights(net, seed))
    assert max(e["float64"] for e in done.certificate.errors) < 3e-6
    count = sum(spec.type == "BatchNorm" for spec in blocks.parse(net).layer)
    assert sum(v.type == "BatchNorm" for v in done.certificate.layers) == count
    assert not any(spec.type == "BatchNorm" for spec in done.net.layer)


# -- the proof and the files -----------------------------------------------------------------------------


def test_the_certificate_sees_a_wrong_fold(monkeypatch):
    from caffebn.bn import fold as function

    module = __import__("sys").modules[function.__module__]
    monkeypatch.setattr(module, "_times_outputs", lambda node, scale: node.blobs[0])
    net = IN + conv("c", "data") + bn("bn", "c")
    assert fold(blocks.parse(net), random_weights(net)).certificate.worst > 0.01


def test_scores_are_compared_where_a_softmax_hides_errors():
    net = IN + conv("c", "data", kernel=1) + bn("bn", "c", "x") + layer("Softmax", "prob", "x")
    done, _, _ = folded(net)
    assert {e["output"] for e in done.certificate.errors} == {"prob", "x"}


def test_given_inputs_are_run_beside_the_random_one():
    net = IN + conv("c", "data") + bn("bn", "c")
    x = np.ones((1, 6, 7, 5), np.float32)
    done = fold(blocks.parse(net), random_weights(net), [{"data": x}])
    assert [e["input"] for e in done.certificate.errors] == ["random", "given 1"]
    assert done.certificate.errors[1]["shape"] == [1, 4, 5, 3]
    found = json.loads(json.dumps(done.certificate.as_dict()))
    assert found["batch_norm"] == {"folded": 1, "merged": 0, "kept": 0}


def test_saved_files_are_plain_and_read_back(tmp_path):
    net = IN + 'block { type: "ConvBnRelu" name: "b" bottom: "data" num_output: 3 kernel_size: 3 }\n'
    weights = random_weights(net)
    done = fold(blocks.parse(net), weights)
    done.save(tmp_path / "f.prototxt", tmp_path / "f.caffemodel")
    x = {"data": np.random.default_rng(3).normal(size=(2, 6, 7, 5)).astype(np.float32)}
    made = Net(str(tmp_path / "f.prototxt"), "TEST", weights=str(tmp_path / "f.caffemodel"), strict=True)
    expected = run(net, weights, x)
    found = made.forward(**x)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5)
    content = (tmp_path / "f.prototxt").read_text()
    assert content.startswith("# net, folded: of 1 BatchNorm layers 1 are in others")
    assert "block" not in content.split("\n", 1)[1]


def test_real_protocol_buffers_read_the_files(tmp_path):
    pytest.importorskip("google.protobuf")
    from google.protobuf import text_format

    net = IN + conv("c", "data") + bn("bn", "c")
    done = fold(blocks.parse(net), random_weights(net))
    done.save(tmp_path / "f.prototxt", tmp_path / "f.caffemodel")
    text_format.Merge((tmp_path / "f.prototxt").read_text(), caffe_pb2.NetParameter())
    weights = caffe_pb2.NetParameter()
    weights.ParseFromString((tmp_path / "f.caffemodel").read_bytes())
    assert [len(spec.blobs) for spec in weights.layer] == [0, 2]


def test_two_files_are_needed(tmp_path):
    net = IN + conv("c", "data")
    with pytest.raises(FileError, match="need two files"):
        fold(blocks.parse(net), random_weights(net), check=False).save(tmp_path / "a", tmp_path / "a")


def test_published_net(open_nsfw):
    done = fold(*open_nsfw)
    assert {v.action for v in done.certificate.layers} == {"folded"} and len(done.certificate.layers) == 106
    assert done.certificate.worst < 1e-5
    assert not {"BatchNorm", "Scale"} & {spec.type for spec in done.net.layer}


# -- the command -----------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    net = (
        'name: "small"\n'
        + IN
        + conv("c", "data")
        + bn("bn", "c")
        + relu("r", "c")
        + bn("late", "c")
        + relu("r2", "c")
    )
    path, weights = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    path.write_text(net)
    fold(path, random_weights(net), check=False)
    made = Net(str(path), "TEST")
    for name, arrays in random_weights(net).items():
        for blob, array in zip(made.params[name], arrays, strict=True):
            blob.data[...] = array
    made.save(str(weights))
    return path, weights


def test_command(cli, files, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((1, 6, 7, 5), np.float32))
    result = cli("fold", *files, "-o", tmp_path / "out", "-i", tmp_path / "x.npy")
    assert result.exit_code == 0
    assert "BatchNorm: 1 folded, 1 in a Scale layer, 0 kept" in result.stdout
    assert "pads" not in result.stdout and '"r" (ReLU) is not linear' in result.stdout
    assert Net(str(tmp_path / "out.prototxt"), "TEST", weights=str(tmp_path / "out.caffemodel")).outputs == [
        "c"
    ]
    certificate = json.loads((tmp_path / "out.json").read_text())
    assert [v["action"] for v in certificate["layers"]] == ["folded", "merged"]
    assert [e["input"] for e in certificate["errors"]] == ["random", "given 1"]


def test_command_json_and_tolerance(cli, files, tmp_path):
    found = json.loads(cli("fold", *files, "--json").stdout)
    assert found["agrees"] and found["batch_norm"]["folded"] == 1
    result = cli("fold", *files, "--tolerance", "1e-12", "-o", tmp_path / "out")
    assert result.exit_code == 1 and "nothing was written" in result.stderr
    assert not (tmp_path / "out.prototxt").exists()


@pytest.mark.gpu
def test_command_on_a_gpu(cli, files):
    found = json.loads(cli("fold", *files, "--json", "--gpu", "0").stdout)
    assert found["agrees"] and found["batch_norm"]["folded"] == 1


def test_command_does_not_overwrite_its_net(cli, files):
    result = cli("fold", *files, "-o", files[0].with_suffix(""))
    assert result.exit_code == 2 and "is read by this command: write to another file" in result.stderr
