"""Local response normalisation, across channels or within each.

All tensors are (N, C, H, W).  `size` is odd; windows are centred, and cut at the edges.
"""

from __future__ import annotations

import numpy as np

__all__ = ["lrn_across", "lrn_across_backward", "lrn_within", "lrn_within_backward"]


def lrn_across(
    x: np.ndarray, scale: np.ndarray, y: np.ndarray, size: int, alpha: float, beta: float, k: float
) -> None:
    """Divide by a power of the squares of neighbouring channels.

    ``scale = k + alpha / size * sum(x**2)`` over `size` channels, and ``y = x * scale**-beta``.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W)
    scale : ndarray, shape of x
        Filled, for the backward pass.
    y : ndarray, shape of x
        Filled; must not be `x`.
    size : int
        Odd.
    alpha, beta, k : float

    References
    ----------
    Krizhevsky et al., ImageNet classification with deep convolutional neural networks, 2012, section 3.3.
    """
    scale[...] = k + alpha / size * _over_channels(x.astype(np.float64) ** 2, size)
    y[...] = x * scale.astype(np.float64) ** -beta


def lrn_across_backward(
    x: np.ndarray,
    y: np.ndarray,
    scale: np.ndarray,
    dy: np.ndarray,
    dx: np.ndarray,
    size: int,
    alpha: float,
    beta: float,
) -> None:
    """Gradient of `lrn_across`.

    ``dx = dy * scale**-beta - 2 * alpha * beta / size * x * sum(dy * y / scale)``: x counts in the scale of
    each y of its window, by ``-beta * y / scale`` times ``2 * alpha / size * x``.

    Parameters
    ----------
    x, y, scale, dy : ndarray, shape (N, C, H, W)
    dx : ndarray, shape of x
        Filled; must not be `dy`.
    size : int
    alpha, beta : float
    """
    ratio = dy.astype(np.float64) * y / scale
    own = dy * scale.astype(np.float64) ** -beta
    dx[...] = own - 2 * alpha * beta / size * x * _over_channels(ratio, size)


def lrn_within(x: np.ndarray, scale: np.ndarray, y: np.ndarray, size: int, alpha: float, beta: float) -> None:
    """Divide by a power of the squares around each place of the same channel.

    ``scale = 1 + alpha / size**2 * sum(x**2)`` over `size` by `size` places, zero outside the image, and
    ``y = x * scale**-beta``.  Caffe ignores its parameter k here: the constant is 1.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W)
    scale : ndarray, shape of x
        Filled, for the backward pass.
    y : ndarray, shape of x
        Filled; must not be `x`.
    size : int
        Odd.
    alpha, beta : float
    """
    scale[...] = 1 + alpha / size**2 * _over_places(x.astype(np.float64) ** 2, size)
    y[...] = x * scale.astype(np.float64) ** -beta


def lrn_within_backward(
    x: np.ndarray,
    y: np.ndarray,
    scale: np.ndarray,
    dy: np.ndarray,
    dx: np.ndarray,
    size: int,
    alpha: float,
    beta: float,
) -> None:
    """Gradient of `lrn_within`, as that of `lrn_across`, with ``alpha / size**2``.

    Parameters
    ----------
    x, y, scale, dy : ndarray, shape (N, C, H, W)
    dx : ndarray, shape of x
        Filled; must not be `dy`.
    size : int
    alpha, beta : float
    """
    ratio = dy.astype(np.float64) * y / scale
    own = dy * scale.astype(np.float64) ** -beta
    dx[...] = own - 2 * alpha * beta / size**2 * x * _over_places(ratio, size)


def _over_channels(v: np.ndarray, size: int) -> np.ndarray:
    """Sum over `size` channels around each."""
    half = size // 2
    padded = np.pad(v, ((0, 0), (half, half), (0, 0), (0, 0)))
    return sum((padded[:, i : i + v.shape[1]] for i in range(size)), start=np.zeros_like(v))


def _over_places(v: np.ndarray, size: int) -> np.ndarray:
    """Sum over `size` by `size` places around each."""
    half = size // 2
    padded = np.pad(v, ((0, 0), (0, 0), (half, half), (half, half)))
    height, width = v.shape[2:]
    shifted = (padded[:, :, i : i + height, j : j + width] for i in range(size) for j in range(size))
    return sum(shifted, start=np.zeros_like(v))
