"""Comparing: what is equal is equal, what is not is named, and so is the reason."""

from __future__ import annotations

import json

import numpy as np
import pytest

from caffebn import blocks, export
from caffebn.bn import compare, fold
from caffebn.bn.opening import make_net
from caffebn.bn.sides import Activations, NetSide, TorchSide
from caffebn.errors import ArgumentError, FileError, FormatError
from caffebn.net import Net
from tests.bn.nets import bn, conv, data, layer, random_weights, relu, run, scale

pytestmark = pytest.mark.filterwarnings("ignore::caffebn.errors.CaffebnWarning")

POOL = "pooling_param { pool: MAX kernel_size: 3 stride: 2 }"
AVERAGE = "pooling_param { pool: AVE kernel_size: 3 stride: 1 pad: 1 }"
FC = "inner_product_param { num_output: 5 }"
NET = (
    data(2, 3, 12, 12)
    + conv("conv1", "data", num_output=8, pad=1)
    + bn("bn1", "conv1")
    + scale("scale1", "conv1")
    + relu("relu1", "conv1")
    + layer("Pooling", "pool1", "conv1", text=POOL)
    + conv("conv2", "pool1", num_output=8, pad=2, dilation=2, group=2)
    + bn("bn2", "conv2")
    + scale("scale2", "conv2")
    + layer("Eltwise", "sum", "pool1 conv2")
    + layer("ReLU", "relu2", "sum", "sum", "relu_param { negative_slope: 0.1 }")
    + layer("LRN", "norm", "sum", text="lrn_param { local_size: 3 alpha: 0.5 }")
    + layer("Pooling", "pool2", "norm", text=AVERAGE)
    + layer("Dropout", "drop", "pool2", "pool2")
    + layer("InnerProduct", "fc", "pool2", text=FC)
    + layer("Softmax", "prob", "fc")
)


@pytest.fixture(scope="module")
def weights():
    return random_weights(NET)


def mutated(weights, name, function):
    """Weights with one layer's blobs changed."""
    other = {key: [a.copy() for a in arrays] for key, arrays in weights.items()}
    other[name] = [np.asarray(a, np.float32) for a in function(*other[name])]
    return other


def changed(old, new, count=1):
    """The net with a piece of its text replaced."""
    assert NET.count(old) >= 1
    return NET.replace(old, new, count)


def difference(weights, other_net=NET, other_weights=None, **options):
    return compare(
        (blocks.parse(NET), weights), (blocks.parse(other_net), other_weights or weights), **options
    )


def test_a_net_equals_itself(weights):
    found = difference(weights)
    assert found.equal and found.first is None and found.cause == "" and found.trials == []
    assert [row.layer for row in found.rows][:4] == ["data", "conv1", "bn1", "scale1"]
    assert len(found.rows) == 16 and all(row.relative_error == 0 for row in found.rows)


BN1 = bn("bn1", "conv1")
BATCH = bn("bn1", "conv1", text="batch_norm_param { use_global_stats: false }")


@pytest.mark.parametrize(
    ("old", "new", "layer_name", "cause"),
    [
        (BN1, bn("bn1", "conv1", text="batch_norm_param { eps: 1e-3 }"), "bn1", "eps is 0.001 instead of 1e-05"),
        (BN1, bn("bn1", "conv1", text="batch_norm_param { eps: 2e-3 }"), "bn1", ""),
        (BN1, bn("bn1", "conv1", text="batch_norm_param { eps: 1e-4 }"), "bn1", "eps is 0.0001 instead of 1e-05"),
        (BN1, BATCH, "bn1", "the statistics are those of the batch, as in TRAIN (use_global_stats: false)"),
        ("dilation: 2", "dilation: 1", "conv2", "dilation is 1 instead of 2, with the same pad"),
        ("pad: 2 dilation: 2", "pad: 1 dilation: 1", "conv2", "dilation is 1 instead of 2"),
        (POOL, POOL.replace(" }", " round_mode: FLOOR }"), "pool1", "the output size is rounded down instead of up"),
        (POOL, POOL.replace("MAX", "AVE"), "pool1", "pool is AVE instead of MAX"),
        ("negative_slope: 0.1", "", "relu2", "negative_slope is 0 instead of 0.1"),
        ("alpha: 0.5", "alpha: 1.5", "norm", "alpha is not divided by local_size"),
        ('type: "Softmax"', 'type: "Softmax" softmax_param { axis: 0 }', "prob", ""),
        (
            'type: "Eltwise"', 'type: "Eltwise" eltwise_param { operation: MAX }', "sum",
            "operation is MAX instead of SUM",
        ),
    ],
)  # fmt: skip
def test_texts_that_differ(weights, old, new, layer_name, cause):
    text = changed(old, new)
    if "FLOOR" in new:  # sizes follow: the layers behind learn nothing about sizes but fc
        cut = text.index('layer { name: "conv2"')
        found = compare((blocks.parse(NET), weights), (blocks.parse(text[:cut]), weights))
    elif "dilation: 1" in new and "pad: 1" not in new:
        cut = text.index('layer { name: "sum"')
        found = compare((blocks.parse(NET), weights), (blocks.parse(text[:cut]), weights))
        assert found.first.verdict == "shape"
    else:
        found = difference(weights, text)
    assert not found.equal
    assert found.first.layer == layer_name
    assert found.cause == cause
    assert found.differences
    assert (found.trials[0].relative_error < 1e-9) == bool(cause)


