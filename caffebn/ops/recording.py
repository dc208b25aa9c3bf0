"""What the kernels of a pass are called with, written down while they run.

An op checks its arguments, finds scratch memory and calls kernels.  For a net whose shapes and memory stay as they
are all of that comes out the same in each pass, and takes longer than the kernels of a small net.  So a net lets the
ops run once inside `recording`, and repeats the calls from then on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["Recording", "current", "recording"]

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
