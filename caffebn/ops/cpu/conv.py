"""Convolution by packed products without a column buffer; see ops/reference/conv.py for what is computed."""

from __future__ import annotations

import numpy as np

from caffebn.ops import threads
from caffebn.ops.cpu.checks import by_dtype, check, check_tensor
from caffebn.ops.cpu.gemm import MACS_PER_ELEMENT
from caffebn.ops.cpu.scratch import scratch as thread_scratch
from caffebn.ops.geometry import ConvGeometry
from caffebn.ops.level import kernels

__all__ = ["conv_backward_data", "conv_backward_weight", "conv_forward", "conv_scratch_size"]

_kernel = kernels("conv")
_pad = by_dtype(_kernel.pad)
_crop = by_dtype(_kernel.crop)
_forward = by_dtype(_kernel.forward)
_backward_weight = by_dtype(_kernel.backward_weight)
_backward_data = by_dtype(_kernel.backward_data)
_depthwise_forward = by_dtype(_kernel.depthwise_forward)
_depthwise_backward_data = by_dtype(_kernel.depthwise_backward_data)
_depthwise_backward_weight = by_dtype(_kernel.depthwise_backward_weight)


def conv_scratch_size(geometry: ConvGeometry, batch: int) -> int:
    """Return the elements of scratch needed: the batch in its frame of zeros, if there is padding."""
    return batch * geometry.frame_size if geometry.is_padded else 0


def conv_forward(
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray | None,
    y: np.ndarray,
    geometry: ConvGeometry,
    scratch: np.ndarray,
) -> None:
    """Cross-correlate images with weights; see the reference op."""
    g = geometry
    _check("conv_forward", g, x=x, w=w, y=y, bias=bias, scratch=scratch)
    n_threads = threads.for_work(len(x) * g.macs // MACS_PER_ELEMENT)
    image = _frame(x, g, scratch, n_threads)
    if g.is_depthwise:
        _depthwise_forward[y.itemsize](
            w.reshape(g.num_output, g.k_table.size), image, g.k_table, g.row_table, _last_stride(g), bias,
            y.reshape(len(y), g.num_output, *g.rows), n_threads,
        )  # fmt: skip
    else:
        _forward[y.itemsize](
            w.reshape(-1), g.k_table.size, 1, image, g.k_table, g.place_table, bias,
            _grouped(y, g), _panels(g, y.dtype, n_threads), n_threads,
        )  # fmt: skip


def conv_backward_data(
    dy: np.ndarray, w: np.ndarray, dx: np.ndarray, geometry: ConvGeometry, scratch: np.ndarray
) -> None:
    """Compute the gradient with respect to the images; see the reference op."""
    g = geometry
    _check("conv_backward_data", g, dy=dy, w=w, dx=dx, scratch=scratch)
    n_threads = threads.for_work(len(dy) * g.macs // MACS_PER_ELEMENT)
    image = _frame_memory(dx, g, scratch)
    if g.is_depthwise:
        _depthwise_backward_data[dx.itemsize](
            w.reshape(g.num_output, g.k_table.size), dy.reshape(len(dy), g.num_output, *g.rows),
            g.k_table, g.row_table, _last_stride(g), image, n_threads,
        )  # fmt: skip
    elif g.is_pointwise:
        # the transposed weights, applied to dy: a forward pass
        outputs, channels = g.num_output // g.group, g.channels // g.group
        _forward[dx.itemsize](
            w.reshape(-1), 1, channels, dy.reshape(len(dy), g.group, outputs * g.places),
            g.output_table, g.place_table, None,
            dx.reshape(len(dx), g.group, channels, g.places), _panels(g, dy.dtype, n_threads), n_threads,
        )  # fmt: skip
    else:
        _backward_data[dx.itemsize](
            w.reshape(g.group, g.num_output // g.group, g.k_table.size), _grouped(dy, g), g.k_table, g.place_table,
            g.kernel_count, image, _panels(g, dy.dtype, n_threads), n_threads,
        )  # fmt: skip
    if g.is_padded:
        _crop[dx.itemsize](_frames(image, g), g.image_row_table, _planes(dx, g), n_threads)


def conv_backward_weight(
    x: np.ndarray, dy: np.ndarray, dw: np.ndarray, geometry: ConvGeometry, scratch: np.ndarray
) -> None:
    """Add the gradient with respect to the weights; see the reference op."""
    g = geometry
    _check("conv_backward_weight", g, x=x, dy=dy, dw=dw, scratch=scratch)
    n_threads = threads.for_work(len(dy) * g.macs // MACS_PER_ELEMENT)
    image = _frame(x, g, scratch, n_threads)
    if g.is_depthwise:
        _depthwise_backward_weight[dw.itemsize](
            dy.reshape(len(dy), g.num_output, *g.rows), image, g.k_table, g.row_table, _last_stride(g),
            dw.reshape(g.num_output, g.k_table.size), n_threads,
        )  # fmt: skip
    else:
        _backward_weight[dw.itemsize](
            _grouped(dy, g), image, g.k_table, g.place_table,
            dw.reshape(g.group, g.num_output // g.group, g.k_table.size), _panels(g, dy.dtype, n_threads), n_threads,
        )  # fmt: skip


def _check(
    op: str, g: ConvGeometry, bias: np.ndarray | None = None, *, scratch: np.ndarray, **arrays: np.ndarray
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
    check(op, scratch, "scratch", None, dtype, at_least=conv_scratch_size(g, batch), writable=True)


def _frame_memory(x: np.ndarray, g: ConvGeometry, scratch: np.ndarray) -> np.ndarray:
    """Memory of the framed images as (N, group, rest): scratch, or `x` itself when nothing is padded."""
    flat = scratch[: len(x) * g.frame_size] if g.is_padded else x
    return flat.reshape(len(x), g.group, g.frame_size // g.group)


def _frame(x: np.ndarray, g: ConvGeometry, scratch: np.ndarray, n_threads: int) -> np.ndarray:
    image = _frame_memory(x, g, scratch)
    if g.is_padded:
        _pad[x.itemsize](_planes(x, g), g.image_row_table, _frames(image, g), n_threads)
    return image


def _planes(x: np.ndarray, g: ConvGeometry) -> np.ndarray:
    """Images as (planes, rows, width)."""
    return x.reshape(len(x) * g.channels, *g.image_rows)


def _frames(image: np.ndarray, g: ConvGeometry) -> np.ndarray:
    """Framed images as (planes, frame)."""
    return image.reshape(len(image) * g.channels, g.frame_size // g.channels)


def _last_stride(g: ConvGeometry) -> int:
    return g.stride[-1] if g.stride else 1


def _grouped(y: np.ndarray, g: ConvGeometry) -> np.ndarray:
    return y.reshape(len(y), g.group, g.num_output // g.group, g.places)


def _panels(g: ConvGeometry, dtype: np.dtype, n_threads: int) -> np.ndarray:
    """Scratch for the products, cut evenly among the threads."""
    size = _kernel.scratch_size(g.channels // g.group, g.kernel_count, n_threads, dtype.itemsize == 8)
    return thread_scratch(size, dtype)[:size]
