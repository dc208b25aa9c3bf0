"""Crop: a block of a blob, as large as another blob."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer

__all__ = ["Crop"]


@layer("Crop", "crop_param")
class Crop(Layer):
    """Cut the axes from `axis` (2) on down to the sizes of another blob.

    bottom 0: what is cropped, bottom 1: as many axes, of which only the sizes from `axis` on count -> top 0.
    `offset` says where the block begins: not given (0), once for all those axes, or once for each.  Both
    phases alike.

    Backward: dx is dy in the block and 0 around it; the gradient of bottom 1 is 0.

    Raises
    ------
    NetError
        Bottoms with different numbers of axes, an axis that does not exist, the wrong number of offsets, a
        block that does not lie within bottom 0.

    Notes
    -----
    Source: Caffe crop_layer.
    """

    n_bottoms = 2
    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape, sizes = bottom[0].shape, bottom[1].shape
        if len(sizes) != len(shape):
            raise self.error(
                "the bottoms must have the same number of axes, "
                f"found {self.shown(bottom, 0)} and {self.shown(bottom, 1)}",
                "bottom",
                1,
            )
        axis = self.axis(self.param.axis, len(shape))
        cropped = len(shape) - axis
        offsets = list(self.param.offset) or [0]
        if len(offsets) not in (1, cropped):
            raise self.error(
                f"offset must be given once or {cropped} times, for each axis from {axis} on, "
                f"found {len(offsets)} times",
                "offset",
            )
        if len(offsets) == 1:
            offsets *= cropped
        self.offset = (0,) * axis + tuple(offsets)
        wanted = shape[:axis] + sizes[axis:]
        for i in range(axis, len(shape)):
            if self.offset[i] + wanted[i] > shape[i]:
                raise self.error(
                    f"axis {i}: a block of {wanted[i]} at offset {self.offset[i]} does not lie within "
                    f"{self.shown(bottom, 0)}; bottom 1 is {self.shown(bottom, 1)}",
                    "offset",
                )
        top[0].reshape(*wanted)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.ops.copy_block(bottom[0].data, self.offset, top[0].data)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        for blob, wanted in zip(bottom, propagate_down, strict=True):
            if wanted:
                self.ops.fill(blob.diff, 0.0)
        if propagate_down[0]:
            self.ops.paste_block(top[0].diff, bottom[0].diff, self.offset)
