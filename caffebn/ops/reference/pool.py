"""Pooling by maximum and by average, over windows of an image.

x is (N, C, H, W), y is (N, C, H', W'); kernel, stride and pad are (rows, columns).  Output (i, j) belongs to
the window that starts at row ``i * stride - pad`` of the image, likewise for columns.  H' and W' are those of
y: whoever calls decides how many windows there are, and windows may lie partly or wholly outside.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

__all__ = ["ave_pool", "ave_pool_backward", "max_pool", "max_pool_backward", "places_as_numbers"]

Pair = tuple[int, int]

# Where Caffe starts its search for a maximum, in either precision.
LOWEST = -float(np.finfo(np.float32).max)


def max_pool(
    x: np.ndarray,
    y: np.ndarray,
    index: np.ndarray | None,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
) -> None:
    """Maximum of each window, cut to the image: padding never wins.

    Of equal values the first in row order is taken.  The search starts at -3.4028235e38 (in float64 too):
    a window without a larger value, such as one that lies outside, gives that value and index -1.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W)
    y : ndarray, shape (N, C, H', W')
        Filled; must not be `x`.
    index : ndarray, shape of y, int32, or None
        Filled with ``h * W + w`` of each maximum.
    kernel, stride, pad : (int, int)
    """
    width = x.shape[3]
    index = np.empty(y.shape, np.int32) if index is None else index
    for i, j, rows, columns in _windows(x.shape, y.shape, kernel, stride, pad):
        window = x[:, :, rows, columns]
        found = np.where(window > LOWEST, window, LOWEST)
        found = found.reshape(*x.shape[:2], window.shape[2] * window.shape[3])
        if found.shape[2] == 0:
            y[:, :, i, j], index[:, :, i, j] = LOWEST, -1
            continue
        first = found.argmax(axis=2)
        h, w = np.divmod(first, window.shape[3])
        y[:, :, i, j] = np.take_along_axis(found, first[..., None], axis=2)[..., 0]
        index[:, :, i, j] = np.where(y[:, :, i, j] > LOWEST, (h + rows.start) * width + w + columns.start, -1)


def places_as_numbers(index: np.ndarray, y: np.ndarray) -> None:
    """The places of maxima as a tensor holds them, ``y = index``, rounded to its dtype.

    Parameters
    ----------
    index : ndarray, int32
        From `max_pool`.
    y : ndarray, shape of index
        Filled.
    """
    y[...] = index


def max_pool_backward(dy: np.ndarray, index: np.ndarray, dx: np.ndarray) -> None:
    """Gradient of `max_pool`: each dy is added to dx at the place of the maximum.

    The gradient of a window without a maximum (index -1) is dropped.

    Parameters
    ----------
    dy : ndarray, shape (N, C, H', W')
    index : ndarray, shape of dy, int32
    dx : ndarray, shape (N, C, H, W)
        Overwritten; must not be `dy`.
    """
    places = dx.shape[2] * dx.shape[3]
    planes = dx.shape[0] * dx.shape[1]
    windows = dy.shape[2] * dy.shape[3]
    found = index.reshape(planes, windows)
    plane, window = np.nonzero((found >= 0) & (found < places))
    total = np.zeros((planes, places))
    np.add.at(total, (plane, found[plane, window]), dy.reshape(planes, windows)[plane, window])
    dx[...] = total.reshape(dx.shape)


def ave_pool(
    x: np.ndarray, y: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]
) -> None:
    """Average of each window.

    The divisor is the area of the window cut to the padded image: padding counts, as zeros, but not what
    hangs over beyond it.  A window that starts right behind the padded image gives 0/0, NaN; one that starts
    further out has a negative height or width by Caffe's formula, and gives 0.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W)
    y : ndarray, shape (N, C, H', W')
        Filled; must not be `x`.
    kernel, stride, pad : (int, int)
    """
    with np.errstate(invalid="ignore"):
        for i, j, rows, columns in _windows(x.shape, y.shape, kernel, stride, pad):
            total = x[:, :, rows, columns].sum(axis=(2, 3), dtype=np.float64)
            y[:, :, i, j] = total / np.float64(_area(i, j, x.shape, kernel, stride, pad))


def ave_pool_backward(
    dy: np.ndarray, dx: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]
) -> None:
    """Gradient of `ave_pool`: each dy, divided as there, is added to dx all over its window.

    Parameters
    ----------
    dy : ndarray, shape (N, C, H', W')
    dx : ndarray, shape (N, C, H, W)
        Overwritten; must not be `dy`.
    kernel, stride, pad : (int, int)
    """
    total = np.zeros(dx.shape)
    for i, j, rows, columns in _windows(dx.shape, dy.shape, kernel, stride, pad):
        area = _area(i, j, dx.shape, kernel, stride, pad)
        if area > 0:
            total[:, :, rows, columns] += dy[:, :, i, j, None, None] / np.float64(area)
    dx[...] = total


def _windows(
    image: tuple[int, ...], output: tuple[int, ...], kernel: Pair, stride: Pair, pad: Pair
) -> Iterator[tuple[int, int, slice, slice]]:
    """Yield each output position with the rows and columns of its window, cut to the image."""
    for i in range(output[2]):
        for j in range(output[3]):
            top, left = i * stride[0] - pad[0], j * stride[1] - pad[1]
            rows = slice(max(top, 0), max(0, min(top + kernel[0], image[2])))
            columns = slice(max(left, 0), max(0, min(left + kernel[1], image[3])))
            yield i, j, rows, columns


def _area(i: int, j: int, image: tuple[int, ...], kernel: Pair, stride: Pair, pad: Pair) -> int:
    """Area of a window, cut to the padded image; Caffe does not keep the sides from going below 0."""
    height = min(i * stride[0] + kernel[0], image[2] + 2 * pad[0]) - i * stride[0]
    width = min(j * stride[1] + kernel[1], image[3] + 2 * pad[1]) - j * stride[1]
    return height * width
