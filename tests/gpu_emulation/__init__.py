"""Runs the GPU back end without a GPU, for the tests: see `cupy_emulation` and `shim.h`.

What it shows: that the kernels' arithmetic and indexing, their barriers, the code around them and the bookkeeping
of memory are right.  What it cannot show: that the code is fast, that it compiles for a GPU (other tests do that),
that streams and memory behave as assumed, and how cuBLAS and cuDNN compute.
"""

from __future__ import annotations

from .cupy_emulation import install, remove
from .kernels import compiler, run_backwards

__all__ = ["compiler", "install", "remove", "run_backwards"]
