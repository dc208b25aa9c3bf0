"""Maps of single elements: activations, Dropout, Eltwise, and vector arithmetic.

Arrays of one call have one shape, which may be any.  All is computed in the dtype of the tensors; numbers
handed in are rounded to it first.
"""

from __future__ import annotations

import numpy as np

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


def relu(x: np.ndarray, y: np.ndarray, slope: float) -> None:
    """Rectifier, ``y = max(x, 0) + slope * min(x, 0)``; plain ``max(x, 0)`` when slope is 0.

    NaN stays NaN.

    Parameters
    ----------
    x : ndarray
    y : ndarray, shape of x
        Filled; may be `x`.
    slope : float
        Slope on the negative side (``negative_slope``).
    """
    negative = np.multiply(x, x.dtype.type(slope)) if slope != 0 else np.zeros_like(x)
    y[...] = np.where(x < 0, negative, x)


def relu_backward(y: np.ndarray, dy: np.ndarray, dx: np.ndarray, slope: float) -> None:
    """Gradient of the rectifier, ``dx = dy * (1 if y > 0 else slope)``; at 0 it is that of the negative side.

    Parameters
    ----------
    y : ndarray
        Output of the rectifier, or its input: as long as slope is not negative they have the same sign.
    dy : ndarray, shape of y
    dx : ndarray, shape of y
        Filled; may be `dy`.
    slope : float
    """
    dx[...] = dy * np.where(y > 0, y.dtype.type(1), y.dtype.type(slope))


def sigmoid(x: np.ndarray, y: np.ndarray) -> None:
    """Logistic function, ``y = 0.5 * tanh(0.5 * x) + 0.5``: Caffe's form, which cannot overflow.

    Parameters
    ----------
    x : ndarray
    y : ndarray, shape of x
        Filled; may be `x`.
    """
    y[...] = _logistic(x)


