"""The one module that imports CuPy: devices, memory, kernels and what they have to say later.

A call of an op puts kernels into CuPy's current stream and returns; nothing waits.  What a kernel has to complain
about, a label that is no class, it writes into memory that the host sees, and `synchronize` and `to_host` raise it.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from caffebn.errors import ArgumentError, DeviceError, missing_package
from caffebn.ops import labels

try:
    import cupy
except ImportError as e:
    raise missing_package("cupy", "gpu", "the GPU back end") from e

__all__ = [
    "Graph",
    "Kernels",
    "Sending",
    "Trouble",
    "address",
    "count",
    "describe",
    "elapsed",
    "empty",
    "from_host",
    "is_array",
    "launch",
    "launch_each",
    "library",
    "limit_memory",
    "pinned",
    "put",
    "put_pinned",
    "read_later",
    "require",
    "scratch",
    "select",
    "selected",
    "stream",
    "synchronize",
    "to_host",
    "trouble",
    "width",
    "zeros",
]

Array: TypeAlias = Any
"""An array on a device, cupy.ndarray, of which type checkers know nothing."""

THREADS = 256
"""Threads of a block, as in common.cuh."""

FOLDER = Path(__file__).parent

ALLOW_TF32 = os.environ.get("CAFFEBN_TF32", "0") == "1"
"""Whether products and convolutions in single precision may round their factors to 10 bits, which is faster."""

_OPTIONS = ("-std=c++17", "--fmad=false")
_TYPES = {4: "float", 8: "double"}

# -- devices ---------------------------------------------------------------------------------------------------


def count() -> int:
    """Return the number of CUDA devices that can be used; 0 without a driver."""
    try:
        return cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:
        return 0


@cache
def require() -> None:
    """Check that there is a device.

    Raises
    ------
    DeviceError
    """
    try:
        found = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as e:
        raise DeviceError(
            f"the GPU back end finds no usable CUDA device ({e}): install or update the NVIDIA driver, "
            "or run on the CPU"
        ) from None
    if not found:
        raise DeviceError(
            "the GPU back end finds no CUDA device: look at nvidia-smi and CUDA_VISIBLE_DEVICES, or run on the CPU"
        )


def describe() -> list[dict[str, Any]]:
    """Return name, compute capability and bytes of memory, free and total, of each device."""
    found = []
    for i in range(count()):
        properties = cupy.cuda.runtime.getDeviceProperties(i)
        with cupy.cuda.Device(i):
            free, total = cupy.cuda.runtime.memGetInfo()
        name = properties["name"]
        found.append(
            {
                "name": name.decode() if isinstance(name, bytes) else name,
                "capability": f"{properties['major']}.{properties['minor']}",
                "free": free,
                "total": total,
            }
        )
    return found


def select(index: int) -> None:
    """Make a device the current one of this thread.

    Raises
    ------
    DeviceError
        There is no device of that number.
    """
    require()
    found = count()
    if not 0 <= index < found:
        raise DeviceError(
            f"there is no GPU {index}: found {found}, numbered from 0; `caffebn device` lists them, and "
            "CUDA_VISIBLE_DEVICES hides some"
        )
    cupy.cuda.Device(index).use()


def selected() -> int:
    """Return the number of the current device."""
    return cupy.cuda.runtime.getDevice()


def library(name: str) -> str:
    """Load one of CUDA's libraries, wherever it is installed, and return its path.

    Raises
    ------
    DeviceError
    """
    from cuda.pathfinder import load_nvidia_dynamic_lib  # comes with CuPy

    try:
        return load_nvidia_dynamic_lib(name).abs_path
    except RuntimeError as e:
        raise DeviceError(
            f'CUDA\'s library {name} is not found ({e}): install it, pip install "caffebn[gpu]" (gpu13 for CUDA 13)'
        ) from None


def limit_memory(size: int | None) -> None:
    """Limit what CuPy's memory pool of the current device may hold, in bytes; None for no limit."""
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()  # what it keeps for later counts, too
    pool.set_limit(size=size or 0)


# -- memory ----------------------------------------------------------------------------------------------------


def zeros(shape: int | Sequence[int], dtype: Any) -> Array:
    """Make an array of zeros."""
    return _allocate(cupy.zeros, shape, dtype)


def empty(shape: int | Sequence[int], dtype: Any) -> Array:
    """Make an array that holds anything."""
    return _allocate(cupy.empty, shape, dtype)