def flip(w, *rest):
    return [w[..., ::-1, ::-1], *rest]


@pytest.mark.parametrize(
    ("name", "function", "cause"),
    [
        ("bn1", lambda m, v, f: (m, v, f * 0 + 1), "the statistics are not divided by the factor (blob 2)"),
        (
            "bn1", lambda m, v, f: (m, v, 1 / f),
            "the statistics are multiplied by the factor (blob 2) instead of divided",
        ),
        ("bn1", lambda m, v, f: (m, v, f * 0), "the factor (blob 2) is 0: no statistics"),
        ("bn2", lambda m, v, f: (m * 0, v, f), "the mean is not subtracted"),
        ("bn2", lambda m, v, f: (m, (v / f) ** 2 * f, f), "blob 1 is taken for the standard deviation"),
        ("bn2", lambda m, v, f: (m, f * (v / f) ** -2.0, f), "blob 1 is taken for 1 / standard deviation"),
        ("scale1", lambda s, b: (s, b * 0), "the bias of the Scale layer is left out"),
        ("scale1", lambda s, b: (s * 0 + 1, b), "the factors of the Scale layer are 1"),
        ("scale2", lambda s, b: (b, s), "the two blobs of the Scale layer are exchanged"),
        ("conv1", lambda w, b: (w[:, ::-1], b), "the order of the input channels is reversed (RGB and BGR)"),
        ("conv1", flip, "the kernel is flipped (a true convolution)"),
        ("conv1", lambda w, b: (w.swapaxes(2, 3), b), "height and width of the kernel are exchanged"),
        ("conv1", lambda w, b: (w, b * 0), "the bias is left out"),
        ("fc", lambda w, b: (w, b * 0), "the bias is left out"),
        (
            "fc",
            lambda w, b: (w.reshape(5, 6, 6, 8).transpose(0, 3, 1, 2).reshape(5, -1), b),
            "the input is flattened as height, width, channels",
        ),
        ("fc", lambda w, b: (w * 1.01, b), ""),
    ],
)  # fmt: skip
def test_weights_that_differ(weights, name, function, cause):
    found = difference(weights, other_weights=mutated(weights, name, function))
    assert found.first.layer == name
    assert found.cause == cause
    assert all(words.startswith("blob") for words in found.differences)


def test_a_factor_of_0_that_the_other_takes_for_1(weights):
    mine = mutated(weights, "bn1", lambda m, v, f: (m, v, f * 0))
    other = mutated(weights, "bn1", lambda m, v, f: (m, v, f * 0 + 1))
    found = compare((blocks.parse(NET), mine), (blocks.parse(NET), other))
    assert found.cause == "a factor (blob 2) of 0 is taken for 1"


def test_a_difference_that_grows_is_found_where_it_begins(weights):
    other = changed(BN1, bn("bn1", "conv1", text="batch_norm_param { eps: 1.00001e-5 }"))
    found = difference(weights, other, tolerance=1e-12)
    start = next(row.relative_error for row in found.rows if row.layer == "bn1")
    later = max(row.relative_error for row in found.rows)
    assert later > 1.5 * start > 0
    found = difference(weights, other, tolerance=1.2 * start)
    assert found.first.layer == "bn1" and found.crossed not in ("", "bn1")


