"""HingeLoss: one class against all others, with a margin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffebn.blob import Blob
from caffebn.layers.base import layer
from caffebn.layers.loss import LossLayer, items

__all__ = ["HingeLoss"]


@layer("HingeLoss", "hinge_loss_param")
class HingeLoss(LossLayer):
    """Hinge loss of one class against all others, with a margin of 1.

    bottom 0: scores (N, C...), bottom 1: one label for each item, whole numbers from 0 to the number of
    scores of an item less 1 (a fraction is cut) -> top 0: the loss (one value).  Both phases alike.

    With ``m = max(0, 1 + s x)``, where s is -1 for the class of the label and 1 for the others:

    - ``norm: L1`` (default): ``loss = sum(m) / N``; backward ``dx = s * weight / N`` where m is positive, so
      that it is 0 on the margin;
    - ``norm: L2``: ``loss = sum(m^2) / N``; backward ``dx = 2 m s * weight / N``.

    Raises
    ------
    NetError
        Not one label for each item.
    ArgumentError
        A label that is no class.  Caffe reads outside its memory there.

    Notes
    -----
    Source: Caffe hinge_loss_layer.
    """

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        self.scores = items(self, bottom)
        self.sum = self.scratch((1,), np.float64)
        self.squared = self.param.norm == "L2"

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        x, label = bottom[0].data.reshape(self.scores), bottom[1].data.reshape(-1)
        with self.naming_itself():
            self.ops.hinge_loss(x, label, self.squared, self.sum)
        self.ops.mean_loss(self.sum, max(self.scores[0], 1), self.z, top[0].data.reshape(1))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            self.ops.loss_scale(top[0].diff.reshape(1), self.z, 1.0, self.scale)
            x, label = bottom[0].data.reshape(self.scores), bottom[1].data.reshape(-1)
            self.ops.hinge_loss_backward(
                x, label, self.squared, self.scale, bottom[0].diff.reshape(self.scores)
            )
