"""EuclideanLoss: half the mean of squared distances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from caffebn.blob import Blob
from caffebn.layers.base import layer
from caffebn.layers.loss import LossLayer

__all__ = ["EuclideanLoss"]


@layer("EuclideanLoss")
class EuclideanLoss(LossLayer):
    """Half the mean, over the items, of the squared distance: ``loss = sum((a - b)^2) / (2 N)``.

    bottom 0 (N, ...), bottom 1 (N, ...) with as many values for each item -> top 0: the loss (one value).
    Both phases alike.

    Backward, to both bottoms: ``da = (a - b) * weight / N``, ``db = -da``.

    Raises
    ------
    NetError
        Bottoms with different numbers of items, or of values of each.

    Notes
    -----
    Source: Caffe euclidean_loss_layer.
    """

    n_differentiable = 2

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        a, b = bottom
        if a.count != b.count:
            raise self.error(
                "the bottoms must have as many values for each item, "
                f"found {self.shown(bottom, 0)} and {self.shown(bottom, 1)}",
                "bottom",
                1,
            )
        self.items = a.shape[0]
        self.difference = self.scratch((1, 1, a.count))
        self.square = self.scratch((1,), np.float64)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        d = self.difference
        a, b = (blob.data.reshape(d.shape) for blob in bottom)
        self.ops.weighted_sum(a, 1.0, b, -1.0, d)
        self.ops.channel_dot(d, d, self.square)
        self.ops.mean_loss(self.square, 2 * max(self.items, 1), self.z, top[0].data.reshape(1))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        for blob, wanted, sign in zip(bottom, propagate_down, (1, -1), strict=True):
            if wanted:
                dx = blob.diff.reshape(self.difference.shape)
                self.ops.loss_scale(top[0].diff.reshape(1), self.z, 2.0 * sign, self.scale)
                self.ops.scale_by(self.difference, self.scale, dx)
