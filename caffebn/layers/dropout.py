"""Dropout: leave out values at random while training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from caffebn.blob import Blob
from caffebn.layers.base import layer
from caffebn.layers.neuron import Neuron

__all__ = ["Dropout"]


@layer("Dropout", "dropout_param")
class Dropout(Neuron):
    """Set each value to 0 with probability `dropout_ratio` while training.

    bottom 0 (any shape) -> top 0 (same shape), in place or not.

    TRAIN: ``y = x * mask / (1 - dropout_ratio)`` with a new mask of 0 and 1 at each forward pass, so
    that the expected value stays; backward ``dx = dy * mask / (1 - dropout_ratio)``, same mask.
    TEST: ``y = x``, ``dx = dy``.

    Raises
    ------
    NetError
        `dropout_ratio` (default 0.5) outside [0, 1).

    Notes
    -----
    Sources: Caffe dropout_layer (the scaling is done in training, none in testing); Srivastava et al. 2014.
    """

    @property
    def reads(self) -> Iterable[str]:
        return ()

    @property
    def repeatable(self) -> bool:  # type: ignore[override]
        return self.phase == "TEST"

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.ratio = self.param.dropout_ratio
        if not 0 <= self.ratio < 1:
            raise self.error(
                f"dropout_ratio is the probability of dropping a value: expected at least 0 and less than 1, "
                f"found {self.ratio:g}",
                "dropout_ratio",
            )

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        if self.phase == "TRAIN":
            self.mask = self.scratch(bottom[0].shape, np.uint8)
            self.keep = self.ops.KeepMask(self.rng, self.dtype, self.mask)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if self.phase == "TEST":
            self.copy_data(bottom[0], top[0])
            return
        self.keep.draw(self.ratio)
        self.ops.dropout(bottom[0].data, self.mask, 1 / (1 - self.ratio), top[0].data)

    def before_launch(self) -> None:
        if self.phase == "TRAIN":
            self.keep.follow()

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        if self.phase == "TEST":
            self.copy_diff(top[0], bottom[0])
        else:
            self.ops.dropout(top[0].diff, self.mask, 1 / (1 - self.ratio), bottom[0].diff)
