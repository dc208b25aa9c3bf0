"""Maps of single elements: activations, Dropout, Eltwise, and vector arithmetic.

Arrays of one call have one shape, which may be any.  All is computed in the dtype of the tensors; numbers
handed in are rounded to it first.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "axpy",
    "dropout",
    "fill",
    "maximum",
    "maximum_update",
    "multiply",
    "product_gradient",
    "relu",
    "relu_backward",
    "scale_copy",
    "select_gradient",
    "sigmoid",
    "sigmoid_backward",
    "tanh",
    "tanh_backward",
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
    y[...] = 0.5 * np.tanh(0.5 * x) + 0.5


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


def weighted_sum(a: np.ndarray, alpha: float, b: np.ndarray, beta: float, y: np.ndarray) -> None:
    """Weighted sum of two, ``y = alpha * a + beta * b``; with weights of 1, the plain sum.

    Parameters
    ----------
    a : ndarray
    alpha : float
    b : ndarray, shape of a
    beta : float
    y : ndarray, shape of a
        Filled; may be `a` or `b`.
    """
    y[...] = a.dtype.type(alpha) * a + a.dtype.type(beta) * b


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
