"""What all benchmarks share: seeds, shapes, dtypes, thread counts, back ends.

Entries may be added here but not changed: results of different commits are compared by their names.
Importing this must work with any version of caffebn, so caffebn itself is imported in `use`.
"""

from __future__ import annotations

import os

import numpy as np

SEED = 1701

#: With CAFFEBN_BENCH_FEW=1 every benchmark runs, but in one dtype, at one level and with one number of threads: to see
#: that none is broken, which the checks do.
FEW = os.environ.get("CAFFEBN_BENCH_FEW") == "1"

DTYPES = ["float32"] if FEW else ["float32", "float64"]

#: Batch of all tensors below; the largest is then 51 MB in float32, beyond most caches.
BATCH = 16

#: Outputs of ResNet-50's stages, (channels, height, width).
SHAPES = {
    "conv1": (64, 112, 112),
    "res2": (256, 56, 56),
    "res3": (512, 28, 28),
    "res4": (1024, 14, 14),
    "res5": (2048, 7, 7),
}

try:
    _cores = len(os.sched_getaffinity(0))
except AttributeError:  # not on macOS
    _cores = os.cpu_count() or 1

#: One thread, and as many as this process may use.
THREADS = [_cores] if FEW else sorted({1, _cores})

ALL_THREADS = THREADS[-1]

#: What a net promises to keep: every blob, or its outputs alone.
KEPT = {"outputs": []} if FEW else {"all": None, "outputs": []}


def has_gpu() -> bool:
    """Say whether CuPy and a device are there."""
    try:
        import cupy
    except ImportError:
        return False
    try:
        return cupy.cuda.runtime.getDeviceCount() > 0
    except cupy.cuda.runtime.CUDARuntimeError:
        return False


#: The CPU at the level that caffebn chooses, and the GPU.
BACKENDS = ["cpu", "gpu"] if has_gpu() else ["cpu"]

#: The CPU at each instruction-set level.
LEVELS = ["cpu base"] if FEW else ["cpu base", "cpu v3", "cpu v4"]


class Backend:
    """A back end ready to be timed: its ops, its arrays, and a way to wait for it.

    Parameters
    ----------
    name : str
        "reference", "cpu", "gpu", or "cpu <level>".  The level is chosen when caffebn is imported,
        hence must be asked for in a fresh process, such as asv gives to each benchmark.
    threads : int
        For the CPU kernels.
    """

    def __init__(self, name: str, threads: int):
        self.name, _, level = name.partition(" ")
        if level:
            os.environ["CAFFEBN_LEVEL"] = level
        try:
            import caffebn.ops.level
            import caffebn.ops.threads
        except RuntimeError as e:
            # LevelError, whose class cannot be imported without the level
            if level and "asks for the level" in str(e):
                raise NotImplementedError(str(e)) from e  # asv's way to skip
            raise
        if level not in ("", caffebn.ops.level.active()):
            raise RuntimeError(f"level {level} was asked for, {caffebn.ops.level.active()} is active")
        caffebn.ops.threads.set(threads)
        self.ops = caffebn.ops.get(self.name)

    def array(self, values: np.ndarray):
        """Put an array where the back end computes; its pages are touched."""
        if self.name != "gpu":
            return values.copy()
        import cupy

        return cupy.asarray(values)

    def wait(self) -> None:
        """Return when all work is done; the GPU works asynchronously."""
        if self.name == "gpu":
            import cupy

            cupy.cuda.get_current_stream().synchronize()


class Kernels:
    """A family of kernels; subclasses say which cases, dtypes, thread counts and back ends are swept.

    A subclass's `prepare(case, dtype)` makes the arrays, and its timed methods make one call each.
    """

    param_names = ["case", "dtype", "threads", "backend"]

    def setup(self, case: str, dtype: str, threads: int, backend: str) -> None:
        self.backend = Backend(backend, threads)
        self.ops = self.backend.ops
        self.prepare(case, dtype)


def random(shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    """Return normally distributed numbers, the same in every run."""
    return np.random.default_rng(SEED).standard_normal(shape, dtype=np.float32).astype(dtype, copy=False)


def activations(name: str, dtype: str) -> np.ndarray:
    """Return a random tensor (N, C, S) of the named shape."""
    channels, height, width = SHAPES[name]
    return random((BATCH, channels, height * width), dtype)
