"""Maps of single elements; see ops/reference/elementwise.py for what is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from caffebn.ops import threads
from caffebn.ops.cpu.checks import BYTE, DOUBLE, INDEX, by_dtype, check, check_tensor
from caffebn.ops.level import kernels

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

_kernel = kernels("elementwise")
_absolute = by_dtype(_kernel.absolute)
_axpy = by_dtype(_kernel.axpy)
_bnll = by_dtype(_kernel.bnll)
_bnll_backward = by_dtype(_kernel.bnll_backward)
_clip = by_dtype(_kernel.clip)
_clip_backward = by_dtype(_kernel.clip_backward)
_dropout = by_dtype(_kernel.dropout)
_elu = by_dtype(_kernel.elu)
_elu_backward = by_dtype(_kernel.elu_backward)
_exp = by_dtype(_kernel.exp)
_fill = by_dtype(_kernel.fill)
_log = by_dtype(_kernel.log)
_log_backward = by_dtype(_kernel.log_backward)
_maximum = by_dtype(_kernel.maximum)
_maximum_update = by_dtype(_kernel.maximum_update)
_multiply = by_dtype(_kernel.multiply)
_power = by_dtype(_kernel.power)
_power_backward = by_dtype(_kernel.power_backward)
_product_gradient = by_dtype(_kernel.product_gradient)
_relu = by_dtype(_kernel.relu)
_relu_backward = by_dtype(_kernel.relu_backward)
_scale_by = by_dtype(_kernel.scale_by)
_scale_copy = by_dtype(_kernel.scale_copy)
_select_gradient = by_dtype(_kernel.select_gradient)
_sigmoid = by_dtype(_kernel.sigmoid)
_sigmoid_backward = by_dtype(_kernel.sigmoid_backward)
_sign = by_dtype(_kernel.sign)
_swish = by_dtype(_kernel.swish)
_swish_backward = by_dtype(_kernel.swish_backward)
_tanh = by_dtype(_kernel.tanh)
_tanh_backward = by_dtype(_kernel.tanh_backward)
_threshold = by_dtype(_kernel.threshold)
_weighted_sum = by_dtype(_kernel.weighted_sum)

# An exponential or a logarithm takes about as long as reading so many elements
_TRANSCENDENTAL = 4


def relu(x: np.ndarray, y: np.ndarray, slope: float) -> None:
    """Rectify; see the reference op."""
    check_tensor("relu", x, "x")
    check("relu", y, "y", x.shape, x.dtype, writable=True)
    _relu[x.itemsize](_flat(x), _flat(y), slope, threads.for_work(x.size))


def relu_backward(y: np.ndarray, dy: np.ndarray, dx: np.ndarray, slope: float) -> None:
    """Compute the gradient of the rectifier; see the reference op."""
    check_tensor("relu_backward", y, "y")
    check("relu_backward", dy, "dy", y.shape, y.dtype)
    check("relu_backward", dx, "dx", y.shape, y.dtype, writable=True)
    _relu_backward[y.itemsize](_flat(y), _flat(dy), _flat(dx), slope, threads.for_work(y.size))


def sigmoid(x: np.ndarray, y: np.ndarray) -> None:
    """Compute the logistic function; see the reference op."""
    check_tensor("sigmoid", x, "x")
    check("sigmoid", y, "y", x.shape, x.dtype, writable=True)
    _sigmoid[x.itemsize](_flat(x), _flat(y), threads.for_work(x.size * _TRANSCENDENTAL))


def sigmoid_backward(y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """Compute the gradient of the logistic function; see the reference op."""
    check_tensor("sigmoid_backward", y, "y")
    check("sigmoid_backward", dy, "dy", y.shape, y.dtype)
    check("sigmoid_backward", dx, "dx", y.shape, y.dtype, writable=True)
    _sigmoid_backward[y.itemsize](_flat(y), _flat(dy), _flat(dx), threads.for_work(y.size))


def tanh(x: np.ndarray, y: np.ndarray) -> None:
    """Compute the hyperbolic tangent; see the reference op."""
    check_tensor("tanh", x, "x")
    check("tanh", y, "y", x.shape, x.dtype, writable=True)
    _tanh[x.itemsize](_flat(x), _flat(y), threads.for_work(x.size * _TRANSCENDENTAL))


def tanh_backward(y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """Compute the gradient of the hyperbolic tangent; see the reference op."""
    check_tensor("tanh_backward", y, "y")
    check("tanh_backward", dy, "dy", y.shape, y.dtype)
    check("tanh_backward", dx, "dx", y.shape, y.dtype, writable=True)
    _tanh_backward[y.itemsize](_flat(y), _flat(dy), _flat(dx), threads.for_work(y.size))


def elu(x: np.ndarray, y: np.ndarray, alpha: float) -> None:
    """Compute the exponential linear unit; see the reference op."""
    _map("elu", _elu, (alpha,), _TRANSCENDENTAL, x=x, y=y)


def elu_backward(x: np.ndarray, y: np.ndarray, dy: np.ndarray, dx: np.ndarray, alpha: float) -> None:
    """Compute the gradient of the exponential linear unit; see the reference op."""
    _map("elu_backward", _elu_backward, (alpha,), x=x, y=y, dy=dy, dx=dx)


def bnll(x: np.ndarray, y: np.ndarray) -> None:
    """Compute the binomial normal log likelihood; see the reference op."""
    _map("bnll", _bnll, (), 2 * _TRANSCENDENTAL, x=x, y=y)


def bnll_backward(x: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """Compute the gradient of `bnll`; see the reference op."""
    _map("bnll_backward", _bnll_backward, (), _TRANSCENDENTAL, x=x, dy=dy, dx=dx)


def swish(x: np.ndarray, y: np.ndarray, beta: float) -> None:
    """Compute swish; see the reference op."""
    _map("swish", _swish, (beta,), _TRANSCENDENTAL, x=x, y=y)


def swish_backward(x: np.ndarray, dy: np.ndarray, dx: np.ndarray, beta: float) -> None:
    """Compute the gradient of swish; see the reference op."""
    _map("swish_backward", _swish_backward, (beta,), _TRANSCENDENTAL, x=x, dy=dy, dx=dx)


def power(x: np.ndarray, y: np.ndarray, power: float, scale: float, shift: float) -> None:
    """Raise a linear function to a power; see the reference op."""
    _map("power", _power, (power, scale, shift), _TRANSCENDENTAL, x=x, y=y)


def power_backward(
    x: np.ndarray, y: np.ndarray, dy: np.ndarray, dx: np.ndarray, power: float, scale: float, shift: float
) -> None:
    """Compute the gradient of a power; see the reference op."""
    _map("power_backward", _power_backward, (power, scale, shift), x=x, y=y, dy=dy, dx=dx)


def exp(x: np.ndarray, y: np.ndarray, inner: float, outer: float) -> None:
    """Compute the exponential; see the reference op."""
    _map("exp", _exp, (inner, outer), _TRANSCENDENTAL, x=x, y=y)


def log(x: np.ndarray, y: np.ndarray, scale: float, shift: float, factor: float) -> None:
    """Compute the logarithm of a linear function; see the reference op."""
    _map("log", _log, (scale, shift, factor), _TRANSCENDENTAL, x=x, y=y)


def log_backward(
    x: np.ndarray, dy: np.ndarray, dx: np.ndarray, scale: float, shift: float, factor: float
) -> None:
    """Compute the gradient of a logarithm; see the reference op."""
    _map("log_backward", _log_backward, (scale, shift, factor), x=x, dy=dy, dx=dx)


def absolute(x: np.ndarray, y: np.ndarray) -> None:
    """Compute the absolute value; see the reference op."""
    _map("absolute", _absolute, x=x, y=y)


def sign(x: np.ndarray, y: np.ndarray) -> None:
    """Compute the sign; see the reference op."""
    _map("sign", _sign, x=x, y=y)


def threshold(x: np.ndarray, y: np.ndarray, threshold: float) -> None:
    """Compare with a number; see the reference op."""
    _map("threshold", _threshold, (threshold,), x=x, y=y)


def clip(x: np.ndarray, y: np.ndarray, low: float, high: float) -> None:
    """Limit to a range; see the reference op."""
    _map("clip", _clip, (low, high), x=x, y=y)


def clip_backward(x: np.ndarray, dy: np.ndarray, dx: np.ndarray, low: float, high: float) -> None:
    """Compute the gradient of a limit; see the reference op."""
    _map("clip_backward", _clip_backward, (low, high), x=x, dy=dy, dx=dx)


def dropout(x: np.ndarray, mask: np.ndarray, scale: float, y: np.ndarray) -> None:
    """Keep some elements, scaled; see the reference op."""
    check_tensor("dropout", x, "x")
    check("dropout", mask, "mask", x.shape, BYTE)
    check("dropout", y, "y", x.shape, x.dtype, writable=True)
    _dropout[x.itemsize](_flat(x), _flat(mask), scale, _flat(y), threads.for_work(x.size))


def scale_copy(x: np.ndarray, alpha: float, y: np.ndarray) -> None:
    """Copy, scaled; see the reference op."""
    check_tensor("scale_copy", x, "x")
    check("scale_copy", y, "y", x.shape, x.dtype, writable=True)
    _scale_copy[x.itemsize](_flat(x), alpha, _flat(y), threads.for_work(x.size))


def scale_by(x: np.ndarray, scale: np.ndarray, y: np.ndarray) -> None:
    """Copy, scaled by a number that a kernel has written; see the reference op."""
    check_tensor("scale_by", x, "x")
    check("scale_by", scale, "scale", (1,), DOUBLE)
    check("scale_by", y, "y", x.shape, x.dtype, writable=True)
    _scale_by[x.itemsize](_flat(x), scale, _flat(y), threads.for_work(x.size))


def axpy(x: np.ndarray, alpha: float, y: np.ndarray) -> None:
    """Add a multiple; see the reference op."""
    check_tensor("axpy", x, "x")
    check("axpy", y, "y", x.shape, x.dtype, writable=True)
    _axpy[x.itemsize](_flat(x), alpha, _flat(y), threads.for_work(x.size))


def weighted_sum(
    a: np.ndarray, alpha: float, b: np.ndarray, beta: float, y: np.ndarray, slope: float | None = None
) -> None:
    """Sum two, weighted; see the reference op."""
    check_tensor("weighted_sum", a, "a")
    check("weighted_sum", b, "b", a.shape, a.dtype)
    check("weighted_sum", y, "y", a.shape, a.dtype, writable=True)
    _weighted_sum[a.itemsize](
        _flat(a), alpha, _flat(b), beta, _flat(y), slope is not None, slope or 0.0, threads.for_work(a.size)
    )


def multiply(a: np.ndarray, b: np.ndarray, y: np.ndarray) -> None:
    """Multiply two; see the reference op."""
    check_tensor("multiply", a, "a")
    check("multiply", b, "b", a.shape, a.dtype)
    check("multiply", y, "y", a.shape, a.dtype, writable=True)
    _multiply[a.itemsize](_flat(a), _flat(b), _flat(y), threads.for_work(a.size))


def product_gradient(y: np.ndarray, x: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """Compute the gradient of a product by one factor; see the reference op."""
    check_tensor("product_gradient", y, "y")
    check("product_gradient", x, "x", y.shape, y.dtype)
    check("product_gradient", dy, "dy", y.shape, y.dtype)
    check("product_gradient", dx, "dx", y.shape, y.dtype, writable=True)
    _product_gradient[y.itemsize](_flat(y), _flat(x), _flat(dy), _flat(dx), threads.for_work(y.size))


def maximum(
    a: np.ndarray, b: np.ndarray, index_a: int, index_b: int, y: np.ndarray, index: np.ndarray
) -> None:
    """Take the larger of two; see the reference op."""
    check_tensor("maximum", a, "a")
    check("maximum", b, "b", a.shape, a.dtype)
    check("maximum", y, "y", a.shape, a.dtype, writable=True)
    check("maximum", index, "index", a.shape, INDEX, writable=True)
    _maximum[a.itemsize](
        _flat(a), _flat(b), index_a, index_b, _flat(y), _flat(index), threads.for_work(a.size)
    )


def maximum_update(x: np.ndarray, index_x: int, y: np.ndarray, index: np.ndarray) -> None:
    """Take one more input into a maximum; see the reference op."""
    check_tensor("maximum_update", x, "x")
    check("maximum_update", y, "y", x.shape, x.dtype, writable=True)
    check("maximum_update", index, "index", x.shape, INDEX, writable=True)
    _maximum_update[x.itemsize](_flat(x), index_x, _flat(y), _flat(index), threads.for_work(x.size))


def select_gradient(index: np.ndarray, which: int, dy: np.ndarray, dx: np.ndarray) -> None:
    """Compute the gradient of a maximum by one input; see the reference op."""
    check_tensor("select_gradient", dy, "dy")
    check("select_gradient", index, "index", dy.shape, INDEX)
    check("select_gradient", dx, "dx", dy.shape, dy.dtype, writable=True)
    _select_gradient[dy.itemsize](_flat(index), which, _flat(dy), _flat(dx), threads.for_work(dy.size))


def fill(x: np.ndarray, value: float) -> None:
    """Set every element; see the reference op."""
    check_tensor("fill", x, "x", writable=True)
    _fill[x.itemsize](_flat(x), value, threads.for_work(x.size))


def _map(
    op: str,
    kernel: Mapping[int, Callable],
    numbers: tuple[float, ...] = (),
    cost: int = 1,
    **arrays: np.ndarray,
) -> None:
    """Check the arrays of a call and run its kernel.

    Parameters
    ----------
    op : str
        Name of the op, for messages.
    kernel : dict
        From `by_dtype`; its arguments are the arrays, the numbers and the number of threads.
    numbers : tuple of float
    cost : int
        Work for one element, compared with reading it.
    **arrays : ndarray
        By argument name, of one shape and dtype; the last is written.
    """
    (name, first), *others = arrays.items()
    check_tensor(op, first, name)
    output = others[-1][0]
    for name, array in others:
        check(op, array, name, first.shape, first.dtype, writable=name == output)
    kernel[first.itemsize](*map(_flat, arrays.values()), *numbers, threads.for_work(first.size * cost))


def _flat(array: np.ndarray) -> np.ndarray:
    """View a contiguous array as one axis."""
    return array if array.ndim == 1 else array.reshape(-1)
