"""Copies into and out of parts of blobs: Concat, Slice, Split."""

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
