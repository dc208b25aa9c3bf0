"""Dialects of batch normalisation: each with constructed cases whose truth is written out in float64."""

from __future__ import annotations

import struct
import warnings

import numpy as np
import pytest

from caffebn import Net
from caffebn.bn import dialects
from caffebn.bn.dialects import DialectError, from_plain, to_plain, verdicts
from caffebn.errors import ArgumentError, CaffebnWarning, NetError, WeightsError
from caffebn.proto import Message, UnknownBinary, binary, blob_array, make_blob, text, upgrade, wire

C = 6
DATA = (
    f'layer {{ name: "data" type: "Input" top: "data" '
    f"input_param {{ shape {{ dim: 4 dim: {C} dim: 5 dim: 3 }} }} }}\n"
)


def layer_text(type: str, fields: str = "", more: str = "", top: str = "bn") -> str:
    """A net with one layer of a dialect."""
    param = "batch_norm_param" if type == "BatchNorm" else "bn_param"
    inner = f"{param} {{ {fields} }}" if fields else ""
    return f'{DATA}layer {{ name: "bn" type: "{type}" bottom: "data" top: "{top}" {inner} {more} }}\n'


class Values:
    """Statistics, scale and shift of a layer, and what a dialect stores of them."""

    def __init__(self, seed: int = 0, channels: int = C):
        rng = np.random.default_rng(seed)
        self.mean = rng.standard_normal(channels)
        self.var = rng.uniform(0.05, 4, channels)
        self.scale = rng.uniform(0.5, 2, channels)
        self.shift = rng.standard_normal(channels)
        self.factor = 999.98236
        self.eps = 1e-5

    def blob(self, letter: str) -> np.ndarray:
        return {
            "M": self.mean, "V": self.var, "s": self.scale, "t": self.shift, "f": np.array([self.factor]),
            "I": 1 / np.sqrt(self.var + self.eps), "-": np.zeros(1), "1": np.ones(1),
            "A": self.mean * self.factor, "B": self.var * self.factor,  # the sums
            "Q": (self.var + self.mean**2) * self.factor,
        }[letter]  # fmt: skip

    def blobs(self, order: str, axes: int = 1) -> list[np.ndarray]:
        shapes = {1: lambda n: (n,), 2: lambda n: (1, n), 4: lambda n: (1, n, 1, 1)}
        return [
            self.blob(letter).astype(np.float32).reshape(shapes[axes](self.blob(letter).size))
            for letter in order
        ]

    def normalised(self, x: np.ndarray, eps: float) -> np.ndarray:
        return (x - spread(self.mean)) / np.sqrt(spread(self.var) + eps)

    def affine(self, y: np.ndarray) -> np.ndarray:
        return y * spread(self.scale) + spread(self.shift)

    def batch(self, x: np.ndarray, eps: float) -> np.ndarray:
        mean, var = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
        return (x - mean) / np.sqrt(var + eps)


def spread(a: np.ndarray) -> np.ndarray:
    return np.asarray(a, np.float64).reshape(1, -1, 1, 1)


def stored(
    type: str,
    blobs: list[np.ndarray],
    number: int | None = None,
    fields: bytes = b"",
    name: str = "bn",
    tops=(),
) -> Message:
    """A weights file with that one layer."""
    net = Message("NetParameter")
    layer = net.add("layer", name=name, type=type, bottom=["data"], top=["bn", *tops])
    layer.blobs = [make_blob(blob) for blob in blobs]
    if number is not None:
        layer.unknown.append(UnknownBinary(number, wire.BYTES, fields))
    return binary.parse(binary.dump(net))


def field(number: int, value: float | int) -> bytes:
    if isinstance(value, float):
        return wire.tag(number, wire.FIXED32) + struct.pack("<f", value)
    return wire.tag(number, wire.VARINT) + wire.varint(value)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(9).standard_normal((4, C, 5, 3)) * 2 + 0.5


def run(
    definition: str,
    weights: Message,
    x: np.ndarray,
    tmp_path,
    phase: str = "TEST",
    output: str = "bn",
    **options,
) -> np.ndarray:
    """As a user has it: two files, one net in float64."""
    path = tmp_path / "weights.caffemodel"
    binary.write(path, weights)
    (tmp_path / "net.prototxt").write_text(definition)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaffebnWarning)
        net = Net(tmp_path / "net.prototxt", path, phase, dtype=np.float64, **options)
    return net.forward(data=x)[output].copy()


def case(id, type, order, axes, truth, fields="", dialect=None, more="", **changes):
    return pytest.param(
        id,
        type,
        order,
        axes,
        truth,
        fields,
        dialect,
        more,
        changes,
        id=f"{id}-{order}-{fields.replace(' ', '')}",
    )


AFFINE = lambda v, x: v.affine(v.normalised(x, 1e-5))  # noqa: E731

