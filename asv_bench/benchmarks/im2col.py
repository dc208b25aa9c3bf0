"""Patches laid out as channels, and back."""

from __future__ import annotations

from .common import ALL_THREADS, BACKENDS, DTYPES, LEVELS, THREADS, Kernels, random

#: (channels, image side, kernel, stride, pad)
LAYERS = {"vgg conv2, 64 x 112": (64, 112, 3, 1, 1)}


class _Im2col(Kernels):
    def prepare(self, case: str, dtype: str) -> None:
        channels, side, kernel, stride, pad = LAYERS[case]
        pairs = ((value, value) for value in (kernel, stride, pad, 1))
        self.geometry = g = self.ops.ConvGeometry(channels, (side, side), 1, *pairs)
        self.x = self.backend.array(random((1, channels, side, side), dtype))
        self.y = self.backend.array(random((1, channels * kernel * kernel, *g.out_spatial), dtype))
        self.scratch = self.backend.array(random((self.ops.conv_scratch_size(g, 1),), dtype))

    def time_im2col(self, *_):
        self.ops.im2col(self.x, self.y, self.geometry, self.scratch)
        self.backend.wait()

    def time_col2im(self, *_):
        self.ops.col2im(self.y, self.x, self.geometry, self.scratch)
        self.backend.wait()


class Layers(_Im2col):
    """A layer of a published net, on one core and on all, CPU and GPU."""

    params = [list(LAYERS), ["float32"], THREADS, BACKENDS]


class Levels(_Im2col):
    """The same at each instruction-set level, in both dtypes."""

    params = [list(LAYERS), DTYPES, [ALL_THREADS], LEVELS]
