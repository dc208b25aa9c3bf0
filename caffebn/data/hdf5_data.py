"""HDF5Data: batches out of HDF5 files named in a list."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from caffebn.data.base import DataLayer, Source, array_like, shuffled
from caffebn.data.lists import read_text
from caffebn.data.prefetch import Batch
from caffebn.errors import FileError, FormatError, did_you_mean
from caffebn.layers.base import layer, times
from caffebn.weights import h5py_package

__all__ = ["HDF5Data"]


@layer("HDF5Data", "hdf5_data_param")
class HDF5Data(DataLayer):
    """Hand out the rows of HDF5 files, file after file, again and again.

    no bottoms -> top i (batch_size, ...): the rows of the data set that has the name of the top, of any
    number of axes, converted to the net's dtype.  Batches run over the ends of files, and over the end of the
    list.  Both phases alike; no gradient.

    `source` is a text file that names the HDF5 files.  `shuffle` orders the files anew in each epoch, and the
    rows within each.  One file at a time is in memory.

    Raises
    ------
    NetError
        No `source`, `batch_size` 0, or a `transform_param`, which has no meaning here.
    FileError, FormatError
        A file cannot be read, lacks a data set, or has data sets that fit neither each other nor the other
        files.
    MissingPackageError
        Without h5py.

    Notes
    -----
    Caffe reads in the net's own thread; here the rows are read ahead.  Source: Caffe hdf5_data_layer.
    """

    n_tops = (1, None)

    def open(self, tops: int) -> Source:
        p = self.param
        if self.spec.has("transform_param"):
            raise self.error(
                "HDF5Data does not transform its data: remove transform_param, and store the data as it shall be",
                "transform_param",
            )
        if not p.source:
            raise self.error("hdf5_data_param must give source, a list of HDF5 files", "source")
        return _Rows(p.source, list(self.spec.top), p.batch_size, p.shuffle, self.dtype)


class _Rows(Source):
    """Batches of the rows of HDF5 files."""

    def __init__(self, source: str, names: Sequence[str], batch_size: int, shuffle: bool, dtype: np.dtype):
        self._names = names
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._dtype = dtype
        self._files = read_text(source).split()
        if not self._files:
            raise FormatError(f"{source}: the list is empty")
        self._shapes = self._check_file(self._files[0])
        self._counts = [shapes[0][0] for shapes in map(self._check_file, self._files)]
        self.items = sum(self._counts)
        if not self.items:
            raise FormatError(f"{source}: none of the files has a row")
        self._loaded: tuple[int, list[np.ndarray]] = -1, []
        self._order: tuple[tuple[int, int], list[int], list[int]] = (-1, -1), [], []
        self._rows: tuple[tuple[int, int, int], np.ndarray] = (-1, -1, -1), np.empty(0)

    def shapes(self, position: int, seed: int) -> list[tuple[int, ...]]:
        return [(self._batch_size, *shape[1:]) for shape in self._shapes]

    def batch(self, position: int, seed: int, old: Batch) -> Batch:
        made = [array_like(old, i, s, self._dtype) for i, s in enumerate(self.shapes(position, seed))]
        done = 0
        while done < self._batch_size:
            epoch, index = divmod(position + done, self.items)
            file, row = self._find(index, epoch, seed)
            count = min(self._batch_size - done, self._counts[file] - row)
            rows: Any = slice(row, row + count)
            if self._shuffle:
                rows = self._shuffled_rows(file, epoch, seed)[rows]
            for array, values in zip(made, self._load(file), strict=True):
                array[done : done + count] = values[rows]
            done += count
        return made

    def _find(self, index: int, epoch: int, seed: int) -> tuple[int, int]:
        """Return the file of an item of an epoch, and the place in the file."""
        key = (seed, epoch) if self._shuffle else (0, 0)
        if self._order[0] != key:
            n = len(self._files)
            files = shuffled(n, seed, epoch).tolist() if self._shuffle else list(range(n))
            self._order = key, files, list(accumulate((self._counts[f] for f in files), initial=0))
        _, files, starts = self._order
        which = bisect_right(starts, index) - 1
        return files[which], index - starts[which]

    def _shuffled_rows(self, file: int, epoch: int, seed: int) -> np.ndarray:
        if self._rows[0] != (seed, epoch, file):
            self._rows = (seed, epoch, file), shuffled(self._counts[file], seed, epoch, file)
        return self._rows[1]

    def _load(self, file: int) -> list[np.ndarray]:
        if self._loaded[0] != file:
            self._loaded = -1, []  # room first: two files may be more than there is memory
            path = self._files[file]
            h5py = h5py_package(f"Reading {path}")
            try:
                with h5py.File(path, "r") as f:
                    self._loaded = file, [f[name][()] for name in self._names]
            except (OSError, KeyError) as e:
                raise FileError(f"{path}: cannot be read: {e}") from e
            for name, values, shape in zip(self._names, self._loaded[1], self._shapes, strict=True):
                if values.shape != (self._counts[file], *shape[1:]):
                    self._loaded = -1, []
                    raise FormatError(f'{path}: the data set "{name}" has changed since the net was made')
        return self._loaded[1]

    def _check_file(self, path: str) -> list[tuple[int, ...]]:
        """Return the shapes of a file's data sets, having seen that they fit."""
        h5py = h5py_package(f"Reading {path}")
        shapes: list[tuple[int, ...]] = []
        try:
            with h5py.File(path, "r") as f:
                for name in self._names:
                    if name not in f or not isinstance(f[name], h5py.Dataset):
                        raise FormatError(
                            f'{path}: there is no data set "{name}", the name of a top{did_you_mean(name, f)} '
                            f"(found: {', '.join(sorted(f)) or 'none'})"
                        )
                    if f[name].dtype.kind not in "biuf":
                        raise FormatError(
                            f'{path}: the data set "{name}" must hold numbers, found {f[name].dtype}'
                        )
                    shapes.append(f[name].shape)
        except OSError as e:
            if not hasattr(e, "message"):
                raise FileError(f"{path}: not an HDF5 file that can be read: {e}") from e
            raise
        first = getattr(self, "_shapes", shapes)
        for name, shape, expected in zip(self._names, shapes, first, strict=True):
            if not shape or shape[0] != shapes[0][0]:
                raise FormatError(
                    f'{path}: all data sets need the same number of rows: "{self._names[0]}" is '
                    f'{times(shapes[0])}, "{name}" is {times(shape)}'
                )
            if shape[1:] != expected[1:]:
                raise FormatError(
                    f'{path}: the data set "{name}" is {times(shape)}, in {self._files[0]} it is '
                    f"{times(expected)}: all but the first axis must be equal"
                )
        return shapes
