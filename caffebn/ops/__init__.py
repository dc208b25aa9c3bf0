"""The computations of all layers, once per back end: ``reference``, ``cpu``, ``gpu``.

Each back end is a package with the same modules, functions and signatures; tests hold them equal.
``reference`` is the definition, in NumPy, and its docstrings are the documentation of all three.
A back end is loaded when it is asked for.

Rules that hold for every function: tensors are C-contiguous arrays of one float dtype (float32 or
float64) for all tensors of a call; statistics are always float64; outputs are handed in and filled;
sums are taken in double precision.  Where nothing else is said, an output may be the input of the
same shape (in place), but must not overlap it in any other way.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from caffebn.errors import ArgumentError, CaffebnError, did_you_mean
from caffebn.ops import host, threads

__all__ = ["BACKENDS", "arrays", "get", "threads", "why_no_gpu"]

#: The names of the back ends there are.
BACKENDS = ("cpu", "reference", "gpu")


def get(name: str) -> ModuleType:
    """Return the back end of that name: a module whose functions are the computations.

    Raises
    ------
    ArgumentError
        When there is no back end of that name.
    LevelError
        When the compiled kernels of the ``cpu`` back end cannot run here.
    MissingPackageError, DeviceError
        When the ``gpu`` back end finds no CuPy, or no device.
    """
    if name not in BACKENDS:
        raise ArgumentError(
            f"there are no ops named {name!r}; there are {', '.join(BACKENDS)}"
            f"{did_you_mean(str(name), BACKENDS)}"
        )
    return import_module(f"caffebn.ops.{name}")


def arrays(name: str) -> ModuleType:
    """Return the functions that make arrays for the back end of that name, and copy to and from them."""
    return get(name).device if name == "gpu" else host


def why_no_gpu() -> str:
    """Say why the ``gpu`` back end cannot run here; empty when it can."""
    try:
        get("gpu")
    except CaffebnError as e:
        return e.message
    return ""
