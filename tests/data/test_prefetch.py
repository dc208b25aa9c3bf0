"""Batches made ahead: order, errors, threads that end."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref

import numpy as np
import pytest

from caffebn.data.prefetch import Prefetcher


def numbers(position: int, old: list) -> list[np.ndarray]:
    return [np.array([position])]


def threads() -> set[threading.Thread]:
    """Those of all prefetchers; of earlier tests some may be about to end."""
    return {thread for thread in threading.enumerate() if thread.name == "caffebn data"}


def wait_until(condition, seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_batches_come_in_order(depth):
    made = Prefetcher(numbers, 3, 2, depth)
    assert [made.next()[0].item() for _ in range(50)] == list(range(3, 103, 2))
    assert made.position == 103
    made.stop()


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_seek(depth):
    made = Prefetcher(numbers, 0, 1, depth)
    assert made.next()[0] == 0
    made.seek(40)
    assert [made.next()[0].item() for _ in range(3)] == [40, 41, 42]
    made.seek(7, lambda position, old: [np.array([-position])])
    assert made.next()[0] == -7
    made.stop()


def test_no_more_than_depth_is_made_ahead():
    made: list[int] = []
    prefetcher = Prefetcher(lambda position, old: made.append(position) or [np.zeros(1)], 0, 1, 3)
    assert made == []
    prefetcher.next()
    assert wait_until(lambda: len(made) == 4)
    time.sleep(0.05)
    assert made == [0, 1, 2, 3]
    prefetcher.stop()


@pytest.mark.parametrize("depth", [0, 2])
def test_memory_is_used_again(depth):
    given: list[int] = []

    def make(position, old):
        given.extend(id(array) for array in old)
        return old or [np.zeros(3)]

    made = Prefetcher(make, 0, 1, depth)
    seen = set()
    for _ in range(20):
        batch = made.next()
        seen.add(id(batch[0]))
        made.give_back(batch)
    made.stop()
    assert given and set(given) <= seen
    assert len(seen) <= depth + 2


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_comes_in_its_place_and_the_next_call_tries_again(depth):
    broken = True

    def make(position, old):
        if broken and position == 2:
            raise OSError("the disk is gone")
        return [np.array([position])]

    made = Prefetcher(make, 0, 1, depth)
    assert [made.next()[0].item() for _ in range(2)] == [0, 1]
    for _ in range(2):
        with pytest.raises(OSError, match="the disk is gone"):
            made.next()
        assert made.position == 2
    broken = False
    assert made.next()[0] == 2
    made.stop()


def test_the_thread_ends_with_the_prefetcher():
    before = threads()
    made = Prefetcher(numbers, 0, 1, 2)
    made.next()
    (thread,) = threads() - before
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None
    assert wait_until(lambda: thread not in threads())


def test_seeking_keeps_no_old_batches():
    seen = []

    class Array(np.ndarray):
        pass

    def make(position, old):
        array = np.zeros(3).view(Array)
        seen.append(weakref.ref(array))
        return [array]

    made = Prefetcher(make, 0, 1, 3)
    for _ in range(5):
        made.next()
        made.seek(0)
    gc.collect()
    assert seen and not any(array() is not None for array in seen)
    made.stop()


def test_stop_waits_for_the_thread():
    before = threads()
    made = Prefetcher(numbers, 0, 1, 2)
    made.next()
    made.stop()
    assert not threads() - before
    made.stop()
    assert made.next()[0] == 1
    made.stop()


def test_the_interpreter_ends_while_batches_are_made(python):
    code = """
import time, numpy as np
from caffebn.data.prefetch import Prefetcher
def make(position, old):
    time.sleep(0.05)
    return [np.zeros(1000)]
kept = [Prefetcher(make, 0, 1, 4) for _ in range(3)]
for p in kept:
    p.next()
print("done")
"""
    done = python(code)  # which does not wait for ever
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_makes_its_own(python):
    code = """
import os, warnings
warnings.simplefilter("ignore")
import numpy as np
from caffebn.data.prefetch import Prefetcher
p = Prefetcher(lambda position, old: [np.array([position])], 0, 1, 2)
p.next()
child = os.fork()
found = [p.next()[0].item() for _ in range(5)]
assert found == [1, 2, 3, 4, 5], found
if child:
    print(os.waitpid(child, 0)[1])
"""
    done = python(code)
    assert done.stdout == "0\n", done.stderr
