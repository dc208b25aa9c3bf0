"""BatchNorm with its learned scale and shift, a residual sum and the activation behind it, as one op each way.

x is (N, C, S): images, channels, places.  Vectors have one element per channel.
"""

from __future__ import annotations

import numpy as np

from caffebn.ops.reference.channel import affine, inv_std, moments, normalize
from caffebn.ops.reference.elementwise import relu, relu_backward

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "fold_statistics",
    "normalize_act",
]


def batch_norm(
    x: np.ndarray,
    eps: float,
    scale: np.ndarray | None,
    shift: np.ndarray | None,
    residual: np.ndarray | None,
    slope: float | None,
    y: np.ndarray,
    mean_out: np.ndarray,
    var_out: np.ndarray,
    inv_std_out: np.ndarray,
) -> None:
    """Normalise by the statistics of the batch: ``y = act((x - mean) * inv_std * scale + shift + residual)``.

    The results have the bits of `moments`, `inv_std`, `normalize`, `affine`, the sum and `relu`, run one after the
    other.

    Parameters
    ----------
    x : ndarray, shape (N, C, S)
    eps : float
        Added to the variance: ``inv_std = 1 / sqrt(var + eps)``.
    scale, shift : ndarray, shape (C,), dtype of x, or None
        None leaves that step out.
    residual : ndarray, shape (N, C, S), or None
        Added before the activation.
    slope : float or None
        Slope of the rectifier on the negative side, 0 for the plain one; None for no activation.
    y : ndarray, shape (N, C, S)
        Filled; may be `x` or `residual`.
    mean_out, var_out, inv_std_out : ndarray, shape (C,), float64
        Filled with the mean, the biased variance and the inverse standard deviation; mean and variance are 0 where
        a channel has no values.
    """
    moments(x, mean_out, var_out)
    with np.errstate(divide="ignore"):
        inv_std(var_out, eps, inv_std_out)
    normalize_act(x, mean_out, inv_std_out, scale, shift, residual, slope, y)


def batch_norm_backward(
    x: np.ndarray,
    mean: np.ndarray,
    inv_std: np.ndarray,
    scale: np.ndarray | None,
    shift: np.ndarray | None,
    y: np.ndarray | None,
    slope: float | None,
    frozen: bool,
    dy: np.ndarray,
    dx: np.ndarray | None,
    dscale: np.ndarray | None,
    dshift: np.ndarray | None,
    dresidual: np.ndarray | None,
) -> None:
    """Gradients of `batch_norm`, or of `normalize_act` with frozen statistics.

    With ``xhat = (x - mean) * inv_std``, ``dz = dy`` where the output of the activation is positive and
    ``slope * dy`` elsewhere, ``k = inv_std * scale`` and means over N and S::

        dscale    += sum(dz * xhat)
        dshift    += sum(dz)
        dresidual  = dz
        dx         = k * (dz - mean(dz) - xhat * mean(dz * xhat))
        dx         = k * dz                                           with frozen statistics

    Where dy is infinite or not a number, ``0 * dy`` may be 0.  See `normalize_backward` for the derivation.  ``dx`` is
    computed in the dtype of x from coefficients that were computed in float64,
    ``dx = (dz * k + constant) + (x - mean) * by_x``.

    Parameters
    ----------
    x : ndarray, shape (N, C, S)
    mean, inv_std : ndarray, shape (C,), float64
        As they were in the forward pass.
    scale, shift : ndarray, shape (C,), dtype of x, or None
        As they were in the forward pass.
    y : ndarray, shape (N, C, S), or None
        Output of the activation.  None: its sign is found from x as the forward pass found it, with the same bits.
        Where there was a residual, y is needed.
    slope : float or None
        That of the rectifier, None for no activation; y is then not read.
    frozen : bool
        Whether mean and inv_std were given numbers instead of those of the batch.
    dy : ndarray, shape (N, C, S)
        Gradient by the output.
    dx : ndarray, shape (N, C, S), or None
        Filled; may be `dy` or `x`.  None, here and below: not wanted.
    dscale, dshift : ndarray, shape (C,), dtype of x, or None
        Added to; rounded once, from sums in float64.
    dresidual : ndarray, shape (N, C, S), or None
        Filled; may be `dy`, but not dx.
    """
    count = max(1, x.shape[0] * x.shape[2])
    dz = np.array(dy)
    if slope is not None:
        if y is None:
            y = np.empty_like(x)
            normalize_act(x, mean, inv_std, scale, shift, None, None, y)
        relu_backward(y, dz, dz, slope)
    xhat = (x - mean[:, None]) * inv_std[:, None]
    sum_dz = dz.sum(axis=(0, 2), dtype=np.float64)
    sum_dz_xhat = (dz * xhat).sum(axis=(0, 2))
    if dx is not None:
        k = inv_std if scale is None else inv_std * scale
        if frozen:
            dx[...] = dz * k.astype(x.dtype)[:, None]
        else:
            dx[...] = (dz - sum_dz[:, None] / count - xhat * sum_dz_xhat[:, None] / count) * k[:, None]
    if dscale is not None:
        dscale[...] = dscale + sum_dz_xhat
    if dshift is not None:
        dshift[...] = dshift + sum_dz
    if dresidual is not None:
        dresidual[...] = dz


