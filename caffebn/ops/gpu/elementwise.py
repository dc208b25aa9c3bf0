"""Maps of single elements; see ops/reference/elementwise.py for what is computed."""

from __future__ import annotations

import numpy as np

from caffebn.ops.gpu import device
from caffebn.ops.gpu.checks import BYTE, DOUBLE, INDEX, check, check_tensor

__all__ = [
    "absolute",
    "axpy",
    "bnll",
    "bnll_backward",
    "clip",
    "clip_backward",
    "dropout",
    "elu",
    "elu_backward",
    "exp",
    "fill",
    "log",
    "log_backward",
    "maximum",
    "maximum_update",
    "multiply",
    "power",
    "power_backward",
    "product_gradient",
    "relu",
    "relu_backward",
    "scale_by",
    "scale_copy",
    "select_gradient",
    "sigmoid",
    "sigmoid_backward",
    "sign",
    "swish",
    "swish_backward",
    "tanh",
    "tanh_backward",
    "threshold",
    "weighted_sum",
]

_kernel = device.Kernels("elementwise")


def _map(op: str, kernel: str, *numbers: object, **arrays: np.ndarray) -> None:
    """Check arrays of one shape and run a kernel of that many of them, with 16 bytes for each thread."""
    (name, first), *others = arrays.items()
    check_tensor(op, first, name)
    for name, array in others:
        check(op, array, name, first.shape, first.dtype)
    wide = device.width(*arrays.values())
    n = first.size
    device.launch_each(
        _kernel(kernel, first.itemsize, wide),
        -(-n // wide),
        *arrays.values(),
        n,
        *(float(x) if isinstance(x, int) else x for x in numbers),
    )


def relu(x: np.ndarray, y: np.ndarray, slope: float) -> None:
    """Rectify; see the reference op."""
    _map("relu", "relu", slope, x=x, y=y)


def relu_backward(y: np.ndarray, dy: np.ndarray, dx: np.ndarray, slope: float) -> None:
    """Compute the gradient of `relu`; see the reference op."""
    _map("relu_backward", "relu_backward", slope, y=y, dy=dy, dx=dx)


def sigmoid(x: np.ndarray, y: np.ndarray) -> None:
    """Compute the logistic function; see the reference op."""
    _map("sigmoid", "sigmoid", x=x, y=y)


def sigmoid_backward(y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """Compute the gradient of `sigmoid`; see the reference op."""
    _map("sigmoid_backward", "sigmoid_backward", y=y, dy=dy, dx=dx)


def tanh(x: np.ndarray, y: np.ndarray) -> None:
    """Compute the hyperbolic tangent; see the reference op."""
    _map("tanh", "tanh_forward", x=x, y=y)


def tanh_backward(y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """Compute the gradient of `tanh`; see the reference op."""
    _map("tanh_backward", "tanh_backward", y=y, dy=dy, dx=dx)


def elu(x: np.ndarray, y: np.ndarray, alpha: float) -> None:
    """Compute the exponential linear unit; see the reference op."""
    _map("elu", "elu", alpha, x=x, y=y)


def elu_backward(x: np.ndarray, y: np.ndarray, dy: np.ndarray, dx: np.ndarray, alpha: float) -> None:
    """Compute the gradient of `elu`; see the reference op."""
    _map("elu_backward", "elu_backward", alpha, x=x, y=y, dy=dy, dx=dx)


def bnll(x: np.ndarray, y: np.ndarray) -> None:
    """Compute the binomial normal log likelihood; see the reference op."""
    _map("bnll", "bnll", x=x, y=y)


def bnll_backward(x: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """Compute the gradient of `bnll`; see the reference op."""
    _map("bnll_backward", "bnll_backward", x=x, dy=dy, dx=dx)


def swish(x: np.ndarray, y: np.ndarray, beta: float) -> None:
    """Multiply by the logistic function; see the reference op."""
    _map("swish", "swish", beta, x=x, y=y)


def swish_backward(x: np.ndarray, dy: np.ndarray, dx: np.ndarray, beta: float) -> None:
    """Compute the gradient of `swish`; see the reference op."""
    _map("swish_backward", "swish_backward", beta, x=x, dy=dy, dx=dx)


def power(x: np.ndarray, y: np.ndarray, power: float, scale: float, shift: float) -> None:
    """Compute a power of a linear function; see the reference op."""
    _map("power", "power", power, scale, shift, x=x, y=y)


def power_backward(
    x: np.ndarray, y: np.ndarray, dy: np.ndarray, dx: np.ndarray, power: float, scale: float, shift: float
) -> None:
    """Compute the gradient of `power`; see the reference op."""
    _map("power_backward", "power_backward", power, scale, shift, x=x, y=y, dy=dy, dx=dx)


def exp(x: np.ndarray, y: np.ndarray, inner: float, outer: float) -> None:
    """Compute the exponential; see the reference op."""
    _map("exp", "exp_forward", inner, outer, x=x, y=y)


def log(x: np.ndarray, y: np.ndarray, scale: float, shift: float, factor: float) -> None:
    """Compute the logarithm of a linear function; see the reference op."""
    _map("log", "log_forward", scale, shift, factor, x=x, y=y)


def log_backward(
    x: np.ndarray, dy: np.ndarray, dx: np.ndarray, scale: float, shift: float, factor: float
) -> None:
    """Compute the gradient of `log`; see the reference op."""
    _map("log_backward", "log_backward", scale, shift, factor, x=x, dy=dy, dx=dx)


def absolute(x: np.ndarray, y: np.ndarray) -> None:
    """Compute the absolute value; see the reference op."""
    _map("absolute", "absolute", x=x, y=y)


def sign(x: np.ndarray, y: np.ndarray) -> None:
    """Compute the sign; see the reference op."""
    _map("sign", "sign", x=x, y=y)


def threshold(x: np.ndarray, y: np.ndarray, threshold: float) -> None:
    """Compare with a number; see the reference op."""
    _map("threshold", "threshold", threshold, x=x, y=y)


def clip(x: np.ndarray, y: np.ndarray, low: float, high: float) -> None:
    """Limit to a range; see the reference op."""
    _map("clip", "clip", low, high, x=x, y=y)


def clip_backward(x: np.ndarray, dy: np.ndarray, dx: np.ndarray, low: float, high: float) -> None:
    """Compute the gradient of `clip`; see the reference op."""
    _map("clip_backward", "clip_backward", low, high, x=x, dy=dy, dx=dx)


def dropout(x: np.ndarray, mask: np.ndarray, scale: float, y: np.ndarray) -> None:
    """Keep some elements, scaled; see the reference op."""
    check_tensor("dropout", x, "x")
    check("dropout", mask, "mask", x.shape, BYTE)
    check("dropout", y, "y", x.shape, x.dtype)
    device.launch_each(_kernel("dropout", x.itemsize), x.size, x, mask, y, x.size, float(scale))


def scale_by(x: np.ndarray, scale: np.ndarray, y: np.ndarray) -> None:
    """Multiply by a number on the device; see the reference op."""
    check("scale_by", scale, "scale", (1,), DOUBLE)
    _map("scale_by", "scale_by", scale, x=x, y=y)


def scale_copy(x: np.ndarray, alpha: float, y: np.ndarray) -> None:
    """Multiply by a number; see the reference op."""
    _map("scale_copy", "scale_copy", alpha, x=x, y=y)


def axpy(x: np.ndarray, alpha: float, y: np.ndarray) -> None:
    """Add a multiple; see the reference op."""
    _map("axpy", "axpy", alpha, x=x, y=y)


def weighted_sum(
    a: np.ndarray, alpha: float, b: np.ndarray, beta: float, y: np.ndarray, slope: float | None = None
) -> None:
    """Compute a weighted sum of two; see the reference op."""
    _map("weighted_sum", "weighted_sum", alpha, beta, slope is not None, slope or 0.0, a=a, b=b, y=y)


def multiply(a: np.ndarray, b: np.ndarray, y: np.ndarray) -> None:
    """Multiply two; see the reference op."""
    _map("multiply", "multiply", a=a, b=b, y=y)


def product_gradient(y: np.ndarray, x: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """Compute the gradient of a product from the product; see the reference op."""
    _map("product_gradient", "product_gradient", y=y, x=x, dy=dy, dx=dx)


def maximum(
    a: np.ndarray, b: np.ndarray, index_a: int, index_b: int, y: np.ndarray, index: np.ndarray
) -> None:
    """Take the larger of two and record which; see the reference op."""
    check_tensor("maximum", a, "a")
    check("maximum", b, "b", a.shape, a.dtype)
    check("maximum", y, "y", a.shape, a.dtype)
    check("maximum", index, "index", a.shape, INDEX)
    device.launch_each(_kernel("maximum", a.itemsize), a.size, a, b, y, index, a.size, index_a, index_b)


def maximum_update(x: np.ndarray, index_x: int, y: np.ndarray, index: np.ndarray) -> None:
    """Take one more input into a maximum; see the reference op."""
    check_tensor("maximum_update", x, "x")
    check("maximum_update", y, "y", x.shape, x.dtype)
    check("maximum_update", index, "index", x.shape, INDEX)
    device.launch_each(_kernel("maximum_update", x.itemsize), x.size, x, y, index, x.size, index_x)


def select_gradient(index: np.ndarray, which: int, dy: np.ndarray, dx: np.ndarray) -> None:
    """Compute the gradient of a maximum by one input; see the reference op."""
    check_tensor("select_gradient", dy, "dy")
    check("select_gradient", index, "index", dy.shape, INDEX)
    check("select_gradient", dx, "dx", dy.shape, dy.dtype)
    device.launch_each(_kernel("select_gradient", dy.itemsize), dy.size, index, dy, dx, dy.size, which)


def fill(x: np.ndarray, value: float) -> None:
    """Set every element; see the reference op."""
    _map("fill", "fill", value, x=x)
