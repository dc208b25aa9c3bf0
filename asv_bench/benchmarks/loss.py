"""Losses beside that of the softmax."""

from __future__ import annotations

import numpy as np

from .common import ALL_THREADS, BACKENDS, DTYPES, LEVELS, THREADS, Kernels, random

#: (items, scores of each)
SCORES = {"1024 items, 1000 classes": (1024, 1000)}


class _Loss(Kernels):
    def prepare(self, case: str, dtype: str) -> None:
        n, classes = SCORES[case]
        scores = random((n, classes), dtype)
        self.x, self.dx = self.backend.array(scores), self.backend.array(scores)
        self.target = self.backend.array((scores > 0).astype(dtype))
        self.label = self.backend.array((np.arange(n) % classes).astype(dtype))
        self.sums, self.sum = self.backend.array(np.zeros(2)), self.backend.array(np.zeros(1))
        self.scale = self.backend.array(np.ones(1))

    def time_sigmoid_cross_entropy(self, *_):
        self.ops.sigmoid_cross_entropy(self.x, self.target, None, self.sums)
        self.backend.wait()

    def time_sigmoid_cross_entropy_backward(self, *_):
        self.ops.sigmoid_cross_entropy_backward(self.x, self.target, None, self.scale, self.dx)
        self.backend.wait()

    def time_hinge_loss(self, *_):
        self.ops.hinge_loss(self.x, self.label, False, self.sum)
        self.backend.wait()

    def time_hinge_loss_backward(self, *_):
        self.ops.hinge_loss_backward(self.x, self.label, False, self.scale, self.dx)
        self.backend.wait()


class Shapes(_Loss):
    """A batch of scores, on one core and on all, CPU and GPU."""

    params = [list(SCORES), ["float32"], THREADS, BACKENDS]


class Levels(_Loss):
    """The same at each instruction-set level, in both dtypes."""

    params = [list(SCORES), DTYPES, [ALL_THREADS], LEVELS]
