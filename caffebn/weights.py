"""Weights by layer name: .caffemodel, .caffemodel.h5, .npz and .safetensors files, into and out of nets.

This module knows layers' parameter blobs, ``{layer name: [blob, ...]}``, and nothing of nets.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from caffebn.blob import Blob, Memory, times
from caffebn.errors import (
    CaffebnWarning,
    FileError,
    FormatError,
    WeightsError,
    did_you_mean,
    missing_package,
    some,
)
from caffebn.files import replacing
from caffebn.ops import threads
from caffebn.proto import Message, binary, blob_array, make_blob, upgrade
from caffebn.tensors import read_tensors

if TYPE_CHECKING:
    import h5py

__all__ = [
    "Report",
    "as_stored",
    "blob_arrays",
    "by_layer",
    "blob_messages",
    "copy_weights",
    "h5py_package",
    "is_hdf5",
    "is_stored",
    "read_hdf5",
    "read_stored",
    "read_weights",
    "same_shape",
    "stored_arrays",
    "write_hdf5",
]

Weights = Mapping[str, Sequence["np.ndarray | None"]]

_PIECE = 2**19  # values that one thread copies at a time

MAX_BLOBS = 1000
"""More blobs in one layer than any file has; a larger index is taken for damage."""


@dataclass
class Report:
    """What happened to each layer when weights were copied into a net.

    Attributes
    ----------
    source : str
        Where the weights came from.
    matched : list of str
        Layers that got weights.
    missing : list of str
        Layers of the net with parameters for which the file has none: they keep what they had.
    unused : list of str
        Layers of the file with weights that the net does not have.
    notes : list of str
        Words on what deserves a look, e.g. a BatchNorm whose factor is 0.
    """

    source: str
    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Refuse weights of which not one layer is in the net: what fillers drew would pass for what was trained.

        Raises
        ------
        WeightsError
        """
        if self.missing and not self.matched:
            raise WeightsError(
                f"{self.source}: not the weights of this net: not one layer with parameters has a name that is in both"
            )

    def __str__(self) -> str:
        lines = [f"{self.source}: {len(self.matched)} layers got weights"]
        if self.missing:
            lines.append(f"not in the file, unchanged: {', '.join(self.missing)}")
        if self.unused:
            lines.append(f"not in the net, not used: {', '.join(self.unused)}")
        return "\n".join(lines + self.notes)


def read_weights(path: str | os.PathLike[str]) -> dict[str, list[np.ndarray | None]]:
    """Read the blobs of every layer of a .caffemodel or, by its ending, of a .h5, .npz or .safetensors file.

    In the last two the arrays are named ``<layer>/<index of the blob>``, as `blob_arrays` names them.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    dict of list of ndarray
        By layer name, in file order; layers without blobs have an empty list.  The arrays of a .caffemodel
        are read-only views of the mapped file.

    Raises
    ------
    FileError
        The file cannot be read.
    FormatError
        It is damaged, or another kind of file.
    """
    if is_stored(path):
        return stored_arrays(read_stored(path), str(path))
    if is_hdf5(path):
        return read_hdf5(path)
    return by_layer(path, read_tensors(path))


def is_stored(path: str | os.PathLike[str]) -> bool:
    """Whether a file of weights, by its ending, is a .caffemodel: a NetParameter, and not arrays by name alone."""
    return not is_hdf5(path) and not str(path).endswith((".npz", ".safetensors"))


def is_hdf5(path: str | os.PathLike[str]) -> bool:
    """Whether a file of weights, by its ending, is HDF5."""
    return str(path).endswith((".h5", ".hdf5"))


def read_stored(path: str | os.PathLike[str]) -> Message:
    """Read a .caffemodel as a NetParameter in the present form.

    Raises
    ------
    FileError, FormatError
        As `read_weights`.
    """
    net = binary.read(path)
    upgrade.net(net, str(path))
    return net


def as_stored(weights: Weights, types: Mapping[str, str]) -> Message:
    """Make a NetParameter of arrays by layer name, with layer types by name as far as they are known."""
    net = Message("NetParameter")
    for name, arrays in weights.items():
        layer = net.add("layer", name=name, type=types.get(name, ""))
        layer.blobs = [make_blob(np.asarray(array)) for array in arrays if array is not None]
    return net


def stored_arrays(net: Message, source: str) -> dict[str, list[np.ndarray | None]]:
    """Return the blobs of every layer of a NetParameter by layer name; `source` is for errors.

    Raises
    ------
    FormatError
        A blob is damaged.
    """
    weights: dict[str, list[np.ndarray | None]] = {}
    for layer in net.layer:
        blobs: list[np.ndarray | None] = []
        for i, blob in enumerate(layer.blobs):
            try:
                blobs.append(blob_array(blob))
            except FormatError as e:
                raise FormatError(f'{source}: layer "{layer.name}", blob {i}: {e.message}') from None
        weights[layer.name] = blobs
    return weights


