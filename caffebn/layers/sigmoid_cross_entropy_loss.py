"""SigmoidCrossEntropyLoss: independent probabilities against targets."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from caffebn.blob import Blob
from caffebn.layers.base import layer
from caffebn.layers.loss import LossLayer, divisor, normalization

__all__ = ["SigmoidCrossEntropyLoss"]


@layer("SigmoidCrossEntropyLoss", "loss_param")
class SigmoidCrossEntropyLoss(LossLayer):
    """Cross-entropy of the logistic function of scores with targets.

    bottom 0: scores x (N, ...), bottom 1: targets t of the same count, from 0 to 1, fractions too -> top 0:
    the loss (one value).  Both phases alike.

    Forward, with ``p = sigmoid(x)``: ``loss = -sum(t log(p) + (1 - t) log(1 - p)) / Z``, in a form that
    cannot overflow.  Backward: ``dx = (p - t) * weight / Z``, 0 at ignored places.

    A place is ignored when its target, cut to a whole number, is `ignore_label`: with ``ignore_label: 0``
    every target between -1 and 1 is.

    ``Z`` by `normalization`: BATCH_SIZE N, which is the default here; FULL the number of values; VALID those
    not ignored; NONE 1; never less than 1.  The old `normalize` counts only when `normalization` is absent:
    true is VALID, false is BATCH_SIZE.

    Raises
    ------
    NetError
        Bottoms of different counts.

    Notes
    -----
    Source: Caffe sigmoid_cross_entropy_loss_layer.
    """

    own_defaults = {"normalization": "BATCH_SIZE"}

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.ignore = self.param.ignore_label if self.param.has("ignore_label") else None
        self.normalization = normalization(self.param, self.own_defaults["normalization"])
        self.sums = self.scratch((2,), np.float64)  # of the losses, of the places not ignored

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        if bottom[0].count != bottom[1].count:
            raise self.error(
                "the bottoms must have the same number of values, "
                f"found {self.shown(bottom, 0)} and {self.shown(bottom, 1)}",
                "bottom",
                1,
            )
        shape = bottom[0].shape
        self.outer, self.inner = shape[0], prod(shape[1:])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        x, target = (blob.data.reshape(-1) for blob in bottom)
        self.ops.sigmoid_cross_entropy(x, target, self.ignore, self.sums)
        z = divisor(self.normalization, self.outer, self.inner)
        self.ops.mean_loss(self.sums, z, self.z, top[0].data.reshape(1))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        self.refuse_gradient(propagate_down, 1, "targets")
        if propagate_down[0]:
            x, target = (blob.data.reshape(-1) for blob in bottom)
            self.ops.loss_scale(top[0].diff.reshape(1), self.z, 1.0, self.scale)
            dx = bottom[0].diff.reshape(-1)
            self.ops.sigmoid_cross_entropy_backward(x, target, self.ignore, self.scale, dx)
