"""The random numbers of fillers, dropout and shuffling: one generator, one seed."""

from __future__ import annotations

import numpy as np

__all__ = ["generator", "set_random_seed"]

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


def generator() -> np.random.Generator:
    """Return the generator in use."""
    return _generator