def by_layer(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray]
) -> dict[str, list[np.ndarray | None]]:
    """Gather arrays named ``<layer>/<index of the blob>`` by layer, in the order of the indices.

    Parameters
    ----------
    path : path-like
        What errors call the file.
    tensors : mapping

    Raises
    ------
    FormatError
        Another name, or values that are no real numbers.
    """
    layers: dict[str, dict[int, np.ndarray]] = {}
    for name, array in tensors.items():
        layer, _, index = name.rpartition("/")
        if not layer or not index.isdecimal() or int(index) >= MAX_BLOBS:
            raise FormatError(
                f'{path}: array "{name}": expected names of the form <layer>/<index>, such as "conv1/0"; to take '
                "weights with other names use caffebn import-weights"
            )
        if array.dtype.kind != "f":
            raise FormatError(f'{path}: array "{name}": expected real numbers, found {array.dtype}')
        layers.setdefault(layer, {})[int(index)] = array
    return {layer: [arrays.get(i) for i in range(max(arrays) + 1)] for layer, arrays in layers.items()}


def blob_arrays(layers: Mapping[str, Sequence[Blob]]) -> dict[str, np.ndarray]:
    """Return the values of parameter blobs under the names ``<layer>/<index>``, as `read_weights` takes them."""
    return {f"{layer}/{i}": blob.data for layer, blobs in layers.items() for i, blob in enumerate(blobs)}


def copy_weights(
    params: Mapping[str, Sequence[Blob]],
    types: Mapping[str, str],
    weights: Weights,
    source: str = "weights",
    strict: bool = False,
) -> Report:
    """Copy weights into parameter blobs of the same layer name, by Caffe's rules.

    The number of blobs must match.  Shapes must be equal; a shape written in the old way (four numbers) may
    have leading ones.  Nothing is copied when anything does not fit.  Of blobs that share memory, the last one in
    `weights` counts.

    Parameters
    ----------
    params : mapping
        Parameter blobs by layer name; layers without any may be left out.
    types : mapping
        Layer type by layer name, for all layers of the net.
    weights : mapping
        Arrays by layer name.
    source : str
        Name of the file, for messages.
    strict : bool
        Refuse weights that leave a layer of the net without, or that the net does not use.

    Returns
    -------
    Report

    Raises
    ------
    WeightsError
        Number of blobs or shapes differ, or, with `strict`, names do.

    Warns
    -----
    CaffebnWarning
        When no layer matched, or a BatchNorm's factor is 0 or negative.
    """
    report = Report(source)
    copies: dict[
        Memory, tuple[np.ndarray, np.ndarray]
    ] = {}  # of memory that is shared by name, the last one counts
    for name, arrays in weights.items():
        if name not in types:
            if arrays:
                report.unused.append(name)
            continue
        blobs = params.get(name, ())
        stored = [array for array in arrays if array is not None]
        if len(stored) != len(blobs) or len(arrays) != len(blobs):
            raise WeightsError(_count_message(source, name, types[name], len(blobs), len(stored)))
        for i, (blob, array) in enumerate(zip(blobs, stored, strict=True)):
            if not same_shape(blob.shape, array.shape):
                raise WeightsError(
                    f'{source}: layer "{name}" ({types[name]}), blob {i}: '
                    f"the net expects {times(blob.shape, 'one value')}, "
                    f"the file has {times(array.shape, 'one value')}; to start this layer afresh, rename it in the net"
                )
            if array is not blob.data:
                copies[blob.memories[0]] = blob.data.reshape(-1), array.reshape(-1)
        if blobs:
            report.matched.append(name)
            report.notes += _notes(name, types[name], stored)
    matched = set(report.matched)
    report.missing = [name for name in params if name not in matched]
    if strict and (report.missing or report.unused):
        near = [did_you_mean(n, report.unused) for n in report.missing]
        raise WeightsError(f"{report}{next(filter(None, near), '')}")
    _copy(list(copies.values()))
    if not report.matched and params:
        report.notes.append(
            f"no layer of {source} has the name of a layer of the net with parameters: nothing was copied "
            f"(the net has {some(params)}; the file has {some(n for n, a in weights.items() if a)})"
        )
    for note in report.notes:
        warnings.warn(note, CaffebnWarning, stacklevel=3)
    return report