def test_a_missing_layer_is_found(weights):
    text = changed(relu("relu1", "conv1"), "")
    found = difference(weights, text)
    assert found.first.layer == "pool1" and found.missing == ["relu1"]
    assert found.causes[0].what == "ReLU is left out"
    assert found.causes[0].layer == "relu1"


# -- folded nets -----------------------------------------------------------------------------------------


def test_a_folded_net_is_equal(weights):
    folded = fold(blocks.parse(NET), weights)
    found = compare((blocks.parse(NET), weights), (folded.net, folded.weights))
    assert found.equal
    assert found.missing == ["bn1", "scale1", "bn2", "scale2"]
    by_layer = {row.layer: row for row in found.rows}
    assert by_layer["conv1"].behind == "scale1" and by_layer["relu1"].behind == ""


def test_a_wrong_fold_is_found_with_its_cause(weights):
    """As scripts do that take 1e-3 for every eps."""
    wrong = blocks.parse(NET.replace('type: "BatchNorm"', 'type: "BatchNorm" batch_norm_param { eps: 1e-3 }'))
    folded = fold(wrong, weights, check=False)
    found = compare((blocks.parse(NET), weights), (folded.net, folded.weights))
    assert found.first.layer == "conv1"
    assert found.cause == "eps is 0.001 instead of 1e-05" and found.causes[0].layer == "bn1"


THROUGH = (
    data(2, 3, 12, 12)
    + conv("a", "data")
    + conv("b", "data")
    + layer("Concat", "join", "a b")
    + layer("Pooling", "ave", "join", text="pooling_param { pool: AVE kernel_size: 2 stride: 2 }")
    + bn("bn", "ave", "norm")
    + relu("r", "norm")
    + bn("bn2", "norm", "x")
    + conv("c", "x")
    + relu("last", "c")
)


def test_folds_through_other_layers_are_understood():
    weights = random_weights(THROUGH)
    folded = fold(blocks.parse(THROUGH), weights)
    found = compare((blocks.parse(THROUGH), weights), (folded.net, folded.weights))
    assert found.equal
    verdicts = {row.layer: row.verdict for row in found.rows}
    assert verdicts == {
        "data": "equal", "a": "fold", "b": "fold", "join": "fold", "ave": "equal", "r": "equal", "c": "equal",
        "last": "equal",
    }  # fmt: skip


def test_a_mistake_in_a_fold_through_other_layers_is_found():
    weights = random_weights(THROUGH)
    folded = fold(blocks.parse(THROUGH), weights)
    folded.weights["b"][1][0] += 0.1
    found = compare((blocks.parse(THROUGH), weights), (folded.net, folded.weights))
    assert found.first.layer == "ave"


# -- stored activations ----------------------------------------------------------------------------------


def test_stored_activations(weights, tmp_path):
    side = NetSide(blocks.parse(NET), weights)
    result = compare(side, side, dump_to=tmp_path / "a.npz")
    assert result.equal
    with np.load(tmp_path / "a.npz") as stored:
        assert {"data", "conv1", "conv1@conv1", "conv1@bn1", "conv1@scale1", "prob"} <= set(stored.files)
        assert stored["conv1"].min() == 0 > stored["conv1@scale1"].min()
    found = compare(side, tmp_path / "a.npz")
    assert found.equal and len(found.rows) == 16


def test_stored_final_values_alone_as_pycaffe_gives_them(weights):
    """The difference is somewhere in the row of layers in place; the trial says where."""
    other = NetSide(blocks.parse(NET), mutated(weights, "bn1", lambda m, v, f: (m, v, f * 0 + 1)))
    side = NetSide(blocks.parse(NET), weights)
    x = {"data": np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)}
    finals = {name: a for name, a in other.run(x).items() if "@" not in name}
    found = compare(side, finals)
    assert found.first.layer == "relu1" and found.first.blob == "conv1"
    assert found.cause == "the statistics are not divided by the factor (blob 2)"
    assert found.causes[0].layer == "bn1"


