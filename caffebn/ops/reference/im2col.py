"""Patches of images laid out as channels (Im2col); the geometry is that of a convolution with one group."""

from __future__ import annotations

import numpy as np

from caffebn.ops.geometry import ConvGeometry
from caffebn.ops.reference.conv import windows

__all__ = ["col2im", "im2col"]


def im2col(x: np.ndarray, y: np.ndarray, geometry: ConvGeometry, scratch: np.ndarray) -> None:
    """Lay out what a kernel sees at each place: ``y[n, c * K + k, p] = x[n, c, p * stride - pad + k * dilation]``.

    k runs over the K positions of the kernel in row order; what lies outside the image counts as 0.

    Parameters
    ----------
    x : ndarray, shape (N, channels, *spatial)
    y : ndarray, shape (N, channels * K, *out_spatial)
        Filled.
    geometry : ConvGeometry
    scratch : ndarray
        At least ``conv_scratch_size(geometry, N)`` elements.
    """
    g = geometry
    frame = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in g.pad)])
    columns = y.reshape(len(x), g.channels, g.kernel_count, *g.out_spatial)
    for k, window in windows(g):
        columns[:, :, k] = frame[window]


def col2im(dy: np.ndarray, dx: np.ndarray, geometry: ConvGeometry, scratch: np.ndarray) -> None:
    """Gradient of `im2col`: every element of the image gets the sum of all the places it was copied to.

    Parameters
    ----------
    dy : ndarray, shape (N, channels * K, *out_spatial)
    dx : ndarray, shape (N, channels, *spatial)
        Filled.
    geometry : ConvGeometry
    scratch : ndarray
        At least ``conv_scratch_size(geometry, N)`` elements.
    """
    g = geometry
    frame = np.zeros((len(dx), g.channels, *g.framed))
    columns = dy.reshape(len(dx), g.channels, g.kernel_count, *g.out_spatial)
    for k, window in windows(g):
        frame[window] += columns[:, :, k]
    inside = (slice(p, p + n) for p, n in zip(g.pad, g.spatial, strict=True))
    dx[...] = frame[(slice(None), slice(None), *inside)]
