"""Not a time: how far float32 is from float64, as the largest error over the largest value.

The truth is the NumPy definition in float64 for kernels, and the same net in float64 for nets.  A change that makes a
kernel faster and this number larger has to say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .common import ALL_THREADS, LEVELS, SEED, Backend, random
from .net import NETS, make

Array = Callable[..., np.ndarray]


def _convolution(ops: Any, array: Array, kernel: int, side: int, group: int = 1) -> tuple:
    channels = 256
    geometry = ops.ConvGeometry(
        channels, (side, side), channels, (kernel,) * 2, (1, 1), (kernel // 2,) * 2, (1, 1), group
    )
    x, dx = array(1, channels, side, side), array(1, channels, side, side)
    weight, dweight = array(*geometry.weight_shape, scale=0.05), array(*geometry.weight_shape) * 0
    scratch = array(ops.conv_scratch_size(geometry, 1))
    y = np.zeros_like(x)
    ops.conv_forward(x, weight, None, y, geometry, scratch)
    ops.conv_backward_data(x, weight, dx, geometry, scratch)
    ops.conv_backward_weight(x, x, dweight, geometry, scratch)
    return y, dx, dweight


def _moments(ops: Any, array: Array, offset: float) -> tuple:
    x = array(16, 64, 28 * 28, shift=offset)
    mean, var = np.zeros((2, 64))
    ops.moments(x, mean, var)
    return mean - offset, var


def _normalize(ops: Any, array: Array) -> tuple:
    x = array(16, 64, 28 * 28, shift=10)
    mean, var, inv_std = np.zeros((3, 64))
    ops.moments(x, mean, var)
    ops.inv_std(var, 1e-5, inv_std)
    y, dx = np.zeros_like(x), np.zeros_like(x)
    ops.normalize(x, mean, inv_std, y)
    ops.normalize_backward(array(16, 64, 28 * 28), y, inv_std, dx)
    return y, dx


def _batch_norm(ops: Any, array: Array) -> tuple:
    """The fused kernels: BatchNorm, Scale and ReLU."""
    x, dy = array(16, 64, 28 * 28, shift=10), array(16, 64, 28 * 28)
    scale, shift = array(64, shift=2), array(64)
    mean, var, inv_std = np.zeros((3, 64))
    y, dx, dscale, dshift = np.zeros_like(x), np.zeros_like(x), np.zeros_like(scale), np.zeros_like(shift)
    ops.batch_norm(x, 1e-5, scale, shift, None, 0.0, y, mean, var, inv_std)
    ops.batch_norm_backward(x, mean, inv_std, scale, shift, y, 0.0, False, dy, dx, dscale, dshift, None)
    return y, dx, dscale, dshift


def _gemm(ops: Any, array: Array) -> tuple:
    c = array(512, 512)
    ops.gemm(array(512, 512), array(512, 512), c)
    return (c,)


def _lrn(ops: Any, array: Array) -> tuple:
    x = array(4, 96, 55, 55)
    scale, y = np.zeros_like(x), np.zeros_like(x)
    ops.lrn_across(x, scale, y, 5, 1e-4, 0.75, 1.0)
    return (y,)


def _softmax(ops: Any, array: Array) -> tuple:
    x = array(64, 1000, 1, scale=5)
    y = np.zeros_like(x)
    ops.softmax(x, y)
    return (y,)


def _average(ops: Any, array: Array) -> tuple:
    x, y = array(4, 256, 7, 7, shift=3), array(4, 256, 1, 1)
    ops.ave_pool(x, y, (7, 7), (1, 1), (0, 0))
    return (y,)


def _elementwise(ops: Any, array: Array, name: str) -> tuple:
    x = array(100_000, scale=5)
    y = np.zeros_like(x)
    getattr(ops, name)(x, y)
    return (y,)


CASES: dict[str, Callable[[Any, Array], tuple]] = {
    "convolution 1x1": lambda ops, array: _convolution(ops, array, 1, 14),
    "convolution 3x3": lambda ops, array: _convolution(ops, array, 3, 14),
    "convolution 3x3 depthwise": lambda ops, array: _convolution(ops, array, 3, 28, 256),
    "gemm": _gemm,
    "moments": lambda ops, array: _moments(ops, array, 0),
    "moments, mean 10000": lambda ops, array: _moments(ops, array, 10_000),
    "normalize": _normalize,
    "batch_norm": _batch_norm,
    "lrn": _lrn,
    "average pooling": _average,
    "softmax": _softmax,
    "sigmoid": lambda ops, array: _elementwise(ops, array, "sigmoid"),
    "tanh": lambda ops, array: _elementwise(ops, array, "tanh"),
}


def _arrays(dtype: str) -> Array:
    """Return a function that makes the same random arrays in the same order for each dtype."""
    rng = np.random.default_rng(SEED)

    def array(*shape: int, scale: float = 1, shift: float = 0) -> np.ndarray:
        values = rng.standard_normal(shape, dtype=np.float32)
        return (np.float32(scale) * values + np.float32(shift)).astype(dtype)  # float32 holds them all

    return array


def _error(found: Iterable[np.ndarray], truth: Iterable[np.ndarray]) -> float:
    return max(
        float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) for a, b in zip(found, truth, strict=True)
    )


class Kernels:
    """Each kind of kernel at each instruction-set level."""

    params = [list(CASES), LEVELS]
    param_names = ["case", "level"]
    unit = "of the largest value"

    def setup(self, case, level):
        self.ops = Backend(level, ALL_THREADS).ops
        if case == "batch_norm" and not hasattr(self.ops, case):
            raise NotImplementedError("this version has no fused kernels")  # asv's way to skip

    def track_error(self, case, level):
        from caffebn import ops

        truth = CASES[case](ops.get("reference"), _arrays("float64"))
        return _error(CASES[case](self.ops, _arrays("float32")), truth)


class Nets:
    """Scores, or gradients of all parameters, of whole nets in float32 and float64."""

    params = [[("resnet50", 1, False), ("mobilenet_v1", 1, False), ("perceptron", 60, True)], LEVELS]
    param_names = ["net, batch, train", "level"]
    unit = "of the largest value"
    timeout = 300

    def setup(self, case, level):
        Backend(level, ALL_THREADS)

    def track_error(self, case, level):
        import caffebn

        name, batch, train = case
        results = {}
        for dtype in ("float64", "float32"):
            caffebn.set_random_seed(SEED)
            net = make(NETS[name](batch, train), train, dtype)
            net.blobs["data"].data[...] = random(net.blobs["data"].shape)
            net.clear_param_diffs()
            net.forward()
            if train:
                net.backward()
                results[dtype] = [net.parameters.diff.flat]
            else:
                scores = net.bottom_names[net.layers[-1].name][0]
                results[dtype] = [net.blobs[scores].data]
        return _error(results["float32"], results["float64"])
