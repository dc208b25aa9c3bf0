"""Tile: a blob several times along an axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer, ncs

__all__ = ["Tile"]


@layer("Tile", "tile_param")
class Tile(Layer):
    """Put copies of a blob one behind the other along an axis.

    bottom 0 (..., C, ...) -> top 0 (..., tiles C, ...): what lies from `axis` (1) on is repeated as a whole.
    Both phases alike.

    Backward: the sum of the gradients of all copies.

    Raises
    ------
    NetError
        An axis that does not exist, `tiles` missing or not positive.

    Notes
    -----
    Source: Caffe tile_layer.
    """

    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.tiles = self.param.tiles
        if self.tiles < 1:
            raise self.error(f"tiles must be given and positive, found {self.tiles}", "tiles")

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        axis = self.axis(self.param.axis, len(shape))
        top[0].reshape(*shape[:axis], self.tiles * shape[axis], *shape[axis + 1 :])
        # as two axes: what lies before the axis, and the rest, which is one block
        self.outer, along, inner = ncs(shape, axis)
        self.block = along * inner

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        x = bottom[0].data.reshape(self.outer, self.block)
        y = top[0].data.reshape(self.outer, self.tiles * self.block)
        for i in range(self.tiles):
            self.ops.copy_into(x, y, i * self.block)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        dx = bottom[0].diff.reshape(self.outer, self.block)
        dy = top[0].diff.reshape(self.outer, self.tiles * self.block)
        self.ops.copy_from(dy, 0, dx)
        for i in range(1, self.tiles):
            self.ops.add_from(dy, i * self.block, dx)
