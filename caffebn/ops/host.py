"""Arrays of the host, as `caffebn.ops.gpu.device` makes those of a GPU: the same functions for all back ends."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from caffebn.ops.recording import Recording, recording

__all__ = ["Graph", "empty", "from_host", "put", "read_later", "synchronize", "zeros"]

empty = np.empty
zeros = np.zeros


def from_host(array: np.ndarray) -> np.ndarray:
    """Return the array itself."""
    return array


def put(host: np.ndarray, array: np.ndarray) -> None:
    """Copy values into an array of the same shape."""
    array[...] = host


def synchronize() -> None:
    """Return: everything is done when it is asked for."""


def read_later(array: np.ndarray) -> Callable[[], np.ndarray]:
    """Return what returns the values that the array has now."""
    now = array.copy()
    return lambda: now


class Graph:
    """The calls of kernels that some work makes, recorded once and then repeated.

    Parameters
    ----------
    work : callable
        Runs once; calls ops of the ``cpu`` back end, and nothing else has to be done again.
    """

    def __init__(self, work: Callable[[], None]):
        self._tape = Recording([], {})
        with recording(self._tape):
            work()

    def launch(self) -> None:
        """Make the calls once more."""
        for kernel, arguments in self._tape.calls:
            kernel(*arguments)
