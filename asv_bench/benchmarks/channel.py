"""Per-channel kernels: statistics, normalisation, scale and shift, and their gradients."""

from __future__ import annotations

import numpy as np

from .common import ALL_THREADS, BACKENDS, DTYPES, LEVELS, SHAPES, THREADS, Kernels, activations


class _Channel(Kernels):
    """The timed calls; each subclass sweeps some of shape, dtype, threads, level and back end."""

    def prepare(self, case: str, dtype: str) -> None:
        values = activations(case, dtype)
        channels = values.shape[1]
        self.x = self.backend.array(values)
        self.y = self.backend.array(values)
        self.dx = self.backend.array(values)
        self.vector = self.backend.array(np.linspace(0.5, 1.5, channels, dtype=dtype))
        self.mean = self.backend.array(np.linspace(-0.1, 0.1, channels))
        self.var = self.backend.array(np.ones(channels))
        self.inv_std = self.backend.array(np.ones(channels))

    def time_channel_sum(self, *_):
        self.ops.channel_sum(self.x, self.vector)
        self.backend.wait()

    def time_channel_dot(self, *_):
        self.ops.channel_dot(self.x, self.y, self.vector)
        self.backend.wait()

    def time_moments(self, *_):
        self.ops.moments(self.x, self.mean, self.var)
        self.backend.wait()

    def time_normalize(self, *_):
        self.ops.normalize(self.x, self.mean, self.inv_std, self.y)
        self.backend.wait()

    def time_normalize_backward(self, *_):
        self.ops.normalize_backward(self.x, self.y, self.inv_std, self.dx)
        self.backend.wait()

    def time_affine(self, *_):
        self.ops.affine(self.x, self.vector, self.vector, self.y)
        self.backend.wait()


class Shapes(_Channel):
    """ResNet-50's shapes in float32, on one core and on all, CPU and GPU."""

    params = [list(SHAPES), ["float32"], THREADS, BACKENDS]


class Reference(_Channel):
    """The NumPy definitions, for comparison."""

    params = [["res3"], DTYPES, [ALL_THREADS], ["reference"]]


class Levels(_Channel):
    """One shape at each instruction-set level, in both dtypes."""

    params = [["res3"], DTYPES, THREADS, LEVELS]