TEST_CASES = [
    case("bvlc", "BatchNorm", "ABf", 1, lambda v, x: v.normalised(x, 1e-5)),
    case("bvlc", "BatchNorm", "ABf", 1, lambda v, x: v.normalised(x, 0.001), "eps: 0.001"),
    case(
        "bvlc", "BatchNorm", "ABf", 1, lambda v, x: np.maximum(v.normalised(x, 1e-5), 0), "fused_relu: true"
    ),
    # deeplab-v2 and PSPNet write it; what it says matters in training
    case(
        "bvlc",
        "BatchNorm",
        "ABf",
        1,
        lambda v, x: v.normalised(x, 1e-5),
        "update_global_stats: true use_global_stats: true",
    ),
    # NVCaffe 0.14 with engine: CAFFE
    case("bvlc", "BatchNorm", "ABf", 1, lambda v, x: v.normalised(x, 1e-5), "engine: CAFFE"),
    case("bvlc-2015", "BatchNorm", "AQf", 1, lambda v, x: v.normalised(x, 1e-5), dialect="bvlc-2015"),
    case("intel", "BatchNorm", "ABfst", 1, AFFINE),
    case(
        "intel",
        "BatchNorm",
        "ABfst",
        1,
        lambda v, x: np.maximum(v.affine(v.normalised(x, 1e-5)), 0),
        "relu: true",
    ),
    case(
        "intel",
        "BatchNorm",
        "ABfs",
        1,
        lambda v, x: v.normalised(x, 1e-5) * spread(v.scale),
        "bias_term: false",
    ),
    case(
        "happynear-ms",
        "BatchNorm",
        "ABf",
        1,
        lambda v, x: x / np.sqrt(spread(v.var) + 1e-5),
        "disable_mean: true",
    ),
    case("happynear-ms", "BatchNorm", "ABf", 1, lambda v, x: x - spread(v.mean), "disable_variance: true"),
    case(
        "synopsys",
        "BatchNorm",
        "ABf",
        1,
        lambda v, x: (x - spread(v.mean)) / (np.sqrt(spread(v.var)) + 0.1),
        "eps: 0.1 add_eps_before_sqrt: false",
    ),
    case(
        "nvcaffe-0.14",
        "BatchNorm",
        "st-MV",
        4,
        lambda v, x: v.affine(v.normalised(x, 1e-4)),
        dialect="nvcaffe-0.14",
    ),
    case(
        "nvcaffe-0.14-inv",
        "BatchNorm",
        "st-MI",
        4,
        lambda v, x: v.affine(v.normalised(x, 1e-4)),
        dialect="nvcaffe-0.14-inv",
        eps=1e-4,
    ),
    case("nvcaffe-0.15", "BatchNorm", "stMV-", 1, AFFINE),
    case("nvcaffe-0.15", "BatchNorm", "stMV-", 4, AFFINE, "eps: 0.0000001"),
    case("nvcaffe-0.16", "BatchNorm", "MV1st", 1, AFFINE, "scale_bias: true"),
    case("nvcaffe-0.16", "BatchNorm", "MV-st", 1, AFFINE, "eps: 0.0000001"),
    case("nvcaffe-0.16", "BatchNorm", "MV-", 1, lambda v, x: v.normalised(x, 1e-5), dialect="nvcaffe-0.16"),
    case("segnet-learn", "BN", "st", 4, lambda v, x: v.affine(v.batch(x, 1e-9)), "scale_filler { value: 1 }"),
    case("segnet-learn", "BN", "st", 4, lambda v, x: v.affine(v.batch(x, 1e-9)), "bn_mode: LEARN"),
    case("segnet-inference", "BN", "st", 4, lambda v, x: v.affine(x), "bn_mode: INFERENCE"),
    case(
        "ducha-aiki",
        "BN",
        "stMV",
        4,
        lambda v, x: v.affine(v.normalised(x, 1e-10)),
        "decay: 0.95",
        dialect="ducha-aiki",
    ),
    case(
        "ducha-aiki",
        "BN",
        "stMV",
        4,
        lambda v, x: v.affine(v.batch(x, 0.01)),
        "var_eps: 0.01 moving_average: false",
        dialect="ducha-aiki",
    ),
    case("happynear", "BN", "stMV", 4, lambda v, x: v.affine(v.normalised(x, 1e-10)), "decay: 0.5"),
    case(
        "yjxiong-a",
        "BN",
        "stMV",
        2,
        lambda v, x: v.affine(v.normalised(x, 1e-7)),
        "moving_average: true momentum: 0.9",
    ),
    case(
        "yjxiong-a",
        "BN",
        "st",
        2,
        lambda v, x: v.affine(v.batch(x, 1e-7)),
        "moving_average: false momentum: 0.9",
    ),
    case("yjxiong-b", "BN", "stMI", 2, AFFINE, "momentum: 0.95", dialect="yjxiong-b"),
    case("yjxiong-c", "BN", "stMV", 2, AFFINE, "momentum: 0.95", dialect="yjxiong-c"),
    case("yjxiong-c", "BN", "stMV", 2, AFFINE, "frozen: true eps: 1e-7 engine: CUDNN", dialect="yjxiong-c"),
    case(
        "pspnet",
        "BN",
        "stMV",
        4,
        lambda v, x: v.affine(v.normalised(x, 1e-3)),
        "slope_filler { value: 1 } eps: 0.001",
    ),
    case("yjxiong-c", "SyncBN", "stMV", 2, AFFINE, dialect="yjxiong-c"),
    case(
        "mvft", "BatchNorm", "ABft", 1, lambda v, x: v.normalised(x, 1e-5) + spread(v.shift), dialect="mvft"
    ),
    case(
        "mvfs", "BatchNorm", "ABfs", 1, lambda v, x: v.normalised(x, 1e-5) * spread(v.scale), dialect="mvfs"
    ),
    case("mvst", "BatchNorm", "MVst", 1, AFFINE, dialect="mvst"),
    case("mv", "BatchNorm", "MV", 1, lambda v, x: v.normalised(x, 1e-5), dialect="mv"),
]


