"""Batches on their way to a GPU while it computes with the one before."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from caffebn import ops
from caffebn.blob import Blob
from caffebn.data.prefetch import Batch, Make

__all__ = ["SendingMaker", "Sent"]


class Sent(list[np.ndarray]):
    """A batch that is on the way to a GPU: the arrays of the host, and where on the device each will be.

    Parameters
    ----------
    batch : list of ndarray
    sendings : list
        One for each array, of ``ops.arrays("gpu").Sending``.
    """

    def __init__(self, batch: Batch, sendings: list[Any]):
        super().__init__(batch)
        self.sendings = sendings

    def arrive(self, tops: Sequence[Blob]) -> None:
        """Let the tops have the values, when these have come; the host does not wait."""
        for blob, sending in zip(tops, self.sendings, strict=True):
            sending.arrive(blob.gpu_data)


class SendingMaker:
    """Makes batches, and sends each off to the GPU that was the current one of the thread that made the maker.

    What it returns can be given back to it, as to any maker of batches; then the memory on both sides is used again.

    Parameters
    ----------
    make : callable
        Makes the batches.
    """

    def __init__(self, make: Make):
        self._make = make
        self._arrays: ModuleType = ops.arrays("gpu")
        self._device = self._arrays.selected()

    def __call__(self, position: int, old: Batch) -> Batch:
        self._arrays.select(self._device)  # of this thread
        batch = self._make(position, old)
        used = old.sendings if isinstance(old, Sent) else []
        sendings = [
            used[i] if i < len(used) and used[i].fits(values) else self._arrays.Sending(values)
            for i, values in enumerate(batch)
        ]
        for values, sending in zip(batch, sendings, strict=True):
            sending.send(values)
        return Sent(batch, sendings)
