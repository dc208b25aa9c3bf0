"""Softmax: scores to probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from caffebn.blob import Blob
from caffebn.layers.base import layer, ncs
from caffebn.layers.neuron import Neuron

__all__ = ["Softmax"]


@layer("Softmax", "softmax_param")
class Softmax(Neuron):
    """Probabilities along an axis: ``y = exp(x) / sum exp(x)``.

    bottom 0 (any shape with `axis`) -> top 0 (same shape), in place or not.  `axis` is 1 by default and
    counts from the end when negative; every place outside it is normalised on its own.  Both phases
    alike.  The field ``engine`` has no effect.

    Forward subtracts the maximum first, so large scores do not overflow.  Backward:
    ``dx = y * (dy - sum(dy * y))``, the sum along the axis.

    Raises
    ------
    NetError
        An axis that does not exist.

    Notes
    -----
    Source: Caffe softmax_layer.
    """

    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        return ("top",)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        shape = bottom[0].shape
        self.ncs = ncs(shape, self.axis(self.param.axis, len(shape)))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.ops.softmax(bottom[0].data.reshape(self.ncs), top[0].data.reshape(self.ncs))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            y, dy, dx = top[0].data, top[0].diff, bottom[0].diff
            self.ops.softmax_backward(y.reshape(self.ncs), dy.reshape(self.ncs), dx.reshape(self.ncs))
