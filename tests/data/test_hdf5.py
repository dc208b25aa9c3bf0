"""HDF5Data and HDF5Output."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import caffebn
from caffebn.errors import FileError, FormatError, MissingPackageError, NetError

INPUT = (
    'name: "h" type: "HDF5Data" top: "data" top: "label" '
    'hdf5_data_param {{ source: "list.txt" batch_size: {} {} }} {}'
)


def text(batch_size: int = 4, param: str = "", more: str = "") -> str:
    stated = INPUT.replace('source: "list.txt" ', "") if "source" in param else INPUT
    return stated.format(batch_size, param, more)


@pytest.fixture
def files(here):
    """Write files with that many rows, numbered through; data is (rows, 2, 3), label (rows)."""

    def write(*counts: int, dtype=np.float32) -> None:
        start = 0
        for i, n in enumerate(counts):
            rows = np.arange(start, start + n)
            with h5py.File(f"{i}.h5", "w") as f:
                f["data"] = (rows[:, None, None] * np.ones((1, 2, 3))).astype(dtype)
                f["label"] = rows.astype(dtype)
            start += n
        Path("list.txt").write_text("".join(f"{i}.h5\n" for i in range(len(counts))))

    return write


def rows(net, passes: int) -> list[int]:
    found = []
    for _ in range(passes):
        net.forward()
        label = net.blobs["label"].data
        np.testing.assert_array_equal(net.blobs["data"].data, label[:, None, None] * np.ones((1, 2, 3)))
        found += label.astype(int).tolist()
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
@pytest.mark.parametrize("counts", [(3, 5), (8,), (1, 0, 2), (2,)])
def test_rows_follow_each_other(files, net, counts, dtype):
    files(*counts, dtype=dtype)
    made = net(text())
    assert made.blobs["data"].shape == (4, 2, 3) and made.blobs["label"].shape == (4,)
    n = sum(counts)
    assert rows(made, 5) == [i % n for i in range(20)]


def test_shuffling_keeps_files_together(files, net):
    files(3, 4, 5)
    caffebn.set_random_seed(1)
    found = rows(net(text(4, "shuffle: true")), 9)
    groups = [{0, 1, 2}, {3, 4, 5, 6}, {7, 8, 9, 10, 11}]
    epochs = [found[i : i + 12] for i in (0, 12, 24)]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
        which = [next(i for i, group in enumerate(groups) if row in group) for row in epoch]
        assert sum(a != b for a, b in zip(which, which[1:], strict=False)) == 2
    caffebn.set_random_seed(1)
    assert rows(net(text(4, "shuffle: true")), 9) == found


def test_a_shuffled_epoch_goes_on_where_it_was(files, net):
    files(3, 4, 5)
    first, second = net(text(4, "shuffle: true")), net(text(4, "shuffle: true"))
    rows(first, 4)
    second.layer_dict["h"].set_state(first.layer_dict["h"].get_state())
    assert rows(second, 5) == rows(first, 5)


def broken(path: str = "1.h5", **sets) -> None:
    with h5py.File(path, "a") as f:
        for name, values in sets.items():
            if name in f:
                del f[name]
            if values is not None:
                f[name] = values


@pytest.mark.parametrize(
    ("sets", "error", "said"),
    [
        ({"label": None, "lable": np.zeros(5)}, FormatError, 'no data set "label".*did you mean "lable"'),
        ({"label": np.zeros(4)}, FormatError, '"data" is 5x2x3, "label" is 4'),
        ({"label": 3.0}, FormatError, '"label" is no axes'),
        (
            {"data": np.zeros((5, 2, 2))},
            FormatError,
            '"data" is 5x2x2, in 0.h5 it is 3x2x3: all but the first',
        ),
        ({"label": np.array([b"x"] * 5)}, FormatError, '"label" must hold numbers, found'),
    ],
)
def test_files_that_do_not_fit(files, net, sets, error, said):
    files(3, 5)
    broken(**sets)
    with pytest.raises(error, match=rf'layer "h" \(HDF5Data\): 1.h5: .*{said}'):
        net(text())


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (None, FileError, "list.txt: cannot be read"),
        ("\n", FormatError, "list.txt: the list is empty"),
        ("no.h5\n", FileError, "no.h5: not an HDF5 file that can be read"),
        ("list.txt\n", FileError, "list.txt: not an HDF5 file that can be read"),
        ("empty.h5\n", FormatError, "list.txt: none of the files has a row"),
    ],
)
def test_wrong_lists(here, net, content, error, said):
    broken("empty.h5", data=np.zeros((0, 2)), label=np.zeros(0))
    if content is not None:
        Path("list.txt").write_text(content)
    with pytest.raises(error, match=rf'layer "h" \(HDF5Data\): {said}'):
        net(text())


def test_a_file_that_changes(files, net):
    files(3, 5)
    made = net(text(3, more="data_param { prefetch: 0 }"))
    made.forward()
    broken(data=np.zeros((2, 2, 3)), label=np.zeros(2))
    with pytest.raises(FormatError, match='1.h5: the data set "data" has changed since the net was made'):
        made.forward()


@pytest.mark.parametrize(
    ("batch_size", "param", "more", "said"),
    [
        (0, "", "", "hdf5_data_param must give batch_size"),
        (1, 'source: ""', "", "hdf5_data_param must give source"),
        (
            1,
            "",
            "transform_param { scale: 2 }",
            "HDF5Data does not transform its data: remove transform_param",
        ),
    ],
)
def test_refusals(files, net, batch_size, param, more, said):
    files(3)
    with pytest.raises(NetError, match=rf'layer "h" \(HDF5Data\): {said}'):
        net(text(batch_size, param, more))


@pytest.mark.parametrize("layer", [text(), 'name: "h" type: "HDF5Output" bottom: "a" bottom: "b"'])
def test_without_h5py(files, monkeypatch, layer):
    files(3)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(MissingPackageError, match=r'needs the package "h5py"'):
        output(layer + ' hdf5_output_param { file_name: "o" }' if "Output" in layer else layer)


# -- output ------------------------------------------------------------------------------------------

OUTPUT = 'name: "o" type: "HDF5Output" bottom: "a" bottom: "b" hdf5_output_param { file_name: "out.h5" }'


def output(layer: str = OUTPUT, a=(2, 3), b=(2,), more: str = "") -> caffebn.Net:
    inputs = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        + " ".join(f"dim: {n}" for n in shape)
        + " } } } "
        for name, shape in (("a", a), ("b", b))
    )
    return caffebn.Net.from_text(f"{more} {inputs} layer {{ {layer} }}", "TEST")


def test_passes_are_added(here):
    Path("out.h5").write_bytes(b"an old file")
    made = output()
    for i in range(3):
        made.forward(a=np.full((2, 3), i), b=[10 * i, 10 * i + 1])
        with h5py.File("out.h5") as f:
            assert set(f) == {"data", "label"}
            assert f["data"].shape == (2 * i + 2, 3, 1, 1) and f["label"].shape == (2 * i + 2, 1, 1, 1)
            assert f["data"].dtype == np.float32
            assert f["label"][-1].item() == 10 * i + 1
            np.testing.assert_array_equal(f["data"][-2:, :, 0, 0], np.full((2, 3), i))


def test_what_is_written_can_be_read(here, net):
    output().forward(a=np.arange(6).reshape(2, 3), b=[4, 5])
    Path("list.txt").write_text("out.h5\n")
    made = net(text(2))
    made.forward()
    np.testing.assert_array_equal(made.blobs["data"].data.reshape(2, 3), np.arange(6).reshape(2, 3))
    assert made.blobs["label"].data.ravel().tolist() == [4, 5]


def test_the_bottoms_get_gradient_zero(here):
    made = output(more="force_backward: true")
    made.forward()
    made.blobs["a"].diff[...] = 5
    made.backward()
    assert not made.blobs["a"].diff.any()


def test_rows_of_another_shape_are_refused(here):
    made = output()
    made.forward()
    made.blobs["a"].reshape(2, 4)
    with pytest.raises(
        NetError, match='rows of 4x1x1 cannot be added to the data set "data", which is 2x3x1x1'
    ):
        made.forward()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"a": (2, 1, 1, 1, 1)}, r'a bottom needs 1 to 4 axes, found "a" \(2x1x1x1x1\)'),
        ({"b": ()}, r'a bottom needs 1 to 4 axes, found "b" \(no axes\)'),
        ({"b": (3,)}, r'the bottoms need the same number of items, found "a" \(2x3\) and "b" \(3\)'),
        ({"layer": OUTPUT.replace("out.h5", "")}, "hdf5_output_param must give file_name"),
    ],
)
def test_output_refusals(here, options, said):
    with pytest.raises(NetError, match=rf'layer "o" \(HDF5Output\): {said}'):
        output(**options)


def test_a_file_that_cannot_be_written(here):
    with pytest.raises(FileError, match=r'layer "o" \(HDF5Output\): "no/out.h5" cannot be written'):
        output(OUTPUT.replace("out.h5", "no/out.h5")).forward()
