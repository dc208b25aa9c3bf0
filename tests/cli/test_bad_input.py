"""Damaged and foreign files: each verb of the workbench ends with a sentence, and leaves nothing half written."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from caffebn import Net
from tests.cli.conftest import NET

OUT = "out"
VERBS = {
    "fold": "fold {net} {weights} -o out/f",
    "compare": "compare {net},{weights} good.prototxt,good.caffemodel --dump out/d.npz",
    "compare b": "compare good.prototxt,good.caffemodel {net},{weights}",
    "lint": "lint {net} -w {weights}",
    "bn-stats": "bn-stats {net} {weights} -o out/s.caffemodel --data x.npz",
    "convert-bn": "convert-bn {net} {weights} --net-out out/c.prototxt --weights-out out/c.caffemodel",
    "export onnx": "export {net} {weights} --to onnx -o out/e.onnx",
    "export onnx folded": "export {net} {weights} --to onnx --fold -o out/e.onnx",
    "export torch": "export {net} {weights} --to torch -o out/e.py",
    "export npz": "export {net} {weights} --to npz -o out/e.npz",
    "plot stats": "plot stats {net} {weights} -o out/p.png",
    "plot weights": "plot weights {net} {weights} -o out/p.png",
    "plot activations": "plot activations {net} {weights} -o out/p.png",
}
NEEDS = {"export onnx": "onnxruntime", "export onnx folded": "onnxruntime", "export torch": "torch"}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The current folder, with a good net, its weights and an input in it."""
    monkeypatch.chdir(tmp_path)
    Path("good.prototxt").write_text(NET)
    net = Net("good.prototxt", "TEST")
    rng = np.random.default_rng(0)
    mean, var, factor = (blob.data for blob in net.params["bn"])
    mean[...], var[...], factor[...] = rng.normal(size=4), rng.uniform(0.5, 2, 4), 1
    net.save("good.caffemodel")
    np.savez("x.npz", data=rng.normal(size=(2, 3, 6, 5)).astype(np.float32))
    Path(OUT).mkdir()
    return tmp_path


def spoiled(blob: str, value: float) -> bytes:
    """The good weights with one value in each blob replaced: ``layer/index``."""
    net = Net("good.prototxt", "good.caffemodel", "TEST")
    name, index = blob.split("/")
    net.params[name][int(index)].data.reshape(-1)[:1] = value
    net.save("spoiled.caffemodel")
    return Path("spoiled.caffemodel").read_bytes()


def other_net(old: str, new: str) -> bytes:
    Path("other.prototxt").write_text(NET.replace(old, new))
    Net("other.prototxt", "TEST").save("other.caffemodel")
    return Path("other.caffemodel").read_bytes()


