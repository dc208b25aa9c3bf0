"""Arrays by name in files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from caffebn import Net
from caffebn.errors import ArgumentError, FileError, FormatError
from caffebn.tensors import read_tensors, write_tensors

TENSORS = {
    "a/b/0": np.arange(6, dtype=np.float32).reshape(2, 3),
    "file": np.float64(2.5),
    "empty": np.zeros((0, 4), np.float32),
    "half": np.array([1, 0.5], np.float16),
    "steps": np.array(7, np.int64),
    "big endian": np.arange(3, dtype=">f4"),
    "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "flags": np.array([True, False]),
}


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_round_trip(tmp_path, ending):
    write_tensors(tmp_path / f"t{ending}", TENSORS)
    found = read_tensors(tmp_path / f"t{ending}")
    assert list(found) == list(TENSORS)
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].shape == np.shape(array) and found[name].dtype.kind == array.dtype.kind


def test_the_package_safetensors_agrees(tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    write_tensors(tmp_path / "ours.safetensors", TENSORS)
    theirs = package.load_file(tmp_path / "ours.safetensors")
    assert theirs.keys() == TENSORS.keys()
    assert all(np.array_equal(theirs[name], TENSORS[name]) for name in TENSORS)
    plain = {name: np.ascontiguousarray(a).astype(a.dtype.newbyteorder("=")) for name, a in TENSORS.items()}
    package.save_file(plain, tmp_path / "theirs.safetensors", metadata={"format": "np"})
    found = read_tensors(tmp_path / "theirs.safetensors")
    assert found.keys() == TENSORS.keys()
    assert all(np.array_equal(found[name], plain[name]) for name in plain)


def test_numpy_reads_our_npz(tmp_path):
    write_tensors(tmp_path / "t.npz", TENSORS)
    with np.load(tmp_path / "t.npz") as file:
        assert set(file.files) == set(TENSORS)


def test_bfloat16(tmp_path):
    header = json.dumps({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "t.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\x80\x3f\x20\xc0")
    np.testing.assert_array_equal(
        read_tensors(tmp_path / "t.safetensors")["x"], np.array([1, -2.5], np.float32)
    )


def entry(**changes):
    return {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"abc", "expected at least 8 bytes, found 3"),
        (b"\xff" * 16, "a header of 18446744073709551615 bytes in a file of 16"),
        (b"{", "its header is not JSON"),
        (b"[1]", "expected names and places, found list"),
        (b"[" * 5000, "its header is not JSON"),
        (entry(dtype="F8"), 'array "x": .F8'),
        (entry(shape=[-2]), "sizes and places must be whole numbers"),
        (entry(shape=[3]), "bytes 0 to 8 of 8 do not hold .3. of F32"),
        (entry(data_offsets=[4, 12]), "bytes 4 to 12 of 8 do not hold"),
        (entry(data_offsets=[0]), "not enough values to unpack"),
        (entry(shape=None), 'array "x"'),
        ({"x": 3}, 'array "x"'),
    ],
)
def test_damage(tmp_path, content, said):
    path = tmp_path / "t.safetensors"
    if isinstance(content, dict):
        content = json.dumps(content).encode()
    if len(content) > 3 and content != b"\xff" * 16 or content in (b"{", b"[1]"):
        content = len(content).to_bytes(8, "little") + content + bytes(8)
    path.write_bytes(content)
    with pytest.raises(FormatError, match=said):
        read_tensors(path)


def test_npz_that_is_none(tmp_path):
    (tmp_path / "t.npz").write_bytes(b"no archive")
    with pytest.raises(FormatError, match="t.npz: not a .npz file of plain arrays"):
        read_tensors(tmp_path / "t.npz")
    np.savez(tmp_path / "o.npz", x=np.array([{}], object))
    with pytest.raises(FormatError, match="not a .npz file of plain arrays"):
        read_tensors(tmp_path / "o.npz")


def test_names(tmp_path):
    with pytest.raises(FileError, match="there is no such file"):
        read_tensors(tmp_path / "t.npz")
    (tmp_path / "t.txt").touch()
    with pytest.raises(FormatError, match="expected a file that ends in .npz or .safetensors"):
        read_tensors(tmp_path / "t.txt")
    with pytest.raises(ArgumentError, match="expected a name that ends in .npz or .safetensors"):
        write_tensors(tmp_path / "t.txt", {})
    with pytest.raises(ArgumentError, match='array "c": .safetensors has no complex64'):
        write_tensors(tmp_path / "t.safetensors", {"c": np.zeros(1, np.complex64)})


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("conv1.weight", np.zeros(2), "expected names of the form <layer>/<index>.*caffebn import-weights"),
        ("conv1/x", np.zeros(2), "expected names of the form"),
        ("conv1/0", np.zeros(2, np.int64), 'array "conv1/0": expected real numbers, found int64'),
    ],
)
def test_weights_of_a_net_need_its_names(tmp_path, name, array, said):
    write_tensors(tmp_path / "w.npz", {name: array})
    net = Net.from_text('layer { name: "d" type: "Input" top: "d" }', "TEST")
    with pytest.raises(FormatError, match=said):
        net.copy_from(tmp_path / "w.npz")
