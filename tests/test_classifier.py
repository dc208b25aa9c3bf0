"""The classifier: preparation, crops, averaging, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn import io
from caffebn.classifier import Classifier
from caffebn.errors import ArgumentError, NetError
from caffebn.proto import Message, binary

# its answer is the mean of each channel of what it is fed
NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 6 dim: 5 } } }
layer { name: "answer" type: "Pooling" bottom: "data" top: "answer"
        pooling_param { pool: AVE global_pooling: true } }
"""


@pytest.fixture
def files(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    binary.write(tmp_path / "net.caffemodel", Message("NetParameter", name="empty"))
    return tmp_path / "net.prototxt", tmp_path / "net.caffemodel"


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return [rng.random((9, 8, 3)).astype(np.float32), rng.random((7, 12, 3)).astype(np.float32)]


def test_centre(files, pictures):
    found = Classifier(*files, image_dims=(8, 10)).predict(pictures, oversample=False)
    want = [io.resize_image(im, (8, 10))[1:7, 2:7].mean((0, 1)) for im in pictures]
    np.testing.assert_allclose(found, want, rtol=1e-5)


def test_centre_of_odd_margins_is_rounded_to_the_top_left(files, pictures):
    found = Classifier(*files, image_dims=(9, 8)).predict(pictures[:1], oversample=False)
    np.testing.assert_allclose(found, [pictures[0][1:7, 1:6].mean((0, 1))], rtol=1e-5)


def test_oversampling_averages_ten_crops(files, pictures):
    found = Classifier(*files, image_dims=(8, 10)).predict(pictures)
    crops = io.oversample([io.resize_image(im, (8, 10)) for im in pictures], (6, 5))
    np.testing.assert_allclose(found, crops.mean((1, 2)).reshape(2, 10, 3).mean(1), rtol=1e-5)


def test_whole_picture_by_default(files, pictures):
    classifier = Classifier(*files)
    assert classifier.image_dims == classifier.crop_dims == (6, 5)
    found = classifier.predict(pictures, oversample=False)
    np.testing.assert_allclose(
        found, [io.resize_image(im, (6, 5)).mean((0, 1)) for im in pictures], rtol=1e-5
    )


def test_preparation(files, pictures):
    classifier = Classifier(
        *files, mean=np.array([1, 2, 3]), input_scale=0.5, raw_scale=255, channel_swap=(2, 1, 0)
    )
    found = classifier.predict(pictures, oversample=False)
    raw = np.array([io.resize_image(im, (6, 5)).mean((0, 1)) for im in pictures])
    np.testing.assert_allclose(found, (raw[:, ::-1] * 255 - [1, 2, 3]) * 0.5, rtol=1e-5)


def test_more_pictures_than_the_batch(files):
    pictures = np.random.default_rng(0).random((9, 6, 5, 3)).astype(np.float32)
    found = Classifier(*files).predict(pictures, oversample=False)
    np.testing.assert_allclose(found, pictures.mean((1, 2)), rtol=1e-5)


def test_is_a_net_in_test_phase(files):
    classifier = Classifier(*files)
    assert classifier.inputs == ["data"] and classifier.outputs == ["answer"]
    assert classifier.blobs["data"].shape == (4, 3, 6, 5)


def test_no_picture(files):
    with pytest.raises(ArgumentError, match="predict: expected at least one picture, found none"):
        Classifier(*files).predict([])


def test_picture_of_other_channels(files):
    with pytest.raises(
        ArgumentError, match=r'input "data" wants \(3, 6, 5\).*load_image\(..., color=False\)'
    ):
        Classifier(*files).predict([np.zeros((6, 5, 1))], oversample=False)


@pytest.mark.parametrize("dims", [(5, 5), (6, 4), (6,), (6, 5, 3)])
def test_wrong_image_dims(files, dims):
    with pytest.raises(ArgumentError, match=r"image_dims must be \(height, width\) of at least \(6, 5\)"):
        Classifier(*files, image_dims=dims)


def test_wrong_mean(files):
    with pytest.raises(ArgumentError, match='the mean of input "data" must have shape'):
        Classifier(*files, mean=np.zeros(4))


def test_input_without_four_axes(files):
    files[0].write_text(
        NET.replace("dim: 6 dim: 5", "").replace("Pooling", "Softmax").split("pooling_param")[0] + "}"
    )
    with pytest.raises(NetError, match=r'first input must have four axes .* found "data" of shape \(4, 3\)'):
        Classifier(*files)


def test_net_without_inputs(files):
    files[0].write_text("""layer { name: "a" type: "MemoryData" top: "a" top: "b"
        memory_data_param { batch_size: 1 channels: 1 height: 1 width: 1 } }""")
    with pytest.raises(NetError, match="first input must have four axes .* found none"):
        Classifier(*files)
