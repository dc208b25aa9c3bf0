"""Pictures and messages to arrays and back."""

from __future__ import annotations

import hashlib
import io as std_io
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from caffebn import io
from caffebn.errors import ArgumentError, FileError, FormatError, MissingPackageError
from caffebn.proto import Message, binary

RECORD = Path(__file__).parent / "golden" / "images" / "grace_hopper_open_nsfw.npz"
PICTURE = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


@pytest.fixture(scope="module")
def record():
    with np.load(RECORD, allow_pickle=False) as z:
        assert str(z["image_sha256"]) == hashlib.sha256(PICTURE.read_bytes()).hexdigest()
        return {key: z[key] for key in z.files}


@pytest.fixture(scope="module")
def photograph():
    return io.load_image(PICTURE)


def nsfw_transformer(batch=1):
    t = io.Transformer({"data": (batch, 3, 224, 224)})
    t.set_transpose("data", (2, 0, 1))
    t.set_channel_swap("data", (2, 1, 0))
    t.set_raw_scale("data", 255)
    t.set_mean("data", np.array([104, 117, 123]))
    return t


class TestRecordOfPycaffe:
    """JPEG decoders differ by a grey level or so: 2/255 of the range."""

    def test_resize(self, photograph, record):
        found = io.resize_image(photograph, (256, 256))
        np.testing.assert_allclose(found[::16, ::16], record["resized_256"], rtol=0, atol=2 / 255)

    def test_preparation_of_the_centre(self, photograph, record):
        crop = io.resize_image(photograph, (256, 256))[16:240, 16:240]
        found = nsfw_transformer().preprocess("data", crop)
        np.testing.assert_allclose(found, record["preprocessed_crop"], rtol=0, atol=2)

    def test_preparation_of_the_whole(self, photograph, record):
        found = nsfw_transformer().preprocess("data", photograph)
        np.testing.assert_allclose(found[:, ::8, ::8], record["preprocessed_direct_sample"], rtol=0, atol=2)

    def test_ten_crops(self, photograph, record):
        crops = io.oversample([io.resize_image(photograph, (256, 256))], (224, 224))
        found = np.array([nsfw_transformer().preprocess("data", crop).mean() for crop in crops])
        np.testing.assert_allclose(found, record["oversample_checksum_mean"], rtol=0, atol=0.5)


