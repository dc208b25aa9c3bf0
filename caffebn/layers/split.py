"""Split: one blob for several readers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer, look_at

__all__ = ["Split"]


@layer("Split")
class Split(Layer):
    """Give one blob to several readers; the net puts one in wherever a blob is read more than once.

    bottom 0 (any shape) -> any number of tops (same shape), all of which look at the bottom's data: no
    copy is made.  Both phases alike.

    Backward: ``dx = sum_i dy_i`` over all tops.

    Sources: Caffe split_layer, insert_splits.
    """

    n_tops = (1, None)
    shares_memory = True
    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        for blob in top:
            blob.reshape(*bottom[0].shape)
            blob.share_data(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing to compute: the tops are the bottom."""
        look_at(bottom[0], top)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        if len(top) == 1:
            self.copy_diff(top[0], bottom[0])
            return
        dx = bottom[0].diff
        self.ops.weighted_sum(top[0].diff, 1.0, top[1].diff, 1.0, dx)
        for blob in top[2:]:
            self.ops.axpy(blob.diff, 1.0, dx)
