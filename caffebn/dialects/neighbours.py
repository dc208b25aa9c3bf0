"""Batch normalisation of other frameworks: their arrays, eps and momentum as BatchNorm and Scale, and back.

What is called momentum, what is stored and where eps stands differ; the formulas are in docs/dialects.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from caffebn.dialects.table import live_factor
from caffebn.errors import ArgumentError, did_you_mean

__all__ = ["FRAMEWORKS", "Framework", "Parameters", "from_framework", "to_framework"]


@dataclass(frozen=True)
class Framework:
    """How a framework stores batch normalisation.

    Attributes
    ----------
    id, title : str
    names : tuple of str
        Of scale, shift, mean and variance (or deviation).
    eps : float
        Its default.
    momentum : float or None
        Its default.
    weighs_new : bool
        The momentum weighs the new batch, not the old average.
    deviation : str
        Empty for a variance; "outside": y = (x - mean) / (stored + eps), where a deviation is stored.
    scale_is_one : bool
        The stored scale does not count unless fix_gamma is false.
    """

    id: str
    title: str
    names: tuple[str, str, str, str]
    eps: float
    momentum: float
    weighs_new: bool = False
    deviation: str = ""
    scale_is_one: bool = False


FRAMEWORKS = {
    f.id: f
    for f in (
        Framework(
            "pytorch",
            "PyTorch",
            ("weight", "bias", "running_mean", "running_var"),
            1e-5,
            0.1,
            weighs_new=True,
        ),
        Framework(
            "tensorflow",
            "tf.layers, Keras 2 and later",
            ("gamma", "beta", "moving_mean", "moving_variance"),
            1e-3,
            0.99,
        ),
        Framework(
            "tf-contrib",
            "tf.contrib.layers",
            ("gamma", "beta", "moving_mean", "moving_variance"),
            1e-3,
            0.999,
        ),
        Framework(
            "keras-1",
            "Keras 1.0.8 to 1.2; from 1.0.6 on with the TensorFlow back end",
            ("gamma", "beta", "running_mean", "running_std"),
            1e-5,
            0.99,
        ),
        Framework(
            "keras-0",
            "Keras 0.1 to 1.0.5; to 1.0.7 with the Theano back end",
            ("gamma", "beta", "running_mean", "running_std"),
            1e-6,
            0.9,
            deviation="outside",
        ),
        Framework(
            "mxnet", "MXNet", ("gamma", "beta", "moving_mean", "moving_var"), 1e-3, 0.9, scale_is_one=True
        ),
        Framework("onnx", "ONNX BatchNormalization", ("scale", "B", "mean", "var"), 1e-5, 0.9),
        Framework("cxxnet", "cxxnet batch_norm", ("slope", "bias", "mean", "variance"), 1e-10, 0.9),
    )
}
"""Frameworks by id."""


@dataclass
class Parameters:
    """A BatchNorm and a Scale.

    Attributes
    ----------
    batch_norm : list of ndarray
        Sum of means, sum of variances, factor.
    scale : list of ndarray
        Scale and shift; empty when there is neither.
    eps, moving_average_fraction : float
        For the prototxt.
    """

    batch_norm: list[np.ndarray]
    scale: list[np.ndarray]
    eps: float
    moving_average_fraction: float


def from_framework(
    id: str,
    arrays: Mapping[str, np.ndarray],
    eps: float | None = None,
    momentum: float | None = None,
    live: bool = True,
    fix_gamma: bool = True,
) -> Parameters:
    """Make the blobs of BatchNorm and Scale of a framework's arrays.

    Parameters
    ----------
    id : str
        One of `FRAMEWORKS`.
    arrays : mapping
        The layer's arrays by the framework's names; scale and shift may be missing, and count as 1 and 0 then.
    eps, momentum : float, optional
        The layer's settings, where they are not the framework's defaults.  They are not stored with the weights.
    live : bool
        Store the factor 1 / (1 - fraction), with which training goes on as in the framework; else 1.
    fix_gamma : bool
        MXNet's option of that name, whose default is true: the stored scale counts as 1.

    Raises
    ------
    ArgumentError
        An unknown framework, missing or unknown names, arrays of different sizes.
    """
    f = _framework(id)
    scale_name, shift_name, mean_name, var_name = f.names
    unknown = set(arrays) - {*f.names, "num_batches_tracked"}
    missing = {mean_name, var_name} - set(arrays)
    if unknown or missing:
        raise ArgumentError(
            f"{f.title}: expected the arrays {', '.join(f.names)} (the first two may be missing), "
            f"found {', '.join(sorted(arrays)) or 'none'}"
        )
    flat = {
        name: np.asarray(a, np.float64).reshape(-1)
        for name, a in arrays.items()
        if name != "num_batches_tracked"
    }
    if len({a.size for a in flat.values()}) > 1:
        raise ArgumentError(
            f"{f.title}: arrays of different sizes: { {name: a.size for name, a in flat.items()} }"
        )
    given_eps = f.eps if eps is None else eps
    kept = f.momentum if momentum is None else momentum
    fraction = 1 - kept if f.weighs_new else kept
    mean, var, eps_out = flat[mean_name], flat[var_name], given_eps
    if f.deviation == "outside":
        var, eps_out = (var + given_eps) ** 2, 0.0
    factor = live_factor(fraction) if live else np.float32(1)
    scale = []
    if scale_name in flat or shift_name in flat:
        gamma = flat.get(scale_name, np.ones_like(mean))
        if f.scale_is_one and fix_gamma:
            gamma = np.ones_like(mean)
        scale = [gamma.astype(np.float32), flat.get(shift_name, np.zeros_like(mean)).astype(np.float32)]
    sums = [
        (mean * factor).astype(np.float32),
        (var * factor).astype(np.float32),
        np.array([factor], np.float32),
    ]
    return Parameters(sums, scale, eps_out, float(np.round(fraction, 9)))


def to_framework(id: str, p: Parameters) -> tuple[dict[str, np.ndarray], float, float]:
    """Make a framework's arrays of a BatchNorm and a Scale.

    Returns
    -------
    arrays : dict of ndarray of float32
    eps, momentum : float
        The settings with which they mean the same.

    Raises
    ------
    ArgumentError
        An unknown framework.
    """
    f = _framework(id)
    sum_mean, sum_var, factor = (np.asarray(a, np.float64).reshape(-1) for a in p.batch_norm)
    scale = 0.0 if factor[0] == 0 else 1 / factor[0]
    mean, var = sum_mean * scale, sum_var * scale
    gamma = np.asarray(p.scale[0], np.float64) if p.scale else np.ones_like(mean)
    beta = np.asarray(p.scale[1], np.float64) if len(p.scale) > 1 else np.zeros_like(mean)
    eps = p.eps
    if f.deviation == "outside":
        var, eps = np.sqrt(var + p.eps), 0.0
    fraction = p.moving_average_fraction
    arrays = dict(
        zip(
            f.names,
            (a.astype(np.float32) for a in (gamma.reshape(-1), beta.reshape(-1), mean, var)),
            strict=True,
        )
    )
    return arrays, eps, float(np.round(1 - fraction if f.weighs_new else fraction, 9))


def _framework(id: str) -> Framework:
    if id not in FRAMEWORKS:
        raise ArgumentError(
            f'there is no framework "{id}"{did_you_mean(id, FRAMEWORKS)} (known: {", ".join(FRAMEWORKS)})'
        )
    return FRAMEWORKS[id]