@pytest.mark.parametrize(
    ("id", "type", "order", "axes", "truth", "fields", "dialect", "more", "changes"), TEST_CASES
)
def test_a_net_in_a_dialect_runs(id, type, order, axes, truth, fields, dialect, more, changes, x, tmp_path):
    values = Values()
    vars(values).update(changes)
    weights = stored(type, values.blobs(order, axes))
    definition = layer_text(type, fields, more)
    found = run(definition, weights, x, tmp_path, dialect=dialect)
    np.testing.assert_allclose(found, truth(values, x), rtol=2e-6, atol=2e-6)

    # as a conversion: the files are plain, and real Caffe's reader would take them
    net = text.parse(definition)
    upgrade.net(net)
    converted = to_plain(net, weights, dialect)
    (verdict,) = converted.verdicts
    assert verdict.dialect == id and verdict.certain
    assert {layer.type for layer in converted.net.layer} <= {"Input", "BatchNorm", "Scale", "ReLU"}
    again = run(str(converted.net), converted.weights, x, tmp_path, dialect="bvlc")
    np.testing.assert_array_equal(again, found)
    exact = to_plain(net, weights, dialect, live=False)
    np.testing.assert_allclose(
        run(str(exact.net), exact.weights, x, tmp_path, dialect="bvlc"), found, rtol=1e-6, atol=1e-6
    )


def test_the_given_messages_stay_as_they_are():
    net, weights = text.parse(layer_text("BN", "bn_mode: INFERENCE")), stored("BN", Values().blobs("st", 4))
    before = str(net), binary.dump(weights)
    to_plain(net, weights)
    assert (str(net), binary.dump(weights)) == before


# -- without a text: the weights file alone

BARE = [
    ("nvcaffe-0.15", "BatchNorm", "stMV-", 1, None, b""),
    ("nvcaffe-0.16", "BatchNorm", "MV1st", 1, None, b""),
    ("intel", "BatchNorm", "ABfst", 1, None, b""),
    ("bvlc", "BatchNorm", "ABf", 1, None, b""),
    ("segnet-inference", "BN", "st", 4, 45, field(3, 1)),
    ("yjxiong-a", "BN", "stMV", 2, 137, field(3, 1) + field(5, 1e-7)),
    ("yjxiong-a", "BN", "st", 2, None, b""),
    ("yjxiong-b", "BN", "stMI", 2, 200, field(3, 0.9)),
    ("pspnet", "BN", "stMV", 4, 152, field(3, 0.9)),
    ("ducha-aiki", "BN", "stMV", 4, 202, field(5, 0.95)),
    ("segnet-learn", "BN", "st", 4, 202, field(1, 0)),
    ("happynear", "BN", "stMV", 4, 139, field(3, 1e-10) + field(5, 0.95)),
]


@pytest.mark.parametrize(
    ("id", "type", "order", "axes", "number", "fields"), BARE, ids=lambda v: v if isinstance(v, str) else None
)
def test_recognising_a_weights_file_alone(id, type, order, axes, number, fields):
    (verdict,) = verdicts(None, stored(type, Values().blobs(order, axes), number, fields))
    assert (verdict.dialect, verdict.certain, verdict.choices) == (id, True, [])
    assert verdict.evidence


def test_fields_of_a_weights_file_alone(x, tmp_path):
    values = Values()
    for number, fields, fraction in (
        (137, field(3, 0.8) + field(4, 0.01) + field(5, 1), 0.8),
        (202, field(3, 0.01) + field(5, 0.3), 0.7),
    ):
        axes, as_ = (2, "yjxiong-c") if number == 137 else (4, None)
        converted = to_plain(None, stored("BN", values.blobs("stMV", axes), number, fields), as_)
        norm, scale = converted.weights.layer
        assert (norm.name, norm.type, scale.name, scale.type) == ("bn", "BatchNorm", "bn_scale", "Scale")
        assert norm.batch_norm_param.eps == pytest.approx(0.01)
        assert norm.batch_norm_param.moving_average_fraction == pytest.approx(fraction)
        assert norm.batch_norm_param.use_global_stats == (number == 137)
        assert [p.lr_mult for p in scale.param] == ([0, 0] if number == 137 else [])
        assert norm.unknown == [] and not norm.has("embed_param")


