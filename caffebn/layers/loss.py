"""What all losses have in common: one value, a weight, a normaliser, labels without gradient."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import ClassVar

import numpy as np

from caffebn.blob import Blob
from caffebn.layers.base import Context, Layer, ncs
from caffebn.proto import Message

__all__ = ["LossLayer", "divisor", "items", "label_places", "normalization"]


class LossLayer(Layer):
    """Base of the losses: bottoms with one first axis -> top 0, one value.

    The top holds the loss itself; the loss weight (1 by default) is what the net puts into the top's
    diff, and the backward pass multiplies by it.  Bottoms from `n_differentiable` on are labels: asking
    for their gradient is an error.
    """

    n_bottoms: ClassVar[int | tuple[int, int | None]] = 2
    n_tops: ClassVar[int | tuple[int, int | None]] = 1
    default_loss_weight = 1.0
    repeatable = True
    n_differentiable: ClassVar[int] = 1

    def allow_force_backward(self, bottom: int) -> bool:
        return bottom < self.n_differentiable

    def __init__(self, spec: Message, context: Context):
        super().__init__(spec, context)
        self.z = self.scratch((1,), np.float64)  # what the loss was divided by
        self.scale = self.scratch((1,), np.float64)  # factor of the gradients

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        a, b = (blob.shape[:1] for blob in bottom[:2])
        if a != b or not a:
            raise self.error(
                "the bottoms must have the same first axis, "
                f"found {self.shown(bottom, 0)} and {self.shown(bottom, 1)}",
                "bottom",
                1,
            )
        top[0].reshape()

    def refuse_label_gradient(self, propagate_down: Sequence[bool]) -> None:
        """Raise when a gradient of a label is asked for."""
        for i in range(self.n_differentiable, len(propagate_down)):
            self.refuse_gradient(propagate_down, i, "labels")


def label_places(layer: Layer, bottom: Sequence[Blob], axis: int) -> tuple[int, int, int]:
    """Return the scores' shape, bottom 0, as (N, C, S) around the axis of the classes.

    Raises
    ------
    NetError
        The axis does not exist, or bottom 1 has not one label for each of the N * S places.
    """
    shape = bottom[0].shape
    n, c, s = ncs(shape, layer.axis(axis, len(shape)))
    if bottom[1].count != n * s:
        raise layer.error(
            f"expected {n * s} labels, one for each place outside axis {axis} of {layer.shown(bottom, 0)}, "
            f"found {bottom[1].count} in {layer.shown(bottom, 1)}",
            "bottom",
            1,
        )
    return n, c, s


def items(layer: Layer, bottom: Sequence[Blob]) -> tuple[int, int]:
    """Return the number of items of bottom 0 and the number of values of each, for one label an item.

    Raises
    ------
    NetError
        Bottom 1 has not one label for each item.
    """
    n = bottom[0].shape[0]
    if bottom[1].count != n:
        raise layer.error(
            f"expected one label for each of the {n} items of {layer.shown(bottom, 0)}, "
            f"found {layer.shown(bottom, 1)}",
            "bottom",
            1,
        )
    return n, prod(bottom[0].shape[1:])


def normalization(loss: Message, default: str) -> str:
    """Return the mode that a LossParameter states, or `default`.

    The old `normalize` counts only when `normalization` is absent: true is VALID, false is BATCH_SIZE.
    """
    if loss.has("normalization"):
        return loss.normalization
    if loss.has("normalize"):
        return "VALID" if loss.normalize else "BATCH_SIZE"
    return default


def divisor(mode: str, outer: int, inner: int) -> float | None:
    """Return what a loss is divided by, never less than 1; None when that is known only with the labels.

    Parameters
    ----------
    mode : str
        FULL: all places, ``outer * inner``; VALID: the places not ignored, None; BATCH_SIZE: `outer`; NONE: 1.
    outer, inner : int
        Sizes before and behind the axis of the classes.
    """
    if mode == "VALID":
        return None
    return max(1.0, {"FULL": outer * inner, "BATCH_SIZE": outer, "NONE": 1}[mode])
