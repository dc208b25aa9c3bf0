"""MemoryData: batches out of arrays in memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from caffebn.blob import Blob
from caffebn.errors import ArgumentError, CaffebnWarning
from caffebn.layers.base import Layer, layer, times

__all__ = ["MemoryData"]


@layer("MemoryData", "memory_data_param")
class MemoryData(Layer):
    """Hand out batches of an array that the caller gives with `reset`, again and again.

    no bottoms -> top 0 (batch_size, channels, height, width), top 1: the labels, (batch_size) when the
    net is made and (batch_size, 1, 1, 1) from the first pass on, as in Caffe.  Both phases alike; no
    gradient.

    Raises
    ------
    NetError
        `batch_size`, `channels`, `height` or `width` missing or 0.
    ArgumentError
        Forward before `reset`, or arrays that do not fit.

    Notes
    -----
    A `transform_param` has no effect on arrays; `reset` warns about it, as Caffe does.
    Source: Caffe memory_data_layer.
    """

    n_bottoms = 0
    n_tops = 2
    has_backward = False
    on_host = True

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        fields = ("batch_size", "channels", "height", "width")
        self.shape = tuple(getattr(self.param, field) for field in fields)
        for field, size in zip(fields, self.shape, strict=True):
            if size == 0:
                raise self.error(f"memory_data_param must give {field}, a positive number", field)
        top[0].reshape(*self.shape)
        top[1].reshape(self.shape[0])
        self.data: np.ndarray | None = None
        self.labels: np.ndarray | None = None
        self.position = 0

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing to do: the shapes are those of the text."""

    def reset(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Start again with other arrays, which are looked at, not copied.

        Parameters
        ----------
        data : ndarray of float32, (n, channels, height, width)
            The items; n is a multiple of `batch_size`.
        labels : ndarray, (n,) or (n, 1, 1, 1)
            One label for each item.

        Raises
        ------
        ArgumentError
            Wrong dtype, shape or number of items.
        """
        batch, item = self.shape[0], self.shape[1:]
        n = data.shape[0] if data.ndim else 0
        if data.dtype != np.float32 or data.ndim != 4 or data.shape[1:] != item:
            raise self._refusal(
                f"data must be float32, n x {times(item)}, found {data.dtype}, {times(data.shape)}"
            )
        if n == 0 or n % batch:
            raise self._refusal(
                f"the number of items must be a multiple of the batch size {batch}, found {n}"
            )
        if labels.shape not in ((n,), (n, 1, 1, 1)):
            raise self._refusal(
                f"labels must be {n} or {n}x1x1x1, one for each item, found {times(labels.shape)}"
            )
        if self.spec.has("transform_param"):
            warnings.warn(
                f'layer "{self.name}" (MemoryData): transform_param has no effect on arrays given to it',
                CaffebnWarning,
                stacklevel=2,
            )
        self.data = data
        self.labels = labels.reshape(n, 1, 1, 1)
        self.position = 0

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if self.data is None or self.labels is None:
            raise self._refusal("has no data yet: call net.set_input_arrays(data, labels) before forward")
        begin, end = self.position, self.position + self.shape[0]
        top[0].reshape(*self.shape)
        top[1].reshape(self.shape[0], 1, 1, 1)
        top[0].data[...] = self.data[begin:end]
        top[1].data[...] = self.labels[begin:end]
        self.position = end % len(self.data)

    def get_state(self) -> dict[str, Any]:
        """Return the position of the next batch."""
        return {"position": self.position}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on at a position of the arrays, which must have been given before.

        Raises
        ------
        ArgumentError
            There are no arrays, or they have no batch there.
        """
        position = state.get("position")
        items = 0 if self.data is None else len(self.data)
        if not isinstance(position, int) or not 0 <= position < max(items, 1) or position % self.shape[0]:
            raise self._refusal(
                f"cannot go on at item {position!r} of {items}: give it the same arrays as before with reset, first"
            )
        self.position = position

    def _refusal(self, message: str) -> ArgumentError:
        return ArgumentError(f'layer "{self.name}" (MemoryData): {message}')
