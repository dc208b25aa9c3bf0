"""Reduction: one number for all trailing axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer

__all__ = ["Reduction"]


@layer("Reduction", "reduction_param")
class Reduction(Layer):
    """Sum, or a like of it, over all axes from `axis` on.

    bottom 0 (N..., K...), split before `axis` (0) -> top 0 (N...), with no axes when `axis` is 0.  Both
    phases alike.

    =========  ======================  =====================
    operation  forward                 backward
    =========  ======================  =====================
    SUM        ``coeff * sum(x)``      ``coeff * dy``
    ASUM       ``coeff * sum(|x|)``    ``coeff * dy * sign(x)``
    SUMSQ      ``coeff * sum(x^2)``    ``2 coeff * dy * x``
    MEAN       ``coeff * mean(x)``     ``coeff * dy / K``
    =========  ======================  =====================

    Defaults SUM, `coeff` 1.  Sums are taken in double precision.

    Raises
    ------
    NetError
        An axis that does not exist.

    Notes
    -----
    Source: Caffe reduction_layer.
    """

    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        return ("bottom",) if self.param.operation in ("ASUM", "SUMSQ") else ()

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p, shape = self.param, bottom[0].shape
        axis = self.axis(p.axis, len(shape))
        outer, inner = prod(shape[:axis]), prod(shape[axis:])
        self.ncs = 1, outer, inner
        self.coeff = p.coeff / max(inner, 1) if p.operation == "MEAN" else p.coeff
        top[0].reshape(*shape[:axis])
        self.slope = self.scratch((outer,))
        if p.operation == "ASUM":
            self.workspace.reserve(bottom[0].count)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        x, y = bottom[0].data.reshape(self.ncs), top[0].data.reshape(-1)
        if self.param.operation == "SUMSQ":
            self.ops.channel_dot(x, x, y)
        elif self.param.operation == "ASUM":
            absolute = self.workspace.flat[: x.size].reshape(self.ncs)
            self.ops.absolute(x, absolute)
            self.ops.channel_sum(absolute, y)
        else:
            self.ops.channel_sum(x, y)
        self.ops.scale_copy(y, self.coeff, y)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        x, dx = bottom[0].data.reshape(self.ncs), bottom[0].diff.reshape(self.ncs)
        coeff = self.coeff
        if self.param.operation == "SUMSQ":
            coeff *= 2
        elif self.param.operation == "ASUM":
            self.ops.sign(x, dx)
            x = dx
        else:
            self.ops.fill(dx, 1.0)
            x = dx
        self.ops.scale_copy(top[0].diff.reshape(-1), coeff, self.slope)
        self.ops.affine(x, self.slope, None, dx)