class TestLoadImage:
    def save(self, tmp_path, picture, name="a.png", **options):
        picture.save(tmp_path / name, **options)
        return tmp_path / name

    def test_rgb(self, tmp_path):
        pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3) * 10
        found = io.load_image(self.save(tmp_path, Image.fromarray(pixels)))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, (pixels / 255).astype(np.float32))

    def test_range_is_0_to_1(self, tmp_path):
        pixels = np.array([[[0, 255, 128]]], dtype=np.uint8)
        found = io.load_image(self.save(tmp_path, Image.fromarray(pixels)))
        assert found[0, 0, 0] == 0 and found[0, 0, 1] == 1

    def test_alpha_is_dropped(self, tmp_path):
        pixels = np.array([[[10, 20, 30, 0], [40, 50, 60, 255]]], dtype=np.uint8)
        found = io.load_image(self.save(tmp_path, Image.fromarray(pixels, "RGBA")))
        np.testing.assert_array_equal(found, (pixels[:, :, :3] / 255).astype(np.float32))

    def test_grey_with_alpha(self, tmp_path):
        picture = Image.merge("LA", [Image.new("L", (3, 2), 51), Image.new("L", (3, 2), 7)])
        np.testing.assert_array_equal(
            io.load_image(self.save(tmp_path, picture)), np.full((2, 3, 3), 0.2, np.float32)
        )

    def test_palette(self, tmp_path):
        picture = Image.new("P", (2, 1))
        picture.putpalette([0, 0, 0, 255, 0, 51])
        picture.putdata([0, 1])
        found = io.load_image(self.save(tmp_path, picture))
        np.testing.assert_array_equal(found, np.array([[[0, 0, 0], [1, 0, 0.2]]], np.float32))

    @pytest.mark.parametrize("color, channels", [(True, 3), (False, 1)])
    def test_grey(self, tmp_path, color, channels):
        pixels = np.array([[0, 51, 255]], dtype=np.uint8)
        found = io.load_image(self.save(tmp_path, Image.fromarray(pixels)), color=color)
        assert found.shape == (1, 3, channels)
        assert (found == np.array([0, 0.2, 1], np.float32)[None, :, None]).all()

    def test_one_bit(self, tmp_path):
        picture = Image.new("1", (2, 1))
        picture.putpixel((1, 0), 1)
        np.testing.assert_array_equal(io.load_image(self.save(tmp_path, picture), color=False), [[[0], [1]]])

    def test_sixteen_bits(self, tmp_path):
        pixels = np.array([[0, 13107, 65535]], dtype=np.uint16)
        found = io.load_image(self.save(tmp_path, Image.fromarray(pixels)), color=False)
        np.testing.assert_array_equal(found[0, :, 0], np.array([0, 0.2, 1], np.float32))

    def test_floats_are_taken_as_they_are(self, tmp_path):
        pixels = np.array([[0.25, 7.5]], dtype=np.float32)
        found = io.load_image(self.save(tmp_path, Image.fromarray(pixels), "a.tiff"), color=False)
        np.testing.assert_array_equal(found[0, :, 0], pixels[0])

    def test_colour_to_grey_is_luminance(self, tmp_path):
        pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], dtype=np.uint8)
        found = io.load_image(self.save(tmp_path, Image.fromarray(pixels)), color=False)
        assert found.shape == (1, 4, 1) and found.dtype == np.float32
        np.testing.assert_allclose(found[0, :, 0], [0.2125, 0.7154, 0.0721, 1], rtol=1e-6)

    def test_file_object(self):
        with PICTURE.open("rb") as f:
            np.testing.assert_array_equal(io.load_image(std_io.BytesIO(f.read())), io.load_image(PICTURE))

    def test_missing_file(self, tmp_path):
        with pytest.raises(FileError, match=r"none\.png: cannot read the picture: No such file"):
            io.load_image(tmp_path / "none.png")

    def test_folder(self, tmp_path):
        with pytest.raises(FileError, match="cannot read the picture: Is a directory"):
            io.load_image(tmp_path)

    def test_not_a_picture(self, tmp_path):
        (tmp_path / "a.png").write_text("hello")
        with pytest.raises(FormatError, match=r"a\.png: not a picture that Pillow can read"):
            io.load_image(tmp_path / "a.png")

    @pytest.mark.parametrize("size", [40, 200, -200])
    def test_cut_off(self, tmp_path, size):
        pixels = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
        path = self.save(tmp_path, Image.fromarray(pixels))
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(FormatError, match="not a picture that Pillow can read"):
            io.load_image(path)

    def test_32_bit_integers(self, tmp_path):
        picture = Image.fromarray(np.array([[1, 2]], dtype=np.int32))
        with pytest.raises(FormatError, match="expected pixels of 8 or 16 bits, found 32-bit integers"):
            io.load_image(self.save(tmp_path, picture, "a.tiff"))

    def test_without_pillow(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "PIL", None)
        with pytest.raises(
            MissingPackageError, match=r'needs the package "Pillow": pip install "caffebn\[data\]"'
        ):
            io.load_image(PICTURE)


def linear_by_hand(im, dims):
    """Bilinear with pixel centres, the outside equal to the minimum: for growing pictures."""
    low = im.min()
    padded = np.pad(im - low, ((1, 1), (1, 1), (0, 0)))
    weights = []
    for n_in, n_out in zip(im.shape, dims, strict=False):
        at = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5 + 1
        w = np.zeros((n_out, n_in + 2))
        base = np.floor(at).astype(int)
        w[np.arange(n_out), base] = 1 - (at - base)
        w[np.arange(n_out), base + 1] += at - base
        weights.append(w)
    return np.einsum("ai,bj,ijc->abc", *weights, padded) + low


