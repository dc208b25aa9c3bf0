"""ImageData, and pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import caffebn
from caffebn.data import picture
from caffebn.errors import FileError, FormatError, NetError

IMAGES = (
    'name: "i" type: "ImageData" top: "data" top: "label" '
    'image_data_param {{ source: "list.txt" batch_size: {} {} }} {}'
)


def text(batch_size: int = 2, param: str = "", more: str = "") -> str:
    stated = IMAGES.replace('source: "list.txt" ', "") if "source" in param else IMAGES
    return stated.format(batch_size, param, more)


def labels(net, passes: int) -> list[int]:
    found = []
    for _ in range(passes):
        net.forward()
        found += net.blobs["label"].data.astype(int).tolist()
    return found


def test_pictures_come_in_order_as_bgr(pictures, net):
    values = pictures()
    made = net(text(3))
    assert made.blobs["data"].shape == (3, 3, 6, 5) and made.blobs["label"].shape == (3,)
    for chosen in ([0, 1, 2], [3, 0, 1]):
        made.forward()
        np.testing.assert_array_equal(made.blobs["data"].data, [values[i] for i in chosen])
        assert made.blobs["label"].data.tolist() == [10 + i for i in chosen]


def test_blanks_and_tabs_in_a_list(pictures, net):
    pictures()
    Path("list.txt").write_text("a picture 0.png\t3\n\n  a picture 1.png   -4 \n")
    assert labels(net(text()), 1) == [3, -4]


def test_grey(pictures, net):
    values = pictures()
    made = net(text(1, "is_color: false"))
    made.forward()
    assert made.blobs["data"].shape == (1, 1, 6, 5)
    expected = np.tensordot([0.114, 0.587, 0.299], values[0], 1)
    np.testing.assert_allclose(made.blobs["data"].data[0, 0], expected, atol=1)


def test_resizing_and_the_transform(pictures, net):
    values = pictures([(6, 5), (8, 4), (3, 3)])
    more = "transform_param { crop_size: 5 mean_value: 7 scale: 2 }"
    made = net(text(3, "new_height: 9 new_width: 7", more), "TEST")
    made.forward()
    expected = [(picture.resize(v, 9, 7)[:, 2:7, 1:6] - np.float32(7)) * 2 for v in values]
    np.testing.assert_array_equal(made.blobs["data"].data, expected)


def test_sizes_differ_when_cropped_and_from_batch_to_batch(pictures, net):
    values = pictures([(6, 5), (8, 9)])
    made = net(text(2, more="transform_param { crop_size: 5 }"), "TEST")
    made.forward()
    np.testing.assert_array_equal(made.blobs["data"].data, [values[0][:, :5], values[1][:, 1:6, 2:7]])
    made = net(text(1))
    for v in values:
        made.forward()
        np.testing.assert_array_equal(made.blobs["data"].data, v[None])


def test_each_epoch_is_shuffled_anew(pictures, net):
    pictures([(2, 2)] * 6)
    caffebn.set_random_seed(3)
    made = net(text(4, "shuffle: true"))
    found = labels(made, 6)
    epochs = [found[i : i + 6] for i in range(0, 24, 6)]
    assert all(sorted(epoch) == list(range(10, 16)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    caffebn.set_random_seed(3)
    assert labels(net(text(4, "shuffle: true")), 6) == found


def test_a_shuffled_epoch_goes_on_where_it_was(pictures, net):
    pictures([(2, 2)] * 6)
    first, second = net(text(4, "shuffle: true")), net(text(4, "shuffle: true"))
    labels(first, 2)
    second.layer_dict["i"].set_state(first.layer_dict["i"].get_state())
    assert labels(second, 4) == labels(first, 4)


def test_root_folder(pictures, net, here):
    pictures()
    (here / "in").mkdir()
    for path in list(here.glob("*.png")):
        path.rename(here / "in" / path.name)
    assert labels(net(text(2, 'root_folder: "in/"')), 1) == [10, 11]
    with pytest.raises(
        FileError, match=r'list.txt:1: ina picture 0.png: cannot read.*root_folder is put.*write "in/"'
    ):
        net(text(2, 'root_folder: "in"'))


@pytest.mark.parametrize(
    ("lines", "error", "said"),
    [
        (None, FileError, "list.txt: cannot be read: No such file"),
        ("", FormatError, "list.txt: the list is empty"),
        ("a picture 0.png 1\n\nno label\n", FormatError, 'list.txt:3: expected the name.*found "no label"'),
        ("5\n", FormatError, 'list.txt:1: expected the name of a picture and a whole number, found "5"'),
        ("none.png 1\n", FileError, "list.txt:1: none.png: cannot read the picture: No such file"),
        ("list.txt 1\n", FormatError, "list.txt:1: list.txt: not a picture that Pillow can read"),
    ],
)
def test_wrong_lists(pictures, net, lines, error, said):
    pictures()
    Path("list.txt").unlink() if lines is None else Path("list.txt").write_text(lines)
    with pytest.raises(error, match=rf'layer "i" \(ImageData\): {said}'):
        net(text())


def test_an_unreadable_picture_is_named_in_its_pass(pictures, net, here):
    pictures()
    (here / "a picture 3.png").write_bytes((here / "a picture 3.png").read_bytes()[:40])
    made = net(text())
    made.forward()
    with pytest.raises(
        FormatError, match=r'layer "i" \(ImageData\): list.txt:4: a picture 3.png: not a picture'
    ):
        made.forward()


@pytest.mark.parametrize(
    ("batch_size", "param", "said"),
    [
        (0, "", "image_data_param must give batch_size"),
        (2, 'source: ""', "image_data_param must give source, a list of pictures"),
        (2, "new_height: 3", "give both new_height and new_width, or neither"),
    ],
)
def test_refusals(pictures, net, batch_size, param, said):
    pictures()
    with pytest.raises(NetError, match=rf'layer "i" \(ImageData\): {said}'):
        net(text(batch_size, param))


def test_mixed_sizes(pictures, net):
    pictures([(6, 5), (6, 4)])
    with pytest.raises(NetError, match="found 3x6x5 and 3x6x4: resize them all, give a crop_size"):
        net(text()).forward()


# -- pictures ----------------------------------------------------------------------------------------


def bilinear(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize one pixel after the other."""
    out = np.empty((len(values), height, width))
    for y in range(height):
        for x in range(width):
            v = min(max((y + 0.5) * values.shape[1] / height - 0.5, 0), values.shape[1] - 1)
            u = min(max((x + 0.5) * values.shape[2] / width - 0.5, 0), values.shape[2] - 1)
            v0, u0 = int(v), int(u)
            v1, u1 = min(v0 + 1, values.shape[1] - 1), min(u0 + 1, values.shape[2] - 1)
            a, b = v - v0, u - u0
            out[:, y, x] = (
                values[:, v0, u0] * (1 - a) * (1 - b)
                + values[:, v0, u1] * (1 - a) * b
                + values[:, v1, u0] * a * (1 - b)
                + values[:, v1, u1] * a * b
            )
    return out


@pytest.mark.parametrize("size", [(6, 5), (3, 9), (13, 2), (1, 1), (7, 6)])
def test_resize(size):
    values = np.random.default_rng(0).integers(0, 256, (3, 6, 5), np.uint8)
    found = picture.resize(values, *size)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found, bilinear(values, *size), atol=0.5 + 1e-4)


@pytest.mark.parametrize("kind", ["png", "PNG", ".png", "bmp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_encode_there_and_back(kind, channels):
    values = np.random.default_rng(0).integers(0, 256, (channels, 4, 5), np.uint8)
    np.testing.assert_array_equal(picture.decode(picture.encode(values, kind), None), values)


def test_encode_refuses_what_pillow_cannot_write():
    with pytest.raises(FormatError, match='pictures cannot be written as "exr": take png or jpg'):
        picture.encode(np.zeros((1, 2, 2), np.uint8), "exr")


def test_pictures_of_sixteen_bits_are_refused(tmp_path):
    Image.fromarray(np.zeros((2, 2), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(FormatError, match="deep.png: expected a picture of 8 bits"):
        picture.read(tmp_path / "deep.png")