def test_activations_of_a_folder(weights, tmp_path):
    side = NetSide(blocks.parse(NET), weights)
    arrays = side.run({"data": np.ones((2, 3, 12, 12))})
    (tmp_path / "sub").mkdir()
    np.save(tmp_path / "data.npy", arrays["data"])
    np.save(tmp_path / "sub" / "prob.npy", arrays["prob"])
    np.savez(tmp_path / "more.npz", fc=arrays["fc"])
    found = compare(side, str(tmp_path), names={"prob": "sub/prob"})
    assert found.equal and [row.layer for row in found.rows] == ["data", "fc", "prob"]


def test_only_the_output_is_known(weights):
    """All BatchNorm layers of the other side have another eps; they are tried together."""
    other = NET.replace('type: "BatchNorm"', 'type: "BatchNorm" batch_norm_param { eps: 1e-3 }')
    x = {"data": np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)}
    prob = run(other, weights, x)["prob"]
    found = compare((blocks.parse(NET), weights), x | {"prob": prob}, tolerance=1e-7)
    assert found.first.layer == "prob"
    assert (
        found.cause == "eps is 0.001 instead of 1e-05" and found.causes[0].layer == "all 2 BatchNorm layers"
    )


def test_another_preparation_of_the_picture(weights):
    rng = np.random.default_rng(0)
    picture = rng.uniform(0, 255, (1, 3, 12, 12))
    mean = np.array([104.0, 117, 123]).reshape(1, 3, 1, 1)
    side = NetSide(blocks.parse(NET), weights)

    def cause(x, other, means=()):
        side.run({"data": other})
        stored = side.arrays()
        found = compare(side, stored, {"data": x}, means=means)
        assert found.first.layer == "data"
        return found.cause

    mine = picture - mean
    assert cause(mine, picture) == "the mean 104, 117, 123 is not subtracted"
    assert cause(picture, mine) == "the mean 104, 117, 123 is subtracted"
    assert cause(mine, mine[:, ::-1]) == "the order of the channels is reversed (RGB and BGR)"
    swapped = "the order of the channels is reversed (RGB and BGR) and that of the mean 104, 117, 123 is not"
    assert cause(mine, picture[:, ::-1] - mean) == swapped
    assert cause(mine, mine / 255) == "the values are divided by 255"
    assert cause(mine, mine * 0.017) == "the values are multiplied by 0.017"
    both = "the mean 104, 117, 123 is not subtracted, and the values are divided by 255"
    assert cause(mine, picture / 255) == both
    assert cause(mine, mine[..., ::-1]) == "the picture is mirrored"
    assert cause(picture - 7, picture, [7.0]) == "the mean 7 is not subtracted"


def test_padding_of_other_frameworks(weights):
    x = {"data": np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)}
    side = NetSide(blocks.parse(NET), weights)
    stored = side.run(x)
    ones = np.pad(np.ones((10, 10)), 0)
    inside = np.pad(np.ones(stored["norm"].shape[2:]), 1)
    count = np.zeros(stored["norm"].shape[2:])
    for i in range(count.shape[0]):
        for j in range(count.shape[1]):
            count[i, j] = inside[i : i + 3, j : j + 3].sum()
    del ones
    # the blob pool2 is overwritten by the Dropout in place, which changes nothing
    stored["pool2@pool2"] = stored["pool2@pool2"] * 9 / count
    found = compare(side, {name: stored[name] for name in ("data", "norm", "pool2@pool2")})
    assert found.first.layer == "pool2" and found.cause == "the average does not count padding"


def test_same_padding_with_a_stride():
    net = data(1, 3, 8, 8) + conv("c", "data", pad=1, stride=2)
    weights = random_weights(net)
    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8))
    shifted = np.zeros_like(x)
    shifted[:, :, :-1, :-1] = x[:, :, 1:, 1:]
    values = run(net, weights, {"data": shifted})["c"]
    found = compare((blocks.parse(net), weights), {"data": x, "c": values})
    assert "SAME" in found.cause


# -- PyTorch and ONNX ------------------------------------------------------------------------------------


