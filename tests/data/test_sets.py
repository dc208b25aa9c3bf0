"""MNIST, Fashion-MNIST, CIFAR-10: every form of their files."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import tarfile
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from caffebn.data import sets
from caffebn.errors import ArgumentError, FileError, FormatError


def idx(values: np.ndarray) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


def write_mnist(folder, compress=True) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    made = {}
    for part, start, n in (("train", "train", 5), ("test", "t10k", 3)):
        images, labels = rng.integers(0, 256, (n, 4, 6), np.uint8), rng.integers(0, 10, n, np.uint8)
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            name = f"{start}-{kind}-ubyte"
            content = idx(values)
            path = folder / (name + ".gz" if compress else name)
            path.write_bytes(gzip.compress(content) if compress else content)
        made[part] = images, labels
    return made


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("compress", [True, False])
def test_mnist(tmp_path, name, compress):
    made = write_mnist(tmp_path, compress)
    found = sets.read_set(name, tmp_path)
    assert set(found) == {"train", "test"}
    for part, (images, labels) in made.items():
        np.testing.assert_array_equal(found[part].images, images[:, None])
        np.testing.assert_array_equal(found[part].labels, labels)


def cifar(n: int = 2) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    return {
        name: (rng.integers(0, 256, (n, 3, 32, 32), np.uint8), rng.integers(0, 10, n, np.uint8))
        for name in names
    }


def write_cifar(folder, form: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    made = cifar()
    contents = {}
    for name, (images, labels) in made.items():
        rows = images.reshape(2, -1)
        if "bin" in form:
            contents[f"{name}.bin"] = np.concatenate([labels[:, None], rows], 1).tobytes()
        elif "py" in form:
            contents[name] = pickle.dumps({b"data": rows, b"labels": labels.tolist()}, protocol=2)
        else:
            file = io.BytesIO()
            Image.fromarray(images.transpose(0, 2, 3, 1).reshape(2, 1024, 3)).save(file, "PNG")
            contents[f"{name}.png"] = file.getvalue()
    if form == "sheets":
        train = np.concatenate([made[f"data_batch_{i}"][1] for i in range(1, 6)])
        contents["train_lables.json"] = json.dumps(train.tolist()).encode()
        contents["test_lables.json"] = json.dumps(made["test_batch"][1].tolist()).encode()
    if form.endswith(".gz"):
        with tarfile.open(folder / form, "w:gz") as archive:
            for name, content in contents.items():
                info = tarfile.TarInfo(f"inside/{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return made
    place = folder if form == "sheets" else folder / form
    place.mkdir(exist_ok=True)
    for name, content in contents.items():
        (place / name).write_bytes(content)
    return made


@pytest.mark.parametrize(
    "form",
    [
        "cifar-10-batches-bin",
        "cifar-10-batches-py",
        "sheets",
        "cifar-10-binary.tar.gz",
        "cifar-10-python.tar.gz",
    ],
)
def test_cifar10(tmp_path, form):
    made = write_cifar(tmp_path, form)
    found = sets.read_set("cifar10", tmp_path)
    train = [made[f"data_batch_{i}"] for i in range(1, 6)]
    np.testing.assert_array_equal(found["train"].images, np.concatenate([i for i, _ in train]))
    np.testing.assert_array_equal(found["train"].labels, np.concatenate([n for _, n in train]))
    np.testing.assert_array_equal(found["test"].images, made["test_batch"][0])
    np.testing.assert_array_equal(found["test"].labels, made["test_batch"][1])


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was here"),)

    write_cifar(tmp_path, "cifar-10-batches-py")
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(pickle.dumps({b"data": Evil()}))
    with pytest.raises(FormatError, match=r"data_batch_3: not a batch .* it asks for posix.mkdir"):
        sets.read_set("cifar10", tmp_path)
    assert not (tmp_path / "was here").exists()


def test_an_unknown_set(tmp_path):
    with pytest.raises(
        ArgumentError, match=r'there is no set "minst"; did you mean "mnist"\? \(known: mnist, '
    ):
        sets.read_set("minst", tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "error", "said"),
    [
        ("train-images-idx3-ubyte", None, FileError, "neither train-images-idx3-ubyte nor"),
        (
            "train-images-idx3-ubyte",
            b"\x00\x00\x08\x01rest",
            FormatError,
            "not an IDX file of bytes with 3 axes",
        ),
        ("t10k-labels-idx1-ubyte", idx(np.zeros(9, np.uint8))[:-1], FormatError, "or not all of it"),
        (
            "t10k-labels-idx1-ubyte",
            idx(np.zeros(9, np.uint8)),
            FormatError,
            "3 pictures and 9 labels in the test",
        ),
        ("t10k-labels-idx1-ubyte", b"\x1f\x8bno", FormatError, "t10k-labels-idx1-ubyte: damaged"),
    ],
)
def test_wrong_files_of_mnist(tmp_path, name, content, error, said):
    write_mnist(tmp_path, compress=False)
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=said):
        sets.read_set("mnist", tmp_path)


@pytest.mark.parametrize(
    ("form", "file", "content", "said"),
    [
        (
            "cifar-10-batches-bin",
            "data_batch_2.bin",
            b"x" * 3074,
            "expected records of 3073 bytes, found 3074",
        ),
        ("cifar-10-batches-bin", "data_batch_2.bin", b"\x0b" * 3073, "expected 1 labels of 0 to 9"),
        ("cifar-10-batches-py", "test_batch", b"no", "not a batch of CIFAR-10's Python version"),
        ("sheets", "data_batch_4.png", b"no", "data_batch_4.png: not a picture"),
        ("sheets", "test_lables.json", b"[1,", "test_lables.json: not a list of labels"),
        ("sheets", "test_lables.json", b"[1]", "expected 2 labels of 0 to 9, one for each picture"),
    ],
)
def test_wrong_files_of_cifar10(tmp_path, form, file, content, said):
    write_cifar(tmp_path, form)
    ((tmp_path if form == "sheets" else tmp_path / form) / file).write_bytes(content)
    with pytest.raises(FormatError, match=said):
        sets.read_set("cifar10", tmp_path)


def test_no_cifar10(tmp_path):
    with pytest.raises(FileError, match="no CIFAR-10 here: expected data_batch_1.bin"):
        sets.read_set("cifar10", tmp_path)
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"no")
    with pytest.raises(FormatError, match="not an archive that can be read"):
        sets.read_set("cifar10", tmp_path)


def test_downloads_are_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"something else"))
    with pytest.raises(FormatError, match="train-images-idx3-ubyte.gz: the download is damaged"):
        sets.download("mnist", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_downloads_are_kept(tmp_path, monkeypatch):
    one = sets.SETS["cifar10"]._replace(files={"a": "900150983cd24fb0d6963f7d28e17f72"})
    monkeypatch.setitem(sets.SETS, "cifar10", one)
    asked = []
    monkeypatch.setattr(
        urllib.request, "urlopen", lambda url, timeout: asked.append(url) or io.BytesIO(b"abc")
    )
    sets.download("cifar10", tmp_path)
    assert asked == [one.url + "a"]
    assert (tmp_path / "a").read_bytes() == b"abc"


def test_without_a_network(tmp_path, monkeypatch):
    def urlopen(url, timeout):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(
        FileError, match=r"cannot be downloaded: no route; without a network, fetch .* with --from"
    ):
        sets.download("mnist", tmp_path)