def _allocate(make: Callable, shape: int | Sequence[int], dtype: Any) -> Array:
    try:
        return make(shape, dtype)
    except cupy.cuda.memory.OutOfMemoryError:
        needed = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        pool = cupy.get_default_memory_pool()
        limit = pool.get_limit()
        free, total = cupy.cuda.runtime.memGetInfo()
        raise DeviceError(
            f"GPU {selected()} is out of memory: {_size(needed)} more are needed, {_size(pool.used_bytes())} are in "
            "use by this process"
            + (f" of the {_size(limit)} that it may have" if limit else "")
            + f", {_size(free)} of {_size(total)} are free: make the batch smaller"
            + (", raise the limit" if limit else "")
            + ", or end other processes on that GPU",
            used=pool.used_bytes(),
            needed=needed,
        ) from None


def _size(n: int) -> str:
    return f"{n / 2**30:.1f} GiB" if n >= 2**30 else f"{n / 2**20:.1f} MiB"


def is_array(value: object) -> bool:
    """Whether that is an array on a device."""
    return isinstance(value, cupy.ndarray)


def from_host(array: np.ndarray) -> Array:
    """Make a copy on the device."""
    made = empty(array.shape, array.dtype)
    put(array, made)
    return made


def address(array: Array) -> int:
    """Return where an array begins."""
    return array.data.ptr


def put(host: np.ndarray, array: Array) -> None:
    """Copy values of the host into an array of the device; they may be changed afterwards.

    Parameters
    ----------
    host : ndarray
        Of the same shape; converted to the dtype of `array`.
    array : device array
    """
    stream = cupy.cuda.get_current_stream()
    array.set(np.ascontiguousarray(host, array.dtype).reshape(array.shape), stream=stream)
    stream.synchronize()  # the device may read memory of the host by itself


def put_pinned(host: np.ndarray, array: Array) -> Any:
    """Start a copy from page-locked memory and return an event to wait for before that is changed."""
    stream = cupy.cuda.get_current_stream()
    array.set(host, stream=stream)
    return stream.record()


def to_host(array: Array, out: np.ndarray | None = None) -> np.ndarray:
    """Copy into memory of the host, when all that was asked for before is done.

    Raises
    ------
    ArgumentError
        What a kernel had to complain about since the last time.
    """
    if out is None:
        found = array.get()
    else:
        array.get(out=out)
        found = out
    _raise_trouble()
    return found


def read_later(array: Array) -> Callable[[], np.ndarray]:
    """Start a copy to the host, and return what waits for it and returns the values.

    What is asked for in the meantime runs on.  Complaints of kernels before are raised by the wait.
    """
    stream = cupy.cuda.get_current_stream()
    values = pinned(array.size, array.dtype).reshape(array.shape)
    array.get(stream=stream, out=values, blocking=False)
    copied = stream.record()

    def wait() -> np.ndarray:
        copied.synchronize()
        _raise_trouble()
        return values

    return wait


def pinned(size: int, dtype: np.dtype) -> np.ndarray:
    """Make an array of zeros of one axis in page-locked memory, which copies to and from the device do not block on."""
    memory = cupy.cuda.alloc_pinned_memory(max(1, size * dtype.itemsize))
    array = np.frombuffer(memory, dtype, size)
    array[...] = 0
    return array


class Sending:
    """Memory through which arrays of one shape get to the device, beside the work that is going on there.

    `send` and `arrive` are called in turn, perhaps by two threads: one fills page-locked memory and starts a copy in a
    stream of its own, the other lets the current stream wait for that copy.

    Parameters
    ----------
    like : ndarray
        Of the shape and the dtype of what is to be sent.
    """

    def __init__(self, like: np.ndarray):
        self._host = pinned(like.size, like.dtype).reshape(like.shape)
        self._device = empty(like.shape, like.dtype)
        # memory may come back from what the device is still at, in the stream that it was taken for
        self._free = cupy.cuda.get_current_stream().record()
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._sent: Any = None

    def fits(self, values: np.ndarray) -> bool:
        """Whether that can be sent."""
        return self._host.shape == values.shape and self._host.dtype == values.dtype

    def send(self, values: np.ndarray) -> None:
        """Start a copy; the values may be changed afterwards."""
        if self._sent is not None:
            self._sent.synchronize()
        self._host[...] = values
        self._stream.wait_event(self._free)
        self._device.set(self._host, stream=self._stream)
        self._sent = self._stream.record()

    def arrive(self, array: Array) -> None:
        """Fill an array with what was sent, when it has come; the host does not wait."""
        stream = cupy.cuda.get_current_stream()
        stream.wait_event(self._sent)
        array[...] = self._device
        self._free = stream.record()

    def __del__(self) -> None:
        if getattr(self, "_sent", None) is not None:
            with suppress(Exception):  # at the end of the interpreter
                self._sent.synchronize()  # before others get the memory


