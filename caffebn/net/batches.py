"""Arrays of any number of items, cut into batches of a net's size and put together again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from caffebn.blob import Blob
from caffebn.errors import ArgumentError

__all__ = ["Collector", "batches", "item_count"]


def batches(values: Mapping[str, np.ndarray], blobs: Mapping[str, Blob]) -> Iterator[dict[str, np.ndarray]]:
    """Cut arrays into batches of the size of the first one's blob; the last is filled up with zeros.

    Raises
    ------
    ArgumentError
        The arrays do not have the same number of items.
    """
    arrays = {name: np.asarray(value) for name, value in values.items()}
    size = blobs[next(iter(arrays))].shape[0]
    for begin in range(0, item_count(arrays), size):
        batch = {}
        for name, array in arrays.items():
            part = array[begin : begin + size]
            missing = size - len(part)
            batch[name] = (
                np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)]) if missing else part
            )
        yield batch


class Collector:
    """Copies of what each batch gave, by blob name."""

    def __init__(self) -> None:
        self._parts: dict[str, list[np.ndarray]] = {}

    def add(self, values: Mapping[str, np.ndarray]) -> None:
        """Copy what a batch gave."""
        for name, value in values.items():
            self._parts.setdefault(name, []).append(np.array(value, ndmin=1))

    def items(self, count: int) -> dict[str, np.ndarray]:
        """Return all batches in one array each, without what filled up the last one."""
        return {name: np.concatenate(parts)[:count] for name, parts in self._parts.items()}


def item_count(values: Mapping[str, np.ndarray]) -> int:
    """Return how many items each of the arrays has.

    Raises
    ------
    ArgumentError
        They do not have the same number.
    """
    counts = {name: len(value) for name, value in values.items()}
    if len(set(counts.values())) != 1:
        raise ArgumentError(f"all arrays need the same number of items, found {counts}")
    return next(iter(counts.values()))
