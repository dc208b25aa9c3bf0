"""``caffebn export``."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn import Net
from tests.cli.conftest import NET

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture
def files(net_file, tmp_path):
    net = Net(net_file, "TEST")
    for blob, value in zip(net.params["bn"], (3.0, 8.0, 4.0), strict=True):
        blob.data[...] = value
    net.save(tmp_path / "net.caffemodel")
    return net_file, tmp_path / "net.caffemodel"


@pytest.fixture
def exported(run, files, tmp_path):
    def exported(target, name, *words):
        return run("export", *files, "--to", target, "-o", tmp_path / name, *words)

    return exported


def test_onnx(exported, files, tmp_path):
    result = exported("onnx", "net.onnx")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(
        "ONNX Runtime and caffebn agree: batch sizes 1, 2, 5, largest difference "
    )
    assert result.stdout.endswith(f"written to {tmp_path / 'net.onnx'} (opset 23, 6 operators)\n")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 5)).astype(np.float32)
    expected = Net(*files, "TEST").forward(data=x)["prob"]
    np.testing.assert_allclose(session.run(["prob"], {"data": x})[0], expected, atol=1e-6)


def test_onnx_with_everything(exported, tmp_path):
    result = exported(
        "onnx", "net.onnx", "--fold", "--opset", 13, "--nhwc", "--uint8", "--channel-swap", "2,1,0", "--raw-scale", 2,
        "--mean", "104,117,123", "--scale", 0.017, "--output", "fc", "--batch", 3, "--fixed-batch", "--picture", "data",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "2 of 2 layers of BatchNorm, Scale and Bias folded into others" in result.stdout
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    assert (session.get_inputs()[0].type, session.get_inputs()[0].shape) == ("tensor(uint8)", [3, 6, 5, 3])
    assert [out.name for out in session.get_outputs()] == ["fc"]


def test_torch(exported, tmp_path):
    pytest.importorskip("torch")
    result = exported(
        "torch", "net.py", "--class-name", "Tiny", "--batch-norm", "frozen", "--state", "safetensors"
    )
    assert result.exit_code == 0, result.output
    assert "PyTorch and caffebn agree" in result.stdout
    assert (
        f"class Tiny written to {tmp_path / 'net.py'}, its state_dict to {tmp_path / 'net.safetensors'}"
        in result.stdout
    )
    assert "class Tiny(nn.Module)" in (tmp_path / "net.py").read_text()


@pytest.mark.parametrize(
    "target, name", [("npz", "w.npz"), ("safetensors", "w.safetensors"), ("hdf5", "w.h5")]
)
def test_arrays_can_be_read_again(exported, files, tmp_path, target, name):
    result = exported(target, name)
    assert (result.exit_code, result.stdout) == (0, f"9 arrays written to {tmp_path / name}\n")
    first, again = Net(*files, "TEST"), Net(files[0], tmp_path / name, "TEST")
    for layer, blobs in first.params.items():
        for a, b in zip(blobs, again.params[layer], strict=True):
            np.testing.assert_array_equal(a.data, b.data)


def test_what_is_folded_goes_to_every_target(exported, tmp_path):
    result = exported("npz", "w.npz", "--fold")
    assert result.stdout.startswith("2 of 2 layers of BatchNorm, Scale and Bias folded into others\n")
    with np.load(tmp_path / "w.npz") as arrays:
        assert set(arrays) == {"conv/0", "conv/1", "fc/0", "fc/1"}


def test_a_fold_that_is_not_exact_enough_fails(exported, tmp_path):
    result = exported("npz", "w.npz", "--fold", "--tolerance", -1)
    assert result.exit_code == 1 and "--tolerance has no effect on --to npz" in result.stderr
    result = exported("onnx", "net.onnx", "--fold", "--tolerance", -1)
    assert result.exit_code == 1
    assert "--fold: an output of the folded net differs by" in result.stderr
    assert "of its largest value; `caffebn fold` says more" in result.stderr
    assert not (tmp_path / "net.onnx").exists()


def test_a_blob_that_is_folded_away_is_no_output(run, files, tmp_path):
    net, weights = files
    net.write_text(
        NET.replace(
            'type: "BatchNorm" bottom: "conv" top: "conv"', 'type: "BatchNorm" bottom: "conv" top: "n"'
        )
        .replace('type: "Scale" bottom: "conv"', 'type: "Scale" bottom: "n"')
        .replace('type: "Scale" bottom: "n" top: "conv"', 'type: "Scale" bottom: "n" top: "s"')
        .replace('type: "ReLU" bottom: "conv" top: "conv"', 'type: "ReLU" bottom: "s" top: "s"')
        .replace('type: "InnerProduct" bottom: "conv"', 'type: "InnerProduct" bottom: "s"')
    )
    words = [
        "export",
        net,
        weights,
        "--to",
        "onnx",
        "-o",
        tmp_path / "net.onnx",
        "--fold",
        "--output",
        "prob",
    ]
    assert run(*words, "--output", "s").exit_code == 0
    result = run(*words, "--output", "conv")
    assert result.exit_code == 1
    assert (
        "--output conv: there is no such blob after --fold, which changes the layer that makes it"
        in result.stderr
    )


def test_no_check(exported):
    assert "not compared (--no-check)\n" in exported("onnx", "net.onnx", "--no-check").stdout


def test_a_difference_fails(exported, tmp_path):
    result = exported("onnx", "net.onnx", "--tolerance", -1)
    assert result.exit_code == 1
    assert "error: ONNX Runtime and caffebn DIFFER: " in result.stderr
    assert not (tmp_path / "net.onnx").exists()


@pytest.mark.parametrize(
    ("target", "name", "words", "said"),
    [
        ("onnx", "net.pb", [], "--to onnx writes a file that ends in .onnx"),
        ("hdf5", "net.npz", [], "--to hdf5 writes a file that ends in .h5 or .hdf5"),
        ("torch", "net.py", ["--opset", 13], "--opset has no effect on --to torch: leave it out"),
        ("npz", "net.npz", ["--no-check"], "--check has no effect on --to npz: leave it out"),
        ("onnx", "net.onnx", ["--mean", "x"], "--mean: expected a .npy or .binaryproto file or numbers"),
        ("onnx", "net.onnx", ["--output", "pro"], 'there is no blob "pro" to end in; did you mean "prob"?'),
    ],
)
def test_refusals(exported, target, name, words, said):
    result = exported(target, name, *words)
    assert result.exit_code == 1 and said in result.stderr


def test_pictures_of_any_size(run, tmp_path):
    (tmp_path / "net.prototxt").write_text(NET[: NET.index('layer { name: "fc"')])
    net = Net(tmp_path / "net.prototxt", "TEST")
    net.params["bn"][1].data[...] = net.params["bn"][2].data[...] = 1
    net.save(tmp_path / "net.caffemodel")
    words = ["--to", "onnx", "-o", tmp_path / "net.onnx", "--open-size"]
    result = run("export", tmp_path / "net.prototxt", tmp_path / "net.caffemodel", *words)
    assert result.exit_code == 0 and "pictures of 6x5, 38x69" in result.stdout
    assert onnxruntime.InferenceSession(tmp_path / "net.onnx").get_inputs()[0].shape == [
        "batch",
        3,
        "height",
        "width",
    ]


def test_pictures_of_one_size_alone(exported, tmp_path):
    result = exported("onnx", "net.onnx", "--open-size")
    assert result.exit_code == 1 and 'layer "fc" (InnerProduct)' in result.stderr
    assert not (tmp_path / "net.onnx").exists()


def test_a_net_that_ends_in_layers_of_other_programs(run, files, tmp_path):
    """The heads of detectors: the net is cut before it is made."""
    net, weights = files
    net.write_text(NET + 'layer { name: "box" type: "PriorBox" bottom: "conv" bottom: "data" top: "box" }')
    words = ["export", net, weights, "--to", "onnx", "-o", tmp_path / "net.onnx"]
    result = run(*words)
    assert result.exit_code == 1 and 'layer "box": unknown layer type "PriorBox"' in result.stderr
    assert run(*words, "--output", "prob", "--output", "conv", "--batch", "3").exit_code == 0
    outputs = onnxruntime.InferenceSession(tmp_path / "net.onnx").get_outputs()
    assert [out.name for out in outputs] == ["prob", "conv"]
    result = run(*words, "--output", "pro")
    assert result.exit_code == 1 and 'there is no blob "pro" to end in; did you mean "prob"?' in result.stderr
