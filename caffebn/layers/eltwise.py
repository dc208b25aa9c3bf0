"""Eltwise: sum, product or maximum of blobs of one shape."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import numpy as np

from caffebn.blob import Blob
from caffebn.errors import CaffebnWarning
from caffebn.layers.base import Layer, layer

__all__ = ["Eltwise"]


@layer("Eltwise", "eltwise_param")
class Eltwise(Layer):
    """Sum, product or maximum of blobs, element by element.

    two or more bottoms of one shape -> top 0 (same shape).  Not in place.  Both phases alike.

    ==========  =======================  ==========================================================
    operation   forward                  backward
    ==========  =======================  ==========================================================
    SUM         ``y = sum_i c_i x_i``    ``dx_i = c_i dy``; `coeff` gives the c_i, all 1 by default
    PROD        ``y = prod_i x_i``       ``dx_i = dy * prod_{j != i} x_j``, or with
                                         `stable_prod_grad` false ``dx_i = dy * y / x_i``
    MAX         ``y = max_i x_i``        ``dx_i = dy`` where bottom i gave the maximum, else 0
    ==========  =======================  ==========================================================

    When values are equal, the second of the first two bottoms counts as the maximum, and a later
    bottom only when it is larger: Caffe's rule, which a test pins.

    Raises
    ------
    NetError
        Bottoms of different shapes; `coeff` with PROD, or not one for each bottom.

    Notes
    -----
    Source: Caffe eltwise_layer.
    """

    n_bottoms = (2, None)
    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        if self.param.operation != "PROD":
            return ()
        return ("bottom",) if self.param.stable_prod_grad else ("bottom", "top")

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.operation = self.param.operation
        coeff = list(self.param.coeff)
        if coeff and self.operation == "PROD":
            raise self.error("coeff belongs to a sum: remove it, or write operation: SUM", "coeff")
        if coeff and self.operation == "MAX":
            warnings.warn(
                f'layer "{self.name}" (Eltwise): coeff has no effect with operation: MAX: remove it',
                CaffebnWarning,
                stacklevel=2,
            )
        if coeff and len(coeff) != len(bottom):
            raise self.error(
                f"expected one coeff for each of the {len(bottom)} bottoms, found {len(coeff)}", "coeff"
            )
        self.coeff = coeff or [1.0] * len(bottom)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.check_equal_shapes(bottom)
        top[0].reshape(*bottom[0].shape)
        if self.operation == "MAX":
            self.index = self.scratch(bottom[0].shape, np.int32)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        a, b, *others = [blob.data for blob in bottom]
        y = top[0].data
        if self.operation == "SUM":
            self.ops.weighted_sum(a, self.coeff[0], b, self.coeff[1], y)
            for x, c in zip(others, self.coeff[2:], strict=True):
                self.ops.axpy(x, c, y)
        elif self.operation == "PROD":
            self.ops.multiply(a, b, y)
            for x in others:
                self.ops.multiply(y, x, y)
        else:
            self.ops.maximum(a, b, 0, 1, y, self.index)
            for i, x in enumerate(others, start=2):
                self.ops.maximum_update(x, i, y, self.index)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        dy = top[0].diff
        for i, blob in enumerate(bottom):
            if not propagate_down[i]:
                continue
            dx = blob.diff
            if self.operation == "SUM":
                self.ops.scale_copy(dy, self.coeff[i], dx)
            elif self.operation == "MAX":
                self.ops.select_gradient(self.index, i, dy, dx)
            elif self.param.stable_prod_grad:
                factor = dy
                for j, other in enumerate(bottom):
                    if j != i:
                        self.ops.multiply(factor, other.data, dx)
                        factor = dx
            else:
                self.ops.product_gradient(top[0].data, blob.data, dy, dx)