def test_bn_mode_of_the_script_that_computes_statistics():
    """The weights say LEARN, but have the tops of the script."""
    weights = stored("BN", Values().blobs("st", 4), 45, field(3, 0), tops=("bn-mean", "bn-var"))
    assert verdicts(None, weights)[0].dialect == "segnet-inference"


# -- signs


def five(order: str, axes: int = 1, channels: int = C, legacy: bool = False, marks: bool = False) -> Message:
    net = stored("BatchNorm", Values(channels=channels).blobs(order, axes))
    if legacy:
        for blob in net.layer[0].blobs:
            size = len(blob.data)
            blob.clear("shape")
            blob.num, blob.channels, blob.height, blob.width = 1, size, 1, 1
    if marks:
        net.layer[0].unknown.extend(UnknownBinary(n, wire.VARINT, b"\x01") for n in (147, 148))
    return net


def test_signs_when_shapes_were_lost():
    """A negative value cannot be a variance."""
    assert verdicts(None, five("MV1st", legacy=True))[0].dialect == "nvcaffe-0.16"
    (verdict,) = verdicts(None, five("st-MV", legacy=True))
    assert verdict.dialect.startswith("nvcaffe-0.14")
    assert "negative values in blob 1, which is then no variance" in verdict.evidence


def test_one_channel_says_nothing_of_the_order():
    (verdict,) = verdicts(None, five("MV1st", channels=1))
    assert not verdict.certain and verdict.choices == [
        "nvcaffe-0.16",
        "nvcaffe-0.14",
        "nvcaffe-0.15",
        "intel",
    ]
    assert verdicts(None, five("MV1st", channels=1, marks=True))[0].certain
    both = five("stMV-")
    both.layer.append(five("stMV-", channels=1).layer[0])
    both.layer[1].name = "one"
    assert [v.dialect for v in verdicts(None, both)] == ["nvcaffe-0.15"] * 2


def test_factor_0_with_statistics_is_nvcaffe():
    values = Values()
    values.factor = 0.0
    weights = stored("BatchNorm", values.blobs("MVf"))
    (verdict,) = verdicts(None, weights)
    assert verdict.dialect == "nvcaffe-0.16" and "BVLC Caffe cannot write" in verdict.evidence[0]
    converted = to_plain(None, weights, live=False)
    np.testing.assert_array_equal(converted.weights.layer[0].blobs[2].data, [1])
    np.testing.assert_allclose(converted.weights.layer[0].blobs[0].data, values.mean, rtol=1e-6)


def test_untrained_is_plain():
    weights = stored("BatchNorm", [np.zeros(C, np.float32), np.zeros(C, np.float32), np.zeros(1, np.float32)])
    assert verdicts(None, weights)[0].dialect == "bvlc"


def test_second_moments_are_ruled_out_by_one_channel():
    values = Values()
    values.mean[0] = 10
    assert verdicts(None, stored("BatchNorm", values.blobs("ABf")))[0].doubt == []
    values.mean[:] = 0.01
    (verdict,) = verdicts(None, stored("BatchNorm", values.blobs("ABf")))
    assert verdict.certain and "bvlc-2015" in verdict.doubt[0]


def variance_or_inverse(blob: np.ndarray, mean: np.ndarray | None = None, names=()):
    v = Values()
    blobs = [v.blob("s"), v.blob("t"), v.mean if mean is None else mean, blob]
    weights = stored("BN", [b.astype(np.float32).reshape(1, -1) for b in blobs], 137, field(3, 0.9))
    return verdicts(None, weights, names=names)[0]


def test_variance_or_one_over_deviation():
    v = variance_or_inverse(np.array([1, 2, 3, 500, 1, 1.0]))
    assert (v.dialect, v.certain) == ("yjxiong-c", True) and "above 316.2" in v.evidence[-1]
    v = variance_or_inverse(np.array([1, 2, 3, 0, 1, 1.0]))
    assert (v.dialect, v.certain) == ("yjxiong-c", True) and "zeros" in v.evidence[-1]
    means = np.array([1, 2, 3, 4, 5, 6.0])
    v = variance_or_inverse(np.array([20, 30, 40, 50, 60, 70.0]), means)
    assert (v.dialect, v.certain) == ("yjxiong-c", True)
    v = variance_or_inverse(np.array([0.3, 0.2, 0.1, 0.05, 0.04, 0.03]), means)
    assert (v.dialect, v.certain) == ("yjxiong-b", True)
    v = variance_or_inverse(np.array([0.3, 0.2, 0.1, 0.9, 2, 0.03]), means)
    assert not v.certain and v.choices == ["yjxiong-b", "yjxiong-c"]
    for name, id in (
        ("tsn_inv_std.caffemodel", "yjxiong-b"),
        ("a_var.caffemodel", "yjxiong-c"),
        ("a.caffemodel.v5", "yjxiong-c"),
    ):
        v = variance_or_inverse(np.array([0.3, 0.2, 0.1, 0.9, 2, 0.03]), means, [name])
        assert (v.dialect, v.certain) == (id, True) and name in v.evidence[-1]


