"""Compile the kernels of pyx/ once per instruction-set level; everything else is in pyproject.toml.

Each `pyx/<family>.pyx` is translated to C once, and that C file is compiled for every level into
`caffebn._kernels.<level>.<family>`; `caffebn/ops/level.py` picks a level on import.  Code that all
modules share (Cython's memory views) lives once in `caffebn._kernels.shared`, which makes the build
four times quicker and the wheel a third of the size.  `pyx/cpuid.pyx`, `pyx/wire.pyx` and the shared module are
compiled once, for any processor of the architecture: they run before the level is known, or would gain nothing by one.

Environment
-----------
CAFFEBN_NO_OPENMP=1
    Build kernels that use one thread, for compilers without OpenMP.
CAFFEBN_DEBUG=1
    Check every index of every memory view in the kernels, and keep debug information.
CC, CFLAGS, LDFLAGS
    As usual.
"""

import os
import platform
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.modified import newer_group

DEBUG = os.environ.get("CAFFEBN_DEBUG", "0") == "1"
NO_OPENMP = os.environ.get("CAFFEBN_NO_OPENMP", "0") == "1"

PACKAGE = "caffebn._kernels"
SHARED = f"{PACKAGE}.shared"
ONCE = ["cpuid", "wire"]
FAMILIES = sorted(p.stem for p in Path("pyx").glob("*.pyx") if p.stem not in ONCE)
MODULES = ["shared", *ONCE, *FAMILIES]

# The levels are those of the x86-64 psABI (x86-64-v2, v3, v4), spelled out because compilers older
# than gcc 11 and clang 12 do not know -march=x86-64-v3.  caffebn/ops/level.py asks the processor for
# the same features.
if platform.machine().lower() in ("x86_64", "amd64"):
    ANY = ["-march=x86-64"]
    BASE = [*ANY, "-mcx16", "-msahf", "-mpopcnt", "-msse3", "-mssse3", "-msse4.1", "-msse4.2"]
    V3 = [*BASE, "-mavx", "-mavx2", "-mbmi", "-mbmi2", "-mf16c", "-mfma", "-mlzcnt", "-mmovbe"]
    V4 = [*V3, "-mavx512f", "-mavx512bw", "-mavx512cd", "-mavx512dq", "-mavx512vl"]
    LEVELS = {"base": BASE, "v3": V3, "v4": V4}
else:
    ANY = []
    LEVELS = {"base": ANY}

# Matrix products are bound by arithmetic, and a fused multiply-add halves it; their results may
# differ between levels by rounding, as they do between BLAS libraries.  All other kernels are bound
# by memory, where fusing gains nothing, and must give the same bits at every level.
FUSED_MULTIPLY_ADD = {"gemm", "conv"}

# Neither of the last two changes a result: nobody reads errno or the floating-point exception flags
# after a kernel, and giving them up lets the compiler use vector code for sqrt and for selections.
# -fno-fast-math guards against a -ffast-math in the user's CFLAGS, which at link time would even make
# loading a kernel flush denormal numbers to zero in the whole process.
OPTIMISE = ["-O3", "-fno-fast-math", "-fno-math-errno", "-fno-trapping-math"]

# Cython's own C code fills arrays it does not use, depending on the features a module needs.
WARNINGS = [
    "-Wno-unused-function",
    "-Wno-unused-variable",
    "-Wno-unused-but-set-variable",
    "-Werror=implicit-function-declaration",
]

# Not -I: pyx/cpuid.h must not hide the compiler's own <cpuid.h>.
HEADERS = ["-iquote", "pyx"]

DIRECTIVES = {
    "language_level": "3",
    "boundscheck": DEBUG,
    "initializedcheck": DEBUG,
    "wraparound": False,
    "cdivision": True,
}

PYTHON_PROGRAM = "#include <Python.h>\nint main(void) { return 0; }\n"

OPENMP_PROGRAM = """
#include <omp.h>
int main(void) {
    int seen = 0;
    #pragma omp parallel num_threads(2) reduction(+:seen)
    seen += 1;
    return seen == 2 ? 0 : 1;
}
"""

