"""Patches of images laid out as channels; see ops/reference/im2col.py for what is computed."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from caffebn.ops.geometry import ConvGeometry
from caffebn.ops.gpu import device
from caffebn.ops.gpu.checks import INDEX, check, check_tensor

__all__ = ["col2im", "im2col"]

_kernel = device.Kernels("im2col")

_tables: WeakKeyDictionary[ConvGeometry, dict[int, device.Array]] = WeakKeyDictionary()


def table(g: ConvGeometry) -> tuple[device.Array, int]:
    """Return what kernels know of a geometry, made once for each device, and the number of spatial axes there."""
    made = _tables.setdefault(g, {})
    current = device.selected()
    axes = list(zip(g.spatial, g.out_spatial, g.kernel, g.stride, g.pad, g.dilation, strict=True))
    axes = axes or [(1, 1, 1, 1, 0, 1)]
    if current not in made:
        made[current] = device.from_host(np.array(axes, INDEX).reshape(-1))
    return made[current], len(axes)


def places(g: ConvGeometry) -> int:
    """Return the number of places of an image."""
    rows, width = g.image_rows
    return rows * width


def im2col(x: np.ndarray, y: np.ndarray, geometry: ConvGeometry, scratch: np.ndarray) -> None:
    """Lay out what a kernel sees at each place; see the reference op."""
    _check("im2col", x, "x", y, "y", geometry)
    columns(x, y, geometry)


def col2im(dy: np.ndarray, dx: np.ndarray, geometry: ConvGeometry, scratch: np.ndarray) -> None:
    """Compute the gradient of `im2col`; see the reference op."""
    _check("col2im", dx, "dx", dy, "dy", geometry)
    images(dy, dx, geometry)


def columns(x: device.Array, y: device.Array, g: ConvGeometry) -> None:
    """Fill y, (planes, K, P) of any shape, from planes of images."""
    axes, n = table(g)
    device.launch_each(
        _kernel("im2col", x.itemsize, n), y.size, x, y, axes, y.size, g.kernel_count, g.places, places(g)
    )


def images(y: device.Array, dx: device.Array, g: ConvGeometry) -> None:
    """Fill dx, planes of images, from y, (planes, K, P) of any shape."""
    axes, n = table(g)
    device.launch_each(
        _kernel("col2im", dx.itemsize, n), dx.size, y, dx, axes, dx.size, g.kernel_count, g.places, places(g)
    )


def _check(op: str, x: device.Array, x_name: str, y: device.Array, y_name: str, g: ConvGeometry) -> None:
    check_tensor(op, x, x_name, 2 + len(g.spatial))
    check(op, x, x_name, (x.shape[0], g.channels, *g.spatial), x.dtype)
    check(op, y, y_name, (x.shape[0], g.channels * g.kernel_count, *g.out_spatial), x.dtype)
