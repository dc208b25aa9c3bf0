"""Initial values of parameters, by the names that a FillerParameter may have.

Each filler takes the shape, the FillerParameter and a generator, and returns float64 values.
``fan_in = count / shape[0]`` and ``fan_out = count / shape[1]`` (`count` for one axis), also for a
Deconvolution, whose ``shape[0]`` is the number of input channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, prod, sqrt

import numpy as np

from caffebn.errors import NetError, did_you_mean
from caffebn.proto import Message

__all__ = ["FILLERS", "fill"]

Filler = Callable[[tuple[int, ...], Message, np.random.Generator], np.ndarray]

FILLERS: dict[str, Filler] = {}
"""Filler by type name."""


def filler(name: str) -> Callable[[Filler], Filler]:
    """Register a filler under its type name."""

    def register(function: Filler) -> Filler:
        FILLERS[name] = function
        return function

    return register


def fill(array: np.ndarray, param: Message, rng: np.random.Generator) -> None:
    """Fill `array` as the FillerParameter says.

    Parameters
    ----------
    array : ndarray
        The parameter; overwritten.
    param : Message
        A FillerParameter; its default is the constant 0.
    rng : numpy.random.Generator
        Source of random numbers.

    Raises
    ------
    NetError
        Unknown type, or a shape or range that the filler refuses.
    """
    try:
        make = FILLERS[param.type]
    except KeyError:
        raise NetError(
            f'unknown filler type "{param.type}"{did_you_mean(param.type, FILLERS)} '
            f"(known: {', '.join(sorted(FILLERS))})",
            param.where_of("type") or param.where,
        ) from None
    if array.size:  # no values have no fan
        array[...] = make(array.shape, param, rng)


def _fan(shape: Sequence[int], param: Message) -> float:
    count = prod(shape)
    fan_in = count / shape[0] if shape else count
    fan_out = count / shape[1] if len(shape) > 1 else count
    return {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[param.variance_norm]


@filler("constant")
def _constant(shape: tuple[int, ...], param: Message, rng: np.random.Generator) -> np.ndarray:
    return np.full(shape, param.value)


@filler("uniform")
def _uniform(shape: tuple[int, ...], param: Message, rng: np.random.Generator) -> np.ndarray:
    if param.min > param.max:
        raise NetError(f"filler uniform: min {param.min:g} is larger than max {param.max:g}", param.where)
    return rng.uniform(param.min, param.max, shape)


@filler("gaussian")
def _gaussian(shape: tuple[int, ...], param: Message, rng: np.random.Generator) -> np.ndarray:
    if param.std < 0:
        raise NetError(f"filler gaussian: std {param.std:g} is negative", param.where_of("std"))
    values = rng.normal(param.mean, param.std, shape)
    if param.sparse >= 0:
        # each output is to have `sparse` inputs on average; Caffe divides by the first axis
        if not shape:
            raise NetError("filler gaussian: sparse needs a blob with axes", param.where_of("sparse"))
        values *= rng.random(shape) < param.sparse / shape[0]
    return values


@filler("positive_unitball")
def _positive_unitball(shape: tuple[int, ...], param: Message, rng: np.random.Generator) -> np.ndarray:
    if not shape:
        return np.ones(shape)
    rows = rng.random((shape[0], prod(shape[1:])))
    return (rows / rows.sum(axis=1, keepdims=True)).reshape(shape)


@filler("xavier")
def _xavier(shape: tuple[int, ...], param: Message, rng: np.random.Generator) -> np.ndarray:
    bound = sqrt(3 / _fan(shape, param))
    return rng.uniform(-bound, bound, shape)


@filler("msra")
def _msra(shape: tuple[int, ...], param: Message, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, sqrt(2 / _fan(shape, param)), shape)


@filler("bilinear")
def _bilinear(shape: tuple[int, ...], param: Message, rng: np.random.Generator) -> np.ndarray:
    if len(shape) != 4 or shape[2] != shape[3]:
        raise NetError(
            f"filler bilinear needs a square kernel with 4 axes, found {'x'.join(map(str, shape)) or 'no axes'}",
            param.where,
        )
    k = shape[3]
    f = ceil(k / 2)
    c = (k - 1) / (2 * f)
    line = 1 - np.abs(np.arange(k) / f - c)
    return np.broadcast_to(np.outer(line, line), shape)
