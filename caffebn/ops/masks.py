"""Random masks on the host; see `caffebn.ops.gpu.masks` for the same numbers on a GPU."""

from __future__ import annotations

import numpy as np

__all__ = ["KeepMask"]


class KeepMask:
    """Draws what dropout keeps: 1 with the probability ``1 - ratio``, else 0.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the random numbers come from.
    dtype : dtype
        float32 or float64: of these random numbers.
    mask : ndarray of uint8
        What is filled.
    """

    def __init__(self, rng: np.random.Generator, dtype: np.dtype, mask: np.ndarray):
        self._rng, self._mask = rng, mask
        self._drawn = np.empty(mask.shape, dtype)

    def draw(self, ratio: float) -> None:
        """Fill the mask with new numbers."""
        self._rng.random(out=self._drawn, dtype=self._drawn.dtype)
        np.greater_equal(self._drawn, ratio, out=self._mask.view(np.bool_))

    def follow(self) -> None:
        """Do for a recorded pass what is done on the host: here, nothing is recorded."""
