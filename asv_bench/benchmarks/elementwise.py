"""Element-wise kernels: activations, sums, products, dropout."""

from __future__ import annotations

import numpy as np

from .common import ALL_THREADS, BACKENDS, DTYPES, LEVELS, THREADS, Kernels, activations


class _Elementwise(Kernels):
    def prepare(self, case: str, dtype: str) -> None:
        values = activations(case, dtype)
        self.x = self.backend.array(values)
        self.y = self.backend.array(values)
        self.out = self.backend.array(values)
        self.mask = self.backend.array((values > 0).astype(np.uint8))
        self.index = self.backend.array(np.zeros(values.shape, np.int32))

    def time_relu(self, *_):
        self.ops.relu(self.x, self.out, 0.0)
        self.backend.wait()

    def time_relu_backward(self, *_):
        self.ops.relu_backward(self.x, self.y, self.out, 0.0)
        self.backend.wait()

    def time_sigmoid(self, *_):
        self.ops.sigmoid(self.x, self.out)
        self.backend.wait()

    def time_elu(self, *_):
        self.ops.elu(self.x, self.out, 1.0)
        self.backend.wait()

    def time_power(self, *_):
        self.ops.power(self.x, self.out, 2.0, 1.0, 0.0)
        self.backend.wait()

    def time_clip_backward(self, *_):
        self.ops.clip_backward(self.x, self.y, self.out, -1.0, 1.0)
        self.backend.wait()

    def time_dropout(self, *_):
        self.ops.dropout(self.x, self.mask, 2.0, self.out)
        self.backend.wait()

    def time_axpy(self, *_):
        self.ops.axpy(self.x, 1e-3, self.out)
        self.backend.wait()

    def time_weighted_sum(self, *_):
        self.ops.weighted_sum(self.x, 1.0, self.y, 1.0, self.out)
        self.backend.wait()

    def time_maximum(self, *_):
        self.ops.maximum(self.x, self.y, 0, 1, self.out, self.index)
        self.backend.wait()


class Shapes(_Elementwise):
    """A large and a small tensor in float32, on one core and on all, CPU and GPU."""

    params = [["res2", "res5"], ["float32"], THREADS, BACKENDS]


class Levels(_Elementwise):
    """One shape at each instruction-set level, in both dtypes."""

    params = [["res3"], DTYPES, [ALL_THREADS], LEVELS]