@pytest.fixture
def torch_module(weights):
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
            self.bn1 = nn.BatchNorm2d(8)
            self.relu1 = nn.ReLU()
            self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
            self.conv2 = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2)

        def forward(self, x):
            return self.conv2(self.pool1(self.relu1(self.bn1(self.conv1(x)))))

    def module(eps=1e-5):
        made = Net()
        made.bn1.eps = eps
        t = {name: [torch.tensor(a.copy()) for a in arrays] for name, arrays in weights.items()}
        mean, var, factor = t["bn1"]
        state = {
            "conv1.weight": t["conv1"][0], "conv1.bias": t["conv1"][1],
            "conv2.weight": t["conv2"][0], "conv2.bias": t["conv2"][1],
            "bn1.weight": t["scale1"][0], "bn1.bias": t["scale1"][1],
            "bn1.running_mean": mean / factor, "bn1.running_var": var / factor,
        }  # fmt: skip
        made.load_state_dict(state, strict=False)
        return made

    return module


CUT = NET[: NET.index('layer { name: "bn2"')]


def test_a_torch_module(weights, torch_module):
    weights = {k: v for k, v in weights.items() if k in ("conv1", "bn1", "scale1", "conv2")}
    found = compare((blocks.parse(CUT), weights), torch_module())
    assert found.equal and found.missing == ["scale1"]
    assert {row.layer: row.behind for row in found.rows}["bn1"] == "scale1"
    found = compare((blocks.parse(CUT), weights), torch_module(eps=1e-3))
    assert found.first.layer == "bn1" and found.cause == "eps is 0.001 instead of 1e-05"


def test_a_torch_function_by_name(tmp_path, weights):
    pytest.importorskip("torch")
    (tmp_path / "port.py").write_text("import torch\ndef make():\n    return torch.nn.Identity()\n")
    side = TorchSide.open(f"{tmp_path / 'port.py'}:make")
    assert list(side.run({"x": np.ones((1, 2))}, ["x"])) == ["output 0"]
    with pytest.raises(ArgumentError, match='has no function "other"'):
        TorchSide.open(f"{tmp_path / 'port.py'}:other")
    with pytest.raises(FileError, match="there is no such file"):
        TorchSide.open("nowhere.py:make")
    with pytest.raises(ArgumentError, match="cannot be imported"):
        TorchSide.open("no_such_module_here:make")


@pytest.mark.parametrize("state", ["pt", "safetensors"])
def test_what_export_wrote_for_torch(tmp_path, weights, state):
    torch = pytest.importorskip("torch")
    path = tmp_path / "port.py"
    with_weights = make_net(blocks.parse(NET), weights)
    export.torch(with_weights, path, state=state)
    found = compare((blocks.parse(NET), weights), path)
    assert found.equal and {"conv1", "bn1", "conv2", "bn2"} <= {row.layer for row in found.rows}
    path.write_text(path.read_text().replace("nn.BatchNorm2d(8", "nn.BatchNorm2d(8, eps=0.001", 1))
    found = compare((blocks.parse(NET), weights), path)
    assert found.first.layer == "bn1" and found.cause == "eps is 0.001 instead of 1e-05"
    (tmp_path / f"port.{state}").write_bytes(b"nothing")
    with pytest.raises(FormatError, match=f"port.{state}: "):
        compare((blocks.parse(NET), weights), path)
    (tmp_path / f"port.{state}").unlink()
    with pytest.raises(FileError, match="beside it there must be its state_dict, port.pt or .safetensors"):
        compare((blocks.parse(NET), weights), path)
    path.write_text("import torch\n")
    with pytest.raises(ArgumentError, match="no class of a PyTorch module .* write .*port.py:function"):
        compare((blocks.parse(NET), weights), path)
    assert torch is not None


def test_values_between_the_operators_of_an_exported_onnx_model(tmp_path, weights):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "port.onnx"
    export.onnx(make_net(blocks.parse(NET), weights), path)
    found = compare((blocks.parse(NET), weights), path)
    assert found.equal
    # BatchNorm and Scale are one operator there, Dropout is none
    assert found.missing == ["bn1", "bn2", "drop"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def make(:", "port.py cannot be run: SyntaxError"),
        ("def make():\n    raise ValueError('no')", r"port.py:make failed: .*port.py:2: ValueError: no"),
        ("def make():\n    return 3", "port.py:make: expected it to return a PyTorch module, found int"),
        (
            "import torch\ndef make():\n    return torch.nn.Linear(3, 2)",
            r"port.py:make does not run on the inputs of the net \(data \(2, 3, .*RuntimeError",
        ),
    ],
)
def test_code_of_the_user_that_fails(tmp_path, weights, source, words):
    pytest.importorskip("torch")
    (tmp_path / "port.py").write_text(source)
    with pytest.raises(ArgumentError, match=words):
        compare((blocks.parse(NET), weights), f"{tmp_path / 'port.py'}:make")


