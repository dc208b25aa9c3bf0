"""The random numbers of fillers, dropout and shuffling: one generator, one seed."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffebn.errors import ArgumentError

__all__ = ["generator", "get_state", "set_random_seed", "set_state"]

_generator = np.random.default_rng()


def set_random_seed(seed: int) -> None:
    """Make everything random that follows repeatable, in nets that exist already, too.

    Parameters
    ----------
    seed : int
        Not negative.  The stream is NumPy's PCG64: the same seed gives the same numbers on
        every machine, but not those of Caffe.
    """
    _generator.bit_generator.state = np.random.default_rng(seed).bit_generator.state


def get_state() -> dict[str, Any]:
    """Return where in its stream the generator is: a dict of numbers and names, fit for JSON."""
    return dict(_generator.bit_generator.state)


def set_state(state: dict[str, Any]) -> None:
    """Go on from where the generator was when `get_state` was called.

    Raises
    ------
    ArgumentError
        `state` is not what `get_state` returns; the generator is as it was.
    """
    try:
        _generator.bit_generator.state = state
    except (KeyError, OverflowError, TypeError, ValueError) as e:
        raise ArgumentError(
            f"not a state of the random generator: {type(e).__name__}: {e}; expected what get_state() returned"
        ) from None


def generator() -> np.random.Generator:
    """Return the generator in use."""
    return _generator
