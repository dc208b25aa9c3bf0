"""Filter: some items of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

import numpy as np

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer

__all__ = ["Filter"]


@layer("Filter")
class Filter(Layer):
    """Let the items pass whose selector is not 0.

    bottoms (N, ...), the last the selector (N, 1...) -> one top for each other bottom, (M, ...), M being
    the number of items that pass.  The tops have N items when the net is made, and change their shape from
    pass to pass.  Both phases alike.

    Backward: items that passed get their gradient, the others 0.  The selector has no gradient.

    Raises
    ------
    NetError
        Not one top fewer than bottoms, bottoms with different first axes, a selector with more than one
        value for each item; in the backward pass, when the selector asks for a gradient.

    Notes
    -----
    Source: Caffe filter_layer.
    """

    n_bottoms = (2, None)
    n_tops = (1, None)
    reshapes_each_pass = True
    needs_host = True

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def allow_force_backward(self, bottom: int) -> bool:
        return bottom < len(self.spec.bottom) - 1

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if len(top) != len(bottom) - 1:
            raise self.error(
                f"needs one top for each bottom but the last, the selector, found {len(bottom)} bottoms and "
                f"{len(top)} tops",
                "top",
            )
        self.index: np.ndarray | None = None

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        last = len(bottom) - 1
        selector = bottom[last]
        if not selector.shape or selector.count != selector.shape[0]:
            raise self.error(
                f"the selector must hold one value for each item, found {self.shown(bottom, last)}",
                "bottom",
                last,
            )
        for i, blob in enumerate(bottom[:last]):
            if blob.shape[:1] != selector.shape[:1]:
                raise self.error(
                    "the bottoms must have the same first axis, "
                    f"found {self.shown(bottom, i)} and {self.shown(bottom, last)}",
                    "bottom",
                    i,
                )
        first = self.index is None
        passing = np.ones(selector.count, bool) if first else selector.on("cpu").data.reshape(-1) != 0
        rows = np.flatnonzero(passing)
        self.index = self.scratch(rows.shape, np.int32)
        self.put(rows, self.index)
        for below, above in zip(bottom, top, strict=False):
            above.reshape(len(self.index), *below.shape[1:])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        for below, above in zip(bottom, top, strict=False):
            self.ops.gather_rows(_rows(below.data), self.index, _rows(above.data))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        self.refuse_gradient(propagate_down, len(bottom) - 1, "selectors")
        for below, above, wanted in zip(bottom, top, propagate_down, strict=False):
            if wanted:
                dx = _rows(below.diff)
                self.ops.fill(dx, 0.0)
                self.ops.scatter_add_rows(_rows(above.diff), self.index, dx)


def _rows(array: np.ndarray) -> np.ndarray:
    return array.reshape(len(array), prod(array.shape[1:]))
