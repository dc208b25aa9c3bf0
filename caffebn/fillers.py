"""Initial values of parameters, by the names that a FillerParameter may have.

Each filler takes the array to fill, the FillerParameter and a generator; numbers are drawn in float64.
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

Filler = Callable[[np.ndarray, Message, np.random.Generator], None]

FILLERS: dict[str, Filler] = {}
"""Filler by type name."""

_PIECE = 2**15  # numbers that are drawn at a time


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
    array : ndarray, C-contiguous
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
        make(array, param, rng)


def _draw(array: np.ndarray, draw: Callable[[int], np.ndarray]) -> None:
    """Fill `array` with the numbers that ``draw(n)`` gives, a piece at a time, which stays in the cache."""
    flat = array.reshape(-1)
    for at in range(0, array.size, _PIECE):
        piece = flat[at : at + _PIECE]
        piece[...] = draw(len(piece))


def _fan(shape: Sequence[int], param: Message) -> float:
    count = prod(shape)
    fan_in = count / shape[0] if shape else count
    fan_out = count / shape[1] if len(shape) > 1 else count
    return {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[param.variance_norm]


@filler("constant")
def _constant(array: np.ndarray, param: Message, rng: np.random.Generator) -> None:
    array[...] = param.value


@filler("uniform")
def _uniform(array: np.ndarray, param: Message, rng: np.random.Generator) -> None:
    if param.min > param.max:
        raise NetError(f"filler uniform: min {param.min:g} is larger than max {param.max:g}", param.where)
    _draw(array, lambda n: rng.uniform(param.min, param.max, n))


@filler("gaussian")
def _gaussian(array: np.ndarray, param: Message, rng: np.random.Generator) -> None:
    if param.std < 0:
        raise NetError(f"filler gaussian: std {param.std:g} is negative", param.where_of("std"))
    _draw(array, lambda n: rng.normal(param.mean, param.std, n))
    if param.sparse >= 0:
        # each output is to have `sparse` inputs on average; Caffe divides by the first axis
        if not array.ndim:
            raise NetError("filler gaussian: sparse needs a blob with axes", param.where_of("sparse"))
        array *= rng.random(array.shape) < param.sparse / len(array)


@filler("positive_unitball")
def _positive_unitball(array: np.ndarray, param: Message, rng: np.random.Generator) -> None:
    rows = rng.random((len(array), prod(array.shape[1:]))) if array.ndim else np.ones((1, 1))
    array[...] = (rows / rows.sum(axis=1, keepdims=True)).reshape(array.shape)


@filler("xavier")
def _xavier(array: np.ndarray, param: Message, rng: np.random.Generator) -> None:
    bound = sqrt(3 / _fan(array.shape, param))
    _draw(array, lambda n: rng.uniform(-bound, bound, n))


@filler("msra")
def _msra(array: np.ndarray, param: Message, rng: np.random.Generator) -> None:
    std = sqrt(2 / _fan(array.shape, param))
    _draw(array, lambda n: rng.normal(0, std, n))


@filler("bilinear")
def _bilinear(array: np.ndarray, param: Message, rng: np.random.Generator) -> None:
    shape = array.shape
    if len(shape) != 4 or shape[2] != shape[3]:
        raise NetError(
            f"filler bilinear needs a square kernel with 4 axes, found {'x'.join(map(str, shape)) or 'no axes'}",
            param.where,
        )
    k = shape[3]
    f = ceil(k / 2)
    c = (k - 1) / (2 * f)
    line = 1 - np.abs(np.arange(k) / f - c)
    array[...] = np.outer(line, line)
