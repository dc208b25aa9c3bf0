"""Steps of the solvers, on as many parameters as ResNet-50 and as a small perceptron have."""

from __future__ import annotations

import numpy as np

from .common import ALL_THREADS, BACKENDS, DTYPES, LEVELS, THREADS, Kernels, random

PARAMETERS = {"resnet50": 25_600_000, "perceptron": 100_000}


class _Update(Kernels):
    def prepare(self, case: str, dtype: str) -> None:
        n = PARAMETERS[case]
        self.w, self.dw = (self.backend.array(random((n,), dtype)) for _ in range(2))
        self.first, self.second = (self.backend.array(np.zeros(n, dtype)) for _ in range(2))
        self.out = self.backend.array(np.zeros(1))
        self.gradient = {"scale": 1.0, "decay": 1e-4, "l1": False}

    def time_sum_of_squares(self, *_):
        self.ops.sum_of_squares(self.dw, self.out)
        self.backend.wait()

    def time_sgd(self, *_):
        self.ops.update_sgd(self.w, self.dw, self.first, 1e-3, 0.9, **self.gradient)
        self.backend.wait()

    def time_nesterov(self, *_):
        self.ops.update_nesterov(self.w, self.dw, self.first, 1e-3, 0.9, **self.gradient)
        self.backend.wait()

    def time_adam(self, *_):
        self.ops.update_adam(
            self.w, self.dw, self.first, self.second, 1e-3, 0.9, 0.999, 1e-8, **self.gradient
        )
        self.backend.wait()

    def time_adadelta(self, *_):
        self.ops.update_adadelta(self.w, self.dw, self.first, self.second, 1.0, 0.95, 1e-6, **self.gradient)
        self.backend.wait()


class Sizes(_Update):
    """A large and a small net in float32, on one core and on all, CPU and GPU."""

    params = [list(PARAMETERS), ["float32"], THREADS, BACKENDS]


class Levels(_Update):
    """The small net at each instruction-set level, in both dtypes."""

    params = [["perceptron"], DTYPES, [ALL_THREADS], LEVELS]
