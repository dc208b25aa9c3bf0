"""Weights by layer name: read, reported, refused, written."""

import numpy as np
import pytest

import caffebn
from caffebn import errors, weights
from caffebn.ops import threads
from caffebn.proto import Message, binary, make_blob

BODY = """
name: "bn"
layer { name: "data" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "y"
        convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "bn" type: "BatchNorm" bottom: "y" top: "y" }
layer { name: "scale" type: "Scale" bottom: "y" top: "y" scale_param { bias_term: true } }
"""


def net(**changes):
    body = BODY
    for old, new in changes.items():
        body = body.replace(old, new)
    return caffebn.Net.from_text(body, caffebn.TEST)


def filled():
    made = net()
    rng = np.random.default_rng(4)
    for blobs in made.params.values():
        for blob in blobs:
            blob.data[...] = rng.uniform(0.5, 2, blob.shape)
    return made


def write(path, layers: dict[str, list], kind: str = "BatchNorm"):
    message = Message("NetParameter")
    for name, arrays in layers.items():
        layer = message.add("layer", name=name, type=kind)
        layer.blobs = [make_blob(np.asarray(a, "f")) for a in arrays]
    binary.write(path, message)
    return path


@pytest.mark.parametrize("ending", ["caffemodel", "caffemodel.h5"])
def test_what_is_saved_is_loaded(tmp_path, ending):
    path = tmp_path / f"w.{ending}"
    first, second = filled(), net()
    (first.save_hdf5 if ending.endswith("h5") else first.save)(path)
    report = second.copy_from(path, strict=True)
    assert report.matched == ["conv", "bn", "scale"] or sorted(report.matched) == ["bn", "conv", "scale"]
    assert report.missing == report.unused == []
    for name, blobs in first.params.items():
        for a, b in zip(blobs, second.params[name], strict=True):
            np.testing.assert_array_equal(a.data, b.data)


def test_a_saved_net_is_as_caffe_writes_it(tmp_path):
    filled().save(tmp_path / "w.caffemodel", diff=True)
    saved = binary.read(tmp_path / "w.caffemodel")
    assert saved.name == "bn"
    assert [layer.type for layer in saved.layer] == ["Input", "Convolution", "BatchNorm", "Scale"]
    bn = saved.layer[2]
    assert bn.phase == "TEST"
    assert [p.lr_mult for p in bn.param] == [0, 0, 0]
    assert [list(b.shape.dim) for b in bn.blobs] == [[5], [5], [1]]
    assert all(b.has("diff") for b in bn.blobs)


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_number_of_threads_copies_all(monkeypatch, n_threads, dtype):
    """In pieces, into either type, from where numbers lie in a file: at odd places."""
    monkeypatch.setattr(weights, "_PIECE", 1000)
    monkeypatch.setattr(threads, "_count", n_threads)
    rng = np.random.default_rng(3)
    arrays = []
    for size in (20_001, 1, 0, 999, 1000, 40_000):
        raw = np.empty(4 * size + 1, np.uint8)[1:]
        array = raw.view("<f4") if size else np.empty(0, "<f4")
        array[...] = rng.normal(size=size)
        arrays.append(array)
    copies = [np.zeros(len(array), dtype) for array in arrays]
    weights._copy(list(zip(copies, arrays, strict=True)))
    for copy, array in zip(copies, arrays, strict=True):
        np.testing.assert_array_equal(copy, array)


def test_a_copy_of_nothing():
    weights._copy([])


def test_double_precision_is_kept(tmp_path):
    made = caffebn.Net.from_text(BODY, caffebn.TEST, dtype="float64")
    made.params["scale"][0].data[...] = 1 / 3
    made.params["bn"][2].data[...] = 1
    made.save(tmp_path / "w.caffemodel")
    again = caffebn.Net.from_text(BODY, caffebn.TEST, dtype="float64")
    again.copy_from(tmp_path / "w.caffemodel")
    assert (again.params["scale"][0].data == 1 / 3).all()


def test_names_that_match_nothing_are_reported(tmp_path):
    path = write(
        tmp_path / "w.caffemodel", {"bn": [np.ones(5), np.ones(5), [1]], "fc": [np.ones(2)], "nothing": []}
    )
    report = net().copy_from(path)
    assert report.matched == ["bn"]
    assert report.missing == ["conv", "scale"]
    assert report.unused == ["fc"]
    assert "not in the net, not used: fc" in str(report)
    with pytest.raises(errors.WeightsError, match="not in the file, unchanged: conv, scale"):
        net().copy_from(path, strict=True)


