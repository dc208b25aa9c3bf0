"""MultinomialLogisticLoss: the logistic loss of probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffebn.blob import Blob
from caffebn.layers.base import layer
from caffebn.layers.loss import LossLayer, items

__all__ = ["MultinomialLogisticLoss"]


@layer("MultinomialLogisticLoss")
class MultinomialLogisticLoss(LossLayer):
    """Multinomial logistic loss of probabilities: ``loss = -sum(log(max(p[label], 1e-20))) / N``.

    bottom 0: probabilities (N, C...), bottom 1: one label for each item, whole numbers from 0 to the number
    of probabilities of an item less 1 (a fraction is cut) -> top 0: the loss (one value).  Both phases alike.

    Backward: ``dp[label] = -weight / (N max(p[label], 1e-20))``, 0 elsewhere.

    Raises
    ------
    NetError
        Not one label for each item.
    ArgumentError
        A label that is no class.  Caffe reads outside its memory there.

    Notes
    -----
    For scores use SoftmaxWithLoss, whose gradient does not divide by small numbers.
    Source: Caffe multinomial_logistic_loss_layer.
    """

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        self.probabilities = items(self, bottom)
        self.sum = self.scratch((1,), np.float64)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p, label = bottom[0].data.reshape(self.probabilities), bottom[1].data.reshape(-1)
        with self.naming_itself():
            self.ops.multinomial_loss(p, label, self.sum)
        self.ops.mean_loss(self.sum, max(self.probabilities[0], 1), self.z, top[0].data.reshape(1))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            self.ops.loss_scale(top[0].diff.reshape(1), self.z, 1.0, self.scale)
            p, label = bottom[0].data.reshape(self.probabilities), bottom[1].data.reshape(-1)
            self.ops.multinomial_loss_backward(
                p, label, self.scale, bottom[0].diff.reshape(self.probabilities)
            )
