"""Weights from PyTorch, .npz and .safetensors into nets."""

from __future__ import annotations

import json
import pickle
import sys

import numpy as np
import pytest

from caffebn import Net, export
from caffebn.errors import ArgumentError, FileError, FormatError, MissingPackageError, WeightsError
from caffebn.tensors import write_tensors
from tests.export.nets import SMALL, fill_statistics

torch = pytest.importorskip("torch")

X = np.random.default_rng(1).standard_normal((2, 3, 9, 8)).astype(np.float32)


def other_net(seed: int = 0):
    """The small net as people write it in PyTorch, with names of its own."""
    torch.manual_seed(seed)
    net = torch.nn.Sequential()
    net.features = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, groups=3),
        torch.nn.BatchNorm2d(6),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(3, 2, ceil_mode=True),
    )
    net.head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(54, 4), torch.nn.Softmax(1))
    for name, value in net.state_dict().items():
        if "running" in name:
            value.copy_(torch.rand_like(value) + 0.5)
    return net.eval()


@pytest.fixture
def state():
    return {name: value.numpy() for name, value in other_net().state_dict().items()}


MAPPING = {"conv": "features.0", "bn": "features.1", "fc": "head.1"}


@pytest.mark.parametrize("ending", ["pt", "pth", "npz", "safetensors"])
@pytest.mark.parametrize(
    "how", [{"mapping": MAPPING}, {"by_order": True}, {"mapping": {"fc": "head.1"}, "by_order": True}]
)
def test_from_pytorch(tmp_path, state, ending, how):
    path = tmp_path / f"w.{ending}"
    if ending.startswith("pt"):
        content = other_net().state_dict()
        torch.save({"state_dict": content, "epoch": 3} if ending == "pth" else content, path)
    else:
        write_tensors(path, state)
    net = Net.from_text(SMALL, "TEST")
    report = export.import_weights(net, path, **how)
    assert [row[:2] for row in report.rows] == list(MAPPING.items())
    assert report.unused == report.untouched == []
    assert report.rows[1][2] == "running_mean 6, running_var 6, weight 6, bias 6"
    expected = other_net()(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(net.forward(data=X)["prob"], expected, atol=1e-6)
    assert net.params["bn"][2].data[0] == np.float32(1000)
    assert report.notes == [
        'eps is not stored with weights: BatchNorm uses what the prototxt says (1e-05 in "bn"); PyTorch\'s '
        "default is 1e-05"
    ]


def test_what_was_exported_comes_back(small, tmp_path):
    """Names are those of the layers, so that nothing has to be said."""
    export.torch(small, tmp_path / "net.py", state="safetensors")
    net = Net.from_text(SMALL, "TEST")
    export.import_weights(net, tmp_path / "net.safetensors")
    np.testing.assert_allclose(net.forward(data=X)["prob"], small.forward(data=X)["prob"], atol=1e-6)


def test_names_with_dots_and_slashes():
    text = SMALL.replace('name: "conv"', 'name: "block/conv_1"').replace('name: "bn"', 'name: "block_bn"')
    net = Net.from_text(text, "TEST")
    state = {
        name.replace("features.0", "Block.conv_1")
        .replace("features.1", "block.bn")
        .replace("head.1", "fc"): v.numpy()
        for name, v in other_net().state_dict().items()
    }
    report = export.import_weights(net, state)
    assert [row[1] for row in report.rows] == ["Block.conv_1", "block.bn", "fc"]


def test_transposed_and_shared_and_slopes():
    text = (
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 5 } } }'
        'layer { name: "a" type: "InnerProduct" bottom: "data" top: "a" inner_product_param { num_output: 5 '
        "transpose: true } "
        'param { name: "w" } param { name: "b" } }'
        'layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" inner_product_param { num_output: 5 '
        "transpose: true } "
        'param { name: "w" } param { name: "b" } }'
        'layer { name: "p" type: "PReLU" bottom: "b" top: "p" prelu_param { channel_shared: true } }'
        'layer { name: "s" type: "Scale" bottom: "p" top: "s" }'
    )
    net = Net.from_text(text, "TEST")
    rng = np.random.default_rng(0)
    state = {
        "a.weight": rng.standard_normal((5, 5)),
        "a.bias": rng.standard_normal(5),
        "p.weight": np.array([0.5]),
        "s.weight": rng.standard_normal((5, 1, 1)),
    }
    report = export.import_weights(net, state)
    assert report.untouched == []
    np.testing.assert_allclose(net.params["b"][0].data, state["a.weight"].T.astype(np.float32))
    assert net.params["p"][0].data == 0.5


