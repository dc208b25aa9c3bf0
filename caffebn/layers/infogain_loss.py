"""InfogainLoss: a logistic loss weighted by a matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffebn.blob import Blob
from caffebn.layers.base import layer
from caffebn.layers.loss import LossLayer, divisor, label_places
from caffebn.proto import binary, blob_array

__all__ = ["InfogainLoss"]


@layer("InfogainLoss", "infogain_loss_param")
class InfogainLoss(LossLayer):
    """Logistic loss of the softmax of scores in which a matrix H says what each answer is worth.

    bottom 0: scores (N, C, S...), bottom 1: labels, one for each place outside `axis` (1), whole numbers
    from 0 to C - 1 (a fraction is cut), [bottom 2: H, C * C values] -> top 0: the loss (one value),
    [top 1: the probabilities].  Without bottom 2 the matrix is read from the file `source`, a BlobProto in
    binary form.  Both phases alike.

    Forward, with p the softmax of the scores: ``loss = -sum_l H[label, l] log(max(p[l], 1e-20)) / Z``, over
    all places whose label is not `ignore_label`.  Backward: ``dx = (p sum(H[label]) - H[label]) * weight /
    Z``, 0 at ignored places; it does not know the floor 1e-20.  The gradient of top 1 is ignored, and
    neither labels nor H have one.

    ``Z`` by `loss_param.normalization` as for SoftmaxWithLoss; the old `normalize` is refused.

    Raises
    ------
    NetError
        No matrix, or one of another size; an axis that does not exist, the wrong number of labels,
        `normalize`.
    FileError, FormatError
        The matrix cannot be read.
    ArgumentError
        A label that is neither a class nor ignored.  Caffe reads outside its memory there.

    Notes
    -----
    Source: Caffe infogain_loss_layer.
    """

    more_params = ("loss_param",)
    n_bottoms = (2, 3)
    n_tops = (1, 2)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        loss = self.spec.loss_param
        if loss.has("normalize"):
            raise self.error(
                "normalize is not known here: write normalization: VALID or another", "loss_param"
            )
        self.ignore = loss.ignore_label if loss.has("ignore_label") else None
        self.normalization = loss.normalization
        self.sums = self.scratch((2,), np.float64)  # of the losses, of the places not ignored
        self.stored: np.ndarray | None = None
        if len(bottom) == 2:
            if not self.param.has("source"):
                raise self.error(
                    "needs a matrix: give a third bottom, or infogain_loss_param { source: ... }",
                    "infogain_loss_param",
                )
            # a copy, for what a file holds may lie at odd addresses
            matrix = blob_array(binary.read(self.param.source, "BlobProto"))
            self.stored = self.scratch(matrix.shape)
            self.put(matrix, self.stored)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        self.ncs = _, classes, _ = label_places(self, bottom, self.param.axis)
        size = bottom[2].count if self.stored is None else self.stored.size
        if size != classes * classes:
            what = self.shown(bottom, 2) if self.stored is None else f"{size} in {self.param.source}"
            raise self.error(
                f"expected a matrix of {classes} x {classes} values, for the classes of "
                f"{self.shown(bottom, 0)}, found {what}",
                "source",
            )
        self.square = classes, classes
        self.prob = self.scratch(self.ncs)
        if len(top) > 1:
            top[1].reshape(*bottom[0].shape)

    def _matrix(self, bottom: Sequence[Blob]) -> np.ndarray:
        values = bottom[2].data if self.stored is None else self.stored
        return values.reshape(self.square)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        outer, _, inner = self.ncs
        label = bottom[1].data.reshape(-1)
        self.ops.softmax(bottom[0].data.reshape(self.ncs), self.prob)
        with self.naming_itself():
            self.ops.infogain_loss(self.prob, label, self.ignore, self._matrix(bottom), self.sums)
        self.ops.mean_loss(
            self.sums, divisor(self.normalization, outer, inner), self.z, top[0].data.reshape(1)
        )
        if len(top) > 1:
            self.ops.scale_copy(self.prob, 1.0, top[1].data.reshape(self.ncs))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        self.refuse_gradient(propagate_down, 1, "labels")
        self.refuse_gradient(propagate_down, 2, "values of the matrix")
        if propagate_down[0]:
            self.ops.loss_scale(top[0].diff.reshape(1), self.z, 1.0, self.scale)
            label, dx = bottom[1].data.reshape(-1), bottom[0].diff.reshape(self.ncs)
            self.ops.infogain_loss_backward(
                self.prob, label, self.ignore, self._matrix(bottom), self.scale, dx
            )
