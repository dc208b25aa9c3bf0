"""Blob: a named value and its gradient, sized once and viewed many times."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from caffebn.errors import ArgumentError

__all__ = ["MAX_AXES", "Blob", "Changes", "Memory", "times"]

MAX_AXES = 32
"""Caffe's limit on the number of axes of a blob."""

_ALIGNMENT = 64  # bytes: one cache line, one AVX-512 register


class Changes:
    """Counts how often a shape or the place of a memory has changed, so that a net knows what is still true."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Memory:
    """Flat memory, made zero at first use, that several blobs may look at.

    Parameters
    ----------
    dtype : dtype
        float32 or float64.
    parent, offset, size
        When given, this memory is the piece ``[offset, offset + size)`` of `parent` and cannot grow.
    """

    __slots__ = ("_flat", "dtype", "offset", "parent", "size")

    def __init__(self, dtype: np.dtype, size: int = 0, parent: Memory | None = None, offset: int = 0):
        self.dtype = dtype
        self.size = size
        self.parent = parent
        self.offset = offset
        self._flat: np.ndarray | None = None

    @property
    def allocated(self) -> bool:
        """Whether the memory exists already."""
        return self._flat is not None or (self.parent is not None and self.parent.allocated)

    @property
    def flat(self) -> np.ndarray:
        """The memory as an array of one axis, at least `size` long."""
        if self._flat is None:
            if self.parent is None:
                self._flat = _zeros(self.size, self.dtype)
            else:
                self._flat = self.parent.flat[self.offset : self.offset + self.size]
        return self._flat

    def release(self) -> None:
        """Give the memory back, as if nobody had looked at it yet; arrays that look at it keep it alive."""
        self._flat = None

    def reserve(self, size: int) -> None:
        """Make room for `size` elements; what is there stays as long as it fits."""
        if size <= self.size:
            return
        if self.parent is not None:
            raise ArgumentError(
                f"a parameter that holds {self.size} values lies in the net's flat buffer and cannot "
                f"grow to {size}: change the layer's definition and make the net again"
            )
        self.size = size
        self._flat = None


def _zeros(size: int, dtype: np.dtype) -> np.ndarray:
    room = _ALIGNMENT // dtype.itemsize
    array = np.zeros(size + room, dtype)
    shift = (-array.ctypes.data % _ALIGNMENT) // dtype.itemsize
    return array[shift : shift + size]


class Blob:
    """An array in C order (`data`) and the gradient of the loss with respect to it (`diff`).

    Memory is made at the first look at `data` or `diff`, is zero then, and is kept by `reshape`
    as long as the new shape fits.

    Parameters
    ----------
    shape : sequence of int
        Sizes of the axes; ``()`` for a blob that holds one value.
    dtype : dtype
        float32 or float64.
    changes : Changes, optional
        Counter that goes up when the shape or a memory changes; those of a net share one.
    """

    __slots__ = ("_changes", "_data", "_data_view", "_diff", "_diff_view", "count", "dtype", "shape")

    def __init__(
        self,
        shape: Sequence[int] = (),
        dtype: np.dtype | type = np.float32,
        changes: Changes | None = None,
    ):
        self.dtype = np.dtype(dtype)
        self._changes = changes or Changes()
        self.shape: tuple[int, ...] = (-1,)  # none yet
        self._data = Memory(self.dtype)
        self._diff = Memory(self.dtype)
        self._data_view: np.ndarray | None = None
        self._diff_view: np.ndarray | None = None
        self.reshape(*shape)

    def reshape(self, *shape: int) -> None:
        """Change the shape.  New memory is zero; memory that is large enough keeps its values.

        Parameters
        ----------
        *shape : int
            Sizes of the axes, each at least 0.

        Raises
        ------
        ArgumentError
            More than 32 axes, a negative size, or a parameter that would have to grow.
        """
        sizes = tuple(int(n) for n in shape)
        if sizes == self.shape:
            return
        self._changes.count += 1
        if len(sizes) > MAX_AXES:
            raise ArgumentError(f"a blob has at most {MAX_AXES} axes, found {len(sizes)}")
        if any(n < 0 for n in sizes):
            raise ArgumentError(f"a blob's sizes cannot be negative, found {times(sizes, '')}")
        count = prod(sizes)
        self._data.reserve(count)
        self._diff.reserve(count)
        self.shape = sizes
        self.count = count
        self._data_view = self._diff_view = None

    @property
    def data(self) -> np.ndarray:
        """The value; write into it with ``blob.data[...] = value``."""
        view = self._data_view
        if view is None or view.base is not self._data.flat.base:
            view = self._data_view = self._data.flat[: self.count].reshape(self.shape)
        return view

    @property
    def diff(self) -> np.ndarray:
        """The gradient; write into it with ``blob.diff[...] = value``."""
        view = self._diff_view
        if view is None or view.base is not self._diff.flat.base:
            view = self._diff_view = self._diff.flat[: self.count].reshape(self.shape)
        return view

    @property
    def has_diff(self) -> bool:
        """Whether memory for the gradient has been made."""
        return self._diff.allocated

    def share_data(self, other: Blob) -> None:
        """Look at the memory of `other`'s data from now on (same count)."""
        self._check_count(other)
        self._changes.count += 1
        self._data, self._data_view = other._data, None

    def share_diff(self, other: Blob) -> None:
        """Look at the memory of `other`'s diff from now on (same count)."""
        self._check_count(other)
        self._changes.count += 1
        self._diff, self._diff_view = other._diff, None

    def shares_data_with(self, other: Blob) -> bool:
        """Whether the data of both is the same memory."""
        return self._data is other._data

    def shares_diff_with(self, other: Blob) -> bool:
        """Whether the diff of both is the same memory."""
        return self._diff is other._diff

    def lies_in(self, memory: Memory) -> bool:
        """Whether the data is a piece of `memory`."""
        return self._data.parent is memory

    def move_to(self, data: Memory, diff: Memory) -> None:
        """Move the values into other memory (a piece of a net's flat buffers)."""
        if self._data.allocated:
            data.flat[: self.count] = self.data.reshape(-1)
        if self._diff.allocated:
            diff.flat[: self.count] = self.diff.reshape(-1)
        self._changes.count += 1
        self._data, self._diff = data, diff
        self._data_view = self._diff_view = None

    def _check_count(self, other: Blob) -> None:
        if other.count != self.count:
            raise ArgumentError(
                f"blobs that share memory need the same count, found {times(self.shape, '')} "
                f"and {times(other.shape, '')}"
            )

    # -- the old four-axis view of pycaffe ---------------------------------------------------------

    def _legacy(self, axis: int) -> int:
        if len(self.shape) > 4:
            raise ArgumentError(
                f"num, channels, height and width exist for at most 4 axes, this blob is {times(self.shape, '')}: "
                "use shape"
            )
        return self.shape[axis] if axis < len(self.shape) else 1

    @property
    def num(self) -> int:
        """Size of axis 0 (1 when absent)."""
        return self._legacy(0)

    @property
    def channels(self) -> int:
        """Size of axis 1 (1 when absent)."""
        return self._legacy(1)

    @property
    def height(self) -> int:
        """Size of axis 2 (1 when absent)."""
        return self._legacy(2)

    @property
    def width(self) -> int:
        """Size of axis 3 (1 when absent)."""
        return self._legacy(3)

    def __repr__(self) -> str:
        return f"<Blob {times(self.shape, 'scalar')} {self.dtype}>"


def times(shape: Sequence[int], empty: str = "no axes") -> str:
    """Write a shape for people, ``2x3x4``; `empty` stands for one without axes."""
    return "x".join(map(str, shape)) or empty
