"""Steps of the solvers: from the gradient to the new values of the parameters, and the norm for clipping.

Arrays of one call have one axis and one length.  With the array `w` of values and the gradient in `dw`, every rule
takes ``g = scale * dw + decay * w`` (``decay * sign(w)`` with `l1`), changes its history, leaves the update
in `dw` and subtracts it from `w`.  All is computed in the dtype of `w`, in the order of the formulas; numbers
handed in are rounded to it first.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "sum_of_squares",
    "update_adadelta",
    "update_adagrad",
    "update_adam",
    "update_nadam",
    "update_nesterov",
    "update_rmsprop",
    "update_sgd",
]


def sum_of_squares(x: np.ndarray, out: np.ndarray) -> None:
    """Sum of the squares of all values.

    Parameters
    ----------
    x : ndarray, one axis
    out : ndarray, shape (1,), float64
        Filled.
    """
    out[0] = np.square(x, dtype=np.float64).sum()


def update_sgd(
    w: np.ndarray,
    dw: np.ndarray,
    h: np.ndarray,
    rate: float,
    momentum: float,
    scale: float,
    decay: float,
    l1: bool,
) -> None:
    """Gradient descent with momentum, ``h = momentum * h + rate * g``, ``w = w - h``.

    The rate is inside the history: a change of rate does not rescale what has been accumulated.

    Parameters
    ----------
    w : ndarray
        Values; changed.
    dw : ndarray
        Gradient; holds the update afterwards.
    h : ndarray
        History; changed.
    rate, momentum : float
    scale : float
        Factor of the gradient: that of clipping, divided by the number of passes that were summed.
    decay : float
        Weight decay, not multiplied by `scale` or `rate`.
    l1 : bool
        Decay by the sign of the values, instead of the values.
    """
    h[...] = momentum * h + rate * _gradient(w, dw, scale, decay, l1)
    _apply(w, dw, h)


def update_nesterov(
    w: np.ndarray,
    dw: np.ndarray,
    h: np.ndarray,
    rate: float,
    momentum: float,
    scale: float,
    decay: float,
    l1: bool,
) -> None:
    """Nesterov's momentum: ``h' = momentum * h + rate * g``, ``w = w - ((1 + momentum) * h' - momentum * h)``.

    Parameters
    ----------
    w, dw, h : ndarray
        As for `update_sgd`.
    rate, momentum, scale, decay, l1
        As for `update_sgd`.
    """
    old = h.copy()
    h[...] = momentum * h + rate * _gradient(w, dw, scale, decay, l1)
    _apply(w, dw, (1 + momentum) * h - momentum * old)


def update_adagrad(
    w: np.ndarray,
    dw: np.ndarray,
    h: np.ndarray,
    rate: float,
    delta: float,
    scale: float,
    decay: float,
    l1: bool,
) -> None:
    """AdaGrad: ``h = h + g * g``, ``w = w - rate * (g / (sqrt(h) + delta))``.

    Parameters
    ----------
    w, dw, h : ndarray
        As for `update_sgd`.
    rate : float
    delta : float
        Added to the root.
    scale, decay, l1
        As for `update_sgd`.
    """
    g = _gradient(w, dw, scale, decay, l1)
    h += g * g
    _apply(w, dw, rate * (g / (np.sqrt(h) + delta)))


def update_rmsprop(
    w: np.ndarray,
    dw: np.ndarray,
    h: np.ndarray,
    rate: float,
    rms_decay: float,
    delta: float,
    scale: float,
    decay: float,
    l1: bool,
) -> None:
    """RMSProp: ``h = d * h + (1 - d) * g * g`` with ``d = rms_decay``, ``w = w - rate * (g / (sqrt(h) + delta))``.

    Parameters
    ----------
    w, dw, h : ndarray
        As for `update_sgd`.
    rate : float
    rms_decay : float
        Weight of the history.
    delta : float
        Added to the root.
    scale, decay, l1
        As for `update_sgd`.
    """
    g = _gradient(w, dw, scale, decay, l1)
    h[...] = rms_decay * h + (1 - rms_decay) * (g * g)
    _apply(w, dw, rate * (g / (np.sqrt(h) + delta)))


def update_adadelta(
    w: np.ndarray,
    dw: np.ndarray,
    h: np.ndarray,
    u: np.ndarray,
    rate: float,
    momentum: float,
    delta: float,
    scale: float,
    decay: float,
    l1: bool,
) -> None:
    """AdaDelta, with ``p = momentum``.

    ``h = p * h + (1 - p) * g * g``, ``q = g * sqrt((delta + u) / (delta + h))``,
    ``u = p * u + (1 - p) * q * q``, ``w = w - rate * q``.

    Parameters
    ----------
    w, dw : ndarray
        As for `update_sgd`.
    h, u : ndarray
        Histories of squared gradients and of squared updates (without the rate); changed.
    rate, momentum : float
    delta : float
        Added inside both roots.
    scale, decay, l1
        As for `update_sgd`.
    """
    g = _gradient(w, dw, scale, decay, l1)
    h[...] = momentum * h + (1 - momentum) * (g * g)
    q = g * np.sqrt((delta + u) / (delta + h))
    u[...] = momentum * u + (1 - momentum) * (q * q)
    _apply(w, dw, rate * q)


def update_adam(
    w: np.ndarray,
    dw: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    rate: float,
    beta1: float,
    beta2: float,
    delta: float,
    scale: float,
    decay: float,
    l1: bool,
) -> None:
    """Adam.

    ``m = b1 * m + (1 - b1) * g``, ``v = b2 * v + (1 - b2) * g * g``, ``w = w - rate * (m / (sqrt(v) + delta))``.
    The correction of the first steps, ``sqrt(1 - b2^t) / (1 - b1^t)``, is the caller's: a factor of the rate.

    Parameters
    ----------
    w, dw : ndarray
        As for `update_sgd`.
    m, v : ndarray
        Histories: first and second moments, not corrected; changed.
    rate, beta1, beta2 : float
    delta : float
        Added to the root.
    scale, decay, l1
        As for `update_sgd`.
    """
    g = _gradient(w, dw, scale, decay, l1)
    _moments(m, v, g, beta1, beta2)
    _apply(w, dw, rate * (m / (np.sqrt(v) + delta)))


def update_nadam(
    w: np.ndarray,
    dw: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    rate: float,
    beta1: float,
    beta2: float,
    of_m: float,
    of_g: float,
    of_v: float,
    delta: float,
    scale: float,
    decay: float,
    l1: bool,
) -> None:
    """Nadam: `m` and `v` as `update_adam`, ``w = w - rate * ((of_m * m + of_g * g) / (sqrt(of_v * v) + delta))``.

    Parameters
    ----------
    w, dw, m, v : ndarray
        As for `update_adam`.
    rate, beta1, beta2 : float
    of_m, of_g, of_v : float
        Weights of the first moment and of the gradient in the update, and factor of the second moment; they
        depend on the number of steps taken.
    delta : float
        Added to the root.
    scale, decay, l1
        As for `update_sgd`.
    """
    g = _gradient(w, dw, scale, decay, l1)
    _moments(m, v, g, beta1, beta2)
    _apply(w, dw, rate * ((of_m * m + of_g * g) / (np.sqrt(of_v * v) + delta)))


def _gradient(w: np.ndarray, dw: np.ndarray, scale: float, decay: float, l1: bool) -> np.ndarray:
    return scale * dw + decay * (np.sign(w) if l1 else w)


def _moments(m: np.ndarray, v: np.ndarray, g: np.ndarray, beta1: float, beta2: float) -> None:
    m[...] = beta1 * m + (1 - beta1) * g
    v[...] = beta2 * v + (1 - beta2) * (g * g)


def _apply(w: np.ndarray, dw: np.ndarray, update: np.ndarray) -> None:
    dw[...] = update
    w -= dw
