"""Accuracy: how many items are classified right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer
from caffebn.layers.loss import label_places

__all__ = ["Accuracy"]


@layer("Accuracy", "accuracy_param")
class Accuracy(Layer):
    """Share of the items whose label is among the `top_k` highest scores.

    bottom 0: scores (N, C, S...), bottom 1: labels, one for each place outside `axis` (1), whole numbers
    from 0 to C - 1 -> top 0: the share (one value), and, if there is a top 1, the share of each class (C),
    0 for a class without items.  Both phases alike; no gradient.

    An item is right when fewer than `top_k` other classes have a score at least as high as that of the
    label: a tie counts against it.  Places whose label is `ignore_label` do not count; the accuracy of no
    places is 0.

    Raises
    ------
    NetError
        An axis that does not exist, the wrong number of labels, more `top_k` than classes.
    ArgumentError
        A label that is neither a class nor ignored.  Caffe reads outside its memory there.

    Notes
    -----
    Source: Caffe accuracy_layer.
    """

    n_bottoms = 2
    n_tops = (1, 2)
    has_backward = False
    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.ignore = self.param.ignore_label if self.param.has("ignore_label") else None
        self.sums = self.scratch((2,), np.float64)  # places that are right, places that count

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.ncs = _, classes, _ = label_places(self, bottom, self.param.axis)
        if not 1 <= self.param.top_k <= classes:
            raise self.error(
                f"top_k must be from 1 to {classes}, the number of classes of {self.shown(bottom, 0)}, "
                f"found {self.param.top_k}",
                "top_k",
            )
        top[0].reshape()
        self.hits: np.ndarray | None = None
        self.counts: np.ndarray | None = None
        if len(top) > 1:
            top[1].reshape(classes)
            self.hits = self.scratch((classes,), np.float64)
            self.counts = self.scratch((classes,), np.float64)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        x, label = bottom[0].data.reshape(self.ncs), bottom[1].data.reshape(-1)
        with self.naming_itself():
            self.ops.accuracy(x, label, self.ignore, self.param.top_k, self.sums, self.hits, self.counts)
        self.ops.shares(self.sums[:1], self.sums[1:], top[0].data.reshape(1))
        if self.hits is not None and self.counts is not None:
            self.ops.shares(self.hits, self.counts, top[1].data)
