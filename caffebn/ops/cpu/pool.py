"""Pooling by maximum and by average; see ops/reference/pool.py for what is computed."""

from __future__ import annotations

import numpy as np

from caffebn.errors import ArgumentError
from caffebn.ops import threads
from caffebn.ops.cpu.checks import INDEX, by_dtype, check, check_tensor
from caffebn.ops.level import kernels

__all__ = ["ave_pool", "ave_pool_backward", "max_pool", "max_pool_backward", "places_as_numbers"]

_kernel = kernels("pool")
_max_pool = by_dtype(_kernel.max_pool)
_max_pool_backward = by_dtype(_kernel.max_pool_backward)
_places_as_numbers = by_dtype(_kernel.places_as_numbers)
_ave_pool = by_dtype(_kernel.ave_pool)
_ave_pool_backward = by_dtype(_kernel.ave_pool_backward)


def max_pool(
    x: np.ndarray,
    y: np.ndarray,
    index: np.ndarray | None,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
) -> None:
    """Take the maximum of each window; see the reference op."""
    check_tensor("max_pool", x, "x", 4)
    _check_output("max_pool", y, "y", x, writable=True)
    if index is not None:
        check("max_pool", index, "index", y.shape, INDEX, writable=True)
    window = _window("max_pool", kernel, stride, pad)
    _max_pool[x.itemsize](x, y, index, *window, threads.for_work(x.size))


def places_as_numbers(index: np.ndarray, y: np.ndarray) -> None:
    """Write places as tensors hold them; see the reference op."""
    check_tensor("places_as_numbers", y, "y", writable=True)
    check("places_as_numbers", index, "index", y.shape, INDEX)
    _places_as_numbers[y.itemsize](index.reshape(-1), y.reshape(-1), threads.for_work(y.size))


def max_pool_backward(dy: np.ndarray, index: np.ndarray, dx: np.ndarray) -> None:
    """Add each gradient at the place of its maximum; see the reference op."""
    check_tensor("max_pool_backward", dx, "dx", 4, writable=True)
    _check_output("max_pool_backward", dy, "dy", dx)
    check("max_pool_backward", index, "index", dy.shape, INDEX)
    _max_pool_backward[dx.itemsize](dy, index, dx, threads.for_work(dx.size))


def ave_pool(
    x: np.ndarray, y: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]
) -> None:
    """Take the average of each window; see the reference op."""
    check_tensor("ave_pool", x, "x", 4)
    _check_output("ave_pool", y, "y", x, writable=True)
    _ave_pool[x.itemsize](x, y, *_window("ave_pool", kernel, stride, pad), threads.for_work(x.size))


def ave_pool_backward(
    dy: np.ndarray, dx: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]
) -> None:
    """Spread each gradient over its window; see the reference op."""
    check_tensor("ave_pool_backward", dx, "dx", 4, writable=True)
    _check_output("ave_pool_backward", dy, "dy", dx)
    window = _window("ave_pool_backward", kernel, stride, pad)
    _ave_pool_backward[dx.itemsize](dy, dx, *window, threads.for_work(dx.size))


def _check_output(op: str, y: np.ndarray, name: str, x: np.ndarray, writable: bool = False) -> None:
    """Check an array that has the images and channels of x, and any number of windows."""
    windows = y.shape[2:4] if isinstance(y, np.ndarray) and y.ndim == 4 else ("H'", "W'")
    check(op, y, name, x.shape[:2] + windows, x.dtype, writable=writable)


def _window(
    op: str, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]
) -> tuple[int, int, int, int, int, int]:
    """Return the six numbers in a row, checked."""
    for name, pair, least in (("kernel", kernel, 1), ("stride", stride, 1), ("pad", pad, 0)):
        if len(pair) != 2 or min(pair) < least:
            raise ArgumentError(f"{op}: {name} must be two whole numbers from {least} up; found {pair}")
    return (*kernel, *stride, *pad)
