"""Patches of images laid out as channels; see ops/reference/im2col.py for what is computed."""

from __future__ import annotations

import numpy as np

from caffebn.ops import threads
from caffebn.ops.cpu.checks import by_dtype, check, check_tensor
from caffebn.ops.cpu.scratch import scratch as thread_scratch
from caffebn.ops.geometry import ConvGeometry
from caffebn.ops.level import kernels

__all__ = ["col2im", "im2col"]

_kernel = kernels("im2col")
_gather = by_dtype(_kernel.gather)
_scatter = by_dtype(_kernel.scatter)
_pad = by_dtype(_kernel.pad)
_crop = by_dtype(_kernel.crop)


def im2col(x: np.ndarray, y: np.ndarray, geometry: ConvGeometry, scratch: np.ndarray) -> None:
    """Lay out what a kernel sees at each place; see the reference op."""
    check_tensor("im2col", x, "x", 2 + len(geometry.spatial))
    _check("im2col", geometry, x, "x", y, "y", to_columns=True)
    planes, framed, columns, k_table, n_threads = _views(x, y, geometry)
    if geometry.is_padded:
        _pad[x.itemsize](planes, geometry.image_row_table, framed, n_threads)
    _gather[x.itemsize](framed, k_table, geometry.place_table, columns, n_threads)


def col2im(dy: np.ndarray, dx: np.ndarray, geometry: ConvGeometry, scratch: np.ndarray) -> None:
    """Add up all places that an element was copied to; see the reference op."""
    check_tensor("col2im", dx, "dx", 2 + len(geometry.spatial), writable=True)
    _check("col2im", geometry, dx, "dx", dy, "dy", to_columns=False)
    planes, framed, columns, k_table, n_threads = _views(dx, dy, geometry)
    _scatter[dx.itemsize](columns, k_table, geometry.place_table, framed, n_threads)
    if geometry.is_padded:
        _crop[dx.itemsize](framed, geometry.image_row_table, planes, n_threads)


def _check(
    op: str,
    g: ConvGeometry,
    image: np.ndarray,
    image_name: str,
    columns: np.ndarray,
    columns_name: str,
    to_columns: bool,
) -> None:
    """Check the arrays of a call against the geometry."""
    batch, dtype = image.shape[0], image.dtype
    check(op, image, image_name, (batch, g.channels, *g.spatial), dtype, writable=not to_columns)
    laid_out = (batch, g.channels * g.kernel_count, *g.out_spatial)
    check(op, columns, columns_name, laid_out, dtype, writable=to_columns)


def _views(
    image: np.ndarray, columns: np.ndarray, g: ConvGeometry
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Images as (planes, rows, width) and, in their frames, as (planes, frame); columns as (planes, K, places);
    offsets of the kernel positions; number of threads."""
    planes = len(image) * g.channels
    frame_size = g.frame_size // max(g.channels, 1)
    framed = thread_scratch(planes * frame_size, image.dtype)[: planes * frame_size] if g.is_padded else image
    return (
        image.reshape(planes, *g.image_rows),
        framed.reshape(planes, frame_size),
        columns.reshape(planes, g.kernel_count, g.places),
        g.k_table[: g.kernel_count],
        threads.for_work(columns.size),
    )
