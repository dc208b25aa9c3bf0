"""Fused BatchNorm, Scale, residual sum and ReLU: training both ways, frozen statistics, and how exact they are."""

from __future__ import annotations

import numpy as np

from .common import (
    ALL_THREADS,
    BACKENDS,
    DTYPES,
    LEVELS,
    SHAPES,
    THREADS,
    Kernels,
    activations,
    random,
)


class _BatchNorm(Kernels):
    """The timed calls; each subclass sweeps some of shape, dtype, threads, level and back end."""

    def values(self, case: str, dtype: str) -> np.ndarray:
        return activations(case, dtype)

    def prepare(self, case: str, dtype: str) -> None:
        values = self.values(case, dtype)
        channels = values.shape[1]
        self.x, self.y, self.dy, self.dx, self.residual = (self.backend.array(values) for _ in range(5))
        self.scale, self.shift, self.dscale, self.dshift = (
            self.backend.array(np.linspace(low, low + 1, channels, dtype=dtype)) for low in (0.5, -0.5, 0, 0)
        )
        self.mean, self.var, self.inv_std = (self.backend.array(np.ones(channels)) for _ in range(3))
        self.vectors = self.mean, self.inv_std, self.scale, self.shift
        self.time_forward()

    def time_forward(self, *_):
        self.ops.batch_norm(
            self.x, 1e-5, self.scale, self.shift, None, 0.0, self.y, self.mean, self.var, self.inv_std
        )
        self.backend.wait()

    def time_forward_residual(self, *_):
        self.ops.batch_norm(
            self.x,
            1e-5,
            self.scale,
            self.shift,
            self.residual,
            0.0,
            self.y,
            self.mean,
            self.var,
            self.inv_std,
        )
        self.backend.wait()

    def _backward(self, y, frozen, dscale, dshift, dresidual):
        self.ops.batch_norm_backward(
            self.x, *self.vectors, y, 0.0, frozen, self.dy, self.dx, dscale, dshift, dresidual
        )
        self.backend.wait()

    def time_backward(self, *_):
        self._backward(None, False, self.dscale, self.dshift, None)

    def time_backward_residual(self, *_):
        self._backward(self.y, False, self.dscale, self.dshift, self.residual)

    def time_backward_frozen(self, *_):
        self._backward(None, True, None, None, None)

    def time_normalize_act(self, *_):
        self.ops.normalize_act(self.x, *self.vectors, None, 0.0, self.y)
        self.backend.wait()

    def time_normalize_act_residual(self, *_):
        self.ops.normalize_act(self.x, *self.vectors, self.residual, 0.0, self.y)
        self.backend.wait()


class Shapes(_BatchNorm):
    """ResNet-50's shapes in float32, on one core and on all, CPU and GPU."""

    params = [list(SHAPES), ["float32"], THREADS, BACKENDS]


class Reference(_BatchNorm):
    """The NumPy definitions, for comparison."""

    params = [["res3"], DTYPES, [ALL_THREADS], ["reference"]]


class Levels(_BatchNorm):
    """One shape at each instruction-set level, in both dtypes."""

    params = [["res3"], DTYPES, THREADS, LEVELS]


class Small(_BatchNorm):
    """Outputs of InnerProduct: what a call costs beside its work."""

    params = [["60x100", "64x1000"], ["float32"], [ALL_THREADS], BACKENDS]

    def values(self, case: str, dtype: str) -> np.ndarray:
        images, channels = map(int, case.split("x"))
        return random((images, channels, 1), dtype)


class Accuracy(Kernels):
    """Largest error against numbers of extended precision, in units of the last place of 1."""

    params = [["res3"], DTYPES, [ALL_THREADS], BACKENDS]
    means = (0.0, 1.0, 100.0, 1e4)

    def prepare(self, case: str, dtype: str) -> None:
        self.dtype = np.dtype(dtype)
        self.values = activations(case, "float64")[:4, :16].copy()

    def _errors(self):
        for mean in self.means:
            values = (self.values + mean).astype(self.dtype)
            exact = values.astype(np.longdouble)
            centred = exact - exact.mean(axis=(0, 2))[:, None]
            var = (centred**2).mean(axis=(0, 2))
            x = self.backend.array(values)
            y = self.backend.array(values)
            vectors = [self.backend.array(np.ones(values.shape[1])) for _ in range(3)]
            self.ops.batch_norm(x, 1e-5, None, None, None, None, y, *vectors)
            self.backend.wait()
            found = y if self.backend.name != "gpu" else y.get()
            expected = centred / np.sqrt(var + 1e-5)[:, None]
            relative = np.abs(np.asarray(vectors[1].tolist()) / var - 1).max()
            yield float(np.abs(found - expected).max() / np.finfo(self.dtype).eps), float(relative)

    def track_forward(self, *_):
        return max(error for error, _ in self._errors())

    track_forward.unit = "units in the last place"

    def track_variance(self, *_):
        """Relative error of the variance, which is computed in float64 whatever the tensors are."""
        return max(error for _, error in self._errors()) / np.finfo(np.float64).eps

    track_variance.unit = "units in the last place"
