"""Which compiled kernels run: the instruction-set level, chosen once on import.

The wheel carries every kernel compiled for several levels.  The highest that the processor has, the
operating system allows and the build contains is taken; the environment variable ``CAFFEBN_LEVEL``
overrides the choice.  A level that cannot run, and a kernel that is missing, is an error: nothing
ever falls back to something slower without a word.

All kernels but the matrix products and convolutions give the same bits at every level.
"""

from __future__ import annotations

import ctypes
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

from caffebn import _kernels
from caffebn.errors import LevelError

_REPAIR = (
    "Reinstall caffebn: pip install --force-reinstall caffebn; in a checkout, compile its kernels: "
    "python setup.py build_ext --inplace"
)

try:
    from caffebn._kernels import cpuid
except ImportError as e:
    raise LevelError(f"the compiled part of caffebn cannot be loaded ({e}). {_REPAIR}") from e

__all__ = ["LEVELS", "active", "available", "built", "kernels", "supported"]

#: What each level needs of the processor, lowest level first: x86-64-v2, v3 and v4 of the x86-64 psABI.
LEVELS: dict[str, frozenset[str]] = {}
LEVELS["base"] = frozenset({"cx16", "sahf", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2"})
LEVELS["v3"] = LEVELS["base"] | {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe"}
LEVELS["v4"] = LEVELS["v3"] | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


def supported() -> tuple[str, ...]:
    """Return the levels that the processor has and the operating system allows, lowest first."""
    if not cpuid.X86_64:
        return ("base",)
    features = cpuid.features()
    return tuple(level for level, needs in LEVELS.items() if needs <= features)


def built() -> tuple[str, ...]:
    """Return the levels that this installation contains, lowest first."""
    folder = Path(_kernels.__file__).parent
    suffixes = tuple(EXTENSION_SUFFIXES)
    return tuple(
        level for level in LEVELS if any(p.name.endswith(suffixes) for p in folder.joinpath(level).iterdir())
    )


def available() -> tuple[str, ...]:
    """Return the levels that can be used here: both supported and built, lowest first."""
    here = built()
    return tuple(level for level in supported() if level in here)


def active() -> str:
    """Return the level in use."""
    return _ACTIVE


def kernels(family: str, level: str | None = None) -> ModuleType:
    """Return the compiled module of a kernel family.

    Parameters
    ----------
    family : str
        The name of ``pyx/<family>.pyx``, such as ``"channel"``.
    level : str, optional
        Another level than the active one, for comparing levels.

    Raises
    ------
    LevelError
        When the level cannot be used here, or the module is missing or cannot be loaded.
    """
    level = _ACTIVE if level is None else _checked(level, "the argument level")
    name = f"{_kernels.__name__}.{level}.{family}"
    try:
        with _short_spin():
            module = importlib.import_module(name)
    except ImportError as e:
        raise LevelError(
            f'the kernels "{family}" cannot be loaded at level {level} ({e}): the installation is broken. '
            f"{_REPAIR}"
        ) from e
    _prepare_for_forks(module)
    return module


def _checked(level: str, source: str) -> str:
    """Return `level` if it can be used here; `source` names where it was asked for."""
    if level in available():
        return level
    if level not in LEVELS:
        why = f"there is no such level, the levels are {', '.join(LEVELS)}"
    elif level not in supported():
        lacking = LEVELS[level] - cpuid.features() if cpuid.X86_64 else {"the x86-64 architecture"}
        why = f"this processor (or its operating system) lacks {', '.join(sorted(lacking))}"
    else:
        why = "this installation was built without it"
    raise LevelError(f"{source} asks for the level {level!r}, but {why}; {_alternatives()}")


def _alternatives() -> str:
    usable = available()
    return f"available here: {', '.join(usable)}" if usable else "no level is available here"


def _choose(wanted: str | None) -> str:
    """Pick the level; `wanted` is the content of ``CAFFEBN_LEVEL``."""
    if wanted:
        return _checked(wanted, "the environment variable CAFFEBN_LEVEL")
    usable = available()
    if not usable:
        if "base" not in supported():
            _checked("base", "caffebn")
        raise LevelError(
            f"no kernels for this processor in this installation (it supports {', '.join(supported())}; "
            f"built: {', '.join(built()) or 'none'}). {_REPAIR}"
        )
    return usable[-1]


_ACTIVE = _choose(os.environ.get("CAFFEBN_LEVEL"))


@contextmanager
def _short_spin() -> Iterator[None]:
    """Let OpenMP, when it is loaded in this block, put waiting threads to sleep after a tenth of a millisecond.

    GNU's OpenMP otherwise keeps a waiting thread busy fifteen times as long.  That is harmless while the thread has a
    core to itself, but where other programs want the cores, too, it makes small nets eighty times slower.  Less is
    not better: threads that have gone to sleep between two layers wake up so late that one image takes an eighth
    longer.  The variable is read once, when the library is loaded; it is taken back for the sake of programs that are
    started from here.
    """
    if {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = "20000"
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]


_PAUSE_SOFT = 1  # omp_pause_soft of omp.h
_prepared = False


def _prepare_for_forks(module: ModuleType) -> None:
    """Have OpenMP end its threads before this process forks, as `multiprocessing` does on Linux.

    GNU's OpenMP in the child would otherwise wait forever for threads that only the parent has.  The next kernel
    makes new ones, in both processes.
    """
    global _prepared
    if _prepared or not hasattr(os, "register_at_fork"):
        return
    _prepared = True
    pause = getattr(ctypes.CDLL(module.__file__), "omp_pause_resource_all", None)
    if pause is not None:  # a build without OpenMP, or a compiler older than OpenMP 5
        os.register_at_fork(before=lambda: pause(_PAUSE_SOFT))
