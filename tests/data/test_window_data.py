"""WindowData: windows of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import caffebn
from caffebn.data import picture
from caffebn.data.window_data import _place
from caffebn.errors import FileError, FormatError, NetError
from caffebn.proto import binary, make_blob

WINDOWS = """# 0
{0} 3 20 30
4
1 1.0 2 3 11 14
2 0.7 5 0 24 9
3 0.4 0 0 9 9
9 0.1 10 5 29 19
# 1
{1} 3 24 24
1
4 0.9 0 0 23 23
"""


@pytest.fixture
def windows(pictures):
    """Write two pictures and a window file: things 1, 2, 4, background twice."""
    values = pictures([(20, 30), (24, 24)])
    for i in range(2):
        Path(f"a picture {i}.png").rename(f"{i}.png")
    Path("windows.txt").write_text(WINDOWS.format("0.png", "1.png"))
    return values


def text(param: str = "", transform: str = "crop_size: 8") -> str:
    source = "" if "source" in param else 'source: "windows.txt"'
    batch = "" if "batch_size" in param else "batch_size: 4"
    return (
        f'name: "w" type: "WindowData" top: "data" top: "label" window_data_param {{ {source} {batch} {param} }} '
        f"transform_param {{ {transform} }}"
    )


def run(net, passes: int) -> tuple[np.ndarray, np.ndarray]:
    data, labels = [], []
    for _ in range(passes):
        net.forward()
        data.append(net.blobs["data"].data.copy())
        labels.append(net.blobs["label"].data.copy().astype(int))
    return np.concatenate(data), np.array(labels)


def test_background_then_things_in_the_wanted_parts(windows, net):
    made = net(text("batch_size: 6 fg_fraction: 0.5"))
    assert made.blobs["data"].shape == (6, 3, 8, 8) and made.blobs["label"].shape == (6, 1, 1, 1)
    _, labels = run(made, 20)
    labels = labels.reshape(20, 6)
    assert not labels[:, :3].any()
    assert set(labels[:, 3:].ravel()) == {1, 2, 4}
    assert not run(net(text("batch_size: 3")), 3)[1].any(), "a quarter of three is none"


def test_windows_are_cut_and_resized(windows, net):
    boxes = {1: (0, 2, 3, 11, 14), 2: (0, 5, 0, 24, 9), 4: (1, 0, 0, 23, 23)}
    data, labels = run(net(text("fg_fraction: 1", "crop_size: 8 scale: 0.5 mean_value: 10")), 10)
    for found, label in zip(data, labels.ravel(), strict=True):
        image, x1, y1, x2, y2 = boxes[int(label)]
        expected = picture.resize(windows[image][:, y1 : y2 + 1, x1 : x2 + 1], 8, 8)
        np.testing.assert_array_equal(found, (expected - np.float32(10)) * 0.5)


def test_mirrored_windows(windows, net):
    data, labels = run(net(text("fg_fraction: 1", "crop_size: 8 mirror: true")), 20)
    plain = picture.resize(windows[1], 8, 8)
    found = [d for d, label in zip(data, labels.ravel(), strict=True) if label == 4]
    flipped = [np.array_equal(d, plain[:, :, ::-1]) for d in found]
    assert 0 < sum(flipped) < len(found)
    assert all(np.array_equal(d, plain) for d, f in zip(found, flipped, strict=True) if not f)


def test_context_beyond_the_picture_is_zero_after_the_mean(windows, net):
    data, labels = run(net(text("fg_fraction: 1 context_pad: 2", "crop_size: 8 mean_value: 300")), 10)
    whole = data[labels.ravel() == 4]
    assert len(whole)
    for d in whole:
        assert not d[:, :2].any() and not d[:, :, :2].any() and not d[:, :, -1:].any()
        assert (d[:, 3:6, 3:6] < 0).all()


def test_the_centre_of_a_mean_file(windows, net):
    mean = np.random.default_rng(0).normal(size=(3, 12, 12)).astype(np.float32)
    binary.write("m", make_blob(mean[None]))
    data, labels = run(net(text("fg_fraction: 1", 'crop_size: 8 mean_file: "m"')), 10)
    found = data[labels.ravel() == 4]
    expected = picture.resize(windows[1], 8, 8) - mean[:, 2:10, 2:10]
    for d in found:
        np.testing.assert_array_equal(d, expected)


@pytest.mark.parametrize("cache", ["true", "false"])
def test_a_seed_makes_it_repeatable(windows, net, cache):
    results = []
    for _ in range(2):
        caffebn.set_random_seed(4)
        made = net(
            text(f"fg_fraction: 0.5 context_pad: 1 cache_images: {cache}", "crop_size: 8 mirror: true")
        )
        results.append(run(made, 5))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_cached_pictures_are_read_once(windows, net):
    made = net(text("fg_fraction: 1 cache_images: true"))
    run(made, 10)
    Path("0.png").unlink()
    Path("1.png").unlink()
    run(made, 10)


@pytest.mark.parametrize(
    ("box", "size", "crop", "pad", "square", "expected"),
    [
        # no context: the window itself, all of the crop
        ((2, 3, 11, 14), (20, 30), 8, 0, False, (slice(3, 15), slice(2, 12), 0, 0, 8, 8)),
        # a square around 10 x 12: 12 and one more each way, by rounding
        ((2, 3, 11, 14), (20, 30), 8, 0, True, (slice(3, 16), slice(1, 14), 0, 0, 8, 8)),
        # context of 2 of 8 pixels doubles the window: 0 to 23 grows to -12 to 36 of 24
        ((0, 0, 23, 23), (24, 24), 8, 2, False, (slice(0, 24), slice(0, 24), 2, 2, 4, 4)),
        # beyond the picture on the right and below only
        ((12, 12, 23, 23), (24, 24), 8, 2, False, (slice(6, 24), slice(6, 24), 0, 0, 6, 6)),
    ],
)
def test_where_a_window_goes(box, size, crop, pad, square, expected):
    assert tuple(_place(box, size, crop, pad, square, False)) == expected


def test_a_mirrored_window_has_mirrored_context():
    place = _place((12, 12, 23, 23), (24, 24), 8, 2, False, True)
    assert (place.top, place.left) == (0, 2)


@pytest.mark.parametrize("box", [(-1, 0, 5, 5), (0, 0, 30, 5), (5, 5, 4, 8), (0, 3, 5, 20)])
def test_windows_outside_of_the_picture(box):
    assert _place(box, (20, 30), 8, 0, False, False) is None


def test_a_window_outside_of_its_picture_is_named(windows, net):
    Path("windows.txt").write_text("# 0\n0.png 3 20 30\n1\n1 1.0 2 3 30 14\n")
    made = net(text("fg_fraction: 1"))
    with pytest.raises(
        FormatError,
        match=r'layer "w" \(WindowData\): windows.txt:4: the window \(2, 3, 30, 14\) .* lies outside .* 20 x 30',
    ):
        made.forward()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "windows.txt: the window file is empty"),
        ("0.png 3 20 30\n0\n", 'windows.txt:1: expected "# number" before a picture, found "0.png"'),
        ("# 0\n0.png 3 twenty", 'windows.txt:2: expected its height, found "twenty"'),
        ("# 0\n0.png 3 20 30\n1\n1 1.0 2 3", "windows.txt:4: the file ends where x2 of a window should be"),
        ("# 0\n0.png 3 20 30\n1\n1 much 2 3 4 5", 'windows.txt:4: expected an overlap, found "much"'),
        ("# 0\n0.png 2 20 30\n0\n", "windows.txt:2: pictures must all have 3 channels, or all 1, found 2"),
        (
            "# 0\n0.png 3 20 30\n1\n0 1.0 2 3 4 5",
            "windows.txt:4: a window that shows a thing needs a label above 0",
        ),
        ("# 0\n0.png 3 20 30\n1\n1 1.0 2 3 4 5", "a batch takes 3 windows of background, and there are none"),
        ("# 0\n0.png 3 20 30\n1\n1 0.1 2 3 4 5", "a batch takes 1 windows of things, and there are none"),
    ],
)
def test_wrong_window_files(windows, net, content, said):
    Path("windows.txt").write_text(content)
    with pytest.raises(FormatError) as caught:
        net(text())
    assert caught.value.message.startswith('layer "w" (WindowData): ') and said in caught.value.message


def test_a_picture_that_cannot_be_read(windows, net):
    Path("1.png").unlink()
    Path("0.png").unlink()
    with pytest.raises(FileError, match=r"windows.txt:\d: .*cannot read the picture"):
        net(text()).forward()


@pytest.mark.parametrize(
    ("param", "transform", "said"),
    [
        ("batch_size: 0", "crop_size: 8", "window_data_param must give batch_size, a positive number"),
        ('source: ""', "crop_size: 8", "window_data_param must give source, a window file"),
        ("", "", "transform_param must give crop_size, the size windows are resized to"),
        ('crop_mode: "cut"', "crop_size: 8", 'crop_mode: expected "warp" or "square", found "cut"'),
        ("context_pad: 4", "crop_size: 8", "context_pad 4 on both sides leaves nothing of crop_size 8"),
        ("fg_fraction: 1.5", "crop_size: 8", "fg_fraction: expected 0 to 1, found 1.5"),
    ],
)
def test_refusals(windows, net, param, transform, said):
    with pytest.raises(NetError) as caught:
        net(text(param, transform))
    assert caught.value.message == f'layer "w" (WindowData): {said}'


def test_means_that_do_not_fit(windows, net):
    with pytest.raises(FormatError, match="the mean has 2 channels, the pictures have 3"):
        net(text("", "crop_size: 8 mean_value: 1 mean_value: 2"))
    binary.write("m", make_blob(np.zeros((1, 3, 6, 6), np.float32)))
    with pytest.raises(FormatError, match="the mean file is 6 x 6 .* too small for crop_size 8"):
        net(text("", 'crop_size: 8 mean_file: "m"'))
