"""Convolution by packed products without a column buffer; see ops/reference/conv.py for what is computed."""

from __future__ import annotations

from math import prod

import numpy as np

from caffebn.ops import threads
from caffebn.ops.cpu.checks import by_dtype, check, check_tensor
from caffebn.ops.cpu.gemm import MACS_PER_ELEMENT
from caffebn.ops.cpu.scratch import scratch as thread_scratch
from caffebn.ops.geometry import ConvGeometry
from caffebn.ops.level import kernels

__all__ = ["conv_backward_data", "conv_backward_weight", "conv_forward", "conv_scratch_size"]

_kernel = kernels("conv")
_forward = by_dtype(_kernel.forward)
_backward_weight = by_dtype(_kernel.backward_weight)
_backward_data = by_dtype(_kernel.backward_data)
_winograd = by_dtype(_kernel.winograd)
_winograd_backward_data = by_dtype(_kernel.winograd_backward_data)
_winograd_backward_weight = by_dtype(_kernel.winograd_backward_weight)
_depthwise_forward = by_dtype(_kernel.depthwise_forward)
_depthwise_backward_data = by_dtype(_kernel.depthwise_backward_data)
_depthwise_backward_weight = by_dtype(_kernel.depthwise_backward_weight)


def conv_scratch_size(geometry: ConvGeometry, batch: int) -> int:
    """Return the elements of scratch needed: none, the kernels use memory of the calling thread."""
    return 0


