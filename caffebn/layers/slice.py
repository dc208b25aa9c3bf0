"""Slice: pieces of a blob along an axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer, ncs

__all__ = ["Slice"]


@layer("Slice", "slice_param")
class Slice(Layer):
    """Cut a blob into pieces along an axis.

    bottom 0 (..., C, ...) -> top i (..., c_i, ...).  The axis is `axis` (default 1, negative counts from the
    end) or the old, never negative `slice_dim`; not both.  `slice_point` gives the index at which each top
    but the first begins; without any the pieces are equal.  Both phases alike.

    Backward: the bottom's gradient is put together of those of the tops.

    Raises
    ------
    NetError
        Both `axis` and `slice_dim`, an axis that does not exist, points that are not one fewer than tops,
        do not grow, or lie behind the end; without points, a size that is not a multiple of the tops.

    Notes
    -----
    Source: Caffe slice_layer.
    """

    n_tops = (1, None)
    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param
        if p.has("axis") and p.has("slice_dim"):
            raise self.error("axis and slice_dim say the same thing: give only one of them", "slice_dim")
        if p.slice_point and len(p.slice_point) != len(top) - 1:
            raise self.error(
                f"{len(top)} tops need {len(top) - 1} slice_point entries, or none for equal pieces, "
                f"found {len(p.slice_point)}",
                "slice_point",
            )

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        field = "slice_dim" if self.param.has("slice_dim") else "axis"
        axis = self.axis(getattr(self.param, field), len(shape), field)
        # as two axes: what lies before the axis, and the rest, in which each top has one piece
        outer, along, inner = ncs(shape, axis)
        self.whole = outer, along * inner
        self.pieces = []
        ends = [*self._points(bottom, along, len(top)), along]
        for blob, begin, end in zip(top, [0, *ends], ends, strict=False):
            blob.reshape(*shape[:axis], end - begin, *shape[axis + 1 :])
            self.pieces.append((begin * inner, (outer, (end - begin) * inner)))

    def _points(self, bottom: Sequence[Blob], along: int, tops: int) -> list[int]:
        points = list(self.param.slice_point)
        if not points:
            if along % tops:
                raise self.error(
                    f"a size of {along} cannot be cut into {tops} equal pieces: {self.shown(bottom, 0)}",
                    "top",
                )
            return [i * along // tops for i in range(1, tops)]
        for i, (before, point) in enumerate(zip([0, *points], points, strict=False)):
            if not before < point < along:
                raise self.error(
                    f"slice_point must grow and lie between 0 and {along}, the size of the axis in "
                    f"{self.shown(bottom, 0)}, found {', '.join(map(str, points))}",
                    "slice_point",
                    i,
                )
        return points

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        x = bottom[0].data.reshape(self.whole)
        for blob, (offset, shape) in zip(top, self.pieces, strict=True):
            self.ops.copy_from(x, offset, blob.data.reshape(shape))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            dx = bottom[0].diff.reshape(self.whole)
            for blob, (offset, shape) in zip(top, self.pieces, strict=True):
                self.ops.copy_into(blob.diff.reshape(shape), dx, offset)
