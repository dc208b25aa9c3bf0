"""Compiles .cu sources for the processor, with shim.h, and calls their kernels."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

__all__ = ["Library", "build", "compiler", "run_backwards"]

SHIM = Path(__file__).with_name("shim.h")
FLAGS = ("-std=c++17", "-O1", "-ffp-contract=off", "-fPIC", "-shared", "-w", "-U_FORTIFY_SOURCE")

_libraries: list[Library] = []
_backwards = False


@functools.cache
def compiler() -> str | None:
    """The C++ compiler, or None."""
    return shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")


def run_backwards(on: bool) -> None:
    """Run blocks and threads from the last to the first from now on, or as usual."""
    global _backwards
    _backwards = on
    for library in _libraries:
        library.so.emulation_backwards(int(on))


def build(text: str) -> Path:
    """Compile a source, if that has not been done before, and return the path of the library."""
    key = hashlib.sha256((text + SHIM.read_text() + " ".join(FLAGS)).encode()).hexdigest()[:24]
    folder = Path(tempfile.gettempdir()) / f"caffebn-emulation-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    path = folder / f"{key}.so"
    if not path.exists():
        source = folder / f"{key}-{os.getpid()}.cpp"
        source.write_text(text)
        made = source.with_suffix(".so")
        done = subprocess.run(
            [compiler(), *FLAGS, str(source), "-o", str(made)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-5000:]
        made.replace(path)  # another process may have made the same
        source.unlink()
    return path


class Library:
    """The kernels of one source."""

    def __init__(self, code: str, names: list[str]):
        wrappers = "".join(
            f'extern "C" const char* kinds_{i}() {{ '
            f"static std::string s = emulation::kinds(&{name}); return s.c_str(); }}\n"
            f'extern "C" int call_{i}(unsigned blocks, unsigned threads, void** a) '
            f"{{ return emulation::call(&{name}, blocks, threads, a); }}\n"
            for i, name in enumerate(names)
        )
        text = f'#include "{SHIM}"\n{code}\n{wrappers}'
        path = build(text)
        self.so = ctypes.CDLL(str(path))
        self.so.emulation_trouble.restype = ctypes.c_char_p
        self.so.emulation_backwards(int(_backwards))
        self.index = {name: i for i, name in enumerate(names)}
        _libraries.append(self)

    def kinds(self, name: str) -> str:
        """What a kernel takes: a letter for each argument, p (pointer), i (long long) or d (double)."""
        function = getattr(self.so, f"kinds_{self.index[name]}")
        function.restype = ctypes.c_char_p
        return function().decode()

    def call(self, name: str, blocks: int, threads: int, values: list[int | float]) -> None:
        """Run a kernel to its end."""
        cells = [ctypes.c_double(v) if isinstance(v, float) else ctypes.c_longlong(v) for v in values]
        pointers = (ctypes.c_void_p * len(cells))(*(ctypes.addressof(c) for c in cells))
        if not getattr(self.so, f"call_{self.index[name]}")(blocks, threads, pointers):
            raise AssertionError(f"{name}: {self.so.emulation_trouble().decode()}")