WEIGHTS = {  # what stands in the file of weights, and words of the error
    "empty": (lambda good: b"", "the file is empty"),
    "cut": (lambda good: good[: len(good) // 2], "the file is cut off or damaged"),
    "without layers": (lambda good: good[:7], "not the weights of this net|no layer in this file|without layers"),
    "noise": (lambda good: np.random.default_rng(1).integers(0, 256, 999, np.uint8).tobytes(), "byte "),
    "text": (lambda good: NET.encode(), "this is a text"),
    "web page": (lambda good: b"<!DOCTYPE html><html>Not found</html>", "this is a web page"),
    "Git LFS": (lambda good: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    "other sizes": (lambda good: other_net("num_output: 4", "num_output: 6"), "expects 4x3x3x3, the file has 6x3x3x3"),
}  # fmt: skip


def run_verb(run, verb: str, net: str = "good.prototxt", weights: str = "good.caffemodel"):
    pytest.importorskip(NEEDS.get(verb, "numpy"))
    return run(*VERBS[verb].format(net=net, weights=weights).split())


@pytest.mark.parametrize(
    ("kind", "verb"),
    # the last two look at layers of normalisation alone
    [(k, v) for k in WEIGHTS for v in VERBS if k != "other sizes" or v not in ("lint", "convert-bn")],
)
def test_weights(run, files, kind, verb):
    make, words = WEIGHTS[kind]
    Path("bad.caffemodel").write_bytes(make(Path("good.caffemodel").read_bytes()))
    result = run_verb(run, verb, weights="bad.caffemodel")
    if kind == "without layers" and verb == "lint":
        assert result.exit_code == 1 and "BN602" in result.stdout
        return
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == (2 if verb.split()[0] in ("fold", "compare", "lint") else 1)
    assert result.stderr.splitlines()[-1].startswith("error: ") and "bad.caffemodel" in result.stderr
    assert any(word in result.stderr for word in words.split("|"))
    assert os.listdir(OUT) == []


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("lint", "convert-bn")])
@pytest.mark.filterwarnings("ignore::caffebn.errors.CaffebnWarning")
def test_weights_of_another_net_of_which_nothing_fits(run, files, verb):
    text = NET
    for name in ("conv", "bn", "scale", "fc"):
        text = text.replace(f'name: "{name}"', f'name: "my_{name}"')
    Path("other.prototxt").write_text(text)
    Net("other.prototxt", "TEST").save("other.caffemodel")
    result = run_verb(run, verb, weights="other.caffemodel")
    assert isinstance(result.exception, SystemExit) and result.exit_code
    assert "other.caffemodel: not the weights of this net" in result.stderr
    assert os.listdir(OUT) == []


TEXTS = {  # the text of the net, and words of the error
    "empty": ("", "no layer is in it"),
    "a solver": ("base_lr: 0.1\n", "no layer is in it|found a solver"),
    "cut": (NET[:400], "found the end of the text"),
    "binary": ("\x00\x01\x02", "expected the name of a field"),
    "unknown type": (NET.replace("Convolution", "Konvolution"), 'unknown layer type "Konvolution"'),
    "no input": (
        NET.replace('bottom: "data"', 'bottom: "date"'),
        'bottom "date" is made by no earlier layer',
    ),
}


@pytest.mark.parametrize(
    ("kind", "verb"),
    [(k, v) for k in TEXTS for v in VERBS if v not in ("lint", "convert-bn")],
)
@pytest.mark.filterwarnings("ignore::caffebn.errors.CaffebnWarning")
def test_nets(run, files, kind, verb):
    text, words = TEXTS[kind]
    Path("bad.prototxt").write_text(text)
    result = run_verb(run, verb, net="bad.prototxt")
    assert isinstance(result.exception, SystemExit) and result.exit_code
    assert "bad.prototxt" in result.stderr and any(word in result.stderr for word in words.split("|"))
    assert os.listdir(OUT) == []


@pytest.mark.parametrize(
    ("blob", "value"), [("conv/0", np.nan), ("bn/1", -9.0), ("bn/2", np.nan), ("scale/0", np.inf)]
)
@pytest.mark.parametrize("verb", ["fold", "export onnx", "export onnx folded", "export torch"])
@pytest.mark.filterwarnings("ignore::caffebn.errors.CaffebnWarning", "error::RuntimeWarning")
def test_values_that_prove_nothing(run, files, verb, blob, value):
    """Both sides are no numbers, and equal: that must not pass for agreement."""
    Path("bad.caffemodel").write_bytes(spoiled(blob, value))
    result = run_verb(run, verb, weights="bad.caffemodel")
    assert isinstance(result.exception, SystemExit) and result.exit_code == 1
    assert "number" in result.stderr and "caffebn" in result.stderr.split("error: ")[1]
    assert os.listdir(OUT) == []
    assert run("lint", "good.prototxt", "-w", "bad.caffemodel").exit_code == 1


@pytest.mark.parametrize("eps", ["-1", "inf", "1e30", "0"])
@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("plot weights", "plot activations")])
@pytest.mark.filterwarnings("ignore::caffebn.errors.CaffebnWarning", "error::RuntimeWarning")
def test_strange_eps(run, files, verb, eps):
    """Finite numbers come out of some; an error is a sentence for all."""
    old = 'type: "BatchNorm"'
    Path("bad.prototxt").write_text(NET.replace(old, f"{old} batch_norm_param {{ eps: {eps} }}"))
    result = run_verb(run, verb, net="bad.prototxt")
    assert result.exception is None or isinstance(result.exception, SystemExit)
    if result.exit_code:
        assert "eps" in result.output or "number" in result.output


@pytest.mark.parametrize("verb", [verb for verb in VERBS if "out/" in VERBS[verb]])
def test_a_folder_that_is_missing(run, files, verb):
    os.rmdir(OUT)
    result = run_verb(run, verb)
    assert isinstance(result.exception, SystemExit) and result.exit_code
    assert "out/" in result.stderr and "No such file or directory" in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to the root user")