NO_COMPILER = """
caffebn cannot be built: {why}
It needs gcc or clang and Python's headers:
    Debian, Ubuntu:  apt install build-essential python3-dev
    Fedora, RHEL:    dnf install gcc python3-devel
    macOS:           xcode-select --install
    conda:           conda install -c conda-forge c-compiler
The environment variable CC chooses the compiler.
"""

NO_VECTORS = """
caffebn cannot be built: the compiler does not know {flags}.
It needs gcc 9, clang 10 or newer; the environment variable CC chooses the compiler.
"""

NO_OPENMP_FOUND = """
caffebn cannot be built: the compiler has no working OpenMP, with which the kernels use all cores.
    Debian, Ubuntu with clang:  apt install libomp-dev
    Fedora, RHEL with clang:    dnf install libomp-devel
    macOS:                      brew install libomp
    conda:                      conda install -c conda-forge openmp
Or set CAFFEBN_NO_OPENMP=1 to build kernels that use one thread.
"""


def kernel(name, source, flags):
    """Describe one extension module; `source` is the stem of its .pyx, or "shared"."""
    extension = Extension(name, [f"pyx/{source}.pyx"] if source != "shared" else [])
    extension.family, extension.flags = source, flags
    return extension


def kernels():
    yield kernel(SHARED, "shared", ANY)
    for module in ONCE:
        yield kernel(f"{PACKAGE}.{module}", module, ANY)
    for family in FAMILIES:
        for level, flags in LEVELS.items():
            contract = "fast" if family in FUSED_MULTIPLY_ADD else "off"
            yield kernel(f"{PACKAGE}.{level}.{family}", family, [*flags, f"-ffp-contract={contract}"])


class BuildPython(build_py):
    """Forget the modules of earlier builds: a removed or renamed one must not end up in the wheel."""

    def run(self):
        for path in Path(self.build_lib, "caffebn").rglob("*"):
            if path.is_file() and (path.suffix != ".so" or path.name.split(".")[0] not in MODULES):
                path.unlink()
        super().run()


