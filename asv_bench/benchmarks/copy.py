"""Copies into and out of parts of blobs: Concat, Slice, Split, Crop; rows by their indices: Embed."""

from __future__ import annotations

import numpy as np

from .common import ALL_THREADS, BACKENDS, BATCH, DTYPES, LEVELS, THREADS, Kernels, random

#: (columns of the part, columns of the whole)
PARTS = {"googlenet inception, 64 of 256 channels": (64 * 28 * 28, 256 * 28 * 28)}


class _Copy(Kernels):
    def prepare(self, case: str, dtype: str) -> None:
        columns, total = PARTS[case]
        self.offset = columns
        self.part = self.backend.array(random((BATCH, columns), dtype))
        self.whole = self.backend.array(np.zeros((BATCH, total), dtype))

    def time_copy_into(self, *_):
        self.ops.copy_into(self.part, self.whole, self.offset)
        self.backend.wait()

    def time_copy_from(self, *_):
        self.ops.copy_from(self.whole, self.offset, self.part)
        self.backend.wait()

    def time_add_from(self, *_):
        self.ops.add_from(self.whole, self.offset, self.part)
        self.backend.wait()


class Parts(_Copy):
    """Parts as published nets have them, on one core and on all, CPU and GPU."""

    params = [list(PARTS), ["float32"], THREADS, BACKENDS]


class Levels(_Copy):
    """One part at each instruction-set level, in both dtypes."""

    params = [list(PARTS), DTYPES, [ALL_THREADS], LEVELS]


#: (outputs of a fully convolutional net, its side, side of the picture it is cropped to)
CROPS = {"fcn score, 21 x 568 to 500": (21, 568, 500)}

#: (rows of the table, columns, rows picked)
TABLES = {"word vectors, 512 of 20000 x 300": (20000, 300, 512)}


class _Crop(Kernels):
    def prepare(self, case: str, dtype: str) -> None:
        channels, side, wanted = CROPS[case]
        self.offset = (0, 0, (side - wanted) // 2, (side - wanted) // 2)
        self.whole = self.backend.array(random((1, channels, side, side), dtype))
        self.block = self.backend.array(random((1, channels, wanted, wanted), dtype))

    def time_copy_block(self, *_):
        self.ops.copy_block(self.whole, self.offset, self.block)
        self.backend.wait()

    def time_paste_block(self, *_):
        self.ops.paste_block(self.block, self.whole, self.offset)
        self.backend.wait()


class Crops(_Crop):
    """A crop as a fully convolutional net has it, on one core and on all, CPU and GPU."""

    params = [list(CROPS), ["float32"], THREADS, BACKENDS]


class _Rows(Kernels):
    def prepare(self, case: str, dtype: str) -> None:
        rows, columns, picked = TABLES[case]
        self.table = self.backend.array(random((rows, columns), dtype))
        self.picked = self.backend.array(random((picked, columns), dtype))
        self.index = self.backend.array(np.arange(picked, dtype=np.int32) * 37 % rows)

    def time_gather_rows(self, *_):
        self.ops.gather_rows(self.table, self.index, self.picked)
        self.backend.wait()

    def time_scatter_add_rows(self, *_):
        self.ops.scatter_add_rows(self.picked, self.index, self.table)
        self.backend.wait()


class Rows(_Rows):
    """Rows of a table of word vectors, on one core and on all, CPU and GPU."""

    params = [list(TABLES), ["float32"], THREADS, BACKENDS]