def normalize_act(
    x: np.ndarray,
    mean: np.ndarray,
    inv_std: np.ndarray,
    scale: np.ndarray | None,
    shift: np.ndarray | None,
    residual: np.ndarray | None,
    slope: float | None,
    y: np.ndarray,
) -> None:
    """Normalise by given statistics: ``y = act((x - mean) * inv_std * scale + shift + residual)``.

    The results have the bits of `normalize`, `affine`, the sum and `relu`, run one after the other, and so those of
    `batch_norm` where the statistics are those of the batch.

    Parameters
    ----------
    x : ndarray, shape (N, C, S)
    mean, inv_std : ndarray, shape (C,), float64
    scale, shift : ndarray, shape (C,), dtype of x, or None
        None leaves that step out.
    residual : ndarray, shape (N, C, S), or None
        Added before the activation.
    slope : float or None
        Slope of the rectifier on the negative side, 0 for the plain one; None for no activation.
    y : ndarray, shape (N, C, S)
        Filled; may be `x` or `residual`.
    """
    z = np.empty_like(x)
    normalize(x, mean, inv_std, z)
    affine(z, scale, shift, z)
    if residual is not None:
        z += residual
    relu(z, y, 1 if slope is None else slope)


def fold_statistics(
    mean: np.ndarray,
    var: np.ndarray,
    eps: float,
    scale: np.ndarray | None,
    shift: np.ndarray | None,
    bias: np.ndarray | None,
    a_out: np.ndarray,
    b_out: np.ndarray,
) -> None:
    """The affine map that a normalisation by given statistics is, for the epilogue of a product.

    ``a = inv_std * scale`` and ``b = (bias - mean) * a + shift`` with ``inv_std = 1 / sqrt(var + eps)``, so that
    ``x * a + b = (x + bias - mean) * inv_std * scale + shift``.

    Parameters
    ----------
    mean, var : ndarray, shape (C,), float64
    eps : float
    scale, shift : ndarray, shape (C,), dtype of a_out, or None
        None stands for 1 and for 0.
    bias : ndarray, shape (C,), dtype of a_out, or None
        What the layer before leaves to this one to add; None stands for 0.
    a_out, b_out : ndarray, shape (C,), float32 or float64
        Filled; computed in float64.
    """
    a = np.empty_like(mean)
    inv_std(var, eps, a)
    if scale is not None:
        a *= scale
    b = (-mean if bias is None else bias - mean) * a
    a_out[...] = a
    b_out[...] = b if shift is None else b + shift
