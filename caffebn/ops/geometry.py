"""The geometry of a convolution, worked out once per shape and shared by all back ends."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np

from caffebn.errors import ArgumentError, did_you_mean

__all__ = ["ALGORITHMS", "DIRECTIONS", "ConvGeometry"]

#: How a convolution can be computed: as it seems best, as a product of matrices, by Winograd's algorithm with tiles of
#: 2 x 2 or 4 x 4 results, plane by plane.
ALGORITHMS = ("auto", "gemm", "winograd2", "winograd4", "depthwise")

#: What a convolution computes: outputs, the gradient of the images, the gradient of the weights.
DIRECTIONS = ("forward", "backward_data", "backward_weight")


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
    algorithm : str
        One of `ALGORITHMS`; "auto" leaves the choice to `choice`.
    winograd : bool
        Whether `choice` may take Winograd's algorithm, which loses up to a digit of float32.

    Raises
    ------
    ArgumentError
        No such algorithm, or not one for this convolution.
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
        algorithm: str = "auto",
        winograd: bool = True,
    ):
        if algorithm not in ALGORITHMS:
            raise ArgumentError(
                f"there is no convolution algorithm {algorithm!r}; there are {', '.join(ALGORITHMS)}"
                f"{did_you_mean(str(algorithm), ALGORITHMS)}"
            )
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
        self.algorithm = algorithm
        self.winograd = winograd
        self._choices: dict[tuple[int, str], str] = {}
        self._tiles: dict[tuple[int, bool], Columns] = {}
        if algorithm == "depthwise" and not self.is_depthwise:
            raise ArgumentError(
                "the algorithm depthwise is for groups of one channel and at most two outputs, "
                f"found {channels} channels and {num_output} outputs in {group} groups"
            )
        if algorithm.startswith("winograd") and not self.is_winograd:
            raise ArgumentError(
                f"the algorithm {algorithm} is for 3x3 kernels with stride 1, dilation 1 and one group, "
                f"found kernel {self.kernel}, stride {self.stride}, dilation {self.dilation}, {group} groups"
            )

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
    def is_winograd(self) -> bool:
        """Whether Winograd's algorithm can compute it: 3x3 kernels, no stride, no dilation, one group."""
        return self.group == 1 and (self.kernel, self.stride, self.dilation) == ((3, 3), (1, 1), (1, 1))

    def choice(self, batch: int, dtype: np.dtype, direction: str = "forward") -> str:
        """Return the algorithm that computes one of the three directions.

        It depends on nothing but the arguments, so that a net gives the same bits in each run and with any number
        of threads.

        Winograd's algorithm is chosen for float32 alone, where a model of the costs expects it to be quicker.  The
        model counts cycles of vectors of 16 numbers and a core that multiplies and adds two of them at a time: the
        products, of which Winograd's have fewer, and its three transforms.

        Parameters
        ----------
        batch : int
            Number of images.
        dtype : dtype
        direction : str
            One of `DIRECTIONS`.

        Returns
        -------
        str
            One of `ALGORITHMS`, never "auto".
        """
        if self.algorithm != "auto":
            return self.algorithm
        if self.is_depthwise:
            return "depthwise"
        if not (self.winograd and self.is_winograd) or dtype != np.float32:
            return "gemm"
        key = (batch, direction)
        if key not in self._choices:
            costs = {name: self._cost(name, batch, direction) for name in ("gemm", "winograd2", "winograd4")}
            self._choices[key] = min(costs, key=costs.__getitem__)
        return self._choices[key]

    def _cost(self, algorithm: str, batch: int, direction: str) -> float:
        """Cycles that an algorithm is expected to take on one core."""
        places, channels, outputs = self.out_spatial, self.channels, self.num_output
        if direction == "backward_data":
            places, channels, outputs = self.spatial, outputs, channels
        pairs = channels * outputs
        by_weight = direction == "backward_weight"
        if algorithm == "gemm":
            vectors = -(-batch * prod(places) // 16)
            return 1.1 * 4.5 * pairs * vectors + 60 * channels * vectors + 20 * pairs * by_weight
        m = int(algorithm[-1])
        tiles, points = batch * prod(-(-n // m) for n in places), (m + 2) ** 2
        if by_weight:
            # vectors of channels; tiles of 14 outputs; the sums of each slab of 128 tiles are transformed back
            c, o, slabs = -(-channels // 16), -(-outputs // 14), -(-tiles // 128)
            transform, sums = (500, 8) if m == 4 else (230, 4)
            return (
                tiles * (1.15 * points / 2 * c * outputs + transform * (c + o))
                + (sums * slabs + 15) * 16 * c * outputs
            )
        vectors = -(-tiles // 16)
        weights, inputs, results = (15, 450, 400) if m == 4 else (9, 200, 200)
        product = 1.3 * points / 2 * pairs * (vectors + 0.5)
        return product + weights * pairs + vectors * (inputs * channels + results * outputs)

    def tiles(self, m: int, gradient: bool = False) -> Columns:
        """What tiles of m x m places meet, in rows of m + 2 and pairs of columns m apart; see pyx/winograd.h."""
        key = (m, gradient)
        if key not in self._tiles:
            image, places, pad = self.spatial, self.out_spatial, self.pad
            if gradient:
                image, places, pad = places, image, tuple(2 - p for p in pad)
            down, across = (-(-n // m) for n in places)
            taps = ([i - pad[0] for i in range(m + 2)], [-pad[1], m - pad[1]])
            self._tiles[key] = Columns.of(image, (down, across * m), (m, 1), taps)
        return self._tiles[key]

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

    @property
    def rows(self) -> tuple[int, int]:
        """Output places as a number of rows and their width."""
        return prod(self.out_spatial[:-1]), self.out_spatial[-1] if self.out_spatial else 1

    @property
    def image_rows(self) -> tuple[int, int]:
        """One channel of an image as a number of rows and their width."""
        return prod(self.spatial[:-1]), self.spatial[-1] if self.spatial else 1

    @cached_property
    def image_row_table(self) -> np.ndarray:
        """Offset in the frame of each row of the image, int64."""
        if not self.spatial:
            return np.zeros(1, np.int64)
        corner = int(np.dot(self.pad, _strides(self.framed)))
        rows = _offsets((*self.spatial[:-1], 1), (1,) * len(self.spatial), self.framed)
        return (corner + rows).reshape(-1)

    @cached_property
    def columns(self) -> Columns:
        """What the kernel meets at each output place."""
        if self.is_pointwise:
            return Columns.plain(self.places)
        outside = len(self.spatial) - 1
        taps = tuple(
            [k * d - p for k in range(n)]
            for n, d, p in zip(self.kernel, self.dilation, self.pad, strict=True)
        )
        return (
            Columns.of(self.spatial, self.out_spatial, self.stride, taps)
            if outside >= 0
            else Columns.plain(1)
        )

    @cached_property
    def gradient(self) -> Gradient:
        """How the gradient of an image is gathered, one stride-1 convolution for each phase of the stride."""
        return Gradient.of(self)

    @cached_property
    def depthwise(self) -> Planes:
        """How a plane of an image is convolved, for groups of one channel."""
        return Planes.of(self)

    @cached_property
    def depthwise_gradient(self) -> Planes | None:
        """How a plane of outputs is convolved to the gradient of the image; None where a stride forbids that."""
        pad = tuple(e - 1 - p for e, p in zip(self.extent, self.pad, strict=True))
        if any(s > 1 for s in self.stride) or any(p < 0 for p in pad):
            return None
        adjoint = ConvGeometry(
            self.channels, self.out_spatial, self.channels, self.kernel, self.stride, pad, self.dilation
        )
        return Planes.of(adjoint)

    @property
    def macs(self) -> int:
        """Multiply-adds for one image."""
        return self.places * self.num_output * (self.channels // self.group) * self.kernel_count


class Columns(NamedTuple):
    """Where the rows of columns lie that a product takes from an image, without a frame.

    The element of a channel for a tap (outer position, inner position) and a place (row, column) lies at
    ``row_from[outer, row] + inner[i, 0] + column * stride`` of the channel's plane, and is 0 where `row_from` is
    negative or the column outside of ``inner[i, 1:]``.

    Attributes
    ----------
    sizes : ndarray of int64, shape (5,)
        Rows and width of the places, stride along the last axis, numbers of outer and inner positions.
    row_from : ndarray of int64, shape (outer positions, rows)
    inner : ndarray of int64, shape (inner positions, 3)
    """

    sizes: np.ndarray
    row_from: np.ndarray
    inner: np.ndarray

    @classmethod
    def plain(cls, places: int) -> Columns:
        """Each place meets the element of the same index."""
        sizes, inner = np.array([1, places, 1, 1, 1], np.int64), np.array([[0, 0, places]], np.int64)
        return cls(sizes, np.zeros((1, 1), np.int64), inner)

    @classmethod
    def of(
        cls,
        image: Sequence[int],
        places: Sequence[int],
        stride: Sequence[int],
        taps: Sequence[Sequence[int]],
    ) -> Columns:
        """Along each axis, a place p meets the elements ``p * stride + tap``, for each tap."""
        outer = [
            np.add.outer(np.array(t, np.int64), np.arange(n, dtype=np.int64) * s)
            for t, n, s in zip(taps[:-1], places[:-1], stride[:-1], strict=True)
        ]
        offset, inside = np.zeros((1, 1), np.int64), np.ones((1, 1), bool)
        for at, size, step in zip(outer, image[:-1], _strides(image)[:-1], strict=True):
            shape = (len(offset) * at.shape[0], offset.shape[1] * at.shape[1])
            offset = (offset[:, None, :, None] + at[None, :, None, :] * step).reshape(shape)
            good = (at >= 0) & (at < size)
            inside = (inside[:, None, :, None] & good[None, :, None, :]).reshape(shape)
        width, step = places[-1], stride[-1]
        first = np.array(taps[-1], np.int64)
        low = np.clip(-(first // step), 0, width)
        high = np.clip(-((first - image[-1]) // step), 0, width)
        sizes = np.array([prod(places[:-1]), width, step, len(offset), len(first)], np.int64)
        return cls(sizes, np.where(inside, offset, -1), np.stack([first, low, high], axis=1))


class Gradient(NamedTuple):
    """How the gradient of an image is gathered from that of the outputs.

    Elements of the image whose index has the same remainder modulo the stride (a phase) meet the same kernel
    positions, and neighbours among them meet neighbours among the outputs: a convolution of stride 1.  The
    weights are turned to (phase, channel, kernel position of the phase, output).

    Attributes
    ----------
    tap_to, tap_step : ndarray of int64, shape (kernel positions,)
        Where the turned weights of a kernel position begin in a group, and how far apart its channels are; -1
        for a position that meets nothing.
    phases : ndarray of int64, shape (phases, 9)
        Rows, width, outer and inner positions, step between columns in the image, where the turned weights of a
        phase begin, and where in `tables` its ``row_from`` and ``inner`` (see Columns) and the place of each row in
        the image begin.
    tables : ndarray of int64
    room : int
        Elements of an image in its largest phase, where there are several.
    """

    tap_to: np.ndarray
    tap_step: np.ndarray
    phases: np.ndarray
    tables: np.ndarray
    room: int

    @classmethod
    def of(cls, g: ConvGeometry) -> Gradient:
        axes = list(zip(g.spatial, g.kernel, g.stride, g.pad, g.dilation, strict=True))
        # for each axis and remainder: how many elements, and [(kernel position, offset into the outputs)]
        options = [
            [
                (
                    -(-(n - r) // s),
                    [(k, (r + p - k * d) // s) for k in range(kernel) if (r + p - k * d) % s == 0],
                )
                for r in range(min(s, n))
            ]
            for n, kernel, s, p, d in axes
        ]
        channels, outputs = g.channels // g.group, g.num_output // g.group
        tap_to, tap_step = np.full(g.kernel_count, -1, np.int64), np.zeros(g.kernel_count, np.int64)
        index = np.arange(g.kernel_count, dtype=np.int64).reshape(g.kernel)
        steps, phases, tables, begin, size = _strides(g.spatial), [], [], 0, 0
        for remainders in np.ndindex(*(len(o) for o in options)):
            chosen = [o[r] for o, r in zip(options, remainders, strict=True)]
            counts = [count for count, _ in chosen]
            met = index[np.ix_(*([k for k, _ in taps] for _, taps in chosen))].reshape(-1)
            tap_to[met] = begin + np.arange(met.size, dtype=np.int64) * outputs
            tap_step[met] = met.size * outputs
            rows = _offsets((*counts[:-1], 1)[: len(axes)], g.stride, g.spatial).reshape(-1)
            row_to, column = rows + int(np.dot(remainders, steps)), g.stride[-1] if axes else 1
            if g.is_pointwise or not g.spatial:
                columns = Columns.plain(g.places)
            else:
                offsets = [[at for _, at in taps] for _, taps in chosen]
                columns = Columns.of(g.out_spatial, counts, (1,) * len(axes), offsets)
            pieces = [columns.row_from.reshape(-1), columns.inner.reshape(-1), row_to]
            places = size + np.cumsum([0, *(len(piece) for piece in pieces[:-1])])
            phases.append([*columns.sizes[[0, 1, 3, 4]], column, begin, *places])
            tables += pieces
            size += sum(len(piece) for piece in pieces)
            begin += met.size * channels * outputs
        return cls(
            tap_to,
            tap_step,
            np.array(phases, np.int64).reshape(-1, 9),
            np.concatenate([*tables, np.zeros(1, np.int64)]),
            g.channels * max(int(p[0] * p[1]) for p in phases) if len(phases) > 1 else 0,
        )


class Planes(NamedTuple):
    """A plane of an image in its frame, whose rows are split by the stride; see pyx/depthwise.h.

    Attributes
    ----------
    sizes : ndarray of int64, shape (10,)
    tables : ndarray of int64
        Frame row of each image row, of each output row, row offset of each outer position, offset of each inner one.
    """

    sizes: np.ndarray
    tables: np.ndarray

    @classmethod
    def of(cls, g: ConvGeometry) -> Planes:
        rows, width = g.rows
        kernel, stride, pad, dilation = (v[-1] if g.spatial else d for v, d in zip(
            (g.kernel, g.stride, g.pad, g.dilation), (1, 1, 0, 1), strict=True))  # fmt: skip
        taps = np.arange(kernel, dtype=np.int64) * dilation
        frame = g.framed[-1] if g.spatial else 1
        wide = -(-width // 16) * 16 + int(taps[-1]) // stride + 1
        pitch = -(-max(wide, -(-frame // stride)) // 16) * 16
        outside = (*g.framed[:-1], 1)
        count = len(g.spatial)
        steps = _strides(outside) if count else np.zeros(1, np.int64)
        first = int(np.dot(g.pad[:-1], steps[:-1])) if count else 0
        image_row = first + _offsets((*g.spatial[:-1], 1), (1,) * max(count, 1), outside).reshape(-1)
        row = _offsets((*g.out_spatial[:-1], 1), (*g.stride[:-1], 1), outside).reshape(-1)
        outer = _offsets((*g.kernel[:-1], 1), (*g.dilation[:-1], 1), outside).reshape(-1)
        inner = taps % stride * pitch + taps // stride
        n = (
            len(image_row),
            g.image_rows[1],
            prod(outside),
            pitch,
            stride,
            pad,
            rows,
            width,
            len(outer),
            kernel,
        )
        return cls(np.array(n, np.int64), np.concatenate([image_row, row, outer, inner]))


def _strides(shape: Sequence[int]) -> np.ndarray:
    return np.array([prod(shape[i + 1 :]) for i in range(len(shape))], np.int64)


def _offsets(counts: Sequence[int], steps: Sequence[int], frame: Sequence[int]) -> np.ndarray:
    """Offset in `frame` of every index of `counts`, an index step being `steps` long."""
    total = np.zeros((), np.int64)
    for count, step, stride in zip(counts, steps, _strides(frame), strict=True):
        total = np.add.outer(total, np.arange(count, dtype=np.int64) * (step * stride))
    return total
