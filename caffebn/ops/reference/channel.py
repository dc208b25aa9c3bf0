"""Sums and maps per channel: BatchNorm, Scale, Bias, MVN and PReLU.

x is (N, C, S): images, channels, places.  Vectors have one element per channel.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "affine",
    "channel_dot",
    "channel_sum",
    "inv_deviation",
    "inv_std",
    "moments",
    "normalize",
    "normalize_backward",
    "prelu",
    "prelu_backward",
    "stored_statistics",
    "update_statistics",
]


def channel_sum(x: np.ndarray, out: np.ndarray, accumulate: bool = False) -> None:
    """Sum of each channel: ``out[c] = sum over n, s of x[n, c, s]``.

    Parameters
    ----------
    x : ndarray, shape (N, C, S)
    out : ndarray, shape (C,), dtype of x or float64
        Filled; rounded once, from a sum in float64.
    accumulate : bool
        Add to `out` instead of overwriting it.
    """
    total = x.sum(axis=(0, 2), dtype=np.float64)
    out[...] = out + total if accumulate else total


def channel_dot(x: np.ndarray, y: np.ndarray, out: np.ndarray, accumulate: bool = False) -> None:
    """Scalar product of each channel: ``out[c] = sum over n, s of x[n, c, s] * y[n, c, s]``.

    Parameters
    ----------
    x, y : ndarray, shape (N, C, S)
    out : ndarray, shape (C,), dtype of x or float64
        Filled; rounded once, from a sum in float64.
    accumulate : bool
        Add to `out` instead of overwriting it.
    """
    total = (x.astype(np.float64) * y).sum(axis=(0, 2))
    out[...] = out + total if accumulate else total


def moments(x: np.ndarray, mean_out: np.ndarray, var_out: np.ndarray) -> None:
    """Mean and biased variance of each channel, in two passes, so that a large mean does no harm.

    Both are 0 where a channel has no values (N or S is 0).

    Parameters
    ----------
    x : ndarray, shape (N, C, S)
    mean_out, var_out : ndarray, shape (C,), float64
        Filled: ``mean = sum(x) / m`` and ``var = sum((x - mean)**2) / m`` with ``m = N * S``.
    """
    count = max(1, x.shape[0] * x.shape[2])
    mean_out[...] = x.sum(axis=(0, 2), dtype=np.float64) / count
    var_out[...] = ((x - mean_out[:, None]) ** 2).sum(axis=(0, 2)) / count


def inv_std(var: np.ndarray, eps: float, out: np.ndarray) -> None:
    """Inverse standard deviation, ``out = 1 / sqrt(var + eps)``.

    Parameters
    ----------
    var : ndarray, shape (C,), float64
    eps : float
    out : ndarray, shape (C,), float64
        Filled; may be `var`.
    """
    np.divide(1, np.sqrt(var + eps), out=out)


def inv_deviation(var: np.ndarray, eps: float, out: np.ndarray) -> None:
    """Inverse of the standard deviation and a constant, ``out = 1 / (sqrt(var) + eps)``.

    Parameters
    ----------
    var : ndarray, shape (C,), float64
    eps : float
    out : ndarray, shape (C,), float64
        Filled; may be `var`.
    """
    with np.errstate(divide="ignore"):
        np.divide(1, np.sqrt(var) + eps, out=out)


def stored_statistics(
    sum_mean: np.ndarray, sum_var: np.ndarray, factor: np.ndarray, mean_out: np.ndarray, var_out: np.ndarray
) -> None:
    """Mean and variance from the three blobs of a BatchNorm layer, which hold sums and their weight.

    A factor of 0 (nothing accumulated yet) gives mean 0 and variance 0, as in Caffe.

    Parameters
    ----------
    sum_mean, sum_var : ndarray, shape (C,)
        Weighted sums of means and of variances.
    factor : ndarray, shape (1,), dtype of sum_mean
        The weight of all terms of those sums together.
    mean_out, var_out : ndarray, shape (C,), float64
        Filled: ``sum_mean / factor`` and ``sum_var / factor``.
    """
    f = float(factor[0])
    for total, out in ((sum_mean, mean_out), (sum_var, var_out)):
        out[...] = total.astype(np.float64) / f if f != 0 else 0


def update_statistics(
    mean: np.ndarray,
    var: np.ndarray,
    count: int,
    fraction: float,
    sum_mean: np.ndarray,
    sum_var: np.ndarray,
    factor: np.ndarray,
) -> None:
    """Take the statistics of a batch into the three blobs of a BatchNorm layer.

    ``factor = b * factor + 1``, ``sum_mean = b * sum_mean + mean``, ``sum_var = b * sum_var + k * var``, each
    rounded once.  What is stored is the unbiased variance: ``k = m / (m - 1)``, and 1 when m is 1.

    Parameters
    ----------
    mean, var : ndarray, shape (C,), float64
        Mean and biased variance of the batch, from `moments`.
    count : int
        m, the number of values per channel.
    fraction : float
        b, the moving average fraction.
    sum_mean, sum_var : ndarray, shape (C,)
        Changed in place.
    factor : ndarray, shape (1,), dtype of sum_mean
        Changed in place.
    """
    k = count / (count - 1) if count > 1 else 1.0
    for total, new in ((sum_mean, mean), (sum_var, k * var), (factor, 1.0)):
        total[...] = fraction * total.astype(np.float64) + new


def normalize(x: np.ndarray, mean: np.ndarray, inv_std: np.ndarray, y: np.ndarray) -> None:
    """Normalise each channel: ``y = (x - mean[c]) * inv_std[c]``, in the dtype of x.

    The mean is taken away in two parts, ``high``, the mean rounded to the dtype of x, and ``low``, what that left:
    ``y = ((x - high) - low) * inv_std``.  The first difference has an error of half a unit in its own last place,
    and none when x is close to the mean, so that a large mean costs no digits.

    Parameters
    ----------
    x : ndarray, shape (N, C, S)
    mean, inv_std : ndarray, shape (C,), float64
    y : ndarray, shape (N, C, S)
        Filled; may be `x`.
    """
    high = mean.astype(x.dtype)
    low = (mean - high).astype(x.dtype)
    y[...] = ((x - high[:, None]) - low[:, None]) * inv_std.astype(x.dtype)[:, None]


def normalize_backward(dy: np.ndarray, y: np.ndarray, inv_std: np.ndarray, dx: np.ndarray) -> None:
    """Gradient of a normalisation by the batch's own mean and variance.

    ``dx = (dy - mean(dy) - y * mean(dy * y)) * inv_std[c]``, means taken over N and S.

    With m values in a channel, s = inv_std and y = (x - mean) * s, the derivative of ``y_i`` by ``x_j`` is
    ``s * (delta_ij - 1/m - y_i * y_j / m)``: the mean depends on every x_j with weight 1/m, and the
    standard deviation with ``y_j / m``.  Summing ``dy_i`` times this over i gives the formula.

    Parameters
    ----------
    dy : ndarray, shape (N, C, S)
        Gradient by y.
    y : ndarray, shape (N, C, S)
        The normalised output, not what later layers may have made of it in place.
    inv_std : ndarray, shape (C,), float64
    dx : ndarray, shape (N, C, S)
        Filled; may be `dy`.
    """
    count = max(1, y.shape[0] * y.shape[2])
    mean_dy = dy.sum(axis=(0, 2), dtype=np.float64) / count
    mean_dy_y = (dy.astype(np.float64) * y).sum(axis=(0, 2)) / count
    dx[...] = (dy - mean_dy[:, None] - y * mean_dy_y[:, None]) * inv_std[:, None]


def affine(x: np.ndarray, scale: np.ndarray | None, shift: np.ndarray | None, y: np.ndarray) -> None:
    """Scale and shift each channel: ``y = x * scale[c] + shift[c]``, in the dtype of x.

    The product is rounded, then the sum: there is no fused multiply-add.

    Parameters
    ----------
    x : ndarray, shape (N, C, S)
    scale, shift : ndarray, shape (C,), dtype of x or float64, or None
        Rounded to the dtype of x first.  None leaves that step out.
    y : ndarray, shape (N, C, S)
        Filled; may be `x`.
    """
    y[...] = x
    if scale is not None:
        y *= scale.astype(x.dtype)[:, None]
    if shift is not None:
        y += shift.astype(x.dtype)[:, None]


def prelu(x: np.ndarray, slope: np.ndarray, y: np.ndarray) -> None:
    """Rectifier with a slope for each channel: ``y = x`` where x is positive, else ``x * slope[c]``.

    Parameters
    ----------
    x : ndarray, shape (N, C, S)
    slope : ndarray, shape (C,), dtype of x
    y : ndarray, shape (N, C, S)
        Filled; may be `x`.
    """
    y[...] = np.where(x > 0, x, x * slope[:, None])


def prelu_backward(x: np.ndarray, dy: np.ndarray, slope: np.ndarray, dx: np.ndarray) -> None:
    """Gradient of `prelu` by x, ``dx = dy`` where x is positive, else ``dy * slope[c]``.

    That by the slope is the `channel_dot` of dy with x limited to at most 0.

    Parameters
    ----------
    x, dy : ndarray, shape (N, C, S)
    slope : ndarray, shape (C,), dtype of x
    dx : ndarray, shape (N, C, S)
        Filled; may be `dy`.
    """
    dx[...] = np.where(x > 0, dy, dy * slope[:, None])