@pytest.fixture
def onnx_file(tmp_path, weights):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper

    def write(eps=1e-5, nhwc=False):
        mean, var, factor = weights["bn1"]
        arrays = {
            "w": weights["conv1"][0], "b": weights["conv1"][1], "s": weights["scale1"][0], "t": weights["scale1"][1],
            "m": mean / factor, "v": var / factor,
        }  # fmt: skip
        start = "picture" if not nhwc else "channels_first"
        nodes = [
            helper.make_node("Conv", [start, "w", "b"], ["conv1"], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", ["conv1", "s", "t", "m", "v"], ["bn1:0"], epsilon=eps),
            helper.make_node("Relu", ["bn1:0"], ["relu1"]),
        ]
        if nhwc:
            nodes.insert(0, helper.make_node("Transpose", ["picture"], [start], perm=[0, 3, 1, 2]))
        shape = ["n", 12, 12, 3] if nhwc else ["n", 3, 12, 12]
        graph = helper.make_graph(
            nodes, "g",
            [helper.make_tensor_value_info("picture", onnx.TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("relu1", onnx.TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.ascontiguousarray(a), name) for name, a in arrays.items()],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, str(tmp_path / "m.onnx"))
        return str(tmp_path / "m.onnx")

    return write


@pytest.mark.parametrize("nhwc", [False, True])
def test_an_onnx_model(weights, onnx_file, nhwc):
    cut = NET[: NET.index('layer { name: "pool1"')]
    mine = (blocks.parse(cut), {k: weights[k] for k in ("conv1", "bn1", "scale1")})
    found = compare(mine, onnx_file(nhwc=nhwc), names={"data": "picture"})
    assert found.equal and found.missing == ["scale1"]
    found = compare(mine, onnx_file(eps=1e-2, nhwc=nhwc))
    assert found.cause == "eps is 0.01 instead of 1e-05"


def test_what_is_no_onnx_model(tmp_path, weights):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(FormatError, match="not an ONNX model"):
        compare((blocks.parse(NET), weights), tmp_path / "x.onnx")


# -- arguments -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("b", "message"),
    [
        ("what", "expected NET.prototxt,WEIGHTS.caffemodel"),
        ({"nothing": np.ones(3)}, "the net's input data is not among the stored activations"),
        ({"data": np.ones((2, 3, 12, 12)), "x": np.ones(3)}, 'stored activations, which has "data", "x": say'),
        ({"data": np.ones((2, 3))}, "expected 4 axes"),
    ],
)  # fmt: skip
def test_refusals(weights, b, message):
    with pytest.raises(ArgumentError, match=message):
        compare((blocks.parse(NET), weights), b)


def test_more_refusals(weights, tmp_path):
    a = (blocks.parse(NET), weights)
    with pytest.raises(ArgumentError, match="first side must be a net"):
        compare(Activations({}), a)
    with pytest.raises(ArgumentError, match='no layer or blob "conv9"; did you mean "conv'):
        compare(a, a, names={"conv9": "x"})
    with pytest.raises(ArgumentError, match='input "date": the net has the inputs data; did you mean "data"'):
        compare(a, a, {"date": np.ones(1)})
    with pytest.raises(FileError, match="no .npy or .npz file"):
        compare(a, str(tmp_path))
    (tmp_path / "x.npy").write_bytes(b"no")
    with pytest.raises(FormatError, match="not arrays in numpy's format"):
        compare(a, str(tmp_path))


def test_published_net_and_its_fold(open_nsfw):
    folded = fold(*open_nsfw, check=False)
    found = compare(open_nsfw, (folded.net, folded.weights))
    assert found.equal and len(found.rows) == 123
    assert max(row.relative_error for row in found.rows) < 1e-5


# -- the command -----------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path, weights):
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "bad.prototxt").write_text(
        changed(BN1, BATCH.replace("use_global_stats: false", "eps: 1e-3"))
    )
    made = Net(str(tmp_path / "net.prototxt"), "TEST")
    for name, arrays in weights.items():
        for blob, array in zip(made.params[name], arrays, strict=True):
            blob.data[...] = array
    made.save(str(tmp_path / "net.caffemodel"))
    return tmp_path


