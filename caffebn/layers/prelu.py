"""PReLU: a rectifier whose negative slope is learned."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from caffebn.blob import Blob
from caffebn.layers.base import layer, ncs
from caffebn.layers.neuron import Neuron

__all__ = ["PReLU"]


@layer("PReLU", "prelu_param")
class PReLU(Neuron):
    """Rectify with a learned slope: ``y = x`` where x is positive, else ``a x``.

    bottom 0 (N, C, ...), at least 2 axes -> top 0 (same shape), in place or not.  Both phases alike.

    Blobs: 0: the slopes a (C), one for each channel, or one for all in a blob with no axes when
    `channel_shared`; filled by `filler`, and 0.25 where there is none.

    Backward: ``dx = dy`` where x is positive, else ``a dy``; da, added, is the sum of ``dy x`` over the
    places where x is not positive.  0 belongs to the negative side.

    Raises
    ------
    NetError
        Fewer than 2 axes, another number of channels than at first.

    Notes
    -----
    Sources: Caffe prelu_layer (which refuses more than 4 axes); He et al. 2015.
    """

    repeatable = True

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) < 2:
            raise self.error(
                f"needs at least 2 axes, of which axis 1 is the channel, found {self.shown(bottom, 0)}",
                "bottom",
            )
        self.channels = shape[1]
        filler = self.filler("filler") if self.param.has("filler") else None
        self.add_blob(() if self.param.channel_shared else (self.channels,), filler, value=0.25)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        shape = bottom[0].shape
        if len(shape) < 2 or shape[1] != self.channels:
            raise self.error(
                f"has slopes for {self.channels} channels (axis 1), found {self.shown(bottom, 0)}", "bottom"
            )
        self.ncs = (1, 1, bottom[0].count) if self.param.channel_shared else ncs(shape, 1)
        self.workspace.reserve(bottom[0].count)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        x, y = bottom[0].data.reshape(self.ncs), top[0].data.reshape(self.ncs)
        self.ops.prelu(x, self.parameters[0].data.reshape(-1), y)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        # the gradient of the slopes first: in place, dx takes the memory of dy
        x, dy = bottom[0].data.reshape(self.ncs), top[0].diff.reshape(self.ncs)
        slopes = self.parameters[0]
        if self.param_propagate_down[0]:
            negative = self.workspace.flat[: bottom[0].count].reshape(self.ncs)
            self.ops.clip(x, negative, -inf, 0.0)
            self.ops.channel_dot(negative, dy, slopes.diff.reshape(-1), accumulate=True)
        if propagate_down[0]:
            self.ops.prelu_backward(x, dy, slopes.data.reshape(-1), bottom[0].diff.reshape(self.ncs))

    def macs(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> int:
        return bottom[0].count
