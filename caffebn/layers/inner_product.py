"""InnerProduct: a fully connected layer."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer

__all__ = ["InnerProduct"]


@layer("InnerProduct", "inner_product_param")
class InnerProduct(Layer):
    """Fully connected layer: ``y = x W^T + b`` on bottom 0 seen as a matrix.

    bottom 0 (M..., K...), split before `axis` (1) -> top 0 (M..., num_output).  K is the product of the
    axes from `axis` on.  Both phases alike.

    Blobs: 0: weights W (num_output, K), or (K, num_output) with `transpose`, filled by `weight_filler`;
    1: bias b (num_output) unless `bias_term` is false, filled by `bias_filler`.  Both start at 0 when no
    filler is given.

    Backward: ``dW += dy^T x`` (or its transpose), ``db += sum over M of dy``, ``dx = dy W``.

    Raises
    ------
    NetError
        `num_output` missing or 0, an axis that does not exist, another K than at first.

    Notes
    -----
    Source: Caffe inner_product_layer.
    """

    repeatable = True

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        self.num_output = self.param.num_output
        if self.num_output == 0:
            raise self.error("num_output must be given and positive", "num_output")
        self.split_axis = self.axis(self.param.axis, len(shape))
        self.k = prod(shape[self.split_axis :])
        weights = (self.k, self.num_output) if self.param.transpose else (self.num_output, self.k)
        self.add_blob(weights, self.filler("weight_filler"))
        if self.param.bias_term:
            self.add_blob((self.num_output,), self.filler("bias_filler"))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        if prod(shape[self.split_axis :]) != self.k:
            raise self.error(
                f"has weights for {self.k} inputs (all axes from axis {self.split_axis} on), "
                f"found {self.shown(bottom, 0)}",
                "bottom",
            )
        self.m = prod(shape[: self.split_axis])
        top[0].reshape(*shape[: self.split_axis], self.num_output)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        bias = self.parameters[1].data if self.param.bias_term else None
        self.forward_joined(bottom[0], top[0], None, bias, None)

    def forward_joined(
        self,
        bottom: Blob,
        top: Blob,
        scale: np.ndarray | None,
        bias: np.ndarray | None,
        slope: float | None,
    ) -> None:
        """Run with what follows: ``y = act(scale * (x W') + bias)``; see ``ops.gemm``."""
        x, y = bottom.data.reshape(self.m, self.k), top.data.reshape(self.m, self.num_output)
        trans_b = not self.param.transpose
        self.ops.gemm(x, self.parameters[0].data, y, False, trans_b, False, bias, scale, slope)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        dy = top[0].diff.reshape(self.m, self.num_output)
        if self.param_propagate_down[0]:
            x, dw = bottom[0].data.reshape(self.m, self.k), self.parameters[0].diff
            a, b = (x, dy) if self.param.transpose else (dy, x)
            self.ops.gemm(a, b, dw, trans_a=True, accumulate=True)
        if self.param.bias_term and self.param_propagate_down[1]:
            self.ops.channel_sum(dy[:, :, None], self.parameters[1].diff, accumulate=True)
        if propagate_down[0]:
            dx = bottom[0].diff.reshape(self.m, self.k)
            self.ops.gemm(dy, self.parameters[0].data, dx, trans_b=self.param.transpose)

    def macs(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> int:
        return self.m * self.k * self.num_output
