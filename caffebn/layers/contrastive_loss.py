"""ContrastiveLoss: similar pairs near, others at a distance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

import numpy as np

from caffebn.blob import Blob
from caffebn.layers.base import layer
from caffebn.layers.loss import LossLayer

__all__ = ["ContrastiveLoss"]


@layer("ContrastiveLoss", "contrastive_loss_param")
class ContrastiveLoss(LossLayer):
    """Draw similar pairs together and push others apart, up to a margin.

    bottom 0: a (N, C...), bottom 1: b (same count), bottom 2: a mark for each pair (N), cut to a whole
    number, where anything but 0 means similar -> top 0: the loss (one value).  Both phases alike.

    Forward, with d the distance of a pair: ``loss = sum(similar ? d^2 : far) / (2 N)``, and ``far =
    max(margin - d, 0)^2``, or with `legacy_version` ``max(margin - d^2, 0)``.  `margin` is 1 by default.

    Backward: ``da = f (a - b) * weight / N`` and ``db = -da``, where f is 1 for a similar pair, 0 for
    another one outside the margin, and inside it ``-(margin - d) / (d + 1e-4)``, or -1 with
    `legacy_version`.  The small number, Caffe's, keeps the gradient of equal points finite.

    Raises
    ------
    NetError
        Bottoms with different numbers of items, pairs with different numbers of values, not one mark for
        each pair.

    Notes
    -----
    Sources: Caffe contrastive_loss_layer; Hadsell, Chopra and LeCun 2006.
    """

    n_bottoms = 3
    n_differentiable = 2

    @property
    def reads(self) -> Iterable[str]:
        return ("bottom",)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        a, b, similar = bottom
        if a.count != b.count:
            raise self.error(
                "the pairs must have the same number of values, "
                f"found {self.shown(bottom, 0)} and {self.shown(bottom, 1)}",
                "bottom",
                1,
            )
        pairs, values = a.shape[0], prod(a.shape[1:])
        if similar.count != pairs:
            raise self.error(
                f"expected one mark for each of the {pairs} pairs, found {self.shown(bottom, 2)}", "bottom", 2
            )
        self.difference = self.scratch((pairs, values))
        self.square = self.scratch((pairs,), np.float64)
        self.sum = self.scratch((1,), np.float64)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p, d = self.param, self.difference
        a, b = (blob.data.reshape(d.shape) for blob in bottom[:2])
        self.ops.weighted_sum(a, 1.0, b, -1.0, d)
        self.ops.channel_dot(d[None], d[None], self.square)
        similar = bottom[2].data.reshape(-1)
        self.ops.contrastive_loss(self.square, similar, p.margin, p.legacy_version, self.sum)
        self.ops.mean_loss(self.sum, 2 * max(len(d), 1), self.z, top[0].data.reshape(1))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        self.refuse_gradient(propagate_down, 2, "marks")
        p, d, similar = self.param, self.difference, bottom[2].data.reshape(-1)
        for blob, wanted, sign in zip(bottom[:2], propagate_down, (1, -1), strict=False):
            if wanted:
                self.ops.loss_scale(top[0].diff.reshape(1), self.z, 2.0 * sign, self.scale)
                self.ops.contrastive_loss_backward(
                    d,
                    self.square,
                    similar,
                    p.margin,
                    p.legacy_version,
                    self.scale,
                    blob.diff.reshape(d.shape),
                )
