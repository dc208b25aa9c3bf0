"""Convolution over any number of spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer, times
from caffebn.ops.geometry import ConvGeometry

__all__ = ["Convolution", "Convolving", "spatial_sizes"]


class Convolving(Layer):
    """Base of Convolution and Deconvolution, which differ in what is image and what is output of the convolution."""

    n_bottoms = (1, None)
    n_tops = (1, None)
    equal_tops = True
    repeatable = True

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p, shape = self.param, bottom[0].shape
        self.channel_axis = self.axis(p.axis, len(shape))
        self.n_axes = len(shape)
        self.channels = shape[self.channel_axis]
        spatial = self.n_axes - self.channel_axis - 1
        self.kernel = spatial_sizes(self, "kernel_size", spatial)
        self.stride = spatial_sizes(self, "stride", spatial, default=1)
        self.pad = spatial_sizes(self, "pad", spatial, default=0)
        self.dilation = spatial_sizes(self, "dilation", spatial, default=1)
        if p.num_output == 0:
            raise self.error("num_output must be given and positive", "num_output")
        if p.group == 0:
            raise self.error("group must be positive", "group")
        if self.channels % p.group or p.num_output % p.group:
            raise self.error(
                f"num_output and the channels must be multiples of group {p.group}, "
                f"found num_output {p.num_output} and {self.channels} channels in {self.shown(bottom, 0)}",
                "group",
            )
        self.add_blob(self.weight_shape(), self.filler("weight_filler"))
        if p.bias_term:
            self.add_blob((p.num_output,), self.filler("bias_filler"))

    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weights."""
        raise NotImplementedError

    def place(self, bottom: Sequence[Blob], spatial: tuple[int, ...]) -> tuple[ConvGeometry, tuple[int, ...]]:
        """Work out the geometry for the bottoms' spatial sizes; return it, and the tops' spatial sizes."""
        raise NotImplementedError

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape, axis = bottom[0].shape, self.channel_axis
        self.check_equal_shapes(bottom)
        if len(shape) != self.n_axes or shape[axis] != self.channels:
            raise self.error(
                f"has weights for {self.n_axes} axes with {self.channels} channels (axis {axis}), "
                f"found {self.shown(bottom, 0)}",
                "bottom",
            )
        self.geometry, sizes = self.place(bottom, shape[axis + 1 :])
        outputs = self.param.num_output
        self.items = prod(shape[:axis])
        self.x_shape = (self.items, *shape[axis:])
        self.y_shape = (self.items, outputs, *sizes)
        self.y_ncs = (self.items, outputs, prod(sizes))
        for blob in top:
            blob.reshape(*shape[:axis], outputs, *sizes)
        self.workspace.reserve(self.ops.conv_scratch_size(self.geometry, self.items))

    def macs(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> int:
        return len(bottom) * self.items * self.geometry.macs


@layer("Convolution", "convolution_param")
class Convolution(Convolving):
    """Cross-correlate with learned filters: the kernel is not flipped.

    bottoms of one shape (N..., C, spatial...) -> as many tops (N..., num_output, spatial'...).  `axis` (1)
    is the channel axis; all axes before it are independent items, all behind it, any number, are spatial.
    Along each spatial axis ``size' = floor((size + 2 pad - (dilation (kernel - 1) + 1)) / stride) + 1``.
    Both phases alike.

    `kernel_size`, `stride` (1), `pad` (0) and `dilation` (1) are given once for all spatial axes or once for
    each; for two axes also as `kernel_h` and `kernel_w`, `stride_h` and `stride_w`, `pad_h` and `pad_w`.
    With `group` g, output channels of the i-th of g equal parts see only input channels of the i-th part.
    The fields ``engine`` and ``force_nd_im2col`` chose between Caffe's implementations and have no effect.

    Blobs: 0: weights W (num_output, C/group, kernel...), filled by `weight_filler`; 1: bias b (num_output)
    unless `bias_term` is false, filled by `bias_filler`.  Both start at 0 when no filler is given.

    Forward ``y = W * x + b``, padded with zeros.  Backward: dW adds the correlation of x with dy, db the sum
    of dy over items and space, and dx is the correlation of dy with the transposed filters; the weights'
    gradients of several bottoms add up.

    Raises
    ------
    NetError
        `num_output` or the kernel missing, channels or `num_output` not a multiple of `group`, sizes for
        the wrong number of axes, a kernel that does not fit, bottoms of different shapes.

    Notes
    -----
    Sources: Caffe base_conv_layer, conv_layer.
    """

    def weight_shape(self) -> tuple[int, ...]:
        return (self.param.num_output, self.channels // self.param.group, *self.kernel)

    def place(self, bottom: Sequence[Blob], spatial: tuple[int, ...]) -> tuple[ConvGeometry, tuple[int, ...]]:
        sizes = (self.kernel, self.stride, self.pad, self.dilation)
        outputs, group = self.param.num_output, self.param.group
        g = self.ops.ConvGeometry(self.channels, spatial, outputs, *sizes, group, winograd=self.winograd)
        if min(g.out_spatial, default=1) < 1:
            raise self.error(
                f"the kernel spans {times(g.extent)} and does not fit into {self.shown(bottom, 0)} "
                f"with pad {times(g.pad)}",
                "kernel_size",
            )
        return g, g.out_spatial

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        bias = self.parameters[1].data if self.param.bias_term else None
        for below, above in zip(bottom, top, strict=True):
            self.forward_joined(below, above, None, bias, None, None)

    def forward_joined(
        self,
        bottom: Blob,
        top: Blob,
        scale: np.ndarray | None,
        bias: np.ndarray | None,
        residual: np.ndarray | None,
        slope: float | None,
    ) -> None:
        """Run with what follows: ``y = act(scale * (W * x) + bias + residual)``; see ``ops.conv_forward``."""
        x, y = bottom.data.reshape(self.x_shape), top.data.reshape(self.y_shape)
        if residual is not None:
            residual = residual.reshape(self.y_shape)
        self.ops.conv_forward(
            x, self.parameters[0].data, bias, y, self.geometry, self.workspace.flat, scale, residual, slope
        )

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        weights, scratch = self.parameters[0], self.workspace.flat
        for below, above, wanted in zip(bottom, top, propagate_down, strict=True):
            dy = above.diff.reshape(self.y_shape)
            if self.param.bias_term and self.param_propagate_down[1]:
                self.ops.channel_sum(dy.reshape(self.y_ncs), self.parameters[1].diff, accumulate=True)
            if self.param_propagate_down[0]:
                x = below.data.reshape(self.x_shape)
                self.ops.conv_backward_weight(x, dy, weights.diff, self.geometry, scratch)
            if wanted:
                dx = below.diff.reshape(self.x_shape)
                self.ops.conv_backward_data(dy, weights.data, dx, self.geometry, scratch)


def spatial_sizes(layer: Layer, field: str, n_axes: int, default: int | None = None) -> tuple[int, ...]:
    """Read `kernel_size`, `stride`, `pad` or `dilation` of a ConvolutionParameter, one for each spatial axis.

    Parameters
    ----------
    layer : Layer
        The layer, whose parameters are read and who is named in errors.
    field : str
        Name of the repeated field; all but `dilation` have a second form, ``..._h`` and ``..._w``.
    n_axes : int
        Number of spatial axes.
    default : int, optional
        Used when the text says nothing; None when it must say something.

    Raises
    ------
    NetError
        The field is missing or stands there the wrong number of times, both forms are used, the pair is
        used for other than 2 axes, half a pair (except `pad`, where the other half is 0), a size of 0.
    """
    param = layer.param
    values = list(getattr(param, field))
    pair = [] if field == "dilation" else [field.removesuffix("_size") + end for end in ("_h", "_w")]
    given = [name for name in pair if param.has(name)]
    if given:
        if n_axes != 2:
            raise layer.error(f"{given[0]} is for 2 spatial axes, found {n_axes}: use {field}", given[0])
        if values:
            raise layer.error(f"give either {field} or {pair[0]} and {pair[1]}, not both", field)
        if len(given) < 2 and field != "pad":
            raise layer.error(f"{pair[0]} and {pair[1]} must be given together", given[0])
        values = [getattr(param, name) for name in pair]
    elif not values and default is not None:
        values = [default]
    if len(values) not in (1, n_axes):
        raise layer.error(
            f"{field} must be given once or {n_axes} times, for each spatial axis, found {len(values)} times",
            field,
        )
    if field != "pad" and 0 in values:
        raise layer.error(f"{field} must be positive", given[0] if given else field)
    return tuple(values) if len(values) == n_axes else (values[0],) * n_axes
