"""Deconvolution: the gradient of a convolution, as a layer."""

from __future__ import annotations

from collections.abc import Sequence

from caffebn.blob import Blob
from caffebn.layers.base import layer, times
from caffebn.layers.convolution import Convolving
from caffebn.ops.geometry import ConvGeometry

__all__ = ["Deconvolution"]


@layer("Deconvolution", "convolution_param")
class Deconvolution(Convolving):
    """Spread each value over a kernel of learned weights: what a convolution does to gradients.

    bottoms of one shape (N..., C, spatial...) -> as many tops (N..., num_output, spatial'...).  Along each
    spatial axis ``size' = stride (size - 1) + dilation (kernel - 1) + 1 - 2 pad``.  Both phases alike.

    `axis`, `kernel_size`, `stride`, `pad`, `dilation` and `group` are given as for a Convolution; `stride`
    larger than 1 makes the top larger than the bottom, and ``weight_filler { type: "bilinear" }`` with
    `group` C interpolates.

    Blobs: 0: weights W (C, num_output/group, kernel...), filled by `weight_filler`; 1: bias b (num_output)
    unless `bias_term` is false, filled by `bias_filler`.  Both start at 0 when no filler is given.

    Forward is the gradient, by its data, of the convolution from the top's shape to the bottom's; backward
    is that convolution.

    Raises
    ------
    NetError
        As a Convolution; sizes that leave nothing of the top.

    Notes
    -----
    Source: Caffe deconv_layer.
    """

    def weight_shape(self) -> tuple[int, ...]:
        return (self.channels, self.param.num_output // self.param.group, *self.kernel)

    def place(self, bottom: Sequence[Blob], spatial: tuple[int, ...]) -> tuple[ConvGeometry, tuple[int, ...]]:
        sizes = tuple(
            s * (n - 1) + d * (k - 1) + 1 - 2 * p
            for n, k, s, p, d in zip(spatial, self.kernel, self.stride, self.pad, self.dilation, strict=True)
        )
        if min(sizes, default=1) < 1:
            raise self.error(
                f"pad {times(self.pad)} leaves nothing of the top: {self.shown(bottom, 0)} would become "
                f"{times(sizes)}",
                "pad",
            )
        outputs, given = self.param.num_output, (self.kernel, self.stride, self.pad, self.dilation)
        group = self.param.group
        g = self.ops.ConvGeometry(outputs, sizes, self.channels, *given, group, winograd=self.winograd)
        return g, sizes

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        weights, scratch = self.parameters[0].data, self.workspace.flat
        for below, above in zip(bottom, top, strict=True):
            x, y = below.data.reshape(self.x_shape), above.data.reshape(self.y_shape)
            self.ops.conv_backward_data(x, weights, y, self.geometry, scratch)
            if self.param.bias_term:
                y = y.reshape(self.y_ncs)
                self.ops.affine(y, None, self.parameters[1].data, y)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        weights, scratch = self.parameters[0], self.workspace.flat
        for below, above, wanted in zip(bottom, top, propagate_down, strict=True):
            dy = above.diff.reshape(self.y_shape)
            if self.param.bias_term and self.param_propagate_down[1]:
                self.ops.channel_sum(dy.reshape(self.y_ncs), self.parameters[1].diff, accumulate=True)
            if self.param_propagate_down[0]:
                x = below.data.reshape(self.x_shape)
                self.ops.conv_backward_weight(dy, x, weights.diff, self.geometry, scratch)
            if wanted:
                dx = below.diff.reshape(self.x_shape)
                self.ops.conv_forward(dy, weights.data, None, dx, self.geometry, scratch)
