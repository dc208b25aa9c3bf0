"""Silence: an end for blobs that nobody reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer

__all__ = ["Silence"]


@layer("Silence")
class Silence(Layer):
    """Read blobs and do nothing with them, so that they are no outputs of the net.

    any number of bottoms -> no tops.  Both phases alike.

    Backward: the gradients of the bottoms are 0.

    Source: Caffe silence_layer.
    """

    n_bottoms = (1, None)
    n_tops = 0
    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing to do: there are no tops."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing to do: there are no tops."""

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        for blob, wanted in zip(bottom, propagate_down, strict=True):
            if wanted:
                self.ops.fill(blob.diff, 0.0)
