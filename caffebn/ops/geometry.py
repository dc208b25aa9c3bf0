"""The geometry of a convolution, worked out once per shape and shared by all back ends."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import prod

import numpy as np

__all__ = ["ConvGeometry"]


class ConvGeometry:
    """Sizes of a convolution and the tables of offsets by which its elements are found.

    A convolution maps an image of `channels` to `num_output` planes of places.  With the image lying in a
    frame of zeros as wide as the padding (its sizes are `framed`), the value at channel and kernel
    position k of a group that counts for an output place p is
    ``frame[k_table[k] + place_table[p]]``, offsets counted from the group's first channel.

    Parameters
    ----------
    channels : int
        Channels of the image (a Deconvolution's output).
    spatial : sequence of int
        Sizes of the image's spatial axes, any number of them.
    num_output : int
        Channels on the other side.
    kernel, stride, pad, dilation : sequence of int
        One value for each spatial axis.
    group : int
        Number of groups; divides `channels` and `num_output`.
    """

    def __init__(
        self,
        channels: int,
        spatial: Sequence[int],
        num_output: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        pad: Sequence[int],
        dilation: Sequence[int],
        group: int = 1,
    ):
        self.channels = channels
        self.spatial = tuple(spatial)
        self.num_output = num_output
        self.kernel = tuple(kernel)
        self.stride = tuple(stride)
        self.pad = tuple(pad)
        self.dilation = tuple(dilation)
        self.group = group
        self.extent = tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))
        self.framed = tuple(n + 2 * p for n, p in zip(self.spatial, self.pad, strict=True))
        self.out_spatial = tuple(
            (n - e) // s + 1 for n, e, s in zip(self.framed, self.extent, self.stride, strict=True)
        )
        self.places = prod(self.out_spatial)
        self.kernel_count = prod(self.kernel)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weights: (num_output, channels / group, *kernel)."""
        return (self.num_output, self.channels // self.group, *self.kernel)

    @property
    def is_padded(self) -> bool:
        """Whether there is any padding."""
        return any(self.pad)

    @property
    def is_pointwise(self) -> bool:
        """Whether each output place sees just the image place of the same index."""
        return not self.is_padded and all(
            k == 1 and s == 1 for k, s in zip(self.kernel, self.stride, strict=True)
        )

    @property
    def is_depthwise(self) -> bool:
        """Whether each group has one channel and at most two outputs."""
        return self.channels == self.group > 1 and self.num_output <= 2 * self.group

    @property
    def frame_size(self) -> int:
        """Number of values of one image in its frame, all channels."""
        return self.channels * prod(self.framed)

    @cached_property
    def k_table(self) -> np.ndarray:
        """Offset of each (channel of a group, kernel position), int64."""
        channel = np.arange(self.channels // self.group, dtype=np.int64) * prod(self.framed)
        return np.add.outer(channel, _offsets(self.kernel, self.dilation, self.framed)).reshape(-1)

    @cached_property
    def place_table(self) -> np.ndarray:
        """Offset of each output place, int64."""
        return _offsets(self.out_spatial, self.stride, self.framed).reshape(-1)

    @cached_property
    def output_table(self) -> np.ndarray:
        """Offset of the first place of each output of a group, int64."""
        return np.arange(self.num_output // self.group, dtype=np.int64) * self.places

    @property
    def rows(self) -> tuple[int, int]:
        """Output places as a number of rows and their width."""
        return prod(self.out_spatial[:-1]), self.out_spatial[-1] if self.out_spatial else 1

    @property
    def image_rows(self) -> tuple[int, int]:
        """One channel of an image as a number of rows and their width."""
        return prod(self.spatial[:-1]), self.spatial[-1] if self.spatial else 1

    @cached_property
    def row_table(self) -> np.ndarray:
        """Offset of each row of output places (a row runs along the last axis), int64."""
        return np.ascontiguousarray(self.place_table[:: max(self.rows[1], 1)])

    @cached_property
    def image_row_table(self) -> np.ndarray:
        """Offset in the frame of each row of the image, int64."""
        if not self.spatial:
            return np.zeros(1, np.int64)
        corner = int(np.dot(self.pad, _strides(self.framed)))
        rows = _offsets((*self.spatial[:-1], 1), (1,) * len(self.spatial), self.framed)
        return (corner + rows).reshape(-1)

    @property
    def macs(self) -> int:
        """Multiply-adds for one image."""
        return self.places * self.num_output * (self.channels // self.group) * self.kernel_count


def _strides(shape: Sequence[int]) -> np.ndarray:
    return np.array([prod(shape[i + 1 :]) for i in range(len(shape))], np.int64)


def _offsets(counts: Sequence[int], steps: Sequence[int], frame: Sequence[int]) -> np.ndarray:
    """Offset in `frame` of every index of `counts`, an index step being `steps` long."""
    total = np.zeros((), np.int64)
    for count, step, stride in zip(counts, steps, _strides(frame), strict=True):
        total = np.add.outer(total, np.arange(count, dtype=np.int64) * (step * stride))
    return total
