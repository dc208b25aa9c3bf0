"""SoftmaxWithLoss: the multinomial logistic loss of scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffebn.blob import Blob
from caffebn.layers.base import layer
from caffebn.layers.loss import LossLayer, divisor, label_places, normalization

__all__ = ["SoftmaxWithLoss"]


@layer("SoftmaxWithLoss", "softmax_param")
class SoftmaxWithLoss(LossLayer):
    """Multinomial logistic loss of the softmax of scores.

    bottom 0: scores (N, C, S...), bottom 1: labels, one for each place outside the softmax axis, whole
    numbers from 0 to C - 1 (a fraction is cut) -> top 0: the loss (one value).  `softmax_param.axis` (1)
    is the axis of the classes.  Both phases alike.

    Forward: ``loss = -sum(log(max(p[label], FLT_MIN))) / Z`` over all places whose label is not
    `ignore_label`.  Backward: ``dx = (p - onehot(label)) * weight / Z``, 0 at ignored places; it does
    not know the floor FLT_MIN.

    ``Z`` by `loss_param.normalization`: FULL all places; VALID (default) the places not ignored;
    BATCH_SIZE the product of all axes before the softmax axis; NONE 1; never less than 1.  The old
    `normalize` counts only when `normalization` is absent: true is VALID, false is BATCH_SIZE.

    Raises
    ------
    NetError
        An axis that does not exist, the wrong number of labels.
    ArgumentError
        A label that is neither a class nor ignored.  Caffe reads outside its memory there.

    Notes
    -----
    For the probabilities add a Softmax layer: Caffe declares a second top, but no net with it can be made.
    Source: Caffe softmax_loss_layer.
    """

    more_params = ("loss_param",)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        loss = self.spec.loss_param
        self.ignore = loss.ignore_label if loss.has("ignore_label") else None
        self.normalization = normalization(loss, "VALID")
        self.sums = self.scratch((2,), np.float64)  # of -log p, of the places not ignored

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        self.ncs = label_places(self, bottom, self.param.axis)
        self.prob = self.scratch(self.ncs)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        outer, _, inner = self.ncs
        self.ops.softmax(bottom[0].data.reshape(self.ncs), self.prob)
        with self.naming_itself():
            self.ops.softmax_loss(self.prob, bottom[1].data.reshape(-1), self.ignore, self.sums)
        self.ops.mean_loss(
            self.sums, divisor(self.normalization, outer, inner), self.z, top[0].data.reshape(1)
        )

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            self.ops.loss_scale(top[0].diff.reshape(1), self.z, 1.0, self.scale)
            label, dx = bottom[1].data.reshape(-1), bottom[0].diff.reshape(self.ncs)
            self.ops.softmax_loss_backward(self.prob, label, self.ignore, self.scale, dx)
