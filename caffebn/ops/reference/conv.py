"""Convolution by definition: every kernel position is one product with a strided slice of the framed image."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from caffebn.ops.geometry import ConvGeometry

__all__ = ["conv_backward_data", "conv_backward_weight", "conv_forward", "conv_scratch_size"]


def conv_scratch_size(geometry: ConvGeometry, batch: int) -> int:
    """Return the number of elements of scratch that the convolution ops of that geometry need.

    Parameters
    ----------
    geometry : ConvGeometry
    batch : int
        Number of images.
    """
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
    """Cross-correlate images with weights, and do what often follows while the result is at hand.

    ``y[n, o, p] = act(scale[o] * s[n, o, p] + bias[o] + residual[n, o, p])`` with
    ``s[n, o, p] = sum over c, k of w[o, c, k] * x[n, c, p * stride - pad + k * dilation]``,
    c running over the channels of o's group; what lies outside the image counts as 0.

    Parameters
    ----------
    x : ndarray, shape (N, channels, *spatial)
    w : ndarray, shape (num_output, channels / group, *kernel)
    bias : ndarray, shape (num_output,), or None
    y : ndarray, shape (N, num_output, *out_spatial)
        Result.
    geometry : ConvGeometry
    scratch : ndarray
        At least ``conv_scratch_size(geometry, N)`` elements.
    scale : ndarray, shape (num_output,), or None
    residual : ndarray, shape (N, num_output, *out_spatial), or None
        May be `y` (not on a GPU), but must not overlap it in any other way.
    slope : float or None
        Slope of a ReLU for negative numbers, 0 for the plain one; None for no activation.
    """
    g = geometry
    frame = _framed(x, g)
    total = np.zeros((len(x), g.group, g.num_output // g.group, *g.out_spatial))
    for k, window in windows(g):
        total += np.einsum("ngc...,goc->ngo...", frame[window], _weights(w, g)[k])
    total = total.reshape(y.shape)
    each = (1, -1, *(1,) * len(g.spatial))
    if scale is not None:
        total *= scale.reshape(each)
    if bias is not None:
        total += bias.reshape(each)
    if residual is not None:
        total += residual
    y[...] = total if slope is None else np.where(total > 0, total, slope * total)


def conv_backward_data(
    dy: np.ndarray, w: np.ndarray, dx: np.ndarray, geometry: ConvGeometry, scratch: np.ndarray
) -> None:
    """Compute the gradient with respect to the images; also the forward pass of a Deconvolution.

    ``dx[n, c, q] = sum over o, k, p with q = p * stride - pad + k * dilation of w[o, c, k] * dy[n, o, p]``.

    Parameters
    ----------
    dy : ndarray, shape (N, num_output, *out_spatial)
    w : ndarray, shape (num_output, channels / group, *kernel)
    dx : ndarray, shape (N, channels, *spatial)
        Result, overwritten.
    geometry : ConvGeometry
    scratch : ndarray
        At least ``conv_scratch_size(geometry, N)`` elements.
    """
    g = geometry
    frame = np.zeros((len(dx), g.group, g.channels // g.group, *g.framed))
    grouped = dy.reshape(len(dy), g.group, g.num_output // g.group, *g.out_spatial)
    for k, window in windows(g):
        frame[window] += np.einsum("ngo...,goc->ngc...", grouped, _weights(w, g)[k])
    inside = (slice(p, p + n) for p, n in zip(g.pad, g.spatial, strict=True))
    dx[...] = frame[(slice(None),) * 3 + tuple(inside)].reshape(dx.shape)


def conv_backward_weight(
    x: np.ndarray, dy: np.ndarray, dw: np.ndarray, geometry: ConvGeometry, scratch: np.ndarray
) -> None:
    """Add the gradient with respect to the weights.

    ``dw[o, c, k] += sum over n, p of dy[n, o, p] * x[n, c, p * stride - pad + k * dilation]``.

    Parameters
    ----------
    x : ndarray, shape (N, channels, *spatial)
    dy : ndarray, shape (N, num_output, *out_spatial)
    dw : ndarray, shape (num_output, channels / group, *kernel)
        Added to.
    geometry : ConvGeometry
    scratch : ndarray
        At least ``conv_scratch_size(geometry, N)`` elements.
    """
    g = geometry
    frame = _framed(x, g)
    grouped = dy.reshape(len(dy), g.group, g.num_output // g.group, *g.out_spatial)
    total = np.zeros((g.kernel_count, g.group, g.num_output // g.group, g.channels // g.group))
    for k, window in windows(g):
        total[k] = np.einsum(
            "ngop,ngcp->goc", *(_flat(v.astype(np.float64)) for v in (grouped, frame[window]))
        )
    dw += np.moveaxis(total, 0, -1).reshape(dw.shape)


def _framed(x: np.ndarray, g: ConvGeometry) -> np.ndarray:
    """The images in double precision, channels cut into groups, in a frame of zeros."""
    grouped = x.astype(np.float64).reshape(len(x), g.group, g.channels // g.group, *g.spatial)
    return np.pad(grouped, [(0, 0)] * 3 + [(p, p) for p in g.pad])


def _weights(w: np.ndarray, g: ConvGeometry) -> np.ndarray:
    """The weights as (kernel position, group, outputs of the group, channels of the group)."""
    grouped = w.astype(np.float64).reshape(
        g.group, g.num_output // g.group, g.channels // g.group, g.kernel_count
    )
    return np.moveaxis(grouped, -1, 0)


def _flat(v: np.ndarray) -> np.ndarray:
    return v.reshape(*v.shape[:3], prod(v.shape[3:]))


def windows(g: ConvGeometry) -> Iterator[tuple[int, tuple]]:
    """Each kernel position with the part of the frame that it meets."""
    for k, index in enumerate(np.ndindex(g.kernel)):
        yield (
            k,
            (
                ...,
                *(
                    slice(i * d, i * d + (n - 1) * s + 1, s)
                    for i, d, n, s in zip(index, g.dilation, g.out_spatial, g.stride, strict=True)
                ),
            ),
        )
