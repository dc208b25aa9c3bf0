"""Data: batches out of an LMDB."""

from __future__ import annotations

import os
import warnings
from functools import partial

import numpy as np

from caffebn.data.base import DataLayer, Source, array_like, random_numbers
from caffebn.data.database import Database
from caffebn.data.datum import Decoder
from caffebn.data.prefetch import Batch
from caffebn.data.transformer import Items, Transformer
from caffebn.errors import CaffebnWarning
from caffebn.layers.base import layer
from caffebn.proto import binary

__all__ = ["Data"]


@layer("Data", "data_param")
class Data(DataLayer):
    """Hand out the records of an LMDB in the order of their keys, again and again.

    no bottoms -> top 0 (batch_size, channels, height, width), transformed as `transform_param` says;
    top 1, optional: the labels (batch_size).  Batches run over the end of the database.  Both phases alike, but
    for the place of a crop; no gradient.

    With `rand_skip` the layer starts at a random record before that one.  `prefetch` batches are made ahead;
    with 0 each is made when the net asks for it.  Records may differ in height and width from batch to
    batch; within one, when they are cropped.

    Raises
    ------
    NetError
        No `source`, `batch_size` 0, a transform that does not fit the records.
    FileError, FormatError
        The database does not exist, is a LevelDB, is empty, or a record is no Datum.
    MissingPackageError
        Without lmdb, or without Pillow for compressed pictures.

    Notes
    -----
    Pictures are decoded to BGR, as Caffe does; the old `force_encoded_color` does what `force_color` of
    `transform_param` does.  Source: Caffe data_layer, data_reader.
    """

    n_tops = (1, 2)

    def open(self, tops: int) -> Source:
        source = self.param.source
        if not source:
            raise self.error("data_param must give source, the folder of an LMDB", "source")
        transformer = Transformer(self.spec.transform_param, self.phase)
        if self.param.backend == "LEVELDB" and os.path.exists(os.path.join(source, "data.mdb")):
            raise self.error(
                f'"{source}" is an LMDB: write backend: LMDB (without it, Caffe takes it for a LevelDB)',
                "backend",
            )
        color = True if self.param.force_encoded_color else transformer.color
        records = _Records(Database(source), transformer, color, self.batch_size, tops == 2, self.dtype)
        if color is not None and not records.encoded:
            warnings.warn(
                f'layer "{self.name}" (Data): the records of "{source}" are not compressed pictures: '
                "force_color and force_gray have no effect",
                CaffebnWarning,
                stacklevel=2,
            )
        return records


class _Records(Source):
    """Batches of the records of a database."""

    def __init__(
        self,
        database: Database,
        transformer: Transformer,
        color: bool | None,
        batch_size: int,
        labels: bool,
        dtype: np.dtype,
    ):
        self.items = database.records
        self._database = database
        self._transformer = transformer
        self._decode = Decoder(color)
        self._batch_size = batch_size
        self._labels = labels
        self._dtype = dtype

    @property
    def encoded(self) -> bool:
        """Whether the first record is a compressed picture."""
        return binary.parse(self._database.read(0, 1)[0], "Datum", self._name(0, 0)).encoded

    def shapes(self, position: int, seed: int) -> list[tuple[int, ...]]:
        items, _ = self._read(position, 1)
        shape = (self._batch_size, *self._transformer.shape(items[0].shape))
        return [shape, (self._batch_size,)] if self._labels else [shape]

    def batch(self, position: int, seed: int, old: Batch) -> Batch:
        items, labels = self._read(position, self._batch_size)
        shape = (self._batch_size, *self._transformer.shape(items[0].shape))
        made = [array_like(old, 0, shape, self._dtype)]
        rng = random_numbers(seed, position) if self._transformer.random else None
        self._transformer(items, made[0], rng)
        if self._labels:
            made.append(np.array(labels, self._dtype))
        return made

    def _read(self, position: int, count: int) -> tuple[Items, list[int]]:
        records = self._database.read(position, count)
        return self._decode(records, partial(self._name, position))

    def _name(self, position: int, index: int) -> str:
        return f"{self._database.path}, record {(position + index) % self.items} of {self.items}"
