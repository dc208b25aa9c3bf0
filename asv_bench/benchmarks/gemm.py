"""Matrix products."""

from __future__ import annotations

import numpy as np

from .common import ALL_THREADS, BACKENDS, DTYPES, LEVELS, THREADS, Kernels, random

#: (rows, columns, length of the sums)
SIZES = {
    "square 512": (512, 512, 512),
    "mnist inner product": (60, 100, 784),
    "alexnet fc7, one image": (1, 4096, 4096),
    "alexnet fc7, 16 images": (16, 4096, 4096),
    "resnet50 fc1000, one image": (1, 1000, 2048),
    "resnet50 fc1000, 8 images": (8, 1000, 2048),
}


class _Gemm(Kernels):
    def prepare(self, case: str, dtype: str) -> None:
        m, n, k = SIZES[case]
        self.a = self.backend.array(random((m, k), dtype))
        self.b = self.backend.array(random((n, k), dtype))
        self.c = self.backend.array(np.zeros((m, n), dtype))

    def time_gemm(self, *_):
        self.ops.gemm(self.a, self.b, self.c, trans_b=True)
        self.backend.wait()


class Sizes(_Gemm):
    """Inner-product layers, as Caffe stores their weights (transposed)."""

    params = [list(SIZES), DTYPES, THREADS, BACKENDS]


class Levels(_Gemm):
    """One product at each instruction-set level."""

    params = [["square 512"], DTYPES, [ALL_THREADS], LEVELS]