def sigmoid_backward(y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """Gradient of `sigmoid`, from its output: ``dx = dy * y * (1 - y)``.

    Parameters
    ----------
    y, dy : ndarray
    dx : ndarray, shape of y
        Filled; may be `dy`.
    """
    dx[...] = dy * y * (1 - y)


def tanh(x: np.ndarray, y: np.ndarray) -> None:
    """Hyperbolic tangent, ``y = tanh(x)``.

    Parameters
    ----------
    x : ndarray
    y : ndarray, shape of x
        Filled; may be `x`.
    """
    y[...] = np.tanh(x)


def tanh_backward(y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """Gradient of `tanh`, from its output: ``dx = dy * (1 - y * y)``.

    Parameters
    ----------
    y, dy : ndarray
    dx : ndarray, shape of y
        Filled; may be `dy`.
    """
    dx[...] = dy * (1 - y * y)


def elu(x: np.ndarray, y: np.ndarray, alpha: float) -> None:
    """Exponential linear unit, ``y = x`` where x is positive, else ``alpha * (exp(x) - 1)``.

    Parameters
    ----------
    x : ndarray
    y : ndarray, shape of x
        Filled; may be `x`.
    alpha : float
    """
    y[...] = np.where(x > 0, x, x.dtype.type(alpha) * np.expm1(np.minimum(x, 0)))


def elu_backward(x: np.ndarray, y: np.ndarray, dy: np.ndarray, dx: np.ndarray, alpha: float) -> None:
    """Gradient of `elu`, ``dx = dy * (1 if x > 0 else alpha + y)``; 0 belongs to the negative side.

    Parameters
    ----------
    x : ndarray
        Input of the unit, or its output: as long as alpha is not negative the same of them are positive.
    y : ndarray, shape of x
        Output of the unit.
    dy : ndarray, shape of x
    dx : ndarray, shape of x
        Filled; may be `dy`.
    alpha : float
    """
    dx[...] = dy * np.where(x > 0, x.dtype.type(1), x.dtype.type(alpha) + y)


def bnll(x: np.ndarray, y: np.ndarray) -> None:
    """Binomial normal log likelihood, ``y = log(1 + exp(x))``, in a form that cannot overflow.

    Parameters
    ----------
    x : ndarray
    y : ndarray, shape of x
        Filled; may be `x`.
    """
    y[...] = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def bnll_backward(x: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """Gradient of `bnll`, ``dx = dy * e / (e + 1)`` with ``e = exp(min(x, 50))``.

    Parameters
    ----------
    x : ndarray
        Input of `bnll`.
    dy : ndarray, shape of x
    dx : ndarray, shape of x
        Filled; may be `dy`.
    """
    e = np.exp(np.minimum(x, 50))
    dx[...] = dy * (e / (e + 1))


def swish(x: np.ndarray, y: np.ndarray, beta: float) -> None:
    """Swish, ``y = x * sigmoid(beta * x)``, the logistic function as in `sigmoid`.

    Parameters
    ----------
    x : ndarray
    y : ndarray, shape of x
        Filled; may be `x`.
    beta : float
    """
    y[...] = x * _logistic(x.dtype.type(beta) * x)


def swish_backward(x: np.ndarray, dy: np.ndarray, dx: np.ndarray, beta: float) -> None:
    """Gradient of `swish`, ``dx = dy * (t + s * (1 - t))`` with ``s = sigmoid(beta * x)``, ``t = beta * x * s``.

    Parameters
    ----------
    x : ndarray
        Input of `swish`.
    dy : ndarray, shape of x
    dx : ndarray, shape of x
        Filled; may be `dy`.
    beta : float
    """
    scaled = x.dtype.type(beta) * x
    s = _logistic(scaled)
    t = scaled * s
    dx[...] = dy * (t + s * (1 - t))


def _logistic(x: np.ndarray) -> np.ndarray:
    return 0.5 * np.tanh(0.5 * x) + 0.5


def power(x: np.ndarray, y: np.ndarray, power: float, scale: float, shift: float) -> None:
    """Power of a linear function, ``y = (shift + scale * x)**power``; NaN where the power is not defined.

    Parameters
    ----------
    x : ndarray
    y : ndarray, shape of x
        Filled; may be `x`.
    power, scale, shift : float
    """
    t = x.dtype.type(shift) + x.dtype.type(scale) * x
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        y[...] = t if power == 1 else t * t if power == 2 else t ** x.dtype.type(power)


def power_backward(
    x: np.ndarray, y: np.ndarray, dy: np.ndarray, dx: np.ndarray, power: float, scale: float, shift: float
) -> None:
    """Gradient of `power`, with ``t = shift + scale * x``: ``dx = dy * power * scale * y / t``.

    That is Caffe's way: where t is 0 the gradient is not a number.  For the powers 1 and 2, which need no
    division, it is ``dy * scale`` and ``dy * 2 * scale * t``.

    Parameters
    ----------
    x, y : ndarray
        Input and output of `power`.
    dy : ndarray, shape of x
    dx : ndarray, shape of x
        Filled; may be `dy`.
    power, scale, shift : float
    """
    real = x.dtype.type
    slope, t = real(power) * real(scale), real(shift) + real(scale) * x
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        dx[...] = dy * slope * (1 if power == 1 else t if power == 2 else y / t)


def exp(x: np.ndarray, y: np.ndarray, inner: float, outer: float) -> None:
    """Exponential, ``y = outer * exp(inner * x)``; its gradient is ``inner * y``.

    Parameters
    ----------
    x : ndarray
    y : ndarray, shape of x
        Filled; may be `x`.
    inner, outer : float
    """
    with np.errstate(over="ignore"):
        y[...] = x.dtype.type(outer) * np.exp(x.dtype.type(inner) * x)


def log(x: np.ndarray, y: np.ndarray, scale: float, shift: float, factor: float) -> None:
    """Logarithm of a linear function, ``y = factor * log(shift + scale * x)``; NaN where that is negative.

    Parameters
    ----------
    x : ndarray
    y : ndarray, shape of x
        Filled; may be `x`.
    scale, shift, factor : float
    """
    real = x.dtype.type
    with np.errstate(divide="ignore", invalid="ignore"):
        y[...] = real(factor) * np.log(real(shift) + real(scale) * x)


def log_backward(
    x: np.ndarray, dy: np.ndarray, dx: np.ndarray, scale: float, shift: float, factor: float
) -> None:
    """Gradient of `log`, ``dx = dy * factor * scale / (shift + scale * x)``.

    Parameters
    ----------
    x : ndarray
        Input of `log`.
    dy : ndarray, shape of x
    dx : ndarray, shape of x
        Filled; may be `dy`.
    scale, shift, factor : float
    """
    real = x.dtype.type
    with np.errstate(divide="ignore", invalid="ignore"):
        dx[...] = dy * (real(factor) * real(scale)) / (real(shift) + real(scale) * x)


def absolute(x: np.ndarray, y: np.ndarray) -> None:
    """Absolute value, ``y = abs(x)``.

    Parameters
    ----------
    x : ndarray
    y : ndarray, shape of x
        Filled; may be `x`.
    """
    y[...] = np.abs(x)


def sign(x: np.ndarray, y: np.ndarray) -> None:
    """Sign, ``y`` is -1, 0 or 1; that of NaN is 0.

    Parameters
    ----------
    x : ndarray
    y : ndarray, shape of x
        Filled; may be `x`.
    """
    y[...] = 1 * (x > 0) - 1 * (x < 0)


def threshold(x: np.ndarray, y: np.ndarray, threshold: float) -> None:
    """Compare, ``y = 1`` where x is larger than `threshold`, else 0.

    Parameters
    ----------
    x : ndarray
    y : ndarray, shape of x
        Filled; may be `x`.
    threshold : float
    """
    y[...] = x > x.dtype.type(threshold)


def clip(x: np.ndarray, y: np.ndarray, low: float, high: float) -> None:
    """Limit to a range, ``y = max(low, min(x, high))``.  NaN stays NaN.

    Parameters
    ----------
    x : ndarray
    y : ndarray, shape of x
        Filled; may be `x`.
    low, high : float
    """
    y[...] = np.maximum(np.minimum(x, x.dtype.type(high)), x.dtype.type(low))


def clip_backward(x: np.ndarray, dy: np.ndarray, dx: np.ndarray, low: float, high: float) -> None:
    """Gradient of `clip`, dy where x is within the range, its ends included, else 0.

    Parameters
    ----------
    x : ndarray
        Input of `clip`.
    dy : ndarray, shape of x
    dx : ndarray, shape of x
        Filled; may be `dy`.
    low, high : float
    """
    dx[...] = np.where((x >= x.dtype.type(low)) & (x <= x.dtype.type(high)), dy, 0)


def dropout(x: np.ndarray, mask: np.ndarray, scale: float, y: np.ndarray) -> None:
    """Keep some elements, scaled: ``y = x * mask * scale``.  The gradient is the same map of dy.

    Parameters
    ----------
    x : ndarray
    mask : ndarray, shape of x, uint8
        1 where an element is kept, 0 where it is dropped.
    scale : float
    y : ndarray, shape of x
        Filled; may be `x`.
    """
    y[...] = x * mask * x.dtype.type(scale)


def scale_copy(x: np.ndarray, alpha: float, y: np.ndarray) -> None:
    """Scaled copy, ``y = alpha * x``.

    Parameters
    ----------
    x : ndarray
    alpha : float
    y : ndarray, shape of x
        Filled; may be `x`.
    """
    y[...] = x.dtype.type(alpha) * x


def scale_by(x: np.ndarray, scale: np.ndarray, y: np.ndarray) -> None:
    """Copy, scaled by a number that another op has written, ``y = scale[0] * x``.

    Parameters
    ----------
    x : ndarray
    scale : ndarray, shape (1,), float64
        Rounded to the dtype of x first.
    y : ndarray, shape of x
        Filled; may be `x`.
    """
    y[...] = x.dtype.type(scale[0]) * x


def axpy(x: np.ndarray, alpha: float, y: np.ndarray) -> None:
    """Add a multiple, ``y = y + alpha * x``.

    Parameters
    ----------
    x : ndarray
    alpha : float
    y : ndarray, shape of x
        Changed in place; may be `x`.
    """
    y += x.dtype.type(alpha) * x


def weighted_sum(
    a: np.ndarray, alpha: float, b: np.ndarray, beta: float, y: np.ndarray, slope: float | None = None
) -> None:
    """Weighted sum of two, ``y = alpha * a + beta * b``; with weights of 1, the plain sum.

    Parameters
    ----------
    a : ndarray
    alpha : float
    b : ndarray, shape of a
    beta : float
    y : ndarray, shape of a
        Filled; may be `a` or `b`.
    slope : float, optional
        Rectify the sum as `relu` does, with that slope on the negative side.
    """
    y[...] = a.dtype.type(alpha) * a + a.dtype.type(beta) * b
    if slope is not None:
        relu(y, y, slope)


def multiply(a: np.ndarray, b: np.ndarray, y: np.ndarray) -> None:
    """Product, ``y = a * b``.

    Parameters
    ----------
    a : ndarray
    b : ndarray, shape of a
    y : ndarray, shape of a
        Filled; may be `a` or `b`.
    """
    y[...] = a * b


def product_gradient(y: np.ndarray, x: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """Gradient of a product by one factor, from the product: ``dx = y / x * dy`` (NaN where x is 0).

    Parameters
    ----------
    y, x, dy : ndarray
    dx : ndarray, shape of y
        Filled; may be `dy`.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        dx[...] = y / x * dy


def maximum(
    a: np.ndarray, b: np.ndarray, index_a: int, index_b: int, y: np.ndarray, index: np.ndarray
) -> None:
    """The larger of two and which it was; of equal ones the second (Caffe's Eltwise MAX).

    Parameters
    ----------
    a : ndarray
    b : ndarray, shape of a
    index_a, index_b : int
        What to record where the first, or the second, is taken.
    y : ndarray, shape of a
        Filled; may be `a` or `b`.
    index : ndarray, shape of a, int32
        Filled.
    """
    first = a > b
    index[...] = np.where(first, index_a, index_b)
    y[...] = np.where(first, a, b)


def maximum_update(x: np.ndarray, index_x: int, y: np.ndarray, index: np.ndarray) -> None:
    """Take one more input into a maximum: where it is strictly larger, it and its index replace y and index.

    Parameters
    ----------
    x : ndarray
    index_x : int
    y : ndarray, shape of x
        Changed in place.
    index : ndarray, shape of x, int32
        Changed in place.
    """
    larger = x > y
    index[larger] = index_x
    y[larger] = x[larger]


def select_gradient(index: np.ndarray, which: int, dy: np.ndarray, dx: np.ndarray) -> None:
    """Gradient of a maximum by one input: dy where that input was taken, else 0.

    Parameters
    ----------
    index : ndarray, int32
        From `maximum` and `maximum_update`.
    which : int
        The index of that input.
    dy : ndarray, shape of index
    dx : ndarray, shape of index
        Filled; may be `dy`.
    """
    dx[...] = np.where(index == which, dy, 0)


def fill(x: np.ndarray, value: float) -> None:
    """Set every element to `value`.

    Parameters
    ----------
    x : ndarray
        Filled.
    value : float
    """
    x[...] = value
