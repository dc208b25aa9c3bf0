"""Concat: several blobs one behind the other along an axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer, ncs

__all__ = ["Concat"]


@layer("Concat", "concat_param")
class Concat(Layer):
    """Put blobs one behind the other along an axis.

    bottom i (..., c_i, ...) -> top 0 (..., sum of c_i, ...); all other axes are equal.  The axis is
    `axis` (default 1, negative counts from the end) or the old, never negative `concat_dim`; not both.
    Both phases alike.

    Backward: each bottom gets its piece of the top's gradient.

    Where the top is its bottoms one behind the other in memory (a single image, or axis 0), a net that shares memory
    may have them written there, and nothing is copied.

    Raises
    ------
    NetError
        Both `axis` and `concat_dim`, an axis that does not exist, bottoms that differ elsewhere.

    Notes
    -----
    Source: Caffe concat_layer.
    """

    n_bottoms = (1, None)
    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if self.param.has("axis") and self.param.has("concat_dim"):
            raise self.error("axis and concat_dim say the same thing: give only one of them", "concat_dim")

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        field = "concat_dim" if self.param.has("concat_dim") else "axis"
        axis = self.axis(getattr(self.param, field), len(shape), field)
        for i, blob in enumerate(bottom):
            others = blob.shape[:axis], blob.shape[axis + 1 :]
            if len(blob.shape) != len(shape) or others != (shape[:axis], shape[axis + 1 :]):
                raise self.error(
                    f"the bottoms must have equal sizes except along axis {axis}, "
                    f"found {self.shown(bottom, 0)} and {self.shown(bottom, i)}",
                    "bottom",
                    i,
                )
        top[0].reshape(*shape[:axis], sum(blob.shape[axis] for blob in bottom), *shape[axis + 1 :])
        # as two axes: what lies before the axis, and the rest, in which each bottom has one piece
        outer, along, inner = ncs(top[0].shape, axis)
        self.whole = outer, along * inner
        self.pieces = []
        offset = 0
        for blob in bottom:
            size = blob.shape[axis] * inner
            self.pieces.append((offset, (outer, size)))
            offset += size

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        y = top[0].data.reshape(self.whole)
        for blob, (offset, shape) in zip(bottom, self.pieces, strict=True):
            if not blob.lies_at(top[0], offset):  # else it has been written where it belongs
                self.ops.copy_into(blob.data.reshape(shape), y, offset)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        dy = top[0].diff.reshape(self.whole)
        for blob, wanted, (offset, shape) in zip(bottom, propagate_down, self.pieces, strict=True):
            if wanted:
                self.ops.copy_from(dy, offset, blob.diff.reshape(shape))
