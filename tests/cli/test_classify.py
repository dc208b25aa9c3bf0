"""``caffebn classify``."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from caffebn import io
from caffebn.proto import Message, binary

# its answer is the mean of each channel of what it is fed
NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 6 dim: 5 } } }
layer { name: "answer" type: "Pooling" bottom: "data" top: "answer"
        pooling_param { pool: AVE global_pooling: true } }
"""


@pytest.fixture
def files(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    binary.write(tmp_path / "net.caffemodel", Message("NetParameter", name="empty"))
    pixels = np.zeros((6, 5, 3), np.uint8)
    pixels[:] = 200, 100, 50
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels[:, :, 0] // 4).save(tmp_path / "b.png")
    return tmp_path


@pytest.fixture
def answers(run, files):
    """Run with these options on the first picture; give the values by class."""

    def answers(*words, images=("a.png",)):
        paths = [files / name for name in ("net.prototxt", "net.caffemodel", *images)]
        result = run("classify", *paths, "--json", *words)
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        return [[c["value"] for c in sorted(f["classes"], key=lambda c: c["index"])] for f in found]

    return answers


@pytest.mark.parametrize("words, want", [
    ([], [50, 100, 200]),
    (["--channel-swap", "0,1,2"], [200, 100, 50]),
    (["--mean", "10,20,30"], [40, 80, 170]),
    (["--mean", "10,20,30", "--scale", "0.5"], [20, 40, 85]),
    (["--raw-scale", "1"], [50 / 255, 100 / 255, 200 / 255]),
    (["--image-dims", "8,9"], [50, 100, 200]),
    (["--image-dims", "8,9", "--center-only"], [50, 100, 200]),
])  # fmt: skip
def test_preparation(answers, words, want):
    np.testing.assert_allclose(answers(*words)[0], want, rtol=1e-5)


def test_several_pictures_and_grey(answers):
    np.testing.assert_allclose(answers(images=("a.png", "b.png")), [[50, 100, 200], [50, 50, 50]], rtol=1e-5)


def test_oversampling_differs_from_the_centre(answers, files):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 9, 3), np.uint8)).save(files / "a.png")
    picture = io.load_image(files / "a.png") * 255
    np.testing.assert_allclose(
        answers("--image-dims", "8,9")[0], picture[1:7, 2:7].mean((0, 1))[::-1], rtol=1e-5
    )
    ten = io.oversample([picture], (6, 5)).mean((0, 1, 2))[::-1]
    np.testing.assert_allclose(answers("--image-dims", "8,9", "--oversample")[0], ten, rtol=1e-5)


def test_mean_files(answers, files):
    np.save(files / "mean.npy", np.array([10.0, 20, 30]))
    np.testing.assert_allclose(answers("--mean", files / "mean.npy")[0], [40, 80, 170], rtol=1e-5)
    picture = np.ones((3, 6, 5), np.float32) * np.array([10, 20, 30], np.float32)[:, None, None]
    binary.write(files / "mean.binaryproto", io.array_to_blobproto(picture))
    np.testing.assert_allclose(answers("--mean", files / "mean.binaryproto")[0], [40, 80, 170], rtol=1e-5)
    old = Message("BlobProto", num=1, channels=3, height=6, width=5, data=picture.ravel())
    binary.write(files / "old.binaryproto", old)
    np.testing.assert_allclose(answers("--mean", files / "old.binaryproto")[0], [40, 80, 170], rtol=1e-5)


def test_table(run, files):
    (files / "labels.txt").write_text("n1 blue, azure\nn2 green\nn3 red\n")
    result = run("classify", files / "net.prototxt", files / "net.caffemodel", files / "a.png", "--top", 2,
                 "--labels", files / "labels.txt")  # fmt: skip
    assert result.exit_code == 0 and result.stderr == ""
    lines = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert lines[0] == [str(files / "a.png")] and lines[1] == ["class", "label", "value"]
    assert lines[-2:] == [["2", "n3", "red", "200.000000"], ["1", "n2", "green", "100.000000"]]


def test_table_without_labels(run, files):
    result = run("classify", files / "net.prototxt", files / "net.caffemodel", files / "a.png")
    lines = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert lines[1] == ["class", "value"]
    assert [line[0] for line in lines[-3:]] == ["2", "1", "0"]


def test_net_of_one_channel(run, files):
    (files / "net.prototxt").write_text(NET.replace("dim: 3", "dim: 1"))
    result = run("classify", files / "net.prototxt", files / "net.caffemodel", files / "b.png", "--json")
    assert json.loads(result.stdout)[0]["classes"] == [{"index": 0, "value": pytest.approx(50)}]


def fails(run, files, *words, code=1):
    result = run("classify", files / "net.prototxt", files / "net.caffemodel", files / "a.png", *words)
    assert result.exit_code == code and "Traceback" not in result.output
    return result.stderr


@pytest.mark.parametrize("words, message", [
    (["--mean", "a,b"], 'expected a .npy or .binaryproto file or numbers like 104,117,123, found "a,b"'),
    (["--mean", "none.npy"], "none.npy: cannot read the mean: No such file"),
    (["--mean", "1,2"], 'the mean of input "data" must have shape (3,) or (3, 6, 5), found (2,)'),
    (["--channel-swap", "0,1,3"], "the order must name each of 0 to 2 once"),
    (["--image-dims", "4,4"], "image_dims must be (height, width) of at least (6, 5)"),
    (["--raw-scale", "0"], "must be a number other than 0"),
])  # fmt: skip
def test_wrong_values(run, files, words, message):
    assert message in fails(run, files, *words)


@pytest.mark.parametrize("words, message", [
    (["--image-dims", "4"], 'expected H,W, found "4"'),
    (["--channel-swap", "rgb"], 'expected C,C,C, found "rgb"'),
    (["--top", "0"], "--top"),
    (["--labels", "none.txt"], "'none.txt' does not exist"),
])  # fmt: skip
def test_wrong_words(run, files, words, message):
    assert message in fails(run, files, *words, code=2)


def test_damaged_mean(run, files):
    (files / "mean.npy").write_bytes(b"nothing")
    assert "mean.npy: not an array in numpy's format" in fails(run, files, "--mean", files / "mean.npy")


def test_wrong_number_of_labels(run, files):
    (files / "labels.txt").write_text("one\ntwo\n")
    assert "expected 3 labels, one for each class of the net, found 2" in fails(
        run, files, "--labels", files / "labels.txt"
    )


def test_labels_that_are_not_text(run, files):
    (files / "labels.txt").write_bytes(b"\xff\xfe\x00")
    assert "labels must be UTF-8 text" in fails(run, files, "--labels", files / "labels.txt")


def test_not_a_picture(run, files):
    (files / "a.png").write_text("hello")
    assert "a.png: not a picture that Pillow can read" in fails(run, files)


def test_several_outputs(run, files):
    (files / "net.prototxt").write_text(NET + 'layer { name: "b" type: "ReLU" bottom: "data" top: "b" }')
    assert "classify needs a net with one output, found answer, b" in fails(run, files)


def test_no_picture_named(run, files):
    result = run("classify", files / "net.prototxt", files / "net.caffemodel")
    assert result.exit_code == 2 and "IMAGE..." in result.stderr