def conv_forward(
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray | None,
    y: np.ndarray,
    geometry: ConvGeometry,
    scratch: np.ndarray,
    scale: np.ndarray | None = None,
    residual: np.ndarray | None = None,
    slope: float | None = None,
) -> None:
    """Cross-correlate images with weights; see the reference op."""
    g = geometry
    _check("conv_forward", g, x=x, w=w, y=y, bias=bias, scale=scale, residual=residual)
    n_threads = threads.for_work(len(x) * g.macs // MACS_PER_ELEMENT)
    extra = None if residual is None else residual.reshape(-1)
    active, factor = slope is not None, 0.0 if slope is None else slope
    how = g.choice(len(x), y.dtype)
    if how == "depthwise":
        plan = g.depthwise
        _depthwise_forward[y.itemsize](
            w.reshape(-1), _planes(x), plan.sizes, plan.tables, False, scale, bias, extra, active, factor,
            _planes(y), g.group, _planes_scratch(g, y.dtype, n_threads), n_threads,
        )  # fmt: skip
    elif how.startswith("winograd"):
        m = int(how[-1])
        tiles = g.tiles(m)
        _winograd[y.itemsize](
            m, w.reshape(-1), _planes(x), tiles.row_from, tiles.inner, scale, bias, extra, active, factor,
            y, _tiles_scratch(g, m, len(x), y.dtype, n_threads, False), n_threads,
        )  # fmt: skip
    else:
        c = g.columns
        _forward[y.itemsize](
            w.reshape(-1), _grouped(x, g.group), c.sizes, c.row_from, c.inner, scale, bias, extra, active, factor,
            _grouped(y, g.group), _scratch(g, len(x), y.dtype, n_threads), n_threads,
        )  # fmt: skip


def conv_backward_data(
    dy: np.ndarray, w: np.ndarray, dx: np.ndarray, geometry: ConvGeometry, scratch: np.ndarray
) -> None:
    """Compute the gradient with respect to the images; see the reference op."""
    g = geometry
    _check("conv_backward_data", g, dy=dy, w=w, dx=dx)
    n_threads = threads.for_work(len(dy) * g.macs // MACS_PER_ELEMENT)
    how = g.choice(len(dx), dx.dtype, "backward_data")
    if how == "depthwise" and g.depthwise_gradient is not None:
        plan = g.depthwise_gradient
        _depthwise_forward[dx.itemsize](
            w.reshape(-1), _planes(dy), plan.sizes, plan.tables, True, None, None, None, False, 0.0,
            _planes(dx), g.group, _planes_scratch(g, dx.dtype, n_threads), n_threads,
        )  # fmt: skip
    elif how == "depthwise":
        plan = g.depthwise
        _depthwise_backward_data[dx.itemsize](
            w.reshape(-1), _planes(dy), plan.sizes, plan.tables, _planes(dx),
            _planes_scratch(g, dx.dtype, n_threads), n_threads,
        )  # fmt: skip
    elif how.startswith("winograd"):
        m = int(how[-1])
        tiles = g.tiles(m, gradient=True)
        _winograd_backward_data[dx.itemsize](
            m, w.reshape(-1), _planes(dy), tiles.row_from, tiles.inner, dx,
            _tiles_scratch(g, m, len(dx), dx.dtype, n_threads, True), n_threads,
        )  # fmt: skip
    else:
        t = g.gradient
        _backward_data[dx.itemsize](
            w.reshape(-1), _grouped(dy, g.group), t.tap_to, t.tap_step, t.phases, t.tables, _grouped(dx, g.group),
            _scratch(g, len(dx), dx.dtype, n_threads, g.gradient.room), n_threads,
        )  # fmt: skip


def conv_backward_weight(
    x: np.ndarray, dy: np.ndarray, dw: np.ndarray, geometry: ConvGeometry, scratch: np.ndarray
) -> None:
    """Add the gradient with respect to the weights; see the reference op."""
    g = geometry
    _check("conv_backward_weight", g, x=x, dy=dy, dw=dw)
    n_threads = threads.for_work(len(dy) * g.macs // MACS_PER_ELEMENT)
    how = g.choice(len(dy), dw.dtype, "backward_weight")
    if how == "depthwise":
        plan = g.depthwise
        _depthwise_backward_weight[dw.itemsize](
            _planes(dy), _planes(x), plan.sizes, plan.tables, dw.reshape(-1),
            _planes_scratch(g, dw.dtype, n_threads), n_threads,
        )  # fmt: skip
    elif how.startswith("winograd"):
        m = int(how[-1])
        _winograd_backward_weight[dw.itemsize](
            m, dy, x, *g.pad, dw.reshape(-1), _weight_scratch(g, m, len(x), dw.dtype, n_threads), n_threads
        )
    else:
        c = g.columns
        _backward_weight[dw.itemsize](
            _grouped(dy, g.group), _grouped(x, g.group), c.sizes, c.row_from, c.inner, dw.reshape(-1),
            _scratch(g, len(x), dw.dtype, n_threads), n_threads,
        )  # fmt: skip


def _check(
    op: str,
    g: ConvGeometry,
    bias: np.ndarray | None = None,
    scale: np.ndarray | None = None,
    residual: np.ndarray | None = None,
    **arrays: np.ndarray,
) -> None:
    """Check every array of a call against the geometry; the first one sets batch and dtype."""
    name, first = next(iter(arrays.items()))
    check_tensor(op, first, name, 2 + len(g.spatial))
    batch, dtype = first.shape[0], first.dtype
    images, outputs = (batch, g.channels, *g.spatial), (batch, g.num_output, *g.out_spatial)
    expected = {
        "x": images,
        "dx": images,
        "y": outputs,
        "dy": outputs,
        "w": g.weight_shape,
        "dw": g.weight_shape,
    }
    for name, array in arrays.items():
        check(op, array, name, expected[name], dtype, writable=name in ("y", "dx", "dw"))
    if bias is not None:
        check(op, bias, "bias", (g.num_output,), dtype)
    if scale is not None:
        check(op, scale, "scale", (g.num_output,), dtype)
    if residual is not None:
        check(op, residual, "residual", outputs, dtype)


def _planes(x: np.ndarray) -> np.ndarray:
    """Images as (N, channels, plane)."""
    return x.reshape(*x.shape[:2], prod(x.shape[2:]))


def _grouped(x: np.ndarray, groups: int) -> np.ndarray:
    """Images as (N, groups, channels of a group, plane)."""
    return x.reshape(len(x), groups, x.shape[1] // groups, prod(x.shape[2:]))


def _scratch(g: ConvGeometry, batch: int, dtype: np.dtype, n_threads: int, room: int = 0) -> np.ndarray:
    """Scratch for the products of all threads, and `room` elements for each image."""
    depth = batch * g.places
    size = _kernel.scratch_size(g.kernel_count, prod(g.weight_shape), depth, n_threads, dtype.itemsize == 8)
    return thread_scratch(size + batch * room, dtype)


def _planes_scratch(g: ConvGeometry, dtype: np.dtype, n_threads: int) -> np.ndarray:
    """Scratch for the depthwise kernels of all threads."""
    size = _kernel.depthwise_scratch(g.depthwise.sizes, n_threads)
    if g.depthwise_gradient is not None:
        size = max(size, _kernel.depthwise_scratch(g.depthwise_gradient.sizes, n_threads))
    return thread_scratch(size, dtype)


def _tiles_scratch(
    g: ConvGeometry, m: int, batch: int, dtype: np.dtype, n_threads: int, gradient: bool
) -> np.ndarray:
    """Scratch for Winograd's algorithm, forward or for the gradient of the images."""
    rows, channels, places = g.num_output, g.channels, g.out_spatial
    if gradient:
        rows, channels, places = channels, rows, g.spatial
    tiles = batch * prod(-(-n // m) for n in places)
    size = _kernel.winograd_scratch(m, rows, channels, tiles, n_threads, dtype.itemsize == 8)
    return thread_scratch(size, dtype)


def _weight_scratch(g: ConvGeometry, m: int, batch: int, dtype: np.dtype, n_threads: int) -> np.ndarray:
    """Scratch for the gradient of the weights by Winograd's algorithm."""
    size = _kernel.winograd_weight_scratch(
        m, batch, g.channels, g.num_output, *g.out_spatial, n_threads, dtype.itemsize == 8
    )
    return thread_scratch(size, dtype)
