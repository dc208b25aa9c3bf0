"""Im2col: what a convolution's kernel sees, laid out as channels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer, times
from caffebn.layers.convolution import spatial_sizes

__all__ = ["Im2col"]


@layer("Im2col", "convolution_param")
class Im2col(Layer):
    """Lay out the patches that a kernel meets as channels.

    bottom 0 (N..., C, spatial...) -> top 0 (N..., C K, spatial'...), K the number of values of the kernel.
    `axis` (1) is the channel axis, and sizes are given and computed as by a Convolution: `kernel_size`,
    `stride`, `pad`, `dilation`.  Channel ``c K + k`` of the top holds at each place what position k of the
    kernel, in row order, sees of channel c; padding is 0.  Both phases alike.  The other fields of
    ConvolutionParameter have no effect.

    Backward: each value gets the sum of the gradients of all its copies.

    Raises
    ------
    NetError
        The kernel missing, sizes for the wrong number of axes, a kernel that does not fit.

    Notes
    -----
    Source: Caffe im2col_layer.
    """

    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        self.channel_axis = self.axis(self.param.axis, len(shape))
        self.n_axes = len(shape)
        spatial = self.n_axes - self.channel_axis - 1
        self.sizes = (
            spatial_sizes(self, "kernel_size", spatial),
            spatial_sizes(self, "stride", spatial, default=1),
            spatial_sizes(self, "pad", spatial, default=0),
            spatial_sizes(self, "dilation", spatial, default=1),
        )

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape, axis = bottom[0].shape, self.channel_axis
        if len(shape) != self.n_axes:
            raise self.error(f"was made for {self.n_axes} axes, found {self.shown(bottom, 0)}", "bottom")
        channels = shape[axis]
        self.geometry = g = self.ops.ConvGeometry(channels, shape[axis + 1 :], channels, *self.sizes)
        if min(g.out_spatial, default=1) < 1:
            raise self.error(
                f"the kernel spans {times(g.extent)} and does not fit into {self.shown(bottom, 0)} "
                f"with pad {times(g.pad)}",
                "kernel_size",
            )
        items, columns = prod(shape[:axis]), channels * g.kernel_count
        self.x_shape = (items, *shape[axis:])
        self.y_shape = (items, columns, *g.out_spatial)
        top[0].reshape(*shape[:axis], columns, *g.out_spatial)
        self.workspace.reserve(self.ops.conv_scratch_size(g, items))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        x, y = bottom[0].data.reshape(self.x_shape), top[0].data.reshape(self.y_shape)
        self.ops.im2col(x, y, self.geometry, self.workspace.flat)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            dy, dx = top[0].diff.reshape(self.y_shape), bottom[0].diff.reshape(self.x_shape)
            self.ops.col2im(dy, dx, self.geometry, self.workspace.flat)
