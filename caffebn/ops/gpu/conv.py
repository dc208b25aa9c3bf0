"""Convolution; see ops/reference/conv.py for what is computed.

With cuDNN (`caffebn.ops.gpu.cudnn_conv`), its plans.  Without, products of cuBLAS with columns of patches: of as
many images as the scratch memory holds, or of some channels of one image where that is large.  Groups of one
channel have kernels of their own, and 1x1 kernels need no columns.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from caffebn.ops.geometry import ConvGeometry
from caffebn.ops.gpu import cublas, cudnn_conv, device
from caffebn.ops.gpu.checks import check, check_tensor
from caffebn.ops.gpu.elementwise import axpy
from caffebn.ops.gpu.gemm import epilogue
from caffebn.ops.gpu.im2col import columns, images, places, table

__all__ = ["conv_backward_data", "conv_backward_weight", "conv_forward", "conv_scratch_size"]

_kernel = device.Kernels("conv")

# Elements of scratch that columns of patches get at most, unless those of a single channel are more
LIMIT = 1 << 24


def conv_scratch_size(geometry: ConvGeometry, batch: int) -> int:
    """Return the elements of scratch needed: columns of patches of a part of the batch, if there are any."""
    g = geometry
    if g.is_pointwise or g.is_depthwise:
        return 0
    channel = g.kernel_count * g.places
    return max(channel, min(LIMIT, batch * g.channels * channel))


def conv_forward(
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray | None,
    y: np.ndarray,
    geometry: ConvGeometry,
    scratch: np.ndarray,
    scale: np.ndarray | None = None,
    residual: np.ndarray | None = None,
    slope: float | None = None,
) -> None:
    """Cross-correlate images with weights; see the reference op."""
    g = geometry
    _check("conv_forward", g, x=x, w=w, y=y, scratch=scratch)
    for name, vector in (("bias", bias), ("scale", scale)):
        if vector is not None:
            check("conv_forward", vector, name, (g.num_output,), x.dtype)
    if residual is not None:
        check("conv_forward", residual, "residual", y.shape, x.dtype)
    if y.size == 0:
        return
    if w.size == 0:
        y.fill(0)
    elif plan := cudnn_conv.plan("forward", g, len(x), x.dtype):
        plan(x, w, y)
    elif g.is_depthwise:
        axes, n = table(g)
        device.launch_each(
            _kernel("depthwise_forward", y.itemsize, n), y.size, x, w, y, axes, y.size,
            g.num_output, g.num_output // g.group, g.kernel_count, g.places, places(g),
        )  # fmt: skip
    else:
        for part in _parts(x, g, scratch):
            part.fill()
            part.multiply(w, y)
    epilogue(y, g.num_output, g.places, scale, bias, residual, slope)


def conv_backward_data(
    dy: np.ndarray, w: np.ndarray, dx: np.ndarray, geometry: ConvGeometry, scratch: np.ndarray
) -> None:
    """Compute the gradient with respect to the images; see the reference op."""
    g = geometry
    _check("conv_backward_data", g, dy=dy, w=w, dx=dx, scratch=scratch)
    if dx.size == 0:
        return
    if dy.size == 0:
        dx.fill(0)
    elif plan := cudnn_conv.plan("backward_data", g, len(dx), dx.dtype):
        plan(dx, w, dy)
    elif g.is_depthwise:
        axes, n = table(g)
        device.launch_each(
            _kernel("depthwise_backward_data", dx.itemsize, n), dx.size, dy, w, dx, axes, dx.size,
            g.num_output, g.num_output // g.group, g.kernel_count, g.places, places(g),
        )  # fmt: skip
    else:
        for part in _parts(dx, g, scratch):
            part.multiply_back(w, dy)
            part.drain()


def conv_backward_weight(
    x: np.ndarray, dy: np.ndarray, dw: np.ndarray, geometry: ConvGeometry, scratch: np.ndarray
) -> None:
    """Add the gradient with respect to the weights; see the reference op."""
    g = geometry
    _check("conv_backward_weight", g, x=x, dy=dy, dw=dw, scratch=scratch)
    if dw.size == 0 or dy.size == 0:
        return
    if plan := cudnn_conv.plan("backward_weight", g, len(x), x.dtype):
        # cuDNN overwrites
        made = device.scratch(-(-dw.nbytes // 8), "dw").view(dw.dtype)[: dw.size].reshape(dw.shape)
        plan(x, made, dy)
        axpy(made, 1.0, dw)
    elif g.is_depthwise:
        axes, n = table(g)
        device.launch(
            _kernel("depthwise_backward_weight", dw.itemsize, n), dw.size, x, dy, dw, axes,
            len(x), g.num_output, g.num_output // g.group, g.kernel_count, g.places, places(g),
        )  # fmt: skip
    else:
        for part in _parts(x, g, scratch):
            part.fill()
            part.multiply_weight(dy, dw)


class _Part:
    """Columns of patches of some images, or of some channels of one group of one image.

    Parameters
    ----------
    x : device array
        The planes of images that the columns belong to.
    g : ConvGeometry
    scratch : device array
        Room for the columns; not used where the kernel is 1x1.
    image, n_images : int
    channel, n_channels : int
        All channels, or a run of one group's.
    """

    def __init__(
        self,
        x: device.Array,
        g: ConvGeometry,
        scratch: device.Array,
        image: int,
        n_images: int,
        channel: int,
        n_channels: int,
    ):
        self.g, self.image, self.n_images, self.channel = g, image, n_images, channel
        size = places(g)
        planes = x.reshape(-1)
        begin = (image * g.channels + channel) * size
        self.planes = planes[begin : begin + n_images * n_channels * size]
        self.columns = (
            self.planes if g.is_pointwise else scratch[: n_images * n_channels * g.kernel_count * g.places]
        )
        self.whole = n_channels == g.channels
        # channels of a group that are here, and the groups they belong to
        per_group = g.channels // g.group
        self.rows = (per_group if self.whole else n_channels) * g.kernel_count
        self.groups = range(g.group) if self.whole else range(channel // per_group, channel // per_group + 1)
        self.first_row = 0 if self.whole else channel % per_group * g.kernel_count

    def fill(self) -> None:
        """Copy the images into the columns."""
        if not self.g.is_pointwise:
            columns(self.planes, self.columns, self.g)

    def drain(self) -> None:
        """Add up the columns into the images."""
        if not self.g.is_pointwise:
            images(self.columns, self.planes, self.g)

    def multiply(self, w: device.Array, y: device.Array) -> None:
        """Compute y = w columns, added to what other channels gave."""
        for outputs, weights, patches, batch, strides in self._products(w, y):
            cublas.multiply(
                y.dtype, self.g.num_output // self.g.group, self.g.places, self.rows,
                (weights, self._row, False), (patches, self.g.places, False), (outputs, self.g.places),
                self.first_row > 0, batch, (strides["w"], strides["columns"], strides["y"]),
            )  # fmt: skip

    def multiply_back(self, w: device.Array, dy: device.Array) -> None:
        """Compute columns = w^T dy."""
        for outputs, weights, patches, batch, strides in self._products(w, dy):
            cublas.multiply(
                dy.dtype, self.rows, self.g.places, self.g.num_output // self.g.group,
                (weights, self._row, True), (outputs, self.g.places, False), (patches, self.g.places),
                False, batch, (strides["w"], strides["y"], strides["columns"]),
            )  # fmt: skip

    def multiply_weight(self, dy: device.Array, dw: device.Array) -> None:
        """Add dy columns^T to dw, image after image."""
        for outputs, weights, patches, batch, strides in self._products(dw, dy, by_image=True):
            cublas.multiply(
                dw.dtype, self.g.num_output // self.g.group, self.rows, self.g.places,
                (outputs, self.g.places, False), (patches, self.g.places, True), (weights, self._row),
                True, batch, (strides["y"], strides["columns"], strides["w"]),
            )  # fmt: skip

    @property
    def _row(self) -> int:
        """Elements of a row of the weights."""
        return self.g.channels // self.g.group * self.g.kernel_count

    def _products(
        self, w: device.Array, y: device.Array, by_image: bool = False
    ) -> Iterator[tuple[int, int, int, int, dict[str, int]]]:
        """Yield addresses of y, weights and columns, and the batch that they begin: of images, or of groups."""
        g, size = self.g, w.itemsize
        steps_of_image = {
            "y": g.num_output * g.places,
            "w": 0,
            "columns": self.rows * g.places * len(self.groups),
        }
        steps_of_group = {
            "y": g.num_output // g.group * g.places,
            "w": g.num_output // g.group * self._row,
            "columns": self.rows * g.places,
        }
        over_groups = by_image or len(self.groups) > self.n_images
        outer = range(self.n_images) if over_groups else range(len(self.groups))
        steps, batch = (steps_of_group, len(self.groups)) if over_groups else (steps_of_image, self.n_images)
        for i in outer:
            image, group = (i, 0) if over_groups else (0, i)
            yield (
                device.address(y)
                + size
                * (
                    (self.image + image) * steps_of_image["y"]
                    + (self.groups[0] + group) * steps_of_group["y"]
                ),
                device.address(w) + size * ((self.groups[0] + group) * steps_of_group["w"] + self.first_row),
                device.address(self.columns)
                + size * (image * steps_of_image["columns"] + group * steps_of_group["columns"]),
                batch,
                steps,
            )


def _parts(x: device.Array, g: ConvGeometry, scratch: device.Array) -> Iterator[_Part]:
    """Cut the batch into parts whose columns the scratch holds."""
    channel = g.kernel_count * g.places
    n_images = (
        len(x) if g.is_pointwise else min(len(x), conv_scratch_size(g, len(x)) // (g.channels * channel))
    )
    if n_images:
        for image in range(0, len(x), n_images):
            yield _Part(x, g, scratch, image, min(n_images, len(x) - image), 0, g.channels)
        return
    per_group = g.channels // g.group
    most = conv_scratch_size(g, len(x)) // channel
    for image in range(len(x)):
        for first in range(0, g.channels, per_group):
            for begin in range(0, per_group, most):
                yield _Part(x, g, scratch, image, 1, first + begin, min(most, per_group - begin))


def _check(op: str, g: ConvGeometry, *, scratch: np.ndarray, **arrays: np.ndarray) -> None:
    """Check every array of a call against the geometry; the first one sets batch and dtype."""
    name, first = next(iter(arrays.items()))
    check_tensor(op, first, name, 2 + len(g.spatial))
    batch, dtype = first.shape[0], first.dtype
    of_images, of_outputs = (batch, g.channels, *g.spatial), (batch, g.num_output, *g.out_spatial)
    expected = {
        "x": of_images,
        "dx": of_images,
        "y": of_outputs,
        "dy": of_outputs,
        "w": g.weight_shape,
        "dw": g.weight_shape,
    }
    for name, array in arrays.items():
        check(op, array, name, expected[name], dtype)
    check(op, scratch, "scratch", None, dtype, at_least=conv_scratch_size(g, batch))
