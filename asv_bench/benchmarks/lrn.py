"""Local response normalisation, across channels and within them."""

from __future__ import annotations

from .common import ALL_THREADS, BACKENDS, BATCH, DTYPES, LEVELS, THREADS, Kernels, random

#: (channels, image side)
LAYERS = {"alexnet norm1": (96, 55), "googlenet norm2": (192, 56)}


class _LRN(Kernels):
    def prepare(self, case: str, dtype: str) -> None:
        channels, side = LAYERS[case]
        values = random((BATCH, channels, side, side), dtype)
        self.x, self.scale, self.y, self.dx = (self.backend.array(values) for _ in range(4))
        self.ops.lrn_across(self.x, self.scale, self.y, 5, 1e-4, 0.75, 1.0)

    def time_lrn_across(self, *_):
        self.ops.lrn_across(self.x, self.scale, self.y, 5, 1e-4, 0.75, 1.0)
        self.backend.wait()

    def time_lrn_across_backward(self, *_):
        self.ops.lrn_across_backward(self.x, self.y, self.scale, self.x, self.dx, 5, 1e-4, 0.75)
        self.backend.wait()

    def time_lrn_within(self, *_):
        self.ops.lrn_within(self.x, self.scale, self.y, 3, 5e-5, 0.75)
        self.backend.wait()

    def time_lrn_within_backward(self, *_):
        self.ops.lrn_within_backward(self.x, self.y, self.scale, self.x, self.dx, 3, 5e-5, 0.75)
        self.backend.wait()


class Layers(_LRN):
    """Layers of published nets, on one core and on all, CPU and GPU."""

    params = [list(LAYERS), ["float32"], THREADS, BACKENDS]


class Levels(_LRN):
    """One layer at each instruction-set level, in both dtypes."""

    params = [["alexnet norm1"], DTYPES, [ALL_THREADS], LEVELS]
