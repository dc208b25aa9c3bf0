"""Blob: a named value and its gradient, sized once and viewed many times."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import prod
from types import ModuleType
from typing import Any

import numpy as np

from caffebn import ops
from caffebn.errors import ArgumentError

__all__ = ["MAX_AXES", "Blob", "Changes", "GpuBlob", "HiddenBlob", "Memory", "times"]

MAX_AXES = 32
"""Caffe's limit on the number of axes of a blob."""

_ALIGNMENT = 64  # bytes: one cache line, one AVX-512 register
_PAGE = 4096
_LARGE = 1 << 16  # bytes, from which on a page more does not count
_STAGGER = 17 * _ALIGNMENT  # from one large memory to the next
_memories = itertools.count()


class Changes:
    """Counts how often a shape or the place of a memory has changed, so that a net knows what is still true."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


# Where the newest values of a memory are
_HOST, _DEVICE, _BOTH = range(3)


class Memory:
    """Flat memory, made zero at first use, that several blobs may look at; on the host, on a GPU, or on both.

    As in Caffe, who asks for one side may write there: the other side is then out of date, and is brought up to
    date when it is asked for.  Nothing is copied before.

    Parameters
    ----------
    dtype : dtype
        float32 or float64.
    parent, offset, size
        When given, this memory is the piece ``[offset, offset + size)`` of `parent` and cannot grow.
    page_locked : bool
        Make memory of the host that copies to a GPU do not wait for.
    """

    __slots__ = (
        "_flat",
        "_flat_on_gpu",
        "_newest",
        "_sent",
        "dtype",
        "offset",
        "page_locked",
        "parent",
        "size",
    )

    def __init__(
        self,
        dtype: np.dtype,
        size: int = 0,
        parent: Memory | None = None,
        offset: int = 0,
        page_locked: bool = False,
    ):
        self.dtype = dtype
        self.size = size
        self.parent = parent
        self.offset = offset
        self.page_locked = page_locked
        self._forget()

    def _forget(self) -> None:
        self._flat: np.ndarray | None = None
        self._flat_on_gpu: Any = None
        self._newest = _BOTH
        self._sent: Any = (
            None  # what to wait for before values of the host, on their way to the GPU, are changed
        )

    @property
    def allocated(self) -> bool:
        """Whether the memory exists already."""
        if self.parent is not None:
            return self.parent.allocated
        return self._flat is not None or self._flat_on_gpu is not None

    @property
    def is_on_gpu(self) -> bool:
        """Whether there is memory on the GPU."""
        return self.parent.is_on_gpu if self.parent is not None else self._flat_on_gpu is not None

    @property
    def flat(self) -> np.ndarray:
        """The memory on the host as an array of one axis, at least `size` long."""
        if self.parent is not None:
            whole = self.parent.flat
            if self._flat is None or self._flat.base is not whole.base:  # the whole has grown
                self._flat = whole[self.offset : self.offset + self.size]
            return self._flat
        if self._flat is None:
            self._flat = _page_locked(self) if self.page_locked else _zeros(self.size, self.dtype)
        if self._flat_on_gpu is not None:
            if self._newest == _DEVICE:
                _gpu().to_host(self._flat_on_gpu, self._flat)
            elif self._sent is not None:
                self._sent.synchronize()
            self._sent = None
            self._newest = _HOST
        return self._flat

    def release(self) -> None:
        """Give the memory back, as if nobody had looked at it yet; arrays that look at it keep it alive."""
        self._forget()

    @property
    def flat_on_gpu(self) -> Any:
        """The memory on the GPU as a CuPy array of one axis, at least `size` long."""
        if self.parent is not None:
            whole = self.parent.flat_on_gpu
            if self._flat_on_gpu is None:
                self._flat_on_gpu = whole[self.offset : self.offset + self.size]
            return self._flat_on_gpu
        if self._flat_on_gpu is None:
            gpu = _gpu()
            self._flat_on_gpu = gpu.zeros(self.size, self.dtype) if self._flat is None else None
            if self._flat is not None:
                self._flat_on_gpu = gpu.empty(self.size, self.dtype)
                self._newest = _HOST
        if self._newest == _HOST and self._flat is not None:
            gpu = _gpu()
            if self.page_locked:
                self._sent = gpu.put_pinned(self._flat, self._flat_on_gpu)
            else:
                gpu.put(self._flat, self._flat_on_gpu)
        self._newest = _DEVICE
        return self._flat_on_gpu

    def on(self, device: str) -> Any:
        """The memory where that back end computes."""
        return self.flat_on_gpu if device == "gpu" else self.flat

    def clear(self) -> None:
        """Set all values to 0, where the newest are."""
        if self.parent is None and self._newest == _DEVICE:
            self._flat_on_gpu.fill(0)
        elif self.allocated:
            self.flat[...] = 0

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
        self._forget()


def _gpu() -> ModuleType:
    return ops.arrays("gpu")


def _page_locked(memory: Memory) -> np.ndarray:
    return _gpu().pinned(memory.size, memory.dtype)


def _zeros(size: int, dtype: np.dtype) -> np.ndarray:
    # Large ones begin at different places in their pages.  Where the last 12 bits of its address are those of a store
    # before it, a load waits for that; and images often lie whole pages apart, so that each would.
    large = size * dtype.itemsize >= _LARGE
    step = _PAGE if large else _ALIGNMENT
    place = next(_memories) * _STAGGER % _PAGE if large else 0
    array = np.zeros(size + step // dtype.itemsize, dtype)
    shift = (place - array.ctypes.data) % step // dtype.itemsize
    return array[shift : shift + size]


class Blob:
    """An array in C order (`data`) and the gradient of the loss with respect to it (`diff`).

    Memory is made at the first look at `data` or `diff`, is zero then, and is kept by `reshape`
    as long as the new shape fits.  `gpu_data` and `gpu_diff` are the same values on the current GPU: each of the two
    sides is brought up to date when it is asked for, if the other one was asked for since.  So ask again for
    ``blob.data`` after the net has run, and before writing into it.  A blob can be handed to what knows
    ``__cuda_array_interface__`` or DLPack, without a copy.

    Parameters
    ----------
    shape : sequence of int
        Sizes of the axes; ``()`` for a blob that holds one value.
    dtype : dtype
        float32 or float64.
    changes : Changes, optional
        Counter that goes up when the shape or a memory changes; those of a net share one.
    page_locked : bool
        As for `Memory`.
    """

    __slots__ = (
        "_changes",
        "_data",
        "_data_view",
        "_diff",
        "_diff_view",
        "_gpu_blob",
        "_gpu_views",
        "count",
        "dtype",
        "shape",
    )

    def __init__(
        self,
        shape: Sequence[int] = (),
        dtype: np.dtype | type = np.float32,
        changes: Changes | None = None,
        page_locked: bool = False,
    ):
        self.dtype = np.dtype(dtype)
        self._changes = changes or Changes()
        self.shape: tuple[int, ...] = (-1,)  # none yet
        self._data = Memory(self.dtype, page_locked=page_locked)
        self._diff = Memory(self.dtype, page_locked=page_locked)
        self._data_view: np.ndarray | None = None
        self._diff_view: np.ndarray | None = None
        self._gpu_views: dict[str, tuple[Any, Any]] = {}
        self._gpu_blob: GpuBlob | None = None
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
        self._gpu_views.clear()

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
    def gpu_data(self) -> Any:
        """The value on the GPU, a CuPy array; write into it with ``blob.gpu_data[...] = value``."""
        return self._on_gpu("data", self._data)

    @property
    def gpu_diff(self) -> Any:
        """The gradient on the GPU, a CuPy array; write into it with ``blob.gpu_diff[...] = value``."""
        return self._on_gpu("diff", self._diff)

    def _on_gpu(self, which: str, memory: Memory) -> Any:
        flat = memory.flat_on_gpu
        seen = self._gpu_views.get(which)
        if seen is None or seen[0] is not flat:
            seen = self._gpu_views[which] = flat, flat[: self.count].reshape(self.shape)
        return seen[1]

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """How other packages find `gpu_data`."""
        return self.gpu_data.__cuda_array_interface__

    def __dlpack__(self, **options: Any) -> Any:
        """Hand out `gpu_data` by DLPack."""
        return self.gpu_data.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        """Say to DLPack where `gpu_data` is."""
        return self.gpu_data.__dlpack_device__()

    def on(self, device: str) -> Blob:
        """The blob as a layer of that back end sees it: its `data` and `diff` are arrays that the ops take."""
        if device != "gpu":
            return self
        if self._gpu_blob is None:
            self._gpu_blob = GpuBlob(self)
        return self._gpu_blob

    @property
    def memories(self) -> tuple[Memory, Memory]:
        """The memory of the data and of the diff, which other blobs may share."""
        return self._data, self._diff

    @property
    def has_diff(self) -> bool:
        """Whether memory for the gradient has been made."""
        return self._diff.allocated

    def share_data(self, other: Blob) -> None:
        """Look at the memory of `other`'s data from now on (same count)."""
        self._check_count(other)
        self._changes.count += 1
        self._data, self._data_view = other._data, None
        self._gpu_views.clear()

    def share_diff(self, other: Blob) -> None:
        """Look at the memory of `other`'s diff from now on (same count)."""
        self._check_count(other)
        self._changes.count += 1
        self._diff, self._diff_view = other._diff, None
        self._gpu_views.clear()

    def shares_data_with(self, other: Blob) -> bool:
        """Whether the data of both is the same memory."""
        return self._data is other._data

    def shares_diff_with(self, other: Blob) -> bool:
        """Whether the diff of both is the same memory."""
        return self._diff is other._diff

    def look_at(self, data: Memory | None = None, diff: Memory | None = None) -> None:
        """Have the data, or the diff, in that memory from now on, which grows as needed; values do not move."""
        self._changes.count += 1
        if data is not None:
            data.reserve(self.count)
            self._data, self._data_view = data, None
        if diff is not None:
            diff.reserve(self.count)
            self._diff, self._diff_view = diff, None
        self._gpu_views.clear()

    def lies_in(self, memory: Memory) -> bool:
        """Whether the data is a piece of `memory`."""
        return self._data.parent is memory

    def lies_at(self, other: Blob, offset: int) -> bool:
        """Whether the data is that of `other` from the value with the number `offset` on."""
        own, whole = self.memories[0], other.memories[0]
        return own.parent is whole and own.offset == offset

    def move_to(self, data: Memory, diff: Memory) -> None:
        """Move the values into other memory (a piece of a net's flat buffers)."""
        if self._data.allocated:
            data.flat[: self.count] = self.data.reshape(-1)
        if self._diff.allocated:
            diff.flat[: self.count] = self.diff.reshape(-1)
        self._changes.count += 1
        self._data, self._diff = data, diff
        self._data_view = self._diff_view = None
        self._gpu_views.clear()

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


