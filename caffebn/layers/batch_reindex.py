"""BatchReindex: items in another order, repeated or left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer

__all__ = ["BatchReindex"]


@layer("BatchReindex")
class BatchReindex(Layer):
    """Pick items of a batch: ``y[i] = x[index[i]]``.

    bottom 0 (N, ...), bottom 1: the indices (M), whole numbers from 0 to N - 1 (a fraction is cut) -> top 0
    (M, ...).  Both phases alike.

    Backward: ``dx[index[i]] += dy[i]``, starting from 0, one after the other.  The indices have no gradient.

    Raises
    ------
    NetError
        A bottom 0 without axes, indices with other than 1 axis; in the backward pass, when the indices ask
        for a gradient.
    ArgumentError
        An index of no item.

    Notes
    -----
    Source: Caffe batch_reindex_layer.
    """

    n_bottoms = 2
    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def allow_force_backward(self, bottom: int) -> bool:
        return bottom == 0

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape, indices = bottom[0].shape, bottom[1].shape
        if not shape:
            raise self.error(f"needs items along axis 0, found {self.shown(bottom, 0)}", "bottom")
        if len(indices) != 1:
            raise self.error(f"the indices must have 1 axis, found {self.shown(bottom, 1)}", "bottom", 1)
        top[0].reshape(*indices, *shape[1:])
        self.index = self.scratch(indices, np.int32)
        self.items = shape[0], bottom[0].count // max(shape[0], 1)
        self.picked = indices[0], self.items[1]

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        with self.naming_itself():
            self.ops.row_indices(bottom[1].data, self.items[0], self.index)
        self.ops.gather_rows(bottom[0].data.reshape(self.items), self.index, top[0].data.reshape(self.picked))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        self.refuse_gradient(propagate_down, 1, "indices")
        if propagate_down[0]:
            dx = bottom[0].diff.reshape(self.items)
            self.ops.fill(dx, 0.0)
            self.ops.scatter_add_rows(top[0].diff.reshape(self.picked), self.index, dx)
