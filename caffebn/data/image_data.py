"""ImageData: batches of picture files named in a list."""

from __future__ import annotations

import os

import numpy as np

from caffebn.data import picture
from caffebn.data.base import DataLayer, Source, array_like, random_numbers, shuffled
from caffebn.data.lists import read_image_list
from caffebn.data.prefetch import Batch
from caffebn.data.transformer import Transformer
from caffebn.errors import CaffebnError, FileError
from caffebn.layers.base import layer
from caffebn.proto import Message

__all__ = ["ImageData"]


@layer("ImageData", "image_data_param")
class ImageData(DataLayer):
    """Hand out the pictures of a list in its order, or shuffled, again and again.

    no bottoms -> top 0 (batch_size, 3 or 1, height, width), BGR, transformed as `transform_param` says;
    top 1: the labels (batch_size).  Batches run over the end of the list.  Both phases alike, but for the place
    of a crop; no gradient.

    A line of the list is the name of a file and its label.  `root_folder` is put in front of the name as it
    is.  `new_height` and `new_width` resize bilinearly.  `shuffle` orders each epoch anew.  With `rand_skip` the
    layer starts at a random picture before that one.

    Raises
    ------
    NetError
        No `source`, `batch_size` 0, one of `new_height` and `new_width` without the other, a transform that does
        not fit the pictures.
    FileError, FormatError
        The list or a picture cannot be read; the message names the line of the list.
    MissingPackageError
        Without Pillow.

    Notes
    -----
    Pictures are resized as OpenCV does, without smoothing, see `caffebn.data.picture.resize`.
    Source: Caffe image_data_layer.
    """

    n_tops = 2

    def open(self, tops: int) -> Source:
        p = self.param
        if not p.source:
            raise self.error("image_data_param must give source, a list of pictures", "source")
        if (p.new_height > 0) != (p.new_width > 0):
            raise self.error("give both new_height and new_width, or neither", "new_height")
        return _Pictures(p, Transformer(self.spec.transform_param, self.phase), self.dtype)


class _Pictures(Source):
    """Batches of the pictures of a list."""

    def __init__(self, param: Message, transformer: Transformer, dtype: np.dtype):
        self._param = param
        self._entries = read_image_list(param.source)
        self.items = len(self._entries)
        self._transformer = transformer
        self._dtype = dtype
        self._order: tuple[tuple[int, int], np.ndarray] | None = None

    def shapes(self, position: int, seed: int) -> list[tuple[int, ...]]:
        values = self._read(self._index(position, seed))
        return self._shapes(values)

    def batch(self, position: int, seed: int, old: Batch) -> Batch:
        size = self._param.batch_size
        chosen = [self._index(position + i, seed) for i in range(size)]
        items = [self._read(i) for i in chosen]
        shape, label_shape = self._shapes(items[0])
        made = [array_like(old, i, s, self._dtype) for i, s in enumerate((shape, label_shape))]
        rng = random_numbers(seed, position) if self._transformer.random else None
        self._transformer(items, made[0], rng)
        made[1][...] = [self._entries[i].label for i in chosen]
        return made

    def _shapes(self, values: np.ndarray) -> list[tuple[int, ...]]:
        size = self._param.batch_size
        return [(size, *self._transformer.shape(values.shape)), (size,)]

    def _index(self, position: int, seed: int) -> int:
        epoch, index = divmod(position, self.items)
        if not self._param.shuffle:
            return index
        if self._order is None or self._order[0] != (seed, epoch):
            self._order = (seed, epoch), shuffled(self.items, seed, epoch)
        return int(self._order[1][index])

    def _read(self, index: int) -> np.ndarray:
        p, entry = self._param, self._entries[index]
        try:
            values = picture.read(p.root_folder + entry.name, p.is_color)
        except CaffebnError as e:
            message = e.message
            if isinstance(e, FileError) and os.path.exists(os.path.join(p.root_folder, entry.name)):
                message += f'; root_folder is put in front as it is: write "{p.root_folder}/"'
            raise type(e)(f"{p.source}:{entry.line}: {message}") from e
        return picture.resize(values, p.new_height, p.new_width) if p.new_height else values