# -- doubt


@pytest.mark.parametrize(
    ("definition", "order", "axes", "choices"),
    [
        (layer_text("BN"), "st", 4, "segnet-learn .*segnet-inference"),
        (layer_text("BN"), "stMV", 4, "pspnet .*ducha-aiki .*happynear .*yjxiong-c .*yjxiong-b"),
        (layer_text("BN", "decay: 0.95 var_eps: 1e-9"), "stMV", 4, "ducha-aiki .*happynear"),
        (layer_text("BN", "momentum: 0.9"), "stMV", 2, "yjxiong-[bc] .*yjxiong-[bc]"),
        (layer_text("BatchNorm"), "ABfs", 1, "intel .*mvfs .*mvft"),
        (layer_text("BatchNorm"), "MV", 1, "mv "),
    ],
)
def test_what_is_not_certain_is_asked(definition, order, axes, choices, tmp_path, x):
    weights = stored("BN" if '"BN"' in definition else "BatchNorm", Values().blobs(order, axes))
    with pytest.raises(
        DialectError, match=f'"bn": the dialect of batch normalisation is not certain.* Say which: {choices}'
    ) as e:
        to_plain(text.parse(definition), weights)
    assert "--as" in str(e.value) and e.value.verdicts[0].layer == "bn"
    with pytest.raises(DialectError):
        run(definition, weights, x, tmp_path)


def test_text_alone_can_be_undecided():
    with pytest.raises(DialectError, match="The text does not say more than the type"):
        Net.from_text(layer_text("BN"), "TEST")
    with pytest.raises(DialectError, match="All versions of NVCaffe have this text"):
        to_plain(text.parse(layer_text("BatchNorm", "scale_filler { value: 1 }")))


def test_telling():
    net, weights = text.parse(layer_text("BN")), stored("BN", Values().blobs("st", 4))
    assert verdicts(net, weights, "segnet-inference")[0].evidence == ["as told"]
    assert verdicts(net, weights, {"bn": "segnet-learn"})[0].dialect == "segnet-learn"
    with pytest.raises(ArgumentError, match='there is no dialect "segnet"; did you mean "segnet-learn"'):
        to_plain(net, weights, "segnet")
    with pytest.raises(
        ArgumentError,
        match='dialect "intel": no layer fits it, which has type BatchNorm and 5 or 4 or 3 blobs',
    ):
        to_plain(net, weights, "intel")
    with pytest.raises(ArgumentError, match='no layer "bm" normalises'):
        to_plain(net, weights, {"bm": "segnet-learn"})


# -- nets


def test_loading_says_what_it_did(tmp_path):
    binary.write(tmp_path / "w.caffemodel", stored("BN", Values().blobs("stMV", 4)))
    (tmp_path / "n.prototxt").write_text(layer_text("BN", "slope_filler { value: 1 }"))
    with pytest.warns(
        CaffebnWarning, match=r"n.prototxt: 1 layers of dialect pspnet \(PSPNet, ICNet\) converted: \"bn\""
    ):
        net = Net(tmp_path / "n.prototxt", tmp_path / "w.caffemodel", "TEST")
    assert list(net.params) == ["bn", "bn_scale"]
    assert net.weights_report.matched == ["bn", "bn_scale"]


@pytest.mark.filterwarnings("ignore::caffebn.errors.CaffebnWarning")
def test_weights_that_come_later(tmp_path, x):
    values = Values()
    net = Net.from_text(layer_text("BN", "slope_filler { value: 1 } eps: 0.001"), "TEST", dtype=np.float64)
    binary.write(tmp_path / "w.caffemodel", stored("BN", values.blobs("stMV", 4)))
    net.copy_from(tmp_path / "w.caffemodel")
    np.testing.assert_allclose(
        net.forward(data=x)["bn"], values.affine(values.normalised(x, 1e-3)), rtol=1e-5
    )
    net.save_hdf5(tmp_path / "plain.h5")


@pytest.mark.filterwarnings("ignore::caffebn.errors.CaffebnWarning")
def test_five_blobs_for_a_net_without_scale(tmp_path):
    """Intel's text has no Scale; it comes with the weights, which are needed when the net is made."""
    binary.write(tmp_path / "w.caffemodel", stored("BatchNorm", Values().blobs("ABfst")))
    (tmp_path / "n.prototxt").write_text(layer_text("BatchNorm"))
    with pytest.raises(WeightsError, match=r'no layer \("bn_scale"\): give the weights when the net is made'):
        Net(tmp_path / "n.prototxt", "TEST").copy_from(tmp_path / "w.caffemodel")
    assert list(Net(tmp_path / "n.prototxt", tmp_path / "w.caffemodel", "TEST").params) == ["bn", "bn_scale"]
    with pytest.raises(WeightsError, match="expects 3 blobs, the file has 5"):
        Net(tmp_path / "n.prototxt", tmp_path / "w.caffemodel", "TEST", dialect="bvlc")