class TestResizeImage:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("dims", [(7, 9), (10, 4), (5, 4), (13, 31)])
    def test_growing(self, channels, dims):
        im = np.random.default_rng(0).normal(5, 2, (5, 4, channels)).astype(np.float32)
        np.testing.assert_allclose(io.resize_image(im, dims), linear_by_hand(im, dims), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    @pytest.mark.parametrize("dims", [(8, 6), (5, 11), (40, 3)])
    def test_result_has_the_asked_shape_and_type(self, channels, dims):
        im = np.random.default_rng(0).random((8, 6, channels))
        found = io.resize_image(im, dims)
        assert found.shape == (*dims, channels) and found.dtype == np.float32

    @pytest.mark.parametrize("order", [0, 1, 2, 3])
    @pytest.mark.parametrize("channels", [1, 2, 3])
    def test_same_size_is_the_same_picture(self, order, channels):
        im = np.random.default_rng(0).random((6, 5, channels)).astype(np.float32)
        np.testing.assert_allclose(io.resize_image(im, (6, 5), order), im, rtol=0, atol=1e-6)

    def test_other_numbers_of_channels_keep_the_corners(self):
        im = np.random.default_rng(0).random((5, 4, 2)).astype(np.float32)
        found = io.resize_image(im, (9, 13))
        np.testing.assert_allclose(
            found[[0, 0, -1, -1], [0, -1, 0, -1]], im[[0, 0, -1, -1], [0, -1, 0, -1]], rtol=1e-6
        )
        np.testing.assert_allclose(found[::2, ::4], im, rtol=1e-6)

    @pytest.mark.parametrize("channels", [1, 2, 3])
    @pytest.mark.parametrize("value", [0.0, 7.5, -3.0])
    def test_constant_picture(self, channels, value):
        im = np.full((4, 6, channels), value, dtype=np.float32)
        np.testing.assert_array_equal(io.resize_image(im, (9, 3)), np.full((9, 3, channels), value))

    @given(
        st.integers(1, 12),
        st.integers(1, 12),
        st.integers(1, 12),
        st.integers(1, 12),
        st.sampled_from([1, 3]),
        st.integers(0, 3),
        st.integers(0, 99),
    )
    def test_stays_within_the_range_and_commutes_with_scaling(
        self, h, w, new_h, new_w, channels, order, seed
    ):
        im = np.random.default_rng(seed).normal(size=(h, w, channels)).astype(np.float32)
        found = io.resize_image(im, (new_h, new_w), order)
        assert found.min() >= im.min() - 1e-5 and found.max() <= im.max() + 1e-5
        np.testing.assert_allclose(
            io.resize_image(im * 100 + 7, (new_h, new_w), order), found * 100 + 7, atol=1e-3
        )

    def test_a_finer_picture_is_smoothed(self):
        """A chessboard becomes grey, not a coarser chessboard."""
        im = np.indices((64, 64)).sum(0)[:, :, None] % 2
        inside = io.resize_image(im, (16, 16))[4:-4, 4:-4]
        assert np.abs(inside - 0.5).max() < 0.02

    def test_input_is_not_changed(self):
        im = np.random.default_rng(0).random((6, 5, 3)).astype(np.float32)
        before = im.copy()
        im.flags.writeable = False
        io.resize_image(im, (3, 4))
        np.testing.assert_array_equal(im, before)

    @pytest.mark.parametrize("shape", [(4, 4), (0, 4, 3), (1, 4, 4, 3)])
    def test_not_a_picture(self, shape):
        with pytest.raises(
            ArgumentError, match=r"resize_image: a picture is an array \(height, width, channels\)"
        ):
            io.resize_image(np.zeros(shape), (2, 2))

    @pytest.mark.parametrize("dims", [(2,), (2, 2, 3), (0, 2), (2.5, 2), 7])
    def test_not_two_sizes(self, dims):
        with pytest.raises(ArgumentError, match="new_dims must be two whole numbers"):
            io.resize_image(np.zeros((4, 4, 3)), dims)

    @pytest.mark.parametrize("order", [-1, 6, 1.5, "cubic"])
    def test_wrong_order(self, order):
        with pytest.raises(ArgumentError, match="interp_order must be a whole number from 0 to 5"):
            io.resize_image(np.zeros((4, 4, 3)), (2, 2), order)


class TestOversample:
    def test_places(self):
        im = np.arange(6 * 7 * 2, dtype=np.float32).reshape(6, 7, 2)
        found = io.oversample([im, im + 1000], (3, 4))
        assert found.shape == (20, 3, 4, 2)
        for i, (y, x) in enumerate([(0, 0), (0, 3), (3, 0), (3, 3), (1, 1)]):
            piece = im[y : y + 3, x : x + 4]
            np.testing.assert_array_equal(found[i], piece)
            np.testing.assert_array_equal(found[i + 5], piece[:, ::-1])
            np.testing.assert_array_equal(found[i + 10], piece + 1000)

    def test_whole_picture(self):
        im = np.random.default_rng(0).random((3, 4, 1)).astype(np.float32)
        found = io.oversample([im], (3, 4))
        assert (found[:5] == im).all() and (found[5:] == im[:, ::-1]).all()

    def test_none(self):
        with pytest.raises(ArgumentError, match="expected at least one picture"):
            io.oversample([], (2, 2))

    def test_different_shapes(self):
        with pytest.raises(ArgumentError, match=r"the first has \(4, 4, 3\), number 1 has \(4, 5, 3\)"):
            io.oversample([np.zeros((4, 4, 3)), np.zeros((4, 5, 3))], (2, 2))

    def test_too_large_a_crop(self):
        with pytest.raises(ArgumentError, match="pieces of 5 x 2 do not fit into pictures of 4 x 4"):
            io.oversample([np.zeros((4, 4, 3))], (5, 2))


class TestTransformer:
    def transformer(self):
        return io.Transformer({"data": (10, 3, 4, 5), "info": (1, 3)})

    def test_order_of_steps(self):
        t = self.transformer()
        t.set_transpose("data", (2, 0, 1))
        t.set_channel_swap("data", (2, 0, 1))
        t.set_raw_scale("data", 255)
        t.set_mean("data", [1, 2, 3])
        t.set_input_scale("data", 0.5)
        x = np.random.default_rng(0).random((4, 5, 3))
        want = (x.transpose(2, 0, 1)[[2, 0, 1]] * 255 - np.array([1, 2, 3])[:, None, None]) * 0.5
        found = t.preprocess("data", x)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, want, rtol=1e-5)

    def test_resizes(self):
        t = self.transformer()
        t.set_transpose("data", (2, 0, 1))
        x = np.random.default_rng(0).random((9, 8, 3))
        np.testing.assert_array_equal(t.preprocess("data", x), io.resize_image(x, (4, 5)).transpose(2, 0, 1))

    def test_data_is_not_changed(self):
        t = self.transformer()
        t.set_transpose("data", (2, 0, 1))
        t.set_raw_scale("data", 255)
        t.set_mean("data", np.array([1, 2, 3]))
        x = np.random.default_rng(0).random((4, 5, 3)).astype(np.float32)
        before = x.copy()
        y = t.preprocess("data", x)
        np.testing.assert_array_equal(x, before)
        after = y.copy()
        t.deprocess("data", y)
        np.testing.assert_array_equal(y, after)

    @pytest.mark.parametrize("swap", [(2, 1, 0), (1, 2, 0)])
    @pytest.mark.parametrize("batch", [False, True])
    def test_deprocess_undoes_preprocess(self, swap, batch):
        """Also for orders that are not their own inverse."""
        t = self.transformer()
        t.set_transpose("data", (2, 0, 1))
        t.set_channel_swap("data", swap)
        t.set_raw_scale("data", 255)
        t.set_mean("data", np.random.default_rng(1).random((3, 4, 5)))
        t.set_input_scale("data", 0.017)
        x = np.random.default_rng(0).random((4, 5, 3)).astype(np.float32)
        y = t.preprocess("data", x)
        np.testing.assert_allclose(t.deprocess("data", y[None] if batch else y), x, rtol=1e-4, atol=1e-6)

    @given(st.permutations([0, 1, 2]), st.permutations([0, 1, 2]))
    def test_any_order_is_undone(self, order, swap):
        t = io.Transformer({"data": (1, 3, 3, 3)})
        t.set_transpose("data", order)
        t.set_channel_swap("data", swap)
        x = np.random.default_rng(0).random((3, 3, 3)).astype(np.float32)
        np.testing.assert_array_equal(t.deprocess("data", t.preprocess("data", x)), x)

    def test_grey_picture_keeps_its_channel(self):
        t = io.Transformer({"data": (1, 1, 4, 5)})
        t.set_transpose("data", (2, 0, 1))
        x = np.random.default_rng(0).random((4, 5, 1)).astype(np.float32)
        np.testing.assert_array_equal(t.deprocess("data", t.preprocess("data", x)), x)

    def test_mean_picture_is_resized(self):
        t = self.transformer()
        mean = np.random.default_rng(0).random((3, 8, 9)).astype(np.float32)
        t.set_mean("data", mean)
        np.testing.assert_array_equal(
            t.mean["data"], io.resize_image(mean.transpose(1, 2, 0), (4, 5)).transpose(2, 0, 1)
        )

    def test_mean_of_one_channel_may_have_two_axes(self):
        t = io.Transformer({"data": (1, 1, 4, 5)})
        t.set_mean("data", np.full((4, 5), 0.25))
        t.set_transpose("data", (2, 0, 1))
        np.testing.assert_array_equal(t.preprocess("data", np.ones((4, 5, 1))), np.full((1, 4, 5), 0.75))

    @pytest.mark.parametrize("shape", [(2,), (4, 5), (2, 4, 5), (), (3, 0, 5)])
    def test_wrong_mean(self, shape):
        with pytest.raises(
            ArgumentError, match=r'the mean of input "data" must have shape \(3,\) or \(3, 4, 5\)'
        ):
            self.transformer().set_mean("data", np.zeros(shape))

    def test_mean_with_a_batch_axis(self):
        with pytest.raises(ArgumentError, match=r"take mean\[0\]"):
            self.transformer().set_mean("data", np.zeros((1, 3, 4, 5)))

    @pytest.mark.parametrize(
        "call",
        [
            lambda t: t.preprocess("date", np.zeros((4, 5, 3))),
            lambda t: t.deprocess("date", np.zeros((3, 4, 5))),
            lambda t: t.set_transpose("date", (2, 0, 1)),
            lambda t: t.set_channel_swap("date", (2, 1, 0)),
            lambda t: t.set_raw_scale("date", 2),
            lambda t: t.set_input_scale("date", 2),
            lambda t: t.set_mean("date", np.zeros(3)),
        ],
    )
    def test_unknown_input(self, call):
        with pytest.raises(
            ArgumentError, match='"date" is not one of the inputs: data, info; did you mean "data"'
        ):
            call(self.transformer())

    def test_input_that_takes_no_pictures(self):
        with pytest.raises(ArgumentError, match=r'input "info" has shape \(1, 3\); only inputs of four axes'):
            self.transformer().preprocess("info", np.zeros((4, 5, 3)))

    def test_forgotten_transpose(self):
        with pytest.raises(
            ArgumentError, match=r"has shape \(4, 5, 3\); set_transpose\('data', \(2, 0, 1\)\)"
        ):
            self.transformer().preprocess("data", np.zeros((4, 5, 3)))

    def test_deprocess_of_another_shape(self):
        with pytest.raises(ArgumentError, match=r"holds items of shape \(3, 4, 5\), found \(2, 3, 4, 5\)"):
            self.transformer().deprocess("data", np.zeros((2, 3, 4, 5)))

    @pytest.mark.parametrize("order", [(0, 1), (0, 1, 3), (0, 0, 1), (1, 2, 3, 0)])
    def test_wrong_orders(self, order):
        t = self.transformer()
        with pytest.raises(ArgumentError, match="has 3 axes; the order must name each of 0 to 2 once"):
            t.set_transpose("data", order)
        with pytest.raises(ArgumentError, match="has 3 channels; the order must name each of 0 to 2 once"):
            t.set_channel_swap("data", order)

    @pytest.mark.parametrize("scale", [0, float("nan"), float("inf"), [1, 2], "2"])
    def test_wrong_scales(self, scale):
        with pytest.raises(
            ArgumentError, match='set_raw_scale: the scale of input "data" must be a number other than 0'
        ):
            self.transformer().set_raw_scale("data", scale)
        with pytest.raises(ArgumentError, match="set_input_scale"):
            self.transformer().set_input_scale("data", scale)


