"""Products of matrices by cuBLAS.

The library is called here and not by CuPy, whose calls of it cannot be recorded in a graph.  Each thread and device
has a handle with a workspace of its own: so a product is computed in the same order each time, and memory of a
recorded one stays where it is.
"""

from __future__ import annotations

import ctypes
import threading
from ctypes import POINTER, byref, c_double, c_float, c_int, c_longlong, c_size_t, c_void_p
from functools import cache
from typing import Any

import numpy as np

from caffebn.errors import DeviceError
from caffebn.ops.gpu import device

__all__ = ["multiply"]

WORKSPACE = 32 << 20
"""Bytes of workspace of a handle: what NVIDIA recommends for compute capability 9.0, and more than others need."""

_TF32 = 3  # CUBLAS_TF32_TENSOR_OP_MATH

Matrix = tuple[int, int, bool]
"""Address, elements from row to row, and whether it is transposed."""


@cache
def _library() -> ctypes.CDLL:
    """The library, with the types of what its functions take."""
    library = ctypes.CDLL(device.library("cublas"))
    for function in (library.cublasGetStatusName, library.cublasGetStatusString):
        function.restype = ctypes.c_char_p
    library.cublasCreate_v2.argtypes = [POINTER(c_void_p)]
    library.cublasSetStream_v2.argtypes = [c_void_p, c_void_p]
    library.cublasSetWorkspace_v2.argtypes = [c_void_p, c_void_p, c_size_t]
    library.cublasSetMathMode.argtypes = [c_void_p, c_int]
    for letter, real in (("S", c_float), ("D", c_double)):
        sizes = [c_void_p, *[c_int] * 5]
        one, matrix, stride = POINTER(real), [c_void_p, c_int], [c_longlong]
        getattr(library, f"cublas{letter}gemm_v2").argtypes = [*sizes, one, *matrix, *matrix, one, *matrix]
        getattr(library, f"cublas{letter}gemmStridedBatched").argtypes = [
            *sizes, one, *(matrix + stride) * 2, one, *matrix, *stride, c_int,
        ]  # fmt: skip
    return library


def _check(status: int, what: str) -> None:
    if status:
        name, said = _library().cublasGetStatusName(status), _library().cublasGetStatusString(status)
        raise DeviceError(
            f"GPU {device.selected()}: cuBLAS failed to {what}: {name.decode()} ({said.decode()})"
        )


class _Handle:
    """A handle of cuBLAS, for one thread and device."""

    def __init__(self) -> None:
        library = _library()
        self.address = c_void_p()
        _check(library.cublasCreate_v2(byref(self.address)), "start, for which it needs memory")
        if device.ALLOW_TF32:
            _check(library.cublasSetMathMode(self.address, _TF32), "allow TF32")
        self.stream: int | None = None

    def use(self, stream: int) -> None:
        """Compute in a stream from now on."""
        if stream != self.stream:
            library = _library()
            _check(library.cublasSetStream_v2(self.address, stream), "take a stream")
            # a new stream lets go of the workspace
            workspace = device.address(device.scratch(WORKSPACE // 8, "cuBLAS"))
            _check(library.cublasSetWorkspace_v2(self.address, workspace, WORKSPACE), "take a workspace")
            self.stream = stream


_local = threading.local()


def _handle() -> c_void_p:
    handles: dict[int, _Handle] = _local.__dict__.setdefault("handles", {})
    index = device.selected()
    handle = handles.get(index)
    if handle is None:
        handle = handles[index] = _Handle()
    handle.use(device.stream())
    return handle.address


_FACTORS: dict[int, dict[bool, Any]] = {
    size: {value: byref(real(value)) for value in (False, True)}
    for size, real in ((4, c_float), (8, c_double))
}


def multiply(
    dtype: np.dtype,
    m: int,
    n: int,
    k: int,
    a: Matrix,
    b: Matrix,
    c: tuple[int, int],
    accumulate: bool,
    batch: int = 1,
    strides: tuple[int, int, int] = (0, 0, 0),
) -> None:
    """Multiply matrices in C order, ``c = op(a) op(b)`` or ``c += op(a) op(b)``, `batch` of them.

    Parameters
    ----------
    dtype : dtype
    m, n, k : int
        c is (m, n), op(a) is (m, k).
    a, b : (int, int, bool)
        Address, elements from row to row, and whether it is transposed.
    c : (int, int)
        Address, elements from row to row.
    accumulate : bool
    batch : int
    strides : (int, int, int)
        Elements from one a, b and c of the batch to the next.

    Raises
    ------
    DeviceError
    """
    handle, library = _handle(), _library()
    letter = "S" if dtype.itemsize == 4 else "D"
    one, factor = _FACTORS[dtype.itemsize][True], _FACTORS[dtype.itemsize][accumulate]
    # cuBLAS takes columns for rows: it is asked for the transposed product
    shape = (int(b[2]), int(a[2]), n, m, k)
    if batch == 1:
        call = getattr(library, f"cublas{letter}gemm_v2")
        status = call(handle, *shape, one, b[0], b[1], a[0], a[1], factor, c[0], c[1])
    else:
        call = getattr(library, f"cublas{letter}gemmStridedBatched")
        status = call(
            handle, *shape, one, b[0], b[1], strides[1], a[0], a[1], strides[0],
            factor, c[0], c[1], strides[2], batch,
        )  # fmt: skip
    _check(status, "multiply matrices")