def synchronize() -> None:
    """Wait until all that was asked for is done.

    Raises
    ------
    ArgumentError
        What a kernel had to complain about since the last time.
    """
    cupy.cuda.get_current_stream().synchronize()
    _raise_trouble()


def elapsed(work: Callable[[], None], runs: int = 3) -> float:
    """Return the milliseconds that the device takes for some work, the mean of some runs."""
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    begin.record()
    for _ in range(runs):
        work()
    end.record()
    end.synchronize()
    return cupy.cuda.get_elapsed_time(begin, end) / runs


_local = threading.local()


def stream() -> int:
    """Return CuPy's current stream, as other libraries take it."""
    return cupy.cuda.get_current_stream().ptr


def scratch(size: int, what: str = "") -> Array:
    """Return at least `size` doubles: the same memory for each call of a thread and device, so never nest two uses.

    `what` tells several uses apart that may be nested.
    """
    key = (selected(), what)
    found = _scratch().get(key)
    if found is None or found.size < size:
        # twice what it was, while that is little: nets are made layer by layer
        room = 0 if found is None else min(2 * found.size, _GROWTH)
        found = _scratch()[key] = empty(max(size, 1 << 16, room), np.float64)
    return found


_GROWTH = 1 << 23  # doubles


def _scratch() -> dict[tuple[int, str], Array]:
    return _local.__dict__.setdefault("scratch", {})


# -- what kernels complain about -------------------------------------------------------------------------------

Trouble = Callable[[float, int, str], ArgumentError]
"""Makes the error for a value, its place and the name of the layer that asked for the op (or "")."""

_SLOTS = 1024


class _Troubles:
    """A pair of doubles for each kind of complaint, in memory that host and device see: 1 + place, value."""

    def __init__(self) -> None:
        self.found = pinned(2 * _SLOTS, np.dtype(np.float64))
        self.kinds: dict[tuple, int] = {}
        self.errors: list[Callable[[float, int], ArgumentError]] = []
        self.ops: list[str] = []

    def slot(self, key: tuple, error: Callable[[float, int], ArgumentError]) -> int:
        """Return the address of the pair for that kind."""
        index = self.kinds.get(key)
        if index is None:
            index = self.kinds[key] = len(self.kinds) % _SLOTS
            if index < len(self.errors):
                self.errors[index], self.ops[index] = error, key[0]
            else:
                self.errors.append(error)
                self.ops.append(key[0])
        return self.found.ctypes.data + 16 * index


@cache
def _troubles() -> _Troubles:
    return _Troubles()


def trouble(key: tuple, error: Trouble) -> int:
    """Return the address into which a kernel writes (1 + place, value) of what it has to complain about.

    Parameters
    ----------
    key : tuple
        What tells this kind of complaint from others: the op, the number of classes ...
    error : Trouble
        Makes the error from the value, its place and the name of the layer that asked for the op, if one did.
    """
    by = labels.speaker.get()

    def named(value: float, place: int) -> ArgumentError:
        return error(value, place, by)

    return _troubles().slot((*key, by), named)


def _raise_trouble() -> None:
    if not _troubles.cache_info().currsize:
        return
    t = _troubles()
    places = t.found[::2]
    if not places.any():
        return
    # what a forward pass has met, before what the backward pass has met again
    index = min(np.flatnonzero(places).tolist(), key=lambda i: t.ops[i].endswith("_backward"))
    place, value = t.found[2 * index : 2 * index + 2].tolist()
    t.found[...] = 0
    raise t.errors[index](value, int(place) - 1)


# -- kernels ---------------------------------------------------------------------------------------------------

_DEFINITION = re.compile(r"(?:template <([^>]*)>\s*)?__global__ void (\w+)\(")


