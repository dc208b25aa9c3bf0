"""Batches made ahead by a thread of their own, so that a net does not wait for its data."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections import deque
from collections.abc import Callable

import numpy as np

__all__ = ["Batch", "Make", "Prefetcher"]

Batch = list[np.ndarray]
"""One array for each top."""

Make = Callable[[int, Batch], Batch]
"""``make(position, old)`` returns the batch that starts at an item; the memory of `old` may be used again."""


class _Belt:
    """What the two threads share; the condition guards everything in it."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.ready: deque[Batch] = deque()
        self.used: list[Batch] = []
        self.error: BaseException | None = None
        self.stopped = False

    def stop(self) -> None:
        with self.condition:
            self.stopped = True
            self.condition.notify_all()


class Prefetcher:
    """Make batches ahead, in order, in one thread, which ends with the prefetcher.

    The thread knows nothing of the net: it holds `make`, and what that holds.  When the prefetcher is
    forgotten, or the interpreter ends, the thread stops after the batch it is at.

    Parameters
    ----------
    make : callable
        See `Make`.  It is called by one thread at a time.
    position : int
        First item of the first batch.
    step : int
        Items in a batch.
    depth : int
        Batches to make ahead; 0 makes each when it is asked for, without a thread.

    Attributes
    ----------
    position : int
        First item of the batch that `next` returns next.
    """

    def __init__(self, make: Make, position: int, step: int, depth: int):
        self.position = position
        self._make = make
        self._step = step
        self._depth = depth
        self._belt = _Belt()
        self._thread: threading.Thread | None = None
        self._forgotten: weakref.finalize | None = None

    def next(self) -> Batch:
        """Return the next batch.  Hand it to `give_back` when it is used up.

        Raises
        ------
        Exception
            What `make` raised.  The position stays where it is, and the next call tries again.
        """
        if not self._depth:
            batch = self._make(self.position, self._belt.used.pop() if self._belt.used else [])
            self.position += self._step
            return batch
        # in a forked process the thread is gone
        if self._thread is None or not (self._thread.is_alive() or self._belt.ready or self._belt.error):
            self._start()
        belt = self._belt
        with belt.condition:
            belt.condition.wait_for(lambda: belt.ready or belt.error is not None)
            if belt.ready:
                batch = belt.ready.popleft()
                belt.condition.notify_all()
                self.position += self._step
                return batch
            error = belt.error
        self.stop()
        assert error is not None
        raise error

    def give_back(self, batch: Batch) -> None:
        """Let the memory of a batch be used for a later one."""
        with self._belt.condition:
            self._belt.used.append(batch)

    def seek(self, position: int, make: Make | None = None) -> None:
        """Go on at another item, from another maker if one is given; batches made ahead are dropped."""
        self.stop()
        self.position = position
        self._make = make or self._make

    def stop(self) -> None:
        """End the thread, and wait until it has ended; `next` starts another one."""
        self._belt.stop()
        if self._forgotten is not None:
            self._forgotten.detach()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join()
        self._thread = None
        self._belt = _Belt()

    def _start(self) -> None:
        self._belt = belt = _Belt()
        self._thread = threading.Thread(
            target=_run,
            args=(belt, self._make, self.position, self._step, self._depth),
            name="caffebn data",
            daemon=True,
        )
        # no join here: the collector may run in any thread, at any time
        self._forgotten = weakref.finalize(self, belt.stop)
        self._forgotten.atexit = False
        _running[self._thread] = belt
        self._thread.start()


def _run(belt: _Belt, make: Make, position: int, step: int, depth: int) -> None:
    while True:
        with belt.condition:
            belt.condition.wait_for(lambda: belt.stopped or len(belt.ready) < depth)
            if belt.stopped:
                return
            old = belt.used.pop() if belt.used else []
        try:
            batch = make(position, old)
        except BaseException as e:  # whatever it is, it belongs to the thread that waits
            with belt.condition:
                belt.error = e
                belt.condition.notify_all()
            return
        with belt.condition:
            belt.ready.append(batch)
            belt.condition.notify_all()
        del batch, old
        position += step


_running: weakref.WeakKeyDictionary[threading.Thread, _Belt] = weakref.WeakKeyDictionary()


@atexit.register
def _stop_all() -> None:
    """Before the interpreter takes itself apart, so that no thread is inside a library then."""
    running = list(_running.items())
    for _, belt in running:
        belt.stop()
    for thread, _ in running:
        thread.join(timeout=10)
