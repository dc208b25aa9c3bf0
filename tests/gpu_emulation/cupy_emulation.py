"""Stands in for CuPy where there is no GPU: arrays that cannot be mixed with those of NumPy, kernels by shim.h.

It has what the package uses, and no more, and is as strict as CuPy, or stricter: an array of the host where one of
the device belongs, a number of the wrong kind for a kernel, and writing behind the end of an array are errors.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import types
import weakref
from collections.abc import Callable

import numpy as np

import caffebn.ops

from .cublas_emulation import load_nvidia_dynamic_lib
from .kernels import Library

__all__ = ["install", "remove"]

GUARD = 64  # bytes before and behind each array, which nobody may write
ALIGNMENT = 512  # as CuPy's memory pool


class CUDARuntimeError(RuntimeError):
    """As in cupy.cuda.runtime."""


class OutOfMemoryError(MemoryError):
    """As in cupy.cuda.memory."""


# -- memory ----------------------------------------------------------------------------------------------------


class Pool:
    """The memory pool: counts, and keeps to a limit."""

    def __init__(self) -> None:
        self.limit = 0
        self.used = 0

    def set_limit(self, size: int | None = None) -> None:
        self.limit = size

    def get_limit(self) -> int:
        return self.limit

    def used_bytes(self) -> int:
        return self.used

    def total_bytes(self) -> int:
        return self.used

    def free_all_blocks(self) -> None:
        pass

    def malloc(self, size: int):
        raise NotImplementedError

    def take(self, size: int) -> None:
        if self.limit and self.used + size > self.limit:
            raise OutOfMemoryError(f"Out of memory allocating {size} bytes")
        self.used += size

    def give(self, size: int) -> None:
        self.used -= size


POOL = Pool()


class Buffer:
    """Memory of one array, with guards."""

    def __init__(self, size: int):
        POOL.take(size)
        weakref.finalize(self, POOL.give, size)
        whole = np.full(size + 2 * GUARD + ALIGNMENT, 0xA5, np.uint8)
        begin = GUARD + (-(whole.ctypes.data + GUARD)) % ALIGNMENT
        self.before = whole[begin - GUARD : begin]
        self.bytes = whole[begin : begin + size]
        self.behind = whole[begin + size : begin + size + GUARD]

    def check(self) -> None:
        assert (self.before == 0xA5).all() and (self.behind == 0xA5).all(), (
            "a kernel wrote outside of an array"
        )


_capture: list[Callable[[], None]] | None = None


def _do(work: Callable[[], None]) -> None:
    """Do something in the current stream: now, or when the graph being captured is launched."""
    if _capture is None:
        work()
    else:
        _capture.append(work)


class MemoryPointer:
    def __init__(self, ptr: int):
        self.ptr = ptr


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):  # noqa: N801
    """As cupy.ndarray."""

    def __init__(self, values: np.ndarray, buffer: Buffer):
        self._a, self._buffer = values, buffer

    shape = property(lambda self: self._a.shape)
    dtype = property(lambda self: self._a.dtype)
    size = property(lambda self: self._a.size)
    ndim = property(lambda self: self._a.ndim)
    itemsize = property(lambda self: self._a.itemsize)
    nbytes = property(lambda self: self._a.nbytes)
    flags = property(lambda self: self._a.flags)
    data = property(lambda self: MemoryPointer(self._a.ctypes.data))
    T = property(lambda self: self._view(self._a.T))

    def _view(self, values: np.ndarray) -> ndarray:
        return ndarray(values, self._buffer)

    def __len__(self) -> int:
        return len(self._a)

    def reshape(self, *shape) -> ndarray:
        return self._view(self._a.reshape(*shape))

    def ravel(self) -> ndarray:
        return self._view(self._a.reshape(-1))

    def view(self, dtype=None) -> ndarray:
        return self._view(self._a.view(dtype) if dtype else self._a.view())

    def __getitem__(self, key) -> ndarray:
        found = self._a[key]
        if not isinstance(found, np.ndarray):
            found = self._a[(*_tuple(key), ...)]
        assert np.shares_memory(found, self._a) or not found.size, "the package only takes views"
        return self._view(found)

    def __setitem__(self, key, value) -> None:
        if isinstance(value, np.ndarray) and value.ndim:
            raise TypeError(f"Unsupported type {type(value)}")
        source = value._a if isinstance(value, ndarray) else value
        _do(lambda: self._a.__setitem__(key, source))

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        if method != "__call__":
            return NotImplemented
        for value in inputs:
            if isinstance(value, np.ndarray) and value.ndim:
                raise TypeError(f"Unsupported type {type(value)}")
        plain = [v._a if isinstance(v, ndarray) else v for v in inputs]
        with np.errstate(all="ignore"):
            if out is not None:
                _do(lambda: ufunc(*plain, out=tuple(o._a for o in out), **options))
                return out[0]
            made = _wrap(np.asarray(ufunc(*plain, **options)))
            _do(lambda: made._a.__setitem__(..., ufunc(*plain, **options)))
        return made

    def astype(self, dtype, copy=True) -> ndarray:
        if not copy and self.dtype == dtype:
            return self
        made = _wrap(self._a.astype(dtype))
        _do(lambda: made._a.__setitem__(..., self._a))
        return made

    def copy(self) -> ndarray:
        return self.astype(self.dtype)

    def sum(self, axis=None, dtype=None) -> ndarray:
        made = _wrap(np.asarray(self._a.sum(axis=axis, dtype=dtype)))
        _do(lambda: made._a.__setitem__(..., self._a.sum(axis=axis, dtype=dtype)))
        return made

    def fill(self, value) -> None:
        _do(lambda: self._a.fill(value))

    def _on_host(self) -> np.ndarray:
        assert _capture is None, "a stream that is being captured cannot be waited for"
        self._buffer.check()
        return self._a

    def get(self, stream=None, order="C", out=None, blocking=True) -> np.ndarray:
        if out is None:
            return self._on_host().copy()
        assert out.flags.c_contiguous and out.dtype == self.dtype and out.shape == self.shape
        out[...] = self._on_host()
        return out

    def set(self, values, stream=None) -> None:
        assert type(values) is np.ndarray and values.dtype == self.dtype and values.shape == self.shape
        _do(lambda: self._a.__setitem__(..., values))

    def item(self):
        return self._on_host().item()

    def __float__(self) -> float:
        return float(self._on_host())

    def __int__(self) -> int:
        return int(self._on_host())

    def __bool__(self) -> bool:
        return bool(self._on_host())

    @property
    def __cuda_array_interface__(self) -> dict:
        return {**self._a.__array_interface__, "version": 3, "stream": 1}

    def __dlpack__(self, **_):
        return self._a.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)


def _tuple(key):
    return key if isinstance(key, tuple) else (key,)


def _wrap(values: np.ndarray) -> ndarray:
    made = empty(values.shape, values.dtype)
    made._a[...] = values
    return made


def empty(shape, dtype=float) -> ndarray:
    dtype = np.dtype(dtype)
    shape = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    buffer = Buffer(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
    values = buffer.bytes.view(dtype).reshape(shape)
    if dtype.kind == "f":
        values.fill(np.nan)
    return ndarray(values, buffer)


def zeros(shape, dtype=float) -> ndarray:
    made = empty(shape, dtype)
    made.fill(0)
    return made


# -- kernels ---------------------------------------------------------------------------------------------------


class RawModule:
    def __init__(self, *, code, options, name_expressions):
        self._names = list(name_expressions)
        self._code = code
        self._library = None

    def get_function(self, name: str) -> Kernel:
        assert name in self._names, f"{name} is not among the name_expressions"
        self._library = self._library or Library(self._code, self._names)
        return Kernel(self._library, name)


class Kernel:
    def __init__(self, library: Library, name: str):
        self.library, self.name = library, name
        self.kinds = library.kinds(name)

    def __call__(self, grid, block, arguments) -> None:
        assert len(arguments) == len(self.kinds), (
            f"{self.name} takes {len(self.kinds)} arguments, got {len(arguments)}"
        )
        assert len(grid) == len(block) == 1 and 0 < grid[0] < 2**31 and 0 < block[0] <= 1024
        values, arrays = [], []
        for i, (kind, value) in enumerate(zip(self.kinds, arguments, strict=True)):
            where = f"{self.name}, argument {i}"
            if isinstance(value, ndarray):
                assert kind == "p", f"{where}: an array for a number"
                assert value.flags.c_contiguous or value.size < 2, f"{where}: not contiguous"
                arrays.append(value._buffer)
                values.append(value.data.ptr)
            elif type(value) is int or isinstance(value, np.int64):
                assert kind in "pi", f"{where}: an integer for a double"
                values.append(int(value))
            elif type(value) is float or isinstance(value, np.float64):
                assert kind == "d", f"{where}: a double for something else"
                values.append(float(value))
            else:
                raise TypeError(f"{where}: unsupported type {type(value)}")

        def work() -> None:
            self.library.call(self.name, grid[0], block[0], values)
            for buffer in arrays:
                buffer.check()

        _do(work)


# -- streams, devices ------------------------------------------------------------------------------------------


class Event:
    def record(self, stream=None) -> None:
        pass

    def synchronize(self) -> None:
        pass


class Graph:
    def __init__(self, work):
        self.work = work

    def launch(self, stream=None) -> None:
        for work in self.work:
            work()

    def upload(self, stream=None) -> None:
        pass


class Stream:
    def __init__(self, null=False, non_blocking=False, ptds=False):
        self.ptr = 0 if null else 1

    def synchronize(self) -> None:
        assert _capture is None, "a stream that is being captured cannot be waited for"

    def record(self, event=None) -> Event:
        return event or Event()

    def wait_event(self, event) -> None:
        pass

    def begin_capture(self, mode=None) -> None:
        global _capture
        assert self.ptr, "the null stream cannot be captured"
        _capture = []

    def end_capture(self) -> Graph:
        global _capture
        work, _capture = _capture, None
        return Graph(work)

    def is_capturing(self) -> bool:
        return _capture is not None

    def __enter__(self) -> Stream:
        STREAMS.append(self)
        return self

    def __exit__(self, *_) -> None:
        STREAMS.pop()


STREAMS = [Stream(null=True)]


class Device:
    current = 0

    def __init__(self, device: int | None = None):
        self.id = Device.current if device is None else device

    def use(self) -> None:
        Device.current = self.id

    def __enter__(self) -> Device:
        self.before = Device.current
        self.use()
        return self

    def __exit__(self, *_) -> None:
        Device.current = self.before


@functools.cache
def _modules() -> dict[str, types.ModuleType]:
    """The emulation's modules by name."""
    _made: dict[str, types.ModuleType] = {}

    def _module(name: str, **contents) -> types.ModuleType:
        made = _made[name] = types.ModuleType(name)
        vars(made).update(contents)
        return made

    runtime = _module(
        "cupy.cuda.runtime",
        CUDARuntimeError=CUDARuntimeError,
        driverGetVersion=lambda: 0,
        runtimeGetVersion=lambda: 0,
        getDeviceCount=lambda: 2,
        getDevice=lambda: Device.current,
        getDeviceProperties=lambda i: {"name": b"emulation", "major": 0, "minor": i},
        memGetInfo=lambda: (1 << 30, 2 << 30),
        streamCaptureModeRelaxed=2,
    )
    cuda = _module(
        "cupy.cuda",
        runtime=runtime,
        memory=_module("cupy.cuda.memory", OutOfMemoryError=OutOfMemoryError),
        Device=Device,
        Stream=Stream,
        Event=Event,
        get_elapsed_time=lambda begin, end: 1.0,
        MemoryPool=Pool,
        get_current_stream=lambda: STREAMS[-1],
        alloc_pinned_memory=lambda size: memoryview(np.empty(size, np.uint8)),
        using_allocator=lambda allocator: contextlib.nullcontext(),
    )
    _module(
        "cupy",
        __version__="emulation",
        cuda=cuda,
        ndarray=ndarray,
        empty=empty,
        zeros=zeros,
        RawModule=RawModule,
        copyto=lambda target, source: target.__setitem__(..., source),
        get_default_memory_pool=lambda: POOL,
    )
    find = functools.partial(load_nvidia_dynamic_lib, _do)
    _module("cuda", pathfinder=_module("cuda.pathfinder", load_nvidia_dynamic_lib=find))
    return _made


def install() -> None:
    """Let ``import cupy`` find this."""
    sys.modules.update(_modules())
    sys.modules.update(_backend)
    if _backend:
        caffebn.ops.gpu = _backend["caffebn.ops.gpu"]  # type: ignore[attr-defined]


_backend: dict[str, types.ModuleType] = {}


def remove() -> None:
    """Let ``import cupy`` find what it found before, and the package find no GPU back end that uses this."""
    if sys.modules.get("cupy") is not _modules()["cupy"]:
        return
    for name in _modules():
        del sys.modules[name]
    for name in [n for n in sys.modules if f"{n}.".startswith("caffebn.ops.gpu.")]:
        _backend[name] = sys.modules.pop(name)
    vars(caffebn.ops).pop("gpu", None)
