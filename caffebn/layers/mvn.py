"""MVN: zero mean and unit variance within each image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

import numpy as np

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer

__all__ = ["MVN"]


@layer("MVN", "mvn_param")
class MVN(Layer):
    """Normalise each channel of each image to zero mean and unit variance.

    bottom 0 (N, C, H, W), at most 4 axes, missing ones count as 1 -> top 0 (always 4 axes), in place or not.
    Both phases alike: nothing is stored.

    Forward ``y = (x - mean) / (sqrt(var) + eps)`` over the places of each channel of each image, or with
    `across_channels` over all values of each image; without `normalize_variance` only ``y = x - mean``.
    `eps` (1e-9) is added to the deviation, not to the variance.

    Backward: ``dx = (dy - mean(dy) - y * mean(dy * y)) / (sqrt(var) + eps)``, or ``dx = dy - mean(dy)``.
    The first takes eps for 0 where it derives y, as Caffe does, so that it is not quite the derivative when
    eps is large.

    Raises
    ------
    NetError
        More than 4 axes.

    Notes
    -----
    Statistics are computed in double precision, in two passes.
    Source: Caffe mvn_layer (whose gradient is wrong in place, where it takes y for x).
    """

    in_place = True
    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        return ("top",) if self.param.normalize_variance else ()

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) > 4:
            raise self.error(f"takes at most 4 axes, found {self.shown(bottom, 0)}", "bottom")
        shape = shape + (1,) * (4 - len(shape))
        groups = shape[0] if self.param.across_channels else shape[0] * shape[1]
        self.ncs = 1, groups, prod(shape) // max(groups, 1)
        top[0].reshape(*shape)
        self.mean, self.var, self.inv_std = (self.scratch((groups,), np.float64) for _ in range(3))
        self.inv_std[...] = 1

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        x, y = bottom[0].data.reshape(self.ncs), top[0].data.reshape(self.ncs)
        if self.param.normalize_variance:
            self.ops.moments(x, self.mean, self.var)
            self.ops.inv_deviation(self.var, self.param.eps, self.inv_std)
        else:
            self._mean_of(x)
        self.ops.normalize(x, self.mean, self.inv_std, y)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        dy, dx = top[0].diff.reshape(self.ncs), bottom[0].diff.reshape(self.ncs)
        if self.param.normalize_variance:
            self.ops.normalize_backward(dy, top[0].data.reshape(self.ncs), self.inv_std, dx)
        else:
            self._mean_of(dy)
            self.ops.normalize(dy, self.mean, self.inv_std, dx)

    def _mean_of(self, x: np.ndarray) -> None:
        self.ops.channel_sum(x, self.mean)
        self.ops.scale_copy(self.mean, 1 / max(x.shape[2], 1), self.mean)

    def macs(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> int:
        return bottom[0].count
