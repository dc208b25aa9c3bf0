"""What all layers that read batches have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from caffebn.blob import Blob
from caffebn.data.prefetch import Batch, Make, Prefetcher
from caffebn.data.sending import SendingMaker, Sent
from caffebn.errors import ArgumentError, CaffebnError
from caffebn.layers.base import Layer

__all__ = ["DataLayer", "Source", "array_like", "random_numbers", "shuffled"]

_BATCH, _EPOCH = 0, 1  # what random numbers are for


class Source(ABC):
    """Where a layer's batches come from.

    A batch is a function of the position and the seed alone, however it was come to: this is what makes a
    training go on with the same bits after an interruption.  A source knows nothing of its layer.

    Attributes
    ----------
    items : int
        How many there are.
    """

    items: int

    @abstractmethod
    def shapes(self, position: int, seed: int) -> list[tuple[int, ...]]:
        """Return the shapes of the arrays of the batch at a position."""

    @abstractmethod
    def batch(self, position: int, seed: int, old: Batch) -> Batch:
        """Return the batch that starts at a position: arrays of the net's dtype, in C order.

        Positions count on from epoch to epoch.  The arrays of `old` may be used again.
        """


class DataLayer(Layer):
    """Base of the layers that hand out batches of a source, made ahead by a thread.

    A subclass writes `open`.  Positions count items from the start of the first epoch on; `position` is that
    of the next batch, `seek` goes to another one.
    """

    n_bottoms = 0
    has_backward = False
    on_host = True

    source: Source

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def open(self, tops: int) -> Source:
        """Check the parameters and open what they name."""
        raise NotImplementedError

    @property
    def rand_skip(self) -> int:
        """Below how many items to skip at random at the start."""
        return self.param.rand_skip if "rand_skip" in self.param.schema.fields else 0

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.batch_size: int = self.param.batch_size
        if self.batch_size < 1:
            raise self.error(f"{self.param_field} must give batch_size, a positive number", "batch_size")
        # Drawn here, as Caffe seeds the threads of its data layers here: every batch has a generator of its own,
        # made of this number, so that the thread does not draw from the net's at times nobody can foresee.
        self._seed = int(self.rng.integers(1 << 62))
        start = int(self.rng.integers(self.rand_skip)) if self.rand_skip else 0
        with self._naming_itself():
            self.source = self.open(len(top))
            for blob, shape in zip(top, self.source.shapes(start, self._seed), strict=True):
                blob.reshape(*shape)
        self._prefetcher = Prefetcher(self._make(), start, self.batch_size, self.spec.data_param.prefetch)

    def _make(self) -> Make:
        make = partial(_make_batch, self.source, self._seed)
        return SendingMaker(make) if self.net_device == "gpu" else make

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing to do: the shapes are those of the data."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        with self._naming_itself():
            batch = self._prefetcher.next()
        for blob, values in zip(top, batch, strict=True):
            if blob.shape != values.shape:
                blob.reshape(*values.shape)
        if isinstance(batch, Sent):
            batch.arrive(top)
        else:
            for blob, values in zip(top, batch, strict=True):
                self.ops.scale_copy(values, 1.0, blob.data)
        self._prefetcher.give_back(batch)

    # -- where it is -------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """The first item of the next batch, counted from the start of the first epoch."""
        return self._prefetcher.position

    def seek(self, position: int) -> None:
        """Go on at another item.

        Raises
        ------
        ArgumentError
            `position` is negative.
        """
        if position < 0:
            raise ArgumentError(
                f'layer "{self.name}" ({self.type}): a position is 0 or more, found {position}'
            )
        self._prefetcher.seek(position, self._make())

    def get_state(self) -> dict[str, Any]:
        """Return what the next batch depends on: position, seed, and the number of items, as a check."""
        return {"position": self.position, "seed": self._seed, "items": self.source.items}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from where the layer was when `get_state` was called: the same batches follow.

        Raises
        ------
        ArgumentError
            Not such a state, or one of a source with another number of items.
        """
        position, seed, items = (state.get(key) for key in ("position", "seed", "items"))
        refusal = ""
        if not (isinstance(position, int) and isinstance(seed, int) and position >= 0 and seed >= 0):
            refusal = f"not a state of a data layer: {state!r}"
        elif items != self.source.items:
            refusal = (
                f"cannot go on at item {position}: there were {items} items then, "
                f"and there are {self.source.items} now"
            )
        if refusal:
            raise ArgumentError(f'layer "{self.name}" ({self.type}): {refusal}')
        self._seed = state["seed"]
        self.seek(state["position"])

    @contextmanager
    def _naming_itself(self) -> Iterator[None]:
        """Put the layer's name in front of what goes wrong in its source, in either thread."""
        start = f'layer "{self.name}" ({self.type}): '
        try:
            yield
        except CaffebnError as e:
            if e.message.startswith(start):
                raise
            raise type(e)(start + e.message, e.where or self.spec.where) from e
        except Exception as e:
            raise CaffebnError(f"{start}reading data failed: {type(e).__name__}: {e}", self.spec.where) from e


def _make_batch(source: Source, seed: int, position: int, old: Batch) -> Batch:
    return source.batch(position, seed, old)


def random_numbers(seed: int, position: int) -> np.random.Generator:
    """Return the random numbers of the batch at a position."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_BATCH, position)))


def shuffled(n: int, seed: int, *which: int) -> np.ndarray:
    """Return the numbers below `n` in the random order of an epoch, or of a part of it."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_EPOCH, *which))).permutation(n)


def array_like(old: Batch, index: int, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Return the array of a used batch if it fits, else a new one."""
    if index < len(old) and old[index].shape == tuple(shape) and old[index].dtype == dtype:
        return old[index]
    return np.empty(shape, dtype)
