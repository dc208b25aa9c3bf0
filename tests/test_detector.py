"""The detector: windows, context, batches, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import caffebn
from caffebn import io
from caffebn.detector import Detector
from caffebn.errors import ArgumentError, FileError, NetError
from caffebn.proto import Message, binary

# its answer is the mean of each channel of what it is fed
NET = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {shape} }} }} }}
layer {{ name: "answer" type: "Pooling" bottom: "data" top: "answer"
        pooling_param {{ pool: AVE global_pooling: true }} }}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detector")
    binary.write(folder / "net.caffemodel", Message("NetParameter", name="empty"))
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    Image.fromarray(pixels[:9, :8] // 2).save(folder / "b.png")
    return folder


@pytest.fixture(scope="module")
def make(folder):
    """A function that makes a detector with an input of this shape."""

    def make(*shape, **options):
        (folder / "net.prototxt").write_text(
            NET.format(shape=" ".join(f"dim: {n}" for n in shape or (4, 3, 10, 10)))
        )
        return Detector(folder / "net.prototxt", folder / "net.caffemodel", **options)

    return make


@pytest.fixture(scope="module")
def detector(make):
    return make()


# -- windows


def test_windows_of_several_pictures(make, folder):
    a, b = folder / "a.png", folder / "b.png"
    windows = {a: [(0, 0, 10, 10), (3, 5, 20, 29), (1, 1, 2, 2)], b: np.array([[0, 0, 9, 8], [2, 3, 7, 6]])}
    found = make().detect_windows((name, windows[name]) for name in windows)
    assert [d["filename"] for d in found] == [a, a, a, b, b]
    assert [d["window"] for d in found[:3]] == windows[a]
    np.testing.assert_array_equal([d["window"] for d in found[3:]], windows[b])
    for detection in found:
        top, left, bottom, right = detection["window"]
        piece = io.load_image(detection["filename"])[top:bottom, left:right]
        expected = io.resize_image(piece, (10, 10)).mean((0, 1))
        np.testing.assert_allclose(detection["prediction"].ravel(), expected, rtol=1e-5)


def test_predictions_do_not_change_with_the_batch(make, folder):
    windows = [(i, i, i + 5, i + 9) for i in range(9)]
    found = make().detect_windows([(folder / "a.png", windows)])
    alone = make(1, 3, 10, 10).detect_windows([(folder / "a.png", windows)])
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_allclose(one["prediction"], other["prediction"], rtol=1e-6)
    assert len({d["prediction"].tobytes() for d in found}) == 9


def test_preparation(make, folder):
    detector = make(mean=np.array([1, 2, 3]), input_scale=0.5, raw_scale=255, channel_swap=(2, 1, 0))
    (found,) = detector.detect_windows([(folder / "a.png", [(2, 3, 12, 13)])])
    raw = io.load_image(folder / "a.png")[2:12, 3:13].mean((0, 1))
    np.testing.assert_allclose(found["prediction"].ravel(), (raw[::-1] * 255 - [1, 2, 3]) * 0.5, rtol=1e-4)


def test_grey_pictures(make, folder):
    (found,) = make(1, 1, 10, 10).detect_windows([(folder / "a.png", [(2, 3, 12, 13)])])
    expected = io.load_image(folder / "a.png", color=False)[2:12, 3:13].mean()
    np.testing.assert_allclose(found["prediction"].ravel(), [expected], rtol=1e-5)


def test_no_windows(make, folder):
    assert make().detect_windows([]) == make().detect_windows([(folder / "a.png", [])]) == []


def test_is_a_net_in_test_phase(make):
    detector = make()
    assert isinstance(detector, caffebn.Net) and detector.phase == "TEST"
    assert caffebn.Detector is Detector


# -- cuts


def test_a_window_without_context(make):
    im = np.arange(20 * 30, dtype=np.float32).reshape(20, 30, 1)
    detector = make()
    np.testing.assert_array_equal(detector.crop(im, (2, 3, 7, 9)), im[2:7, 3:9])
    np.testing.assert_array_equal(detector.crop(im, np.array([2.0, 3.0, 7.0, 9.0])), im[2:7, 3:9])
    np.testing.assert_array_equal(detector.crop(im, (-2, -3, 70, 90)), im)


def test_a_window_with_context_by_hand(make):
    im = np.random.default_rng(0).random((20, 30, 3)).astype(np.float32)
    detector = make(context_pad=2)
    piece = detector.crop(im, (7, 9, 12, 14))
    # the middle is 10, 12; the scaled half 5: rows 5 to 15, of which 10 / 11 zooms 11 to 10
    assert piece.shape == (10, 10, 3)
    np.testing.assert_allclose(piece, io.resize_image(im[5:15, 7:17], (10, 10)))


def test_context_beyond_the_picture_is_the_mean(make):
    mean = np.array([10.0, 20.0, 30.0])
    detector = make(context_pad=2, mean=mean, raw_scale=255, channel_swap=(2, 1, 0))
    assert detector.crop_dims == (10, 10, 3)
    np.testing.assert_allclose(detector.crop_mean[0, 0], mean[::-1] / 255, rtol=1e-6)
    im = np.ones((6, 6, 3), np.float32)
    piece = detector.crop(im, (0, 0, 5, 5))
    # the middle is 3, the scaled half 5: from -2 to 8, zoomed by 10 / 11: 2 before the picture, 6 of it, 2 behind
    np.testing.assert_allclose(piece[2:8, 2:8], 1)
    around = np.ones((10, 10), bool)
    around[2:8, 2:8] = False
    np.testing.assert_allclose(piece[around], np.tile(mean[::-1] / 255, (64, 1)), rtol=1e-6)
    # what the net sees there is 0
    seen = detector.transformer.preprocess("data", piece)
    np.testing.assert_allclose(seen[:, around], 0, atol=1e-4)


def test_context_of_a_net_that_is_not_square(make):
    im = np.random.default_rng(0).random((40, 40, 3)).astype(np.float32)
    piece = make(1, 3, 10, 20, context_pad=2).crop(im, (17, 17, 22, 22))
    # around 20; rows: half 3 * 10/6 = 5; columns: half 3 * 20/16 = 3.75, rounded
    np.testing.assert_allclose(piece, io.resize_image(im[15:25, 16:24], (10, 20)))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_every_window_that_touches_the_picture_fills_an_input(detector, data):
    pad = data.draw(st.integers(0, 4))
    height, width = data.draw(st.integers(1, 15)), data.draw(st.integers(1, 15))
    top, left = data.draw(st.integers(-20, height - 1)), data.draw(st.integers(-20, width - 1))
    bottom = data.draw(st.integers(max(top, 0) + 1, height + 20))
    right = data.draw(st.integers(max(left, 0) + 1, width + 20))
    detector.configure_crop(pad)
    piece = detector.crop(np.ones((height, width, 3), np.float32), (top, left, bottom, right))
    assert piece.size and piece.max() == 1
    assert not pad or piece.shape == (10, 10, 3)


def test_the_border_can_be_changed(make):
    detector = make(context_pad=3)
    detector.configure_crop(None)
    assert detector.context_pad == 0
    detector.transformer.set_mean("data", np.array([1.0, 2.0, 3.0]))
    detector.configure_crop(1)
    np.testing.assert_array_equal(detector.crop_mean[4, 4], [1, 2, 3])


# -- refusals


@pytest.mark.parametrize("pad", [5, -1, 100])
def test_wrong_context(make, pad):
    with pytest.raises(ArgumentError) as error:
        make(context_pad=pad)
    assert str(error.value) == (
        f"Detector: context_pad must leave room for the window in the net's input of 10 x 10, found {pad}"
    )


@pytest.mark.parametrize(("window", "words"), [
    ((1, 2, 3), "a window is four whole numbers (ymin, xmin, ymax, xmax), found (1, 2, 3)"),
    ((1, 2, 3, 4.5), "a window is four whole numbers (ymin, xmin, ymax, xmax), found (1, 2, 3, 4.5)"),
    ("abcd", "a window is four whole numbers (ymin, xmin, ymax, xmax), found 'abcd'"),
    ((3, 3, 3, 5), "window (ymin, xmin, ymax, xmax) = (3, 3, 3, 5) covers nothing of the picture of 20 x 30"),
    ((20, 0, 25, 5), "window (ymin, xmin, ymax, xmax) = (20, 0, 25, 5) covers nothing of the picture of 20 x 30"),
    ((0, -5, 5, 0), "window (ymin, xmin, ymax, xmax) = (0, -5, 5, 0) covers nothing of the picture of 20 x 30"),
])  # fmt: skip
@pytest.mark.parametrize("context_pad", [0, 2])
def test_wrong_windows_are_named_with_their_picture(make, folder, window, words, context_pad):
    path = folder / "a.png"
    with pytest.raises(ArgumentError) as error:
        make(context_pad=context_pad).detect_windows([(path, [(0, 0, 5, 5), window])])
    assert str(error.value) == f"{path}: {words}"


def test_a_picture_that_is_not_there(make, folder):
    with pytest.raises(FileError, match=r"none\.png: cannot read the picture: No such file"):
        make().detect_windows([(folder / "none.png", [(0, 0, 5, 5)])])


def test_selective_search(make):
    with pytest.raises(
        ArgumentError, match=r"needs the MATLAB program .* call detect_windows\(\[\(filename, windows"
    ):
        make().detect_selective_search(["a.png"])


def test_input_that_takes_no_pictures(tmp_path, folder):
    net = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 } } }'
    (tmp_path / "net.prototxt").write_text(net)
    with pytest.raises(
        NetError, match=r'the first input must have four axes .* found "data" of shape \(4, 3\)'
    ):
        Detector(tmp_path / "net.prototxt", folder / "net.caffemodel")
