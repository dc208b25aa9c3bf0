"""transform_param: against a plain loop over pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffebn.data import Transformer
from caffebn.errors import ArgumentError, FileError, FormatError, NetError
from caffebn.proto import Message, binary, make_blob


def transformer(phase: str = "TRAIN", **fields) -> Transformer:
    return Transformer(Message("TransformationParameter", **fields), phase)


def plain(item: np.ndarray, top: int, left: int, crop: int, flip: bool, mean, scale: float) -> np.ndarray:
    """Transform one record, pixel by pixel."""
    channels, height, width = item.shape
    height, width = (crop, crop) if crop else (height, width)
    out = np.empty((channels, height, width), np.float32)
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                value = np.float32(item[c, top + y, left + x])
                if mean is not None:
                    value -= mean[c, top + y, left + x]
                out[c, y, width - 1 - x if flip else x] = value * np.float32(scale)
    return out


def all_ways(
    item: np.ndarray, crop: int, mean, scale: float, centred: bool, mirror: bool
) -> list[np.ndarray]:
    """Every result that the transform may have."""
    rows = (
        range(item.shape[1] - crop + 1)
        if crop and not centred
        else [(item.shape[1] - crop) // 2 * bool(crop)]
    )
    columns = (
        range(item.shape[2] - crop + 1)
        if crop and not centred
        else [(item.shape[2] - crop) // 2 * bool(crop)]
    )
    flips = (False, True) if mirror else (False,)
    return [plain(item, y, x, crop, f, mean, scale) for y in rows for x in columns for f in flips]


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("crop", [0, 3, 5])
@pytest.mark.parametrize("kind", ["none", "one", "channels", "file"])
@pytest.mark.parametrize("as_array", [False, True])
def test_like_a_plain_loop(tmp_path, phase, mirror, crop, kind, as_array):
    rng = np.random.default_rng(1)
    items = rng.integers(0, 256, (6, 2, 6, 5), np.uint8)
    fields: dict = {"scale": 0.25, "mirror": mirror, "crop_size": crop}
    mean = None
    if kind == "file":
        mean = rng.normal(100, 30, (2, 6, 5)).astype(np.float32)
        binary.write(tmp_path / "mean.binaryproto", make_blob(mean[None]))
        fields["mean_file"] = str(tmp_path / "mean.binaryproto")
    elif kind != "none":
        fields["mean_value"] = [100.5] if kind == "one" else [100.5, 20]
        mean = np.broadcast_to(np.array(fields["mean_value"], np.float32)[:, None, None], (2, 6, 5))
    made = transformer(phase, **fields)
    out = np.empty((6, *made.shape((2, 6, 5))), np.float32)
    made(items if as_array else list(items), out, np.random.default_rng(2))
    for item, found in zip(items, out, strict=True):
        ways = all_ways(item, crop, mean, 0.25, phase == "TEST", mirror)
        assert any(np.array_equal(found, way) for way in ways)


@given(
    height=st.integers(3, 7),
    width=st.integers(3, 7),
    crop=st.integers(0, 3),
    mirror=st.booleans(),
    seed=st.integers(0, 99),
)
def test_floats_and_sizes(height, width, crop, mirror, seed):
    item = np.random.default_rng(seed).normal(size=(1, height, width)).astype(np.float32)
    made = transformer("TRAIN", crop_size=crop, mirror=mirror)
    out = np.empty((1, *made.shape(item.shape)), np.float64)
    made([item], out, np.random.default_rng(seed))
    assert any(np.array_equal(out[0], way) for way in all_ways(item, crop, None, 1, False, mirror))


def test_all_places_and_both_mirrors_occur_alike():
    item = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    made = transformer("TRAIN", crop_size=3, mirror=True)
    out = np.empty((4000, 1, 3, 3), np.float32)
    made([item] * 4000, out, np.random.default_rng(0))
    found, counts = np.unique(out.reshape(4000, 9), axis=0, return_counts=True)
    assert len(found) == 8
    assert counts.min() > 400


def test_the_mirror_is_random_in_test_too():
    item = np.arange(4, dtype=np.uint8).reshape(1, 2, 2)
    out = np.empty((50, 1, 2, 2), np.float32)
    transformer("TEST", mirror=True)([item] * 50, out, np.random.default_rng(0))
    assert len(np.unique(out.reshape(50, 4), axis=0)) == 2


def test_records_of_several_sizes_are_cropped():
    items = [np.full((1, n, n + 1), n, np.uint8) for n in (3, 4, 5)]
    out = np.empty((3, 1, 3, 3), np.float32)
    transformer("TEST", crop_size=3)(items, out, None)
    assert [v.max() for v in out] == [v.min() for v in out] == [3, 4, 5]


def test_double_precision_holds_what_single_gives():
    items = np.arange(8, dtype=np.uint8).reshape(2, 1, 2, 2)
    made = transformer("TEST", mean_value=[0.1], scale=0.1)
    single, double = np.empty(items.shape, np.float32), np.empty(items.shape, np.float64)
    made(items, single, None)
    made(items, double, None)
    np.testing.assert_allclose(single, double, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mean_file": "m", "mean_value": [1]}, "give either mean_file or mean_value, not both"),
        ({"force_color": True, "force_gray": True}, "give either force_color or force_gray, not both"),
    ],
)
def test_contradictions_are_refused(fields, said):
    with pytest.raises(NetError, match=said):
        transformer(**fields)


def test_records_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(NetError, match="crop_size 7 is larger than the record, 6 x 9"):
        transformer(crop_size=7).shape((3, 6, 9))
    with pytest.raises(NetError, match="once for each of the 3 channels of the record, found 2 times"):
        transformer(mean_value=[1, 2]).shape((3, 6, 6))
    path = tmp_path / "mean.binaryproto"
    binary.write(path, make_blob(np.zeros((1, 3, 5, 5), np.float32)))
    made = transformer(mean_file=str(path))
    with pytest.raises(
        NetError, match=r'the mean in ".*" is 3x5x5, the record is 3x6x6 .*size of whole records'
    ):
        made.shape((3, 6, 6))
    assert made.shape((3, 5, 5)) == (3, 5, 5)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ((3, 4, 4), "found 3x5x5 and 3x4x4.*give a crop_size"),
        ((1, 5, 5), "found 3x5x5 and 1x5x5.*force_color"),
    ],
)
def test_mixed_shapes_are_refused(other, said):
    items = [np.zeros((3, 5, 5), np.uint8), np.zeros(other, np.uint8)]
    with pytest.raises(NetError, match=said):
        transformer()(items, np.empty((2, 3, 5, 5), np.float32), None)


def test_random_needs_a_generator():
    with pytest.raises(ArgumentError, match="needs rng"):
        transformer(mirror=True)([np.zeros((1, 1, 1), np.uint8)], np.empty((1, 1, 1, 1), np.float32), None)


def test_mean_files_that_are_none(tmp_path):
    with pytest.raises(FileError, match="nothing.binaryproto"):
        transformer(mean_file=str(tmp_path / "nothing.binaryproto"))
    path = tmp_path / "two.binaryproto"
    binary.write(path, make_blob(np.zeros((2, 3, 4, 4), np.float32)))
    with pytest.raises(FormatError, match="two.binaryproto: a mean file holds one blob.*found 2 x 3 x 4 x 4"):
        transformer(mean_file=str(path))


def test_mean_files_in_the_old_form(tmp_path):
    path = tmp_path / "mean.binaryproto"
    old = Message("BlobProto", num=1, channels=1, height=2, width=2, data=np.arange(4, dtype=np.float32))
    binary.write(path, old)
    made = transformer(mean_file=str(path))
    np.testing.assert_array_equal(made.mean, [[[0, 1], [2, 3]]])
