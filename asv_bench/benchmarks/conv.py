"""Convolution, on layers of published nets."""

from __future__ import annotations

import numpy as np

from .common import ALL_THREADS, BACKENDS, DTYPES, LEVELS, THREADS, Backend, Kernels, random

#: (channels, image side, outputs, kernel, stride, pad, group)
LAYERS = {
    "resnet50 conv1 7x7/2": (3, 224, 64, 7, 2, 3, 1),
    "resnet50 res2 3x3": (64, 56, 64, 3, 1, 1, 1),
    "resnet50 res3 1x1": (512, 28, 128, 1, 1, 0, 1),
    "resnet50 res4 3x3": (256, 14, 256, 3, 1, 1, 1),
    "resnet50 res5 1x1": (512, 7, 2048, 1, 1, 0, 1),
    "alexnet conv2 5x5 group 2": (96, 27, 256, 5, 1, 2, 2),
    "mobilenet conv4 depthwise": (256, 28, 256, 3, 1, 1, 256),
    "mobilenet conv2 depthwise /2": (64, 112, 64, 3, 2, 1, 64),
    "resnet50 res4 1x1/2": (512, 28, 1024, 1, 2, 0, 1),
    "resnet50 res5 3x3": (512, 7, 512, 3, 1, 1, 1),
    "cifar resnet 3x3": (16, 32, 16, 3, 1, 1, 1),
}


class _Conv(Kernels):
    batch = 1

    def prepare(self, case: str, dtype: str, **how) -> None:
        from caffebn.ops.geometry import ConvGeometry

        channels, side, outputs, kernel, stride, pad, group = LAYERS[case]
        self.geometry = ConvGeometry(
            channels, (side, side), outputs, (kernel,) * 2, (stride,) * 2, (pad,) * 2, (1, 1), group, **how
        )
        out = (self.batch, outputs, *self.geometry.out_spatial)
        self.x = self.backend.array(random((self.batch, channels, side, side), dtype))
        self.y = self.backend.array(np.zeros(out, dtype))
        self.dx = self.backend.array(np.zeros_like(self.x))
        self.weight = self.backend.array(random(self.geometry.weight_shape, dtype))
        self.dweight = self.backend.array(np.zeros(self.geometry.weight_shape, dtype))
        self.bias = self.backend.array(random((outputs,), dtype))
        scratch = self.ops.conv_scratch_size(self.geometry, self.batch)
        self.scratch = self.backend.array(np.zeros(scratch, dtype))

    def time_forward(self, *_):
        self.ops.conv_forward(self.x, self.weight, self.bias, self.y, self.geometry, self.scratch)
        self.backend.wait()

    def time_backward_data(self, *_):
        self.ops.conv_backward_data(self.y, self.weight, self.dx, self.geometry, self.scratch)
        self.backend.wait()

    def time_backward_weight(self, *_):
        self.ops.conv_backward_weight(self.x, self.y, self.dweight, self.geometry, self.scratch)
        self.backend.wait()


class OneImage(_Conv):
    """Each layer for one image, on one core and on all, CPU and GPU."""

    params = [list(LAYERS), ["float32"], THREADS, BACKENDS]


class EightImages(_Conv):
    """The same for a batch of eight."""

    batch = 8
    params = [list(LAYERS), ["float32"], [ALL_THREADS], BACKENDS]


class Levels(_Conv):
    """One layer at each instruction-set level, in both dtypes."""

    params = [["resnet50 res4 3x3"], DTYPES, [ALL_THREADS], LEVELS]


class Epilogue(Kernels):
    """The forward pass with what often follows it: scale, bias, residual, ReLU."""

    params = [["resnet50 res2 3x3", "resnet50 res5 1x1"], ["float32"], [ALL_THREADS], BACKENDS]

    def prepare(self, case: str, dtype: str) -> None:
        self.batch = 8
        _Conv.prepare(self, case, dtype)
        self.residual = self.backend.array(np.zeros_like(self.y))

    def time_forward(self, *_):
        self.ops.conv_forward(
            self.x, self.weight, self.bias, self.y, self.geometry, self.scratch, self.bias, self.residual, 0.0
        )
        self.backend.wait()


class Algorithms:
    """Each way to compute a 3x3 convolution, for one image and for eight, and its error against float64."""

    params = [
        ["resnet50 res2 3x3", "resnet50 res4 3x3", "resnet50 res5 3x3", "cifar resnet 3x3"],
        ["gemm", "winograd2", "winograd4"],
        [1, 8],
        THREADS,
    ]
    param_names = ["case", "algorithm", "batch", "threads"]

    def setup(self, case: str, algorithm: str, batch: int, threads: int) -> None:
        self.conv = _Conv()
        self.conv.batch = batch
        self.conv.backend = Backend("cpu", threads)
        self.conv.ops = self.conv.backend.ops
        self.conv.prepare(case, "float32", algorithm=algorithm)

    def time_forward(self, *_):
        self.conv.time_forward()

    def time_backward_data(self, *_):
        self.conv.time_backward_data()

    def time_backward_weight(self, *_):
        self.conv.time_backward_weight()

    def track_error(self, *_):
        """Greatest error, as a share of the greatest result."""
        c = self.conv
        x, weight, bias = (a.astype("float64") for a in (c.x, c.weight, c.bias))
        exact = c.y.astype("float64")
        c.time_forward()
        c.ops.conv_forward(x, weight, bias, exact, c.geometry, c.scratch.astype("float64"))
        return float(abs(c.y - exact).max() / abs(exact).max())

    track_error.unit = "1"
