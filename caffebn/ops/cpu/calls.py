"""Calls of kernels: made at once, and recorded for a net that will repeat them.

An op checks its arguments, finds scratch memory and calls kernels.  For a net whose shapes and memory stay as they are
all of that comes out the same in each pass, and takes longer than the kernels of a small net.  So a net lets the ops run
once inside `recording`, and repeats the kernel calls from then on: the same kernels, with the same arguments, as memory
views that the kernels take as they are (see ``pyx/views.pxi``).

What an op does beside calling kernels through a `Launcher` is not repeated, so an op in this package does nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["Launcher", "Recording", "current", "recording"]

_local = threading.local()


class Recording:
    """The calls that were made, and the scratch memory they use.

    The memory belongs to the recording: that of a thread would be used by two threads when a net is run in another
    thread than the one that recorded it.

    Parameters
    ----------
    calls : list of (callable, tuple)
        To which kernels and their arguments are added, in order.
    buffers : dict of ndarray
        The scratch memory, by dtype.
    """

    def __init__(self, calls: list[tuple[Callable, tuple]], buffers: dict[str, np.ndarray]):
        self.calls = calls
        self.buffers = buffers


@contextmanager
def recording(tape: Recording) -> Iterator[None]:
    """Add what the ops of this thread call inside the block to `tape`, while they do it."""
    outer = _local.__dict__.get("tape")
    _local.tape = tape
    try:
        yield
    finally:
        _local.tape = outer


def current() -> Recording | None:
    """Return what this thread's calls are added to, if anything."""
    return _local.__dict__.get("tape")


class Launcher:
    """A kernel, as the ops call it.

    Parameters
    ----------
    kernel : callable
        A compiled function, one form of it when there are several, or a Python function that does as little.
    """

    __slots__ = ("compiled", "kernel", "module")

    def __init__(self, kernel: Callable):
        self.kernel = kernel
        self.module = kernel.__globals__
        self.compiled = "view1" in self.module

    def __call__(self, *arguments: Any) -> Any:
        tape = _local.__dict__.get("tape")
        if tape is not None:
            tape.calls.append((self.kernel, tuple(map(self._prepared, arguments))))
        return self.kernel(*arguments)

    def _prepared(self, argument: Any) -> Any:
        """Make a memory view of an array; what may not be written stays an array, which kernels take as well."""
        if self.compiled and isinstance(argument, np.ndarray) and argument.flags.writeable:
            forms = self.module.get(f"view{argument.ndim}")
            name = _C_NAMES[argument.dtype.char]
            if forms is not None and name in forms.__signatures__:
                return forms[name](argument)
        return argument


_C_NAMES = {"f": "float", "d": "double", "i": "int", "l": "int64_t", "B": "unsigned char"}
