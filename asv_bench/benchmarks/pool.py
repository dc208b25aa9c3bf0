"""Pooling: maxima and averages over windows."""

from __future__ import annotations

import numpy as np

from .common import ALL_THREADS, BACKENDS, BATCH, DTYPES, LEVELS, THREADS, Kernels, random

#: (channels, image side, kernel, stride, pad, output side by Caffe's rule)
LAYERS = {
    "resnet50 pool1 3x3/2": (64, 112, 3, 2, 0, 56),
    "vgg16 pool4 2x2/2": (512, 28, 2, 2, 0, 14),
    "googlenet 3x3/1": (480, 14, 3, 1, 1, 14),
    "resnet50 pool5 7x7": (2048, 7, 7, 1, 0, 1),
}


class _Pool(Kernels):
    def prepare(self, case: str, dtype: str) -> None:
        channels, side, kernel, stride, pad, out = LAYERS[case]
        self.window = (kernel,) * 2, (stride,) * 2, (pad,) * 2
        self.x = self.backend.array(random((BATCH, channels, side, side), dtype))
        self.dx = self.backend.array(np.zeros((BATCH, channels, side, side), dtype))
        self.y = self.backend.array(random((BATCH, channels, out, out), dtype))
        self.index = self.backend.array(np.zeros((BATCH, channels, out, out), np.int32))

    def time_max_pool(self, *_):
        self.ops.max_pool(self.x, self.y, self.index, *self.window)
        self.backend.wait()

    def time_max_pool_backward(self, *_):
        self.ops.max_pool_backward(self.y, self.index, self.dx)
        self.backend.wait()

    def time_ave_pool(self, *_):
        self.ops.ave_pool(self.x, self.y, *self.window)
        self.backend.wait()

    def time_ave_pool_backward(self, *_):
        self.ops.ave_pool_backward(self.y, self.dx, *self.window)
        self.backend.wait()


class Layers(_Pool):
    """Layers of published nets, on one core and on all, CPU and GPU."""

    params = [list(LAYERS), ["float32"], THREADS, BACKENDS]


class Levels(_Pool):
    """One layer at each instruction-set level, in both dtypes."""

    params = [["vgg16 pool4 2x2/2"], DTYPES, [ALL_THREADS], LEVELS]