def test_a_file_that_matches_nothing_is_worth_a_word(tmp_path):
    path = write(tmp_path / "w.caffemodel", {"fc": [np.ones(2)]})
    with pytest.warns(
        errors.CaffebnWarning,
        match=r'nothing was copied \(the net has "conv", "bn", "scale"; the file has "fc"\)',
    ):
        net().copy_from(path)


def test_shapes_that_differ_change_nothing(tmp_path):
    path = write(
        tmp_path / "w.caffemodel",
        {"scale": [np.full(5, 9), np.full(5, 9)], "bn": [np.ones(6), np.ones(5), [1]]},
    )
    made = net()
    with pytest.raises(
        errors.WeightsError, match=r'layer "bn" \(BatchNorm\), blob 0: the net expects 5, the file has 6'
    ):
        made.copy_from(path)
    assert (made.params["scale"][0].data == 1).all()


def test_old_four_number_shapes_are_aligned_at_the_right(tmp_path):
    message = Message("NetParameter")
    layer = message.add("layer", name="scale")
    for value in (2, 3):
        blob = layer.add("blobs", num=1, channels=1, height=1, width=5)
        blob.data = np.full(5, value, "f")
    binary.write(tmp_path / "w.caffemodel", message)
    made = net()
    made.copy_from(tmp_path / "w.caffemodel")
    assert (made.params["scale"][1].data == 3).all()
    blob.clear("width")
    blob.channels = 5
    blob.width = 1
    binary.write(tmp_path / "w.caffemodel", message)
    with pytest.raises(errors.WeightsError, match="the net expects 5, the file has 1x5x1x1"):
        made.copy_from(tmp_path / "w.caffemodel")


@pytest.mark.parametrize(
    ("blobs", "message"),
    [
        (
            [np.ones(5), np.ones(5)],
            "expects 3 blobs, the file has 2.*two blobs lacks the factor.*add a third blob that holds 1",
        ),
        ([np.ones(5)] * 5, "expects 3 blobs, the file has 5.*comes from a fork"),
        ([], "expects 3 blobs, the file has 0"),
    ],
)
def test_batch_norms_of_another_make_are_refused(tmp_path, blobs, message):
    path = write(tmp_path / "w.caffemodel", {"bn": blobs})
    with pytest.raises(errors.WeightsError, match=rf'layer "bn" \(BatchNorm\): the net {message}'):
        caffebn.Net.from_text(BODY, caffebn.TEST, dialect="bvlc").copy_from(path)


def test_bias_term_is_named(tmp_path):
    path = write(tmp_path / "w.caffemodel", {"scale": [np.ones(5)]}, "Scale")
    with pytest.raises(errors.WeightsError, match="expects 2 blobs, the file has 1: is bias_term the same"):
        net().copy_from(path)


@pytest.mark.parametrize(
    ("blobs", "words"),
    [
        (
            [np.ones(5), np.ones(5), [0]],
            "factor .* is 0 although statistics are stored.*NVCaffe means factor 1",
        ),
        ([np.zeros(5), np.zeros(5), [0]], "no statistics yet"),
        ([np.ones(5), np.ones(5), [-1]], "factor .* is -1, expected a positive number"),
        ([np.ones(5), -np.ones(5), [1]], "stored variances .* are negative"),
    ],
)
def test_odd_statistics_load_with_a_word(tmp_path, blobs, words):
    path = write(tmp_path / "w.caffemodel", {"bn": blobs})
    made = net()
    with pytest.warns(errors.CaffebnWarning, match=words):
        report = made.copy_from(path)
    assert report.matched == ["bn"]
    np.testing.assert_array_equal(made.params["bn"][2].data, blobs[2])


def test_factor_zero_counts_as_mean_and_variance_zero(tmp_path):
    path = write(tmp_path / "w.caffemodel", {"bn": [np.ones(5), np.ones(5), [0]]})
    made = net()
    with pytest.warns(errors.CaffebnWarning):
        made.copy_from(path)
    made.blobs["x"].data[...] = np.random.default_rng(0).normal(size=made.blobs["x"].shape)
    made.forward(end="conv")
    before = made.blobs["y"].data.copy()
    made.forward(start="bn")
    np.testing.assert_allclose(made.blobs["y"].data, before / np.sqrt(1e-5), rtol=1e-5)