class _Seen(Blob):
    """A blob as somebody sees it: everything but what a subclass says is that of `host`."""

    __slots__ = ("host",)

    def __init__(self, host: Blob):
        self.host = host

    def __getattr__(self, name: str) -> Any:
        # slots of Blob that are never set here: shape, count, dtype, memory
        return getattr(self.host, name)

    def reshape(self, *shape: int) -> None:
        self.host.reshape(*shape)

    def on(self, device: str) -> Blob:
        return self.host.on(device)

    def share_data(self, other: Blob) -> None:
        self.host.share_data(other)

    def share_diff(self, other: Blob) -> None:
        self.host.share_diff(other)

    def look_at(self, data: Memory | None = None, diff: Memory | None = None) -> None:
        self.host.look_at(data, diff)


class GpuBlob(_Seen):
    """A blob as layers on a GPU see it: everything is that of `host`, but `data` and `diff` are CuPy arrays."""

    __slots__ = ()

    @property
    def data(self) -> Any:
        return self.host.gpu_data

    @property
    def diff(self) -> Any:
        return self.host.gpu_diff


class HiddenBlob(_Seen):
    """A blob of a net that need not keep its values, as users see it: the shape can be read, values cannot.

    Parameters
    ----------
    host : Blob
    name : str
    """

    __slots__ = ("name",)

    def __init__(self, host: Blob, name: str):
        super().__init__(host)
        self.name = name

    def refuse(self) -> Any:
        """Say why there are no values, and what to do."""
        raise ArgumentError(
            f'blob "{self.name}": its values are not kept, as the net was made with keep=[...], and memory serves '
            f'several blobs in turn: make it with "{self.name}" among the names in keep, or without keep'
        )

    @property
    def data(self) -> Any:
        return self.refuse()

    @property
    def diff(self) -> Any:
        return self.refuse()

    @property
    def gpu_data(self) -> Any:
        return self.refuse()

    @property
    def gpu_diff(self) -> Any:
        return self.refuse()


def times(shape: Sequence[int], empty: str = "no axes") -> str:
    """Write a shape for people, ``2x3x4``; `empty` stands for one without axes."""
    return "x".join(map(str, shape)) or empty