class BuildKernels(build_ext):
    """Ask what the compiler can do, translate each .pyx once, compile everything in parallel."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self):
        self.work = Path(self.build_temp, "kernels")
        self.work.mkdir(parents=True, exist_ok=True)
        self.check_compiler()
        compile_openmp, link_openmp = ([], []) if NO_OPENMP else self.openmp_flags()
        for e in self.extensions:
            debug = "-g" if DEBUG else "-g0"
            e.extra_compile_args = [*e.flags, *OPTIMISE, *WARNINGS, *HEADERS, debug, *compile_openmp]
            e.extra_link_args = ["-fno-fast-math", *link_openmp]
        settings = self.record_settings()
        with ThreadPoolExecutor(self.parallel) as pool:
            translated = dict(pool.map(lambda f: (f, self.translate(f, settings)), MODULES))
        for e in self.extensions:
            e.sources = [str(self.source_of(e, translated[e.family]))]
            e.depends = [str(settings), *parts_of(e.family, ".h")]
        super().build_extensions()

    def check_compiler(self):
        if self.compiler.compiler_type != "unix":
            raise SystemExit(
                f"caffebn cannot be built with the {self.compiler.compiler_type} compiler: "
                "its kernels need gcc or clang. On Windows, use the Windows Subsystem for Linux."
            )
        if why := self.try_program(PYTHON_PROGRAM, ["-c"]):
            raise SystemExit(NO_COMPILER.format(why=why))
        for flags in LEVELS.values():
            if self.try_program(PYTHON_PROGRAM, ["-c", *flags]):
                raise SystemExit(NO_VECTORS.format(flags=" ".join(flags)))

    def openmp_flags(self):
        """Flags with which a program that uses OpenMP compiles, links and runs."""
        candidates = [(["-fopenmp"], ["-fopenmp"])]
        if sys.platform == "darwin":
            # Apple's clang has OpenMP switched off in its driver, and Homebrew keeps libomp apart
            for prefix in ("/opt/homebrew/opt/libomp", "/usr/local/opt/libomp"):
                compile_flags = ["-Xpreprocessor", "-fopenmp", f"-I{prefix}/include"]
                candidates.append((compile_flags, [f"-L{prefix}/lib", f"-Wl,-rpath,{prefix}/lib", "-lomp"]))
        for compile_flags, link_flags in candidates:
            if not self.try_program(OPENMP_PROGRAM, compile_flags, link_flags, run=True):
                return compile_flags, link_flags
        raise SystemExit(NO_OPENMP_FOUND)

    def try_program(self, text, compile_flags, link_flags=(), run=False):
        """Compile a program and perhaps run it; return what went wrong, or ""."""
        # OMP_THREAD_LIMIT or OMP_DYNAMIC would make OpenMP look broken
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
        with tempfile.TemporaryDirectory() as folder:
            source, program = Path(folder, "probe.c"), Path(folder, "probe")
            source.write_text(text)
            headers = [f"-I{path}" for path in self.include_dirs]
            command = [*self.compiler.compiler, *headers, *compile_flags, source, "-o", program, *link_flags]
            for arguments in [command, [program]][: 1 + run]:
                try:
                    done = subprocess.run(
                        arguments, capture_output=True, text=True, timeout=60, env=environment
                    )
                except (OSError, subprocess.TimeoutExpired) as e:
                    return str(e)
                if done.returncode:
                    return f"{arguments[0]} failed with exit status {done.returncode}\n{done.stderr}"
        return ""

    def record_settings(self):
        """Write down what the outcome depends on beside sources, touching the file only when it changes."""
        import Cython

        version = subprocess.run(
            [*self.compiler.compiler, "--version"], capture_output=True, text=True
        ).stdout
        lines = [f"Cython {Cython.__version__}", f"Python {sys.version}", version, repr(DIRECTIVES)]
        lines += [f"{e.name}: {' '.join(e.extra_compile_args + e.extra_link_args)}" for e in self.extensions]
        return written(self.work / "settings.txt", "\n".join(lines))

    def translate(self, family, settings):
        """Translate one .pyx to C, if it or something it includes has changed."""
        target = self.work / f"{family}.c"
        inputs = [str(settings)]
        if family == "shared":
            options = ["--generate-shared", str(target)]
        else:
            pyx = f"pyx/{family}.pyx"
            inputs += parts_of(family, ".pyx", ".pxd", ".pxi")
            options = ["--shared", SHARED, "--module-name", f"{PACKAGE}.{family}", "-o", str(target), pyx]
        if self.force or newer_group(inputs, str(target)):
            directives = [x for k, v in DIRECTIVES.items() for x in ("-X", f"{k}={v}")]
            done = subprocess.run([sys.executable, "-m", "cython", *directives, *options])
            if done.returncode:
                target.unlink(missing_ok=True)
                raise SystemExit(f"Cython could not translate pyx/{family}.pyx; its message is above")
        return target

    def source_of(self, extension, translated):
        """Give each level a copy of the C file, so that it has its own object file and module name."""
        family, name = extension.family, extension.name
        text = translated.read_text(encoding="utf-8")
        # the name under which the module enters sys.modules is a constant in the C text
        text = text.replace(f'"{PACKAGE}.{family}"', f'"{name}"')
        return written(self.work / name / f"{family}.c", text)


def parts_of(family, *suffixes):
    """The files of pyx/ that a module is made of, by way of any include or cimport, those with some suffixes."""
    found, left = set(), [Path("pyx", f"{family}.pyx")]
    while left:
        path = left.pop()
        if path.is_file() and path not in found:
            found.add(path)
            text = path.read_text(encoding="utf-8")
            left += [Path("pyx", name) for name in re.findall(r'"(\w+\.(?:h|pxi))"', text)]
            left += [Path("pyx", f"{name}.pxd") for name in re.findall(r"(?m)^(?:from|cimport) (\w+)", text)]
    return sorted(str(path) for path in found if path.suffix in suffixes)


def written(path, text):
    """Write a text file unless it holds that text already: its time then still says when it changed."""
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
    return path


setup(ext_modules=list(kernels()), cmdclass={"build_py": BuildPython, "build_ext": BuildKernels})
