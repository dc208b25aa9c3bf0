"""Pooling by maximum and by average; see ops/reference/pool.py for what is computed."""

from __future__ import annotations

import numpy as np

from caffebn.ops.gpu import device
from caffebn.ops.gpu.checks import INDEX, check, check_tensor

__all__ = ["ave_pool", "ave_pool_backward", "max_pool", "max_pool_backward", "places_as_numbers"]

_kernel = device.Kernels("pool")


def max_pool(
    x: np.ndarray,
    y: np.ndarray,
    index: np.ndarray | None,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
) -> None:
    """Take the maximum of each window; see the reference op."""
    _check_pair("max_pool", x, "x", y, "y")
    if index is not None:
        check("max_pool", index, "index", y.shape, INDEX)
    device.launch_each(
        _kernel("max_pool", x.itemsize), y.size,
        x, y, index, y.size, *x.shape[2:], *y.shape[2:], *kernel, *stride, *pad,
    )  # fmt: skip


def max_pool_backward(dy: np.ndarray, index: np.ndarray, dx: np.ndarray) -> None:
    """Compute the gradient of `max_pool`; see the reference op."""
    _check_pair("max_pool_backward", dy, "dy", dx, "dx")
    check("max_pool_backward", index, "index", dy.shape, INDEX)
    planes, sizes = dy.shape[0] * dy.shape[1], (*dx.shape[2:], *dy.shape[2:])
    n = planes * 2 * sum(sizes)
    bands = device.scratch(-(-n // 2)).view(INDEX)[:n]
    device.launch(_kernel("pool_bands", 0), planes, index, bands, *sizes)
    device.launch_each(
        _kernel("max_pool_backward", dy.itemsize), dx.size, dy, index, bands, dx, dx.size, *sizes
    )


def ave_pool(
    x: np.ndarray, y: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]
) -> None:
    """Average each window; see the reference op."""
    _check_pair("ave_pool", x, "x", y, "y")
    device.launch_each(
        _kernel("ave_pool", x.itemsize), y.size,
        x, y, y.size, *x.shape[2:], *y.shape[2:], *kernel, *stride, *pad,
    )  # fmt: skip


def ave_pool_backward(
    dy: np.ndarray, dx: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]
) -> None:
    """Compute the gradient of `ave_pool`; see the reference op."""
    _check_pair("ave_pool_backward", dy, "dy", dx, "dx")
    device.launch_each(
        _kernel("ave_pool_backward", dy.itemsize), dx.size,
        dy, dx, dx.size, *dx.shape[2:], *dy.shape[2:], *kernel, *stride, *pad,
    )  # fmt: skip


def places_as_numbers(index: np.ndarray, y: np.ndarray) -> None:
    """Copy places of maxima into a tensor; see the reference op."""
    check_tensor("places_as_numbers", y, "y")
    check("places_as_numbers", index, "index", y.shape, INDEX)
    device.launch_each(_kernel("places_as_numbers", y.itemsize), y.size, index, y, y.size)


def _check_pair(op: str, first: np.ndarray, first_name: str, second: np.ndarray, second_name: str) -> None:
    """Check two tensors of four axes with the same images and channels."""
    check_tensor(op, first, first_name, 4)
    check_tensor(op, second, second_name, 4)
    check(op, second, second_name, (*first.shape[:2], *second.shape[2:]), first.dtype)