def test_nothing_is_changed_unless_all_fits(state):
    net = fill_statistics(Net.from_text(SMALL, "TEST"))
    before = [blob.data.copy() for blobs in net.params.values() for blob in blobs]
    state["head.1.weight"] = state["head.1.weight"][:, :50]
    with pytest.raises(
        WeightsError, match='layer "fc" .InnerProduct.: weight: expected 4x54, "head.1" has 4x50'
    ):
        export.import_weights(net, state, MAPPING)
    assert all(
        np.array_equal(a, b.data)
        for a, b in zip(before, (b for bs in net.params.values() for b in bs), strict=True)
    )


@pytest.mark.parametrize(
    ("change", "options", "error", "said"),
    [
        (
            lambda s: s,
            {},
            WeightsError,
            'no module has the name of a layer .modules: "features.0".*; layers: "conv", "bn", "fc".: give a mapping',
        ),
        (
            lambda s: s,
            {"mapping": {"conv": "x"}},
            ArgumentError,
            'there is no module "x"; modules: "features.0"',
        ),
        (
            lambda s: s,
            {"mapping": {"scale": "features.1"}},
            ArgumentError,
            'no layer "scale" takes weights .a Scale behind a BatchNorm goes with it',
        ),
        (
            lambda s: s | {"more.weight": np.zeros((2, 2))},
            {"by_order": True},
            WeightsError,
            r"the net has 1 layers with weights of 2 axes .*the file 2",
        ),
        (
            lambda s: s | {"features.0.weight": s["features.0.weight"].transpose(2, 3, 1, 0)},
            {"mapping": MAPPING},
            WeightsError,
            r"that is TensorFlow's order: transpose it by \(3, 2, 0, 1\)",
        ),
        (
            lambda s: s | {"features.0.scale": np.ones(2)},
            {"mapping": MAPPING},
            WeightsError,
            'expected bias, weight, module "features.0" of arrays has bias, scale, weight',
        ),
    ],
)
def test_refusals(state, change, options, error, said):
    with pytest.raises(error, match=said):
        export.import_weights(Net.from_text(SMALL, "TEST"), change(state), **options)


def test_a_bias_that_has_no_place(state):
    net = Net.from_text(SMALL.replace("num_output: 6", "num_output: 6 bias_term: false"), "TEST")
    with pytest.raises(WeightsError, match="the layer has no bias: is bias_term right"):
        export.import_weights(net, state, MAPPING)
    state["features.0.bias"] = np.zeros(6)
    export.import_weights(net, state, MAPPING)  # a bias of zeros is none


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_files_of_pytorch_that_are_no_weights(tmp_path, monkeypatch):
    with pytest.raises(FileError, match="there is no such file"):
        export.import_weights(Net.from_text(SMALL, "TEST"), tmp_path / "no.pt")

    class Evil:
        def __reduce__(self):
            return print, ("run",)

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(FormatError, match="cannot read it as weights alone.*save model.state_dict"):
        export.import_weights(Net.from_text(SMALL, "TEST"), tmp_path / "evil.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(FormatError, match="expected a state_dict, names with tensors, found list"):
        export.import_weights(Net.from_text(SMALL, "TEST"), tmp_path / "list.pt")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingPackageError, match=r'reading a file of PyTorch needs the package "torch"'):
        export.import_weights(Net.from_text(SMALL, "TEST"), tmp_path / "evil.pt")


