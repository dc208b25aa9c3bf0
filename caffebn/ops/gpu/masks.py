"""Random masks on the device: the numbers that the host would draw, and its generator goes on behind them.

So one seed gives one training on either.  A graph that is launched again draws the numbers that come next: the state
of the generator lies on the device, and the host keeps account of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from caffebn.ops.gpu import device
from caffebn.ops.gpu.checks import BYTE, check

__all__ = ["KeepMask"]

_kernel = device.Kernels("masks")

_RUN = 16  # numbers of 64 bits that a thread of keep_mask draws
_WORD = (1 << 64) - 1


class _Mirror:
    """The state of a generator of the host on one device."""

    def __init__(self, generator: Any):
        self._generator = generator
        self.words = device.zeros(6, np.uint64)
        self._there: tuple[int, ...] | None = None

    def follow(self, n: int, halves: bool) -> None:
        """Let the device have the state, if it has another one, and the host go on by n numbers.

        Parameters
        ----------
        n : int
        halves : bool
            They have 32 bits.
        """
        g = self._generator
        state = g.state
        now = _words(state)
        if now[:5] != (self._there or ())[:5] or (now[4] and now != self._there):
            device.put(np.array(now, np.uint64), self.words)
        left, last = state["has_uint32"], state["uinteger"]
        rest = n - left if halves else n
        steps = (rest + 1) // 2 if halves else rest
        if n and steps > 0:
            g.advance(steps - 1)
            drawn = g.random_raw()
            last = drawn >> 32 if halves else last
        # these are forgotten when a generator advances
        state = g.state
        state["has_uint32"], state["uinteger"] = rest % 2 if halves and n else left, int(last)
        g.state = state
        self._there = _words(state)


def _words(state: dict[str, Any]) -> tuple[int, ...]:
    values = (state["state"]["state"], state["state"]["inc"])
    halves = [half for value in values for half in (value >> 64, value & _WORD)]
    return (*halves, state["has_uint32"], state["uinteger"])


_mirrors: dict[tuple[int, int], _Mirror] = {}


class KeepMask:
    """Draws what dropout keeps; see `caffebn.ops.masks.KeepMask`."""

    def __init__(self, rng: np.random.Generator, dtype: np.dtype, mask: device.Array):
        check("KeepMask", mask, "mask", mask.shape, BYTE)
        key = id(rng.bit_generator), device.selected()
        self._mirror = _mirrors.get(key) or _mirrors.setdefault(key, _Mirror(rng.bit_generator))
        self._mask, self._size = mask, np.dtype(dtype).itemsize

    def draw(self, ratio: float) -> None:
        """Fill the mask with new numbers."""
        self.follow()
        n, halves, words = self._mask.size, int(self._size == 4), self._mirror.words
        # one more, for the number that may be left over
        threads = -(-(n + 1) // (_RUN * (1 + halves)))
        device.launch_each(
            _kernel("keep_mask", self._size), threads if n else 0, words, n, float(ratio), self._mask
        )
        device.launch(_kernel("skip_numbers", 0), 1, words, n, halves)

    def follow(self) -> None:
        """Do for a recorded pass what is done on the host."""
        self._mirror.follow(self._mask.size, self._size == 4)
