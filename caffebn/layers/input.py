"""Input: blobs that the caller fills."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer, times

__all__ = ["Input"]


@layer("Input", "input_param")
class Input(Layer):
    """Blobs whose data the caller fills.

    no bottoms -> top i, shaped as the text says: one `shape` for all tops, one for each, or none
    (the tops are then empty until the caller reshapes them).  Reshaping a top later is allowed; the
    layer never changes a shape again.

    Raises
    ------
    NetError
        The number of shapes is not 0, 1 or the number of tops, or a size is negative.

    Notes
    -----
    Source: Caffe input_layer.
    """

    n_bottoms = 0
    n_tops = (1, None)
    has_backward = False
    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shapes = [tuple(shape.dim) for shape in self.param.shape]
        if len(shapes) not in (0, 1, len(top)):
            raise self.error(
                f"expected one shape, one for each of the {len(top)} tops, or none, found {len(shapes)}",
                "shape",
            )
        for index, shape in enumerate(shapes):
            if min(shape, default=0) < 0:
                raise self.error(f"a size cannot be negative, found shape {times(shape)}", "shape", index)
        if len(shapes) == 1:
            shapes *= len(top)
        for blob, shape in zip(top, shapes, strict=False):
            blob.reshape(*shape)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing to do: the shapes are the caller's."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing to do: the data is the caller's."""
