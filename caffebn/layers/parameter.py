"""Parameter: a learned blob as a top."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer, look_at, times

__all__ = ["Parameter"]


@layer("Parameter", "parameter_param")
class Parameter(Layer):
    """Give a learned blob to other layers as if it were data.

    no bottoms -> top 0, of the given `shape`, which looks at the data of the blob.  Both phases alike.

    Blobs: 0: the parameter, of that shape; 0 at first.

    Backward: the blob's gradient grows by that of the top.

    Raises
    ------
    NetError
        No `shape`, or a negative size.  A layer that works in place on the top is refused, too.

    Notes
    -----
    Source: Caffe parameter_layer, where blob and top share their gradients as well, so that those of several
    passes (``iter_size``) do not add up.
    """

    n_bottoms = 0
    shares_memory = True
    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if not self.param.has("shape"):
            raise self.error("parameter_param must give the shape of the parameter", "parameter_param")
        shape = tuple(self.param.shape.dim)
        if min(shape, default=0) < 0:
            raise self.error(f"a size cannot be negative, found {times(shape)}", "shape")
        self.add_blob(shape)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        top[0].reshape(*self.blobs[0].shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        look_at(self.parameters[0], top)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if self.param_propagate_down[0]:
            self.ops.axpy(top[0].diff, 1.0, self.parameters[0].diff)