def expressions(source: str, real: str) -> list[str]:
    """Return the kernels of a source as C++ names, with every choice of template arguments for a dtype.

    Parameters
    ----------
    source : str
        Text of a .cu file with what it includes.
    real : {"float", "double"}
    """
    choices = {
        "typename real": [real],
        "typename out_t": ["float", "double"],
        "int V": ["1", "4" if real == "float" else "2"],
        "int A": ["1", "2", "3"],
    }
    found = []
    for arguments, name in _DEFINITION.findall(source):
        lists = [""]
        for argument in filter(None, arguments.split(", ")):
            lists = [f"{head}, {tail}" if head else tail for head in lists for tail in choices[argument]]
        found += [f"{name}<{chosen}>" if chosen else name for chosen in lists]
    return found


def source_of(family: str) -> str:
    """Return the text of a family's .cu file, with each file that it includes in its place, once."""

    def text(name: str, seen: set[str]) -> str:
        if name in seen:
            return ""
        seen.add(name)
        return re.sub(
            r'#include "(.+)"', lambda m: text(m[1], seen), (FOLDER / name).read_text(encoding="utf-8")
        )

    return text(f"{family}.cu", set())


class Kernels:
    """The kernels of a .cu file, compiled when one is first asked for, all those of a dtype together.

    Parameters
    ----------
    family : str
        Name of the file.
    """

    def __init__(self, family: str):
        self.family = family
        self._found: dict[tuple, Any] = {}

    def __call__(self, name: str, itemsize: int = 8, *more: int | str) -> Any:
        """Return a kernel.

        Parameters
        ----------
        name : str
        itemsize : int
            Of the tensors' dtype; 0 for a kernel without a template.
        *more : int or str
            Further template arguments.
        """
        key = (name, itemsize, *more)
        kernel = self._found.get(key)
        if kernel is None:
            real = _TYPES[itemsize or 8]
            expression = f"{name}<{', '.join(map(str, (real, *more)))}>" if itemsize else name
            kernel = self._found[key] = _module(self.family, real, expression).get_function(expression)
        return kernel


@cache
def _family(family: str, real: str) -> tuple[Any, frozenset[str]]:
    source = source_of(family)
    names = expressions(source, real)
    return cupy.RawModule(code=source, options=_OPTIONS, name_expressions=names), frozenset(names)


@cache
def _module(family: str, real: str, expression: str) -> Any:
    module, names = _family(family, real)
    if expression in names:
        return module
    return cupy.RawModule(code=source_of(family), options=_OPTIONS, name_expressions=[expression])


def launch(kernel: Any, blocks: int, *arguments: Any) -> None:
    """Put a kernel into the current stream: arrays, integers and floats; None is no array."""
    if blocks:
        kernel((blocks,), (THREADS,), tuple(0 if a is None else a for a in arguments))


def launch_each(kernel: Any, n: int, *arguments: Any) -> None:
    """Put a kernel into the current stream with one thread for each of n."""
    if n:
        kernel((-(-n // THREADS),), (THREADS,), tuple(0 if a is None else a for a in arguments))


def width(*arrays: Array, run: int = 0) -> int:
    """Return how many elements a thread may move at once: 16 bytes, where all arrays lie so and `run` is a multiple."""
    size = arrays[0].itemsize
    wide = 16 // size
    if run % wide or any(address(a) % 16 for a in arrays):
        return 1
    return wide


# -- graphs ----------------------------------------------------------------------------------------------------


class Graph:
    """What some work puts into a stream, recorded once and then launched as one.

    Memory that the work takes for a moment comes from a pool of the graph's own and stays with it.

    Parameters
    ----------
    work : callable
        Runs twice, once before it is recorded; must not wait for the device, nor copy from memory of the host.
    """

    def __init__(self, work: Callable[[], None]):
        synchronize()
        self._pool = cupy.cuda.MemoryPool()
        stream = cupy.cuda.Stream(non_blocking=True)
        with cupy.cuda.using_allocator(self._pool.malloc), stream:
            work()
            synchronize()
            stream.begin_capture()
            try:
                work()
            except BaseException:
                with suppress(Exception):  # says no more than that there is no graph
                    stream.end_capture()
                raise
            self._graph = stream.end_capture()
        # what the graph uses, and libraries remember
        self._kept = stream, list(_scratch().values())

    def launch(self) -> None:
        """Put the work into the current stream."""
        self._graph.launch(stream=cupy.cuda.get_current_stream())