class TestMessages:
    @pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4, 5)])
    def test_blobproto(self, shape):
        rng = np.random.default_rng(0)
        value, diff = rng.random(shape).astype(np.float32), rng.random(shape).astype(np.float32)
        blob = io.array_to_blobproto(value, diff)
        np.testing.assert_array_equal(io.blobproto_to_array(blob), value)
        np.testing.assert_array_equal(io.blobproto_to_array(blob, return_diff=True), diff)

    def test_blobproto_in_the_old_form(self):
        blob = Message("BlobProto", num=1, channels=3, height=1, width=2, data=np.arange(6, dtype=np.float32))
        np.testing.assert_array_equal(io.blobproto_to_array(blob), np.arange(6).reshape(1, 3, 1, 2))

    def test_blobproto_in_double(self):
        value = np.array([1 / 3])
        blob = Message("BlobProto", shape={"dim": [1]}, double_data=value, double_diff=2 * value)
        assert (
            io.blobproto_to_array(blob)[0] == 1 / 3
            and io.blobproto_to_array(blob, return_diff=True)[0] == 2 / 3
        )

    def test_blobproto_of_the_protobuf_package(self):
        pytest.importorskip("google.protobuf")
        blob = io.caffe_pb2.BlobProto(shape=dict(dim=[3]), data=[0, 1, 2])
        np.testing.assert_array_equal(io.blobproto_to_array(blob), [0, 1, 2])
        blob.ParseFromString(io.array_to_blobproto(np.arange(4)).SerializeToString())
        np.testing.assert_array_equal(io.blobproto_to_array(blob), [0, 1, 2, 3])
        with pytest.raises(ArgumentError, match="expected a Datum message, found BlobProto"):
            io.datum_to_array(blob)

    def test_blobproto_is_a_copy(self):
        value = np.zeros(3, np.float32)
        blob = io.array_to_blobproto(value, value)
        value[0] = 1
        assert not blob.data.any() and not blob.diff.any()

    def test_diff_of_another_shape(self):
        with pytest.raises(ArgumentError, match=r"diff must have the shape of arr, \(3,\), found \(2,\)"):
            io.array_to_blobproto(np.zeros(3), np.zeros(2))

    def test_values_that_do_not_fit_the_shape(self):
        with pytest.raises(FormatError):
            io.blobproto_to_array(Message("BlobProto", shape={"dim": [2, 2]}, data=np.zeros(3, np.float32)))

    def test_vector(self):
        arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((1, 2, 1, 4), np.float32)]
        found = io.blobprotovector_str_to_arraylist(io.arraylist_to_blobprotovector_str(arrays))
        assert len(found) == 2
        for a, b in zip(found, arrays, strict=True):
            np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
    def test_datum(self, dtype):
        value = np.arange(24).reshape(2, 3, 4).astype(dtype)
        datum = io.array_to_datum(value, label=7)
        assert datum.label == 7 and datum.has("data") == (dtype == np.uint8)
        found = io.datum_to_array(datum)
        assert found.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
        np.testing.assert_array_equal(found, value)

    def test_datum_without_label(self):
        assert not io.array_to_datum(np.zeros((1, 1, 1))).has("label")

    def test_datum_goes_through_bytes(self):
        value = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
        datum = binary.parse(binary.dump(io.array_to_datum(value)), "Datum")
        np.testing.assert_array_equal(io.datum_to_array(datum), value)

    def test_datum_of_two_axes(self):
        with pytest.raises(
            ArgumentError, match=r"expected an array \(channels, height, width\), found shape \(2, 3\)"
        ):
            io.array_to_datum(np.zeros((2, 3)))

    def test_compressed_datum(self):
        with pytest.raises(FormatError, match=r"compressed picture; read it with load_image\(io.BytesIO"):
            io.datum_to_array(Message("Datum", data=b"x", encoded=True))

    @pytest.mark.parametrize("height", [2, -1])
    def test_datum_of_wrong_size(self, height):
        with pytest.raises(FormatError, match=rf"channels, height, width \(1, {height}, 3\) holds 5 values"):
            io.datum_to_array(Message("Datum", channels=1, height=height, width=3, data=b"abcde"))

    @pytest.mark.parametrize(
        "wrong, found", [(Message("Datum"), "Datum"), (np.zeros(3), "ndarray"), (None, "NoneType")]
    )
    def test_something_else(self, wrong, found):
        with pytest.raises(ArgumentError, match=f"expected a BlobProto message, found {found}"):
            io.blobproto_to_array(wrong)