@pytest.mark.parametrize("verb", [verb for verb in VERBS if "out/" in VERBS[verb]])
def test_a_folder_that_must_not_be_written(run, files, verb):
    Path(OUT).chmod(0o500)
    result = run_verb(run, verb)
    assert isinstance(result.exception, SystemExit) and result.exit_code
    assert "out/" in result.stderr and "Permission denied" in result.stderr


@pytest.mark.parametrize("verb", [verb for verb in VERBS if "out/" in VERBS[verb]])
def test_a_disk_that_is_full(run, files, verb, monkeypatch):
    """What was there stays, and no part of the new file is left."""
    words = VERBS[verb].format(net="good.prototxt", weights="good.caffemodel").split()
    pytest.importorskip(NEEDS.get(verb, "numpy"))
    outputs = [Path(word) for word in words if word.startswith("out/")]
    old = [out if out.suffix else out.with_suffix(".json") for out in outputs]
    for path in old:
        path.write_text("old")

    def no_space(source, target, **more):
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(os, "replace", no_space)
    result = run(*words)
    assert isinstance(result.exception, SystemExit) and result.exit_code
    assert "No space left on device" in result.stderr
    assert sorted(os.listdir(OUT)) == sorted(path.name for path in old)
    assert all(path.read_text() == "old" for path in old)


@pytest.mark.parametrize("data", ["x.npz", "x.npy", "picture.jpg", "nothing.npz"])
@pytest.mark.parametrize("verb", ["fold", "compare", "bn-stats", "plot activations"])
def test_inputs(run, files, verb, data):
    if data != "nothing.npz":
        Path(data).write_bytes(b"\x93NUMPY cut")
    option = "--data" if verb == "bn-stats" else "-i"
    words = VERBS[verb].format(net="good.prototxt", weights="good.caffemodel").replace(" --data x.npz", "")
    result = run(*words.split(), option, data)
    assert isinstance(result.exception, SystemExit) and result.exit_code
    assert data in result.stderr
    assert os.listdir(OUT) == []


@pytest.mark.parametrize("shape", [(2, 4, 6, 5), (2, 3, 6), (2, 3, 0, 5)])
@pytest.mark.parametrize("verb", ["fold", "compare", "bn-stats", "plot activations"])
def test_inputs_that_do_not_fit(run, files, verb, shape):
    np.save("x.npy", np.zeros(shape, np.float32))
    option = "--data" if verb == "bn-stats" else "-i"
    words = VERBS[verb].format(net="good.prototxt", weights="good.caffemodel").replace(" --data x.npz", "")
    result = run(*words.split(), option, "x.npy")
    assert isinstance(result.exception, SystemExit) and result.exit_code
    assert result.stderr.startswith("error: ")
    assert os.listdir(OUT) == []


@pytest.mark.parametrize(
    "words",
    [
        "fold good.prototxt good.caffemodel -o good",
        "bn-stats good.prototxt good.caffemodel --data x.npz -o good.caffemodel",
        "convert-bn good.prototxt good.caffemodel --to pspnet --weights-out ./good.caffemodel",
        "convert-bn good.prototxt good.caffemodel --to pspnet --net-out good.prototxt",
        "export good.prototxt good.npz --to npz -o good.npz",
        "import-weights good.prototxt good.npz -o good.npz",
    ],
)
def test_what_is_read_is_not_written_over(run, files, words):
    run("export", "good.prototxt", "good.caffemodel", "--to", "npz", "-o", "good.npz")
    before = {path.name: path.read_bytes() for path in files.iterdir() if path.is_file()}
    result = run(*words.split())
    assert isinstance(result.exception, SystemExit) and result.exit_code
    assert "is read by this command: write to another file" in result.stderr
    assert {path.name: path.read_bytes() for path in files.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("verb", ["fold", "compare", "export onnx", "plot weights"])
def test_layers_without_weights_are_named(run, files, verb):
    """One name that differs is enough to make a net of noise."""
    Path("typo.prototxt").write_text(NET.replace('name: "fc"', 'name: "fc1"'))
    result = run_verb(run, verb, net="typo.prototxt")
    assert "fc1" in result.stderr and "as their fillers made them" in result.stderr