@pytest.mark.gpu
def test_command_on_a_gpu(cli, files):
    w = files / "net.caffemodel"
    a, b = (f"{files / name},{w}" for name in ("net.prototxt", "bad.prototxt"))
    result = cli("compare", a, a, "--gpu", "0")
    assert result.exit_code == 0 and "EQUAL" in result.stdout and "16 values compared" in result.stdout
    found = json.loads(cli("compare", a, b, "--json", "--gpu", "0").stdout)
    assert found["equal"] is False and found["first"]["layer"] == "bn1"
    # the values of the CPU, but for the order of sums
    cli("compare", a, "--dump", files / "act.npz")
    assert cli("compare", a, files / "act.npz", "--gpu", "0").exit_code == 0


def test_command(cli, files):
    w = files / "net.caffemodel"
    result = cli("compare", f"{files / 'net.prototxt'},{w}", f"{files / 'net.prototxt'},{w}")
    assert result.exit_code == 0 and "EQUAL" in result.stdout and "16 values compared" in result.stdout
    result = cli("compare", f"{files / 'net.prototxt'},{w}", f"{files / 'bad.prototxt'},{w}")
    assert result.exit_code == 1
    assert 'The first to differ is "bn1" (BatchNorm).' in result.stdout
    assert "Likely cause: in B, eps is 0.001 instead of 1e-05." in result.stdout
    assert "eps: 1e-05 against 0.001" in result.stdout
    found = json.loads(
        cli("compare", f"{files / 'net.prototxt'},{w}", f"{files / 'bad.prototxt'},{w}", "--json").stdout
    )
    assert found["equal"] is False and found["first"]["layer"] == "bn1"


def test_command_dumps_and_compares_with_the_dump(cli, files):
    a = f"{files / 'net.prototxt'},{files / 'net.caffemodel'}"
    result = cli("compare", a, "--dump", files / "act.npz", "--seed", "5")
    assert result.exit_code == 0 and "16 values written" in result.stdout
    result = cli("compare", a, files / "act.npz", "--all")
    assert result.exit_code == 0 and result.stdout.count(" equal") == 16
    assert cli("compare", a, files / "net.caffemodel").exit_code == 0


def test_command_usage(cli, files):
    a = f"{files / 'net.prototxt'},{files / 'net.caffemodel'}"
    assert cli("compare", a).exit_code == 2
    assert cli("compare", a, a, "--map", "x").exit_code == 2
    assert cli("compare", "nothing", a).exit_code == 2
    result = cli("compare", a, a, "--dump", files / "x.txt")
    assert result.exit_code == 2 and "stored in a .npz file" in result.stderr


def test_layers_of_other_programs_are_left_out_and_named(cli, weights, tmp_path):
    ending = layer("PriorBox", "box", "conv2 data") + layer("ReLU", "last", "box")
    found = compare((blocks.parse(CUT + ending), weights), (blocks.parse(CUT), weights))
    assert found.equal and found.left_out == ["box", "last"]
    (tmp_path / "net.prototxt").write_text(CUT + ending)
    make_net(blocks.parse(CUT), weights).save(tmp_path / "w.caffemodel")
    result = cli(
        "compare", f"{tmp_path / 'net.prototxt'},{tmp_path / 'w.caffemodel'}", tmp_path / "w.caffemodel"
    )
    assert result.exit_code == 0 and "EQUAL" in result.stdout
    assert "2 layers were not compared, for caffebn does not have their types" in result.stderr


def test_a_folded_net_may_stand_first(cli, weights, tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    make_net(blocks.parse(NET), weights).save(tmp_path / "w.caffemodel")
    plain = f"{tmp_path / 'net.prototxt'},{tmp_path / 'w.caffemodel'}"
    fold(blocks.parse(NET), weights).save(tmp_path / "f.prototxt", tmp_path / "f.caffemodel")
    folded = f"{tmp_path / 'f.prototxt'},{tmp_path / 'f.caffemodel'}"
    assert compare(folded, plain).equal and compare(folded, plain).a == plain
    result = cli("compare", folded, plain)
    assert result.exit_code == 0 and f"A and B are exchanged, for {folded} lacks layers" in result.stdout
    assert "exchanged" not in cli("compare", plain, folded).stdout
