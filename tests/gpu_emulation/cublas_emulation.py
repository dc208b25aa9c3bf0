"""A library with the functions of cuBLAS that the package calls, for ctypes; NumPy multiplies."""

from __future__ import annotations

import ctypes
import functools
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .kernels import build

__all__ = ["load_nvidia_dynamic_lib"]

# Every product comes to one function of Python; a handle holds a stream and whether it has a workspace for it.
SOURCE = """
#include <cstddef>
#include <cstdlib>
typedef int (*hook_t)(int, int, int, int, int, int, const void*, const void*, int, long long, const void*, int,
                      long long, const void*, void*, int, long long, int);
static hook_t hook;
struct Handle { void* stream; size_t workspace; };
extern "C" {
void emulation_hook(hook_t f) { hook = f; }
int cublasCreate_v2(Handle** h) { *h = (Handle*)calloc(1, sizeof(Handle)); return 0; }
int cublasSetStream_v2(Handle* h, void* s) { h->stream = s; h->workspace = 0; return 0; }
int cublasSetWorkspace_v2(Handle* h, void* at, size_t n) { h->workspace = n; return (size_t)at % 256 ? 7 : 0; }
int cublasSetMathMode(Handle*, int) { return 0; }
const char* cublasGetStatusName(int s) { return s == 7 ? "CUBLAS_STATUS_INVALID_VALUE" : "another"; }
const char* cublasGetStatusString(int) { return "what it means"; }
#define GEMM(L, T) \\
int cublas##L##gemm_v2(Handle* h, int ta, int tb, int m, int n, int k, const T* alpha, const T* a, int lda, \\
                       const T* b, int ldb, const T* beta, T* c, int ldc) { \\
    return h->workspace ? hook(sizeof(T), ta, tb, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc, 0, 1) : 7; \\
} \\
int cublas##L##gemmStridedBatched(Handle* h, int ta, int tb, int m, int n, int k, const T* alpha, const T* a, \\
                                  int lda, long long sa, const T* b, int ldb, long long sb, const T* beta, T* c, \\
                                  int ldc, long long sc, int count) { \\
    if (!h->workspace) return 7; \\
    return hook(sizeof(T), ta, tb, m, n, k, alpha, a, lda, sa, b, ldb, sb, beta, c, ldc, sc, count); \\
}
GEMM(S, float)
GEMM(D, double)
}
"""

_HOOK = ctypes.CFUNCTYPE(
    ctypes.c_int, *[ctypes.c_int] * 6, ctypes.c_void_p,
    *[ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong] * 2, ctypes.c_void_p,
    ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong, ctypes.c_int,
)  # fmt: skip


def _columns(address: int, rows: int, columns: int, leading: int, size: int) -> np.ndarray:
    """A matrix in column order at an address."""
    assert leading >= max(1, rows), "the leading dimension of a matrix is less than its rows"
    n = leading * (columns - 1) + rows
    kind = ctypes.c_float if size == 4 else ctypes.c_double
    flat = np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(kind)), (n,))
    return np.lib.stride_tricks.as_strided(flat, (rows, columns), (size, leading * size))


def _gemm(do: Callable[[Callable[[], None]], None]) -> Callable:
    def gemm(size, ta, tb, m, n, k, alpha, a, lda, sa, b, ldb, sb, beta, c, ldc, sc, count) -> int:
        try:
            alpha, beta = (_columns(p, 1, 1, 1, size)[0, 0].copy() for p in (alpha, beta))

            def work() -> None:
                for i in range(count):
                    pa, pb, pc = (p + i * step * size for p, step in ((a, sa), (b, sb), (c, sc)))
                    left = _columns(pa, k, m, lda, size).T if ta else _columns(pa, m, k, lda, size)
                    right = _columns(pb, n, k, ldb, size).T if tb else _columns(pb, k, n, ldb, size)
                    out = _columns(pc, m, n, ldc, size)
                    with np.errstate(all="ignore"):
                        product = alpha * (left @ right)
                    out[...] = product + beta * out if beta else product

            do(work)
        except AssertionError:
            return 7  # an exception would be lost on its way through C
        return 0

    return gemm


@functools.cache
def _library(do: Callable[[Callable[[], None]], None]) -> tuple[Path, object]:
    path = build(SOURCE)
    hook = _HOOK(_gemm(do))
    ctypes.CDLL(str(path)).emulation_hook(hook)
    return path, hook


def load_nvidia_dynamic_lib(do: Callable[[Callable[[], None]], None], name: str) -> types.SimpleNamespace:
    """As in cuda.pathfinder; `do` does something in the current stream."""
    if name == "cublas":
        return types.SimpleNamespace(abs_path=str(_library(do)[0]))
    if name == "cudart":
        return types.SimpleNamespace(abs_path="libcudart.so")
    raise RuntimeError(f"no such library in the emulation: {name}")