SHARED = """
layer { name: "in" type: "Input" top: "a" top: "b" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "left" type: "InnerProduct" bottom: "a" top: "l" param { name: "w" } param { name: "v" }
        inner_product_param { num_output: 4 weight_filler { type: "gaussian" } } }
layer { name: "right" type: "InnerProduct" bottom: "b" top: "r" param { name: "w" }
        inner_product_param { num_output: 4 bias_filler { type: "gaussian" } } }
"""


@pytest.mark.parametrize("save", ["save", "save_hdf5"])
def test_shared_parameters_survive(tmp_path, save):
    first, second, third = (caffebn.Net.from_text(SHARED, caffebn.TEST) for _ in range(3))
    path = tmp_path / ("w.h5" if save == "save_hdf5" else "w.caffemodel")
    getattr(first, save)(path)
    second.copy_from(path)
    loaded = [second]
    if save == "save_hdf5":
        third.load_hdf5(path.rename(tmp_path / "of_any_name"))
        loaded.append(third)
    for made in loaded:
        for name in ("left", "right"):
            for a, b in zip(first.params[name], made.params[name], strict=True):
                np.testing.assert_array_equal(a.data, b.data)


def test_of_weights_that_are_shared_in_the_net_alone_the_last_count(tmp_path):
    """As in Caffe, which copies layer by layer; here all are copied at once."""
    made = caffebn.Net.from_text(SHARED, caffebn.TEST)
    stored = {"left": [np.full((4, 3), 1), np.full(4, 2)], "right": [np.full((4, 3), 3), np.full(4, 4)]}
    report = made.copy_from(write(tmp_path / "w.caffemodel", stored, "InnerProduct"))
    assert report.matched == ["left", "right"]
    assert [float(b.data.flat[0]) for name in stored for b in made.params[name]] == [3, 2, 3, 4]


def test_hdf5_layout(tmp_path):
    h5py = pytest.importorskip("h5py", reason="HDF5 weights need h5py")
    made = caffebn.Net.from_text(SHARED, caffebn.TEST)
    made.save_hdf5(tmp_path / "w.h5", diff=True)
    with h5py.File(tmp_path / "w.h5") as file:
        assert set(file) == {"data", "diff"}
        assert set(file["data"]) == {"in", "left", "right"}
        assert set(file["data/left"]) == {"0", "1"}
        assert set(file["data/right"]) == {"1"}


def test_hdf5_files_that_are_none(tmp_path):
    h5py = pytest.importorskip("h5py", reason="HDF5 weights need h5py")
    path = tmp_path / "w.h5"
    with pytest.raises(errors.FileError, match="there is no such file"):
        weights.read_hdf5(path)
    path.write_bytes(b"not HDF5")
    with pytest.raises(errors.FormatError, match="not an HDF5 file"):
        weights.read_hdf5(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(errors.FormatError, match='no group "data"'):
        weights.read_hdf5(path)
    for key, value, words in (
        ("9999", 1.0, 'found "9999"'),
        ("one", 1.0, 'found "one"'),
        ("0", b"text", "expected real numbers"),
    ):
        with h5py.File(path, "w") as file:
            file[f"data/ip/{key}"] = value
        with pytest.raises(errors.FormatError, match=words):
            weights.read_hdf5(path)


def test_shape_and_data_that_disagree(tmp_path):
    message = Message("NetParameter")
    blob = message.add("layer", name="scale").add("blobs")
    blob.mutable("shape").dim = [7]
    blob.data = np.ones(5, "f")
    binary.write(tmp_path / "w.caffemodel", message)
    with pytest.raises(errors.FormatError, match=r'w\.caffemodel: layer "scale", blob 0: .*7'):
        net().copy_from(tmp_path / "w.caffemodel")


def test_an_old_file_survives_a_failed_save(tmp_path, monkeypatch):
    path = tmp_path / "w.caffemodel"
    made = filled()
    made.save(path)
    old = path.read_bytes()
    monkeypatch.setattr(
        "os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(errors.FileError, match="not written, any old file is untouched: No space left"):
        made.save(path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["w.caffemodel"]