def _copy(copies: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Copy flat arrays in the kernels' number of threads, of which each takes the next piece when it is ready."""
    pieces = [
        (to[at : at + _PIECE], of[at : at + _PIECE]) for to, of in copies for at in range(0, len(to), _PIECE)
    ]

    def work() -> None:
        while pieces:
            try:
                to, of = pieces.pop()
            except IndexError:  # another thread was quicker
                return
            np.copyto(to, of, casting="same_kind")

    helpers = min(threads.for_work(sum(len(to) for to, _ in copies)), len(pieces)) - 1
    if helpers < 1:
        work()
        return
    with ThreadPoolExecutor(helpers) as pool:
        helping = [pool.submit(work) for _ in range(helpers)]
        work()
        for helper in helping:
            helper.result()


def same_shape(expected: tuple[int, ...], found: tuple[int, ...]) -> bool:
    """Whether a stored blob fits: equal shapes, or the old form of four numbers, aligned at the right."""
    return expected == found or (
        len(found) == 4 and len(expected) < 4 and (1,) * (4 - len(expected)) + expected == found
    )


def _count_message(source: str, name: str, kind: str, expected: int, found: int) -> str:
    text = f'{source}: layer "{name}" ({kind}): the net expects {expected} blobs, the file has {found}'
    if kind == "BatchNorm":
        return (
            f"{text}. Caffe's BatchNorm stores sum of means, sum of variances and a factor; a file with "
            + (
                "two blobs lacks the factor: if they are the statistics themselves, add a third blob that holds 1"
                if found == 2
                else "another number comes from a fork of Caffe whose layer also scales: give the weights when the "
                "net is made, or convert them with caffebn convert-bn"
            )
        )
    return f"{text}: is bias_term the same in both?"


def _notes(name: str, kind: str, arrays: Sequence[np.ndarray]) -> list[str]:
    if kind != "BatchNorm":
        return []
    factor = float(arrays[2].reshape(-1)[0])
    if factor == 0 and any(np.any(a) for a in arrays[:2]):
        return [
            f'layer "{name}" (BatchNorm): the factor (blob 2) is 0 although statistics are stored; like Caffe, '
            "caffebn takes mean and variance as 0 then. A file from NVCaffe means factor 1: write 1 into blob 2"
        ]
    if factor == 0:
        return [f'layer "{name}" (BatchNorm): no statistics yet (factor 0): mean and variance count as 0']
    if factor < 0 or not np.isfinite(factor):
        return [f'layer "{name}" (BatchNorm): the factor (blob 2) is {factor:g}, expected a positive number']
    if np.any(arrays[1] < 0):
        return [f'layer "{name}" (BatchNorm): stored variances (blob 1) are negative, expected none']
    return []


# -- HDF5: data/<layer>/<index> and, when asked, diff/<layer>/<index> ------------------------------------


def h5py_package(purpose: str = "reading and writing HDF5 weights") -> ModuleType:
    """Return the package h5py, or say what needs it."""
    try:
        import h5py
    except ImportError:
        raise missing_package("h5py", "data", purpose) from None
    return h5py


def read_hdf5(path: str | os.PathLike[str]) -> dict[str, list[np.ndarray | None]]:
    """Read the blobs of every layer of a .caffemodel.h5 file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    dict of list of ndarray or None
        By layer name; layers without blobs have an empty list.  A blob that another layer of the same file
        owns (parameters shared by name) is not stored and is None, or missing at the end.

    Raises
    ------
    MissingPackageError
        h5py is not installed.
    FileError, FormatError
        The file cannot be read, or has no ``data`` group as Caffe writes it.
    """
    h5py = h5py_package()
    if not Path(path).is_file():
        raise FileError(f"{path}: there is no such file")
    try:
        file = h5py.File(path, "r")
    except OSError as e:
        raise FormatError(f"{path}: not an HDF5 file: {e}") from None
    with file:
        if not isinstance(file.get("data"), h5py.Group):
            raise FormatError(f'{path}: no group "data": expected the layout data/<layer>/<index> of Caffe')
        return {name: _layer_arrays(path, name, group) for name, group in file["data"].items()}


def _layer_arrays(path: str | os.PathLike[str], name: str, group: h5py.Group) -> list[np.ndarray | None]:
    arrays: dict[int, np.ndarray] = {}
    for key, entry in group.items():
        if not key.isdecimal() or int(key) >= MAX_BLOBS or not hasattr(entry, "dtype"):
            raise FormatError(f'{path}: layer "{name}": expected data sets named 0, 1, ..., found "{key}"')
        if entry.dtype.kind != "f":
            raise FormatError(
                f'{path}: layer "{name}", blob {key}: expected real numbers, found {entry.dtype}'
            )
        arrays[int(key)] = np.asarray(entry)
    return [arrays.get(i) for i in range(max(arrays, default=-1) + 1)]


def write_hdf5(
    path: str | os.PathLike[str],
    layers: Mapping[str, Sequence[Blob]],
    owned: Mapping[str, Sequence[bool]],
    diff: bool,
) -> None:
    """Write blobs as .caffemodel.h5, whole or not at all.

    Parameters
    ----------
    path : path-like
    layers : mapping
        Blobs of all layers, in net order; layers without any get an empty group, as Caffe writes it.
    owned : mapping
        For each blob whether the layer owns it; a shared one is stored with its owner only.
    diff : bool
        Write gradients, too.
    """
    h5py = h5py_package()
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for kind in ("data", "diff") if diff else ("data",):
            for name, blobs in layers.items():
                group = file.create_group(f"{kind}/{name}")
                for i, blob in enumerate(blobs):
                    if owned[name][i]:
                        group.create_dataset(str(i), data=getattr(blob, kind))


def blob_messages(layer: Message, blobs: Sequence[Blob], diff: bool) -> None:
    """Store blobs in a LayerParameter for writing."""
    for blob in blobs:
        kept = layer.add("blobs")
        kept.mutable("shape").dim = list(blob.shape)
        double = blob.dtype == np.float64
        setattr(kept, "double_data" if double else "data", blob.data.reshape(-1))
        if diff:
            setattr(kept, "double_diff" if double else "diff", blob.diff.reshape(-1))