# -- on the command line


def test_command(tmp_path, state):
    from click.testing import CliRunner

    from caffebn.cli import main

    def run(*words):
        return CliRunner().invoke(
            main,
            ["import-weights", str(tmp_path / "net.prototxt"), str(tmp_path / "w.npz"), *map(str, words)],
        )

    (tmp_path / "net.prototxt").write_text(SMALL)
    write_tensors(tmp_path / "w.npz", state | {"extra.table": np.zeros(3)})
    (tmp_path / "map.json").write_text(json.dumps(MAPPING))
    out = tmp_path / "w.caffemodel"
    result = run("-o", out, "--map", tmp_path / "map.json")
    assert result.exit_code == 0, result.output
    assert "features.1" in result.stdout and result.stdout.endswith(
        f"3 layers written to {out}, read again and found equal\n"
    )
    assert "warning: not used: extra.table" in result.stderr
    expected = other_net()(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(
        Net(tmp_path / "net.prototxt", out, "TEST").forward(data=X)["prob"], expected, atol=1e-6
    )

    (tmp_path / "port.py").write_text(
        "from tests.export.test_incoming import other_net\n"
        "def make():\n    return other_net()\n"
        "def another():\n    net = other_net()\n    net.features[1].eps = 0.001\n    return net\n"
    )
    words = ("-o", out, "--map", tmp_path / "map.json", "--compare")
    result = run(*words, f"{tmp_path / 'port.py'}:make")
    assert result.exit_code == 0 and "EQUAL" in result.stdout, result.output
    result = run(*words, f"{tmp_path / 'port.py'}:another")
    assert result.exit_code == 1 and "Likely cause: in B, eps is 0.001 instead of 1e-05." in result.stdout

    (tmp_path / "map.json").write_text('{"conv": "features.0"}')
    result = run("-o", out, "--map", tmp_path / "map.json")
    assert (
        result.exit_code == 1
        and "nothing for bn, fc: give --map or --by-order, or allow it with --partial" in result.stderr
    )
    assert run("-o", out, "--map", tmp_path / "map.json", "--partial").exit_code == 0
    (tmp_path / "map.json").write_text("[]")
    assert "layer names with module names" in run("-o", out, "--map", tmp_path / "map.json").stderr
    (tmp_path / "map.json").write_text("{")
    assert (
        'expected JSON like {"conv1": "features.0"}' in run("-o", out, "--map", tmp_path / "map.json").stderr
    )


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_arrays_that_export_wrote(small, tmp_path, ending):
    """Caffe's own values, by layer and index: there and back."""
    from click.testing import CliRunner

    from caffebn.cli import main

    (tmp_path / "net.prototxt").write_text(SMALL)
    source, out = tmp_path / f"w.{ending}", tmp_path / "out.caffemodel"
    export.arrays(small, source)
    words = ["import-weights", tmp_path / "net.prototxt", source, "-o", out]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    again = Net(tmp_path / "net.prototxt", out, "TEST")
    for name, blobs in small.params.items():
        for a, b in zip(blobs, again.params[name], strict=True):
            np.testing.assert_array_equal(a.data, b.data)
    report = export.import_weights(
        Net.from_text(SMALL.replace('"conv"', '"first"'), "TEST"), source, {"first": "conv"}
    )
    assert ("first", "conv", "0, 1") in report.rows and report.untouched == report.unused == []
    with pytest.raises(ArgumentError, match='there is no layer "fist" with weights; did you mean "first"'):
        export.import_weights(
            Net.from_text(SMALL.replace('"conv"', '"first"'), "TEST"), source, {"fist": "conv"}
        )
    with pytest.raises(ArgumentError, match='mapping: there is no "conf" in .*; did you mean "conv"'):
        export.import_weights(small, source, {"conv": "conf"})