def test_intels_weights_for_a_text_with_scale(x, tmp_path):
    """The graph compiler merged the Scale into the file, not into the text."""
    values = Values()
    definition = (
        layer_text("BatchNorm")
        + 'layer { name: "sc" type: "Scale" bottom: "bn" top: "sc" scale_param { bias_term: true } }'
    )
    found = run(definition, stored("BatchNorm", values.blobs("ABfst")), x, tmp_path, output="sc")
    np.testing.assert_allclose(found, values.affine(values.normalised(x, 1e-5)), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore::caffebn.errors.CaffebnWarning")
@pytest.mark.parametrize("ending", ["h5", "npz"])
def test_arrays_without_types(tmp_path, x, ending):
    from caffebn.tensors import write_tensors

    values = Values()
    blobs = values.blobs("stMV", 4)
    if ending == "npz":
        write_tensors(tmp_path / "w.npz", {f"bn/{i}": blob for i, blob in enumerate(blobs)})
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(tmp_path / "w.h5", "w") as f:
            for i, blob in enumerate(blobs):
                f[f"data/bn/{i}"] = blob
    (tmp_path / "n.prototxt").write_text(layer_text("BN", "slope_filler { value: 1 }"))
    net = Net(tmp_path / "n.prototxt", tmp_path / f"w.{ending}", "TEST", dtype=np.float64)
    np.testing.assert_allclose(
        net.forward(data=x)["bn"], values.affine(values.normalised(x, 1e-5)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("fraction", [0.9, 0.95])
def test_training_goes_on_as_the_average_of_the_dialect(tmp_path, x, fraction):
    """M <- b M + (1 - b) mean, as in the fork, from the first batch on."""
    values = Values()
    net = text.parse(layer_text("BN", f"slope_filler {{ value: 1 }} momentum: {fraction}"))
    converted = to_plain(net, stored("BN", values.blobs("stMV", 4)))
    binary.write(tmp_path / "w.caffemodel", converted.weights)
    (tmp_path / "n.prototxt").write_text(str(converted.net))
    made = Net(tmp_path / "n.prototxt", tmp_path / "w.caffemodel", "TRAIN", dtype=np.float64)
    made.forward(data=x)
    mean, var, factor = (blob.data for blob in made.params["bn"])
    m = x.size / C
    np.testing.assert_allclose(
        mean / factor, fraction * values.mean + (1 - fraction) * x.mean((0, 2, 3)), rtol=1e-5
    )
    expected = fraction * values.var + (1 - fraction) * x.var((0, 2, 3)) * m / (m - 1)
    np.testing.assert_allclose(var / factor, expected, rtol=1e-5)


def test_rules_fillers_and_rates_are_carried_over():
    net = text.parse(
        layer_text(
            "BN",
            "slope_filler { type: 'constant' value: 0.5 } bias_filler { type: 'gaussian' std: 0.1 } momentum: 0.9",
            "param { lr_mult: 3 } param { lr_mult: 6 decay_mult: 0 } param { lr_mult: 0 } param { lr_mult: 0 } "
            "include { phase: TRAIN }",
        )  # fmt: skip
    )
    _, norm, scale = to_plain(net).net.layer
    assert norm.include == scale.include and norm.include[0].phase == "TRAIN"
    assert [p.lr_mult for p in norm.param] == [0, 0, 0]
    assert [(p.lr_mult, p.decay_mult) for p in scale.param] == [(3, 1), (6, 0)]
    assert (scale.scale_param.filler.value, scale.scale_param.bias_filler.type) == (0.5, "gaussian")
    assert norm.batch_norm_param.moving_average_fraction == pytest.approx(0.9)


def test_names_that_are_taken():
    net = text.parse(
        layer_text("BN", "bn_mode: LEARN") + 'layer { name: "bn_scale" type: "ReLU" bottom: "bn" top: "bn" }'
    )
    assert [layer.name for layer in to_plain(net).net.layer] == ["data", "bn", "bn_scale_", "bn_scale"]


def test_a_top_that_is_read_is_refused():
    net = text.parse(
        DATA + 'layer { name: "bn" type: "BN" bottom: "data" top: "bn" top: "m" bn_param { bn_mode: LEARN } }'
        'layer { name: "r" type: "ReLU" bottom: "m" top: "r" }'
    )
    with pytest.raises(
        NetError,
        match='layer "bn" .BN.: its top "m" .mean or variance of the batch. is read by another layer',
    ):
        to_plain(net)
    net.layer[2].bottom = ["bn"]
    assert list(to_plain(net).net.layer[1].top) == ["bn"]


def test_blobs_that_do_not_fit():
    blobs = Values().blobs("stMV", 4)
    blobs[1] = blobs[1][:, :3]
    with pytest.raises(NetError, match='dialect "pspnet" expects 6 values in blob 1, found 3'):
        to_plain(text.parse(layer_text("BN", "slope_filler { value: 1 }")), stored("BN", blobs))


def test_eltwise_affine_is_scale(x, tmp_path):
    values = Values()
    definition = (
        DATA + 'layer { name: "bn" type: "EltwiseAffine" bottom: "data" top: "bn" eltwise_affine_param { } }'
    )
    found = run(definition, stored("EltwiseAffine", values.blobs("st", 4)), x, tmp_path)
    np.testing.assert_allclose(found, values.affine(x), rtol=1e-6, atol=1e-6)


# -- back

PLAIN_NET = (
    DATA
    + """
layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" batch_norm_param { %s } }
layer { name: "sc" type: "Scale" bottom: "bn" top: "bn" scale_param { bias_term: true }
        param { lr_mult: 2 } param { lr_mult: 4 } }
"""
)


def plain_weights(values: Values) -> Message:
    net = stored("BatchNorm", values.blobs("ABf"))
    scale = net.add("layer", name="sc", type="Scale", bottom=["bn"], top=["bn"])
    scale.blobs = [make_blob(blob) for blob in values.blobs("st")]
    return net


ROUND = [
    "bvlc-2015",
    "intel",
    "nvcaffe-0.14",
    "nvcaffe-0.14-inv",
    "nvcaffe-0.15",
    "nvcaffe-0.16",
    "ducha-aiki",
    "happynear",
    "yjxiong-a",
    "yjxiong-b",
    "yjxiong-c",
    "pspnet",
    "segnet-inference",
]


@pytest.mark.parametrize("id", ROUND)
@pytest.mark.parametrize("fields", ["", "eps: 0.001 moving_average_fraction: 0.97"])
def test_there_and_back(id, fields, x, tmp_path):
    """Written in a dialect and read again, a net computes the same."""
    values = Values()
    definition, weights = PLAIN_NET % fields, plain_weights(values)
    if id == "bvlc-2015":  # no Scale in it
        with pytest.raises(NetError, match='layer "bn": dialect "bvlc-2015" has no room for a scale'):
            from_plain(text.parse(definition), weights, id)
        return
    expected = run(definition, weights, x, tmp_path)
    back = from_plain(text.parse(definition), weights, id)
    (layer,) = back.net.layer[1:]
    d = dialects.DIALECTS[id]
    assert (layer.name, layer.type, list(layer.top)) == ("bn", d.type, ["bn"])
    assert len(back.weights.layer) == 1 and len(back.weights.layer[0].blobs) == len(d.orders[0])
    rates = dict(zip(d.orders[0], [p.lr_mult for p in layer.param], strict=True))
    assert (rates["s"], rates["t"], rates.get("M", 0)) == (2, 4, 0)
    again = text.parse(str(back.net))  # what was written can be read
    found = run(str(again), back.weights, x, tmp_path, dialect=id)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    (verdict,) = verdicts(again, binary.parse(binary.dump(back.weights)))
    assert id in [verdict.dialect, *verdict.choices]
    if id != "segnet-inference" and "eps" in fields and d.fraction_field and d.statistics != "phase only":
        plain = to_plain(again, back.weights, id)
        assert plain.net.layer[1].batch_norm_param.moving_average_fraction == pytest.approx(0.97)


def test_back_without_scale():
    definition = DATA + 'layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" }'
    weights = stored("BatchNorm", Values().blobs("ABf"))
    assert len(from_plain(text.parse(definition), weights, "nvcaffe-0.16").weights.layer[0].blobs) == 3
    blobs = from_plain(text.parse(definition), weights, "yjxiong-c").weights.layer[0].blobs
    np.testing.assert_array_equal(blobs[0].data, np.ones(C))
    np.testing.assert_array_equal(blobs[1].data, np.zeros(C))


def test_what_is_lost_is_said():
    back = from_plain(text.parse(PLAIN_NET % ""), plain_weights(Values()), "segnet-learn")
    assert any("THE STORED STATISTICS" in what for what in back.lost)
    back = from_plain(
        text.parse(PLAIN_NET % "use_global_stats: true"), plain_weights(Values()), "nvcaffe-0.16"
    )
    assert "use_global_stats: true in training" in back.lost
    values = Values()
    values.var[:] = 1e-6
    back = from_plain(text.parse(PLAIN_NET % ""), plain_weights(values), "nvcaffe-0.14")
    assert any(
        "eps 1e-05 becomes 0.0001, which changes channels of little variance" in what for what in back.lost
    )
    there = to_plain(
        text.parse(layer_text("BN", "slope_filler { } momentum: 0.9")),
        stored("BN", Values().blobs("stMV", 4)),
    )
    assert any("unbiased" in what for what in there.lost) and any(
        line.startswith("lost: ") for line in there.summary()
    )


def test_batch_statistics_back():
    definition = text.parse(PLAIN_NET % "use_global_stats: false")
    assert "bn_mode: LEARN" in str(from_plain(definition, plain_weights(Values()), "segnet-learn").net)
    assert "moving_average: false" in str(from_plain(definition, plain_weights(Values()), "yjxiong-a").net)
    with pytest.raises(NetError, match='use_global_stats: false cannot be said in dialect "nvcaffe-0.16"'):
        from_plain(definition, plain_weights(Values()), "nvcaffe-0.16")
    with pytest.raises(
        NetError, match="it uses the statistics of the batch, of which .segnet-inference. has none"
    ):
        from_plain(definition, plain_weights(Values()), "segnet-inference")


# -- layers of type BN in the V1 form: ChenglongChen (39, parameters at 41), lim0606 (42, 42), happynear (42, 43)

V1 = """
input: "data" input_dim: 4 input_dim: 6 input_dim: 5 input_dim: 3
layers {{ name: "bn" type: BN bottom: "data" top: "bn" blobs_lr: 1 blobs_lr: 2 weight_decay: 0 weight_decay: 0
         bn_param {{ {} }} }}
"""


def v1_stored(blobs: list[np.ndarray], type: int, number: int | None, fields: bytes) -> bytes:
    """A weights file in the V1 form, as the forks write it: blobs with the four old numbers."""
    layer = wire.tag(4, wire.BYTES) + wire.varint(2) + b"bn" + wire.tag(5, wire.VARINT) + wire.varint(type)
    for blob in blobs:
        shape = (*[1] * (4 - blob.ndim), *blob.shape)
        message = Message("BlobProto", num=shape[0], channels=shape[1], height=shape[2], width=shape[3])
        message.data = blob.reshape(-1)
        content = binary.dump(message)
        layer += wire.tag(6, wire.BYTES) + wire.varint(len(content)) + content
    if number is not None:
        layer += wire.tag(number, wire.BYTES) + wire.varint(len(fields)) + fields
    return wire.tag(2, wire.BYTES) + wire.varint(len(layer)) + layer


FILLERS = 'scale_filler { type: "constant" value: 1 } shift_filler { type: "constant" value: 0.5 }'
V1_CASES = [
    ("st", 39, 41, FILLERS, lambda v, x: v.affine(v.batch(x, 1e-10))),
    ("st", 42, 42, FILLERS, lambda v, x: v.affine(v.batch(x, 1e-10))),
    ("st", 42, None, "", lambda v, x: v.affine(v.batch(x, 1e-10))),
    ("stMV", 39, 41, "moving_average: true", lambda v, x: v.affine(v.normalised(x, 1e-10))),
    ("stMV", 39, 41, "", lambda v, x: v.affine(v.batch(x, 1e-10))),  # moving_average is false there by default
    ("stMV", 42, 43, "moving_average: true var_eps: 0.01 decay: 0.5", lambda v, x: v.affine(v.normalised(x, 0.01))),
]  # fmt: skip


@pytest.mark.parametrize(("order", "type", "number", "fields", "truth"), V1_CASES)
def test_layers_of_the_v1_form(x, tmp_path, order, type, number, fields, truth):
    values = Values()
    values.scale[0] = 3
    # channels of little variance tell 1e-10 from 1e-9
    x = x * np.array([1, 1e-4] * 3).reshape(1, C, 1, 1)
    (tmp_path / "net.prototxt").write_text(V1.format(fields))
    (tmp_path / "w.caffemodel").write_bytes(v1_stored(values.blobs(order, 4), type, number, b""))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaffebnWarning)
        dialect = (
            "happynear" if "moving_average: true" in fields else None
        )  # it and ducha-aiki are alike in TEST
        net = Net(
            tmp_path / "net.prototxt",
            tmp_path / "w.caffemodel",
            "TEST",
            dtype=np.float64,
            dialect=dialect,
        )
    np.testing.assert_allclose(net.forward(data=x)["bn"], truth(values, x), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
    ("order", "type", "number", "fields", "used", "eps"),
    [
        ("st", 39, 41, field(1, 0), False, 1e-10),
        ("st", 42, 42, b"", False, 1e-10),
        ("stMV", 39, 41, field(3, 0.01), False, 0.01),
        ("stMV", 39, 41, field(4, 1), None, 1e-10),
        ("stMV", 42, 43, b"", None, 1e-10),
    ],
)
def test_weights_files_of_the_v1_form_alone(tmp_path, order, type, number, fields, used, eps):
    values = Values()
    net = binary.parse(v1_stored(values.blobs(order, 4), type, number, fields))
    assert "1 layers in the V1 form (layers) are now in the present form (layer)" in upgrade.net(net)
    assert net.layer[0].type == "BN" and not net.layer[0].has("exp_param")
    (verdict,) = verdicts(None, net)
    assert (verdict.dialect, verdict.certain) == ("happynear", True)
    norm, scale = to_plain(None, net).weights.layer
    param = norm.batch_norm_param
    assert (param.use_global_stats if param.has("use_global_stats") else None) == used
    assert param.eps == pytest.approx(eps)
    np.testing.assert_array_equal(blob_array(scale.blobs[0]).reshape(-1), values.scale.astype(np.float32))


def test_a_deconvolution_of_the_v1_form_is_none_of_them():
    old = 'layers { name: "up" type: DECONVOLUTION bottom: "x" top: "y" convolution_param { num_output: 2 } }'
    for net in (text.parse(old), binary.parse(binary.dump(text.parse(old)))):
        upgrade.net(net)
        assert net.layer[0].type == "Deconvolution"
