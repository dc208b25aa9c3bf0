"""Convolution, on layers of published nets."""

from __future__ import annotations

import numpy as np

from .common import ALL_THREADS, BACKENDS, DTYPES, LEVELS, THREADS, Kernels, random

#: (channels, image side, outputs, kernel, stride, pad, group)
LAYERS = {
    "resnet50 conv1 7x7/2": (3, 224, 64, 7, 2, 3, 1),
    "resnet50 res2 3x3": (64, 56, 64, 3, 1, 1, 1),
    "resnet50 res3 1x1": (512, 28, 128, 1, 1, 0, 1),
    "resnet50 res4 3x3": (256, 14, 256, 3, 1, 1, 1),
    "resnet50 res5 1x1": (512, 7, 2048, 1, 1, 0, 1),
    "alexnet conv2 5x5 group 2": (96, 27, 256, 5, 1, 2, 2),
    "mobilenet conv4 depthwise": (256, 28, 256, 3, 1, 1, 256),
}


class _Conv(Kernels):
    batch = 1

    def prepare(self, case: str, dtype: str) -> None:
        from caffebn.ops.geometry import ConvGeometry

        channels, side, outputs, kernel, stride, pad, group = LAYERS[case]
        self.geometry = ConvGeometry(
            channels, (side, side), outputs, (kernel,) * 2, (stride,) * 2, (pad,) * 2, (1, 1), group
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
