"""Softmax, its loss, and accuracy."""

from __future__ import annotations

import numpy as np

from .common import ALL_THREADS, BACKENDS, DTYPES, LEVELS, SEED, THREADS, Kernels, random

#: (items, classes, places)
LAYERS = {"imagenet, 64 images": (64, 1000, 1), "fcn, one image": (1, 21, 500 * 500)}


class _Softmax(Kernels):
    def prepare(self, case: str, dtype: str) -> None:
        n, classes, places = shape = LAYERS[case]
        values = random(shape, dtype)
        label = np.random.default_rng(SEED).integers(classes, size=n * places).astype(dtype)
        self.x, self.y, self.dx = (self.backend.array(values) for _ in range(3))
        self.label = self.backend.array(label)
        self.out = self.backend.array(np.zeros(2))
        self.scale = self.backend.array(np.ones(1))
        self.ops.softmax(self.x, self.y)

    def time_softmax(self, *_):
        self.ops.softmax(self.x, self.y)
        self.backend.wait()

    def time_softmax_loss(self, *_):
        self.ops.softmax_loss(self.y, self.label, None, self.out)
        self.backend.wait()

    def time_softmax_loss_backward(self, *_):
        self.ops.softmax_loss_backward(self.y, self.label, None, self.scale, self.dx)
        self.backend.wait()

    def time_accuracy(self, *_):
        self.ops.accuracy(self.x, self.label, None, 5, self.out, None, None)
        self.backend.wait()


class Layers(_Softmax):
    """A classifier and a dense labelling, on one core and on all, CPU and GPU."""

    params = [list(LAYERS), ["float32"], THREADS, BACKENDS]


class Levels(_Softmax):
    """One layer at each instruction-set level, in both dtypes."""

    params = [["imagenet, 64 images"], DTYPES, [ALL_THREADS], LEVELS]
