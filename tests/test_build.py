"""What setup.py compiles, how, and what ends up in the package."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
import setuptools

import caffebn
from caffebn.ops import level

PACKAGE = Path(caffebn.__file__).parent


@pytest.fixture(scope="module")
def build(checkout):
    """The names that setup.py defines, without building anything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(checkout)
        patch.setattr(setuptools, "setup", lambda **_: None)
        return runpy.run_path(str(checkout / "setup.py"))


@pytest.fixture(scope="module")
def extensions(build):
    return {e.name: e for e in build["kernels"]()}


ONCE = {"cpuid", "wire"}  # compiled once, not for each level


def families(checkout: Path) -> set[str]:
    return {p.stem for p in (checkout / "pyx").glob("*.pyx")} - ONCE


def compiled(folder: Path) -> set[str]:
    """Names of the compiled modules in a folder."""
    return {p.name.split(".")[0] for p in folder.iterdir() if p.name.endswith(tuple(EXTENSION_SUFFIXES))}


@pytest.mark.parametrize("name", level.built())
def test_every_family_is_in_the_package_at_every_level(checkout, name):
    assert compiled(PACKAGE / "_kernels" / name) == families(checkout)


def test_package_holds_no_other_compiled_modules():
    folders = {p.parent.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*") if p.suffix == ".so"}
    assert folders == {"_kernels"} | {f"_kernels/{name}" for name in level.built()}
    assert compiled(PACKAGE / "_kernels") == {"shared", *ONCE}


def test_data_files_are_in_the_package(checkout):
    def files(root: Path) -> set[str]:
        kinds = {".cu", ".cuh", ".csv", ".typed", ".py", ".pyi"}
        return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.suffix in kinds}

    assert files(PACKAGE) == files(checkout / "caffebn")


def test_levels_are_compiled_for_what_the_processor_is_asked_for(build):
    flags = {name: {f.removeprefix("-m") for f in flags} for name, flags in build["LEVELS"].items()}
    if len(flags) == 1:
        pytest.skip("only x86-64 has levels")
    assert {name: needs - {"arch=x86-64"} for name, needs in flags.items()} == level.LEVELS
    assert all("arch=x86-64" in needs for needs in flags.values())
    assert level.cpuid.known() == level.LEVELS["v4"]


def test_every_kernel_is_built_for_every_level(build, extensions, checkout):
    expected = {
        f"caffebn._kernels.{name}.{family}" for name in build["LEVELS"] for family in families(checkout)
    }
    assert set(extensions) == expected | {f"caffebn._kernels.{name}" for name in ("shared", *ONCE)}


def test_modules_that_are_compiled_once_need_no_level(build, extensions):
    for name in ("shared", *ONCE):
        assert extensions[f"caffebn._kernels.{name}"].flags == build["ANY"]


def test_a_module_is_built_again_for_what_it_is_made_of(build, checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    parts = {
        family: set(build["parts_of"](family, ".h", ".pxd", ".pxi", ".pyx")) for family in families(checkout)
    }
    assert {"pyx/gemm.pyx", "pyx/gemm.h", "pyx/gemm_impl.h", "pyx/common.pxd"} <= parts["gemm"]
    assert "pyx/stream.h" in parts["batch_norm"]  # by way of channel.h and plan.pxd
    assert "pyx/pool.h" not in parts["gemm"] and "pyx/gemm_impl.h" not in parts["pool"]
    sources = {str(path) for path in Path("pyx").iterdir() if path.stem not in ONCE}
    assert set().union(*parts.values()) == sources


def test_only_products_may_fuse_multiply_and_add(extensions):
    for name, extension in extensions.items():
        if name.count(".") == 3:
            family = name.rpartition(".")[2]
            contract = "fast" if family in {"gemm", "conv"} else "off"
            assert [f for f in extension.flags if "contract" in f] == [f"-ffp-contract={contract}"], name


def test_nothing_is_compiled_for_this_machine_or_with_fast_arithmetic(build, extensions):
    flags = {flag for e in extensions.values() for flag in e.flags} | set(build["OPTIMISE"])
    forbidden = re.compile(
        r"-m(arch|tune)=native|-Ofast|-ffast-math|-funsafe-math|-fassociative|-freciprocal"
    )
    assert "-O3" in flags
    assert sorted(filter(forbidden.match, flags)) == []


def test_kernels_check_no_index_and_divide_like_c(build):
    expected = {"boundscheck": False, "initializedcheck": False, "wraparound": False, "cdivision": True}
    assert build["DIRECTIVES"] == expected | {"language_level": "3"}


def test_kernels_need_no_numpy_headers(checkout):
    for path in (checkout / "pyx").iterdir():
        assert not re.search(r"cimport\s+numpy|numpy/", path.read_text(encoding="utf-8")), path.name


def test_makefile_installs_what_the_build_requires(checkout):
    text = (checkout / "pyproject.toml").read_text(encoding="utf-8")
    requires = ast.literal_eval(re.search(r"^requires = (\[.*\])$", text, re.M)[1])
    makefile = (checkout / "Makefile").read_text(encoding="utf-8")
    assert len(requires) == 2
    assert [r for r in requires if f'"{r}"' not in makefile] == []


@pytest.fixture
def refusal(checkout, tmp_path):
    """Build with a compiler that is a shell script of the given text; return the message of the failure."""

    def build(script: str) -> str:
        compiler = tmp_path / "cc"
        compiler.write_text(f"#!/bin/sh\n{script}\n")
        compiler.chmod(0o755)
        done = subprocess.run(
            [sys.executable, "setup.py", "build", "--build-base", str(tmp_path)],
            cwd=checkout,
            env=os.environ | {"CC": str(compiler), "CAFFEBN_NO_OPENMP": "0"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode != 0
        assert list(tmp_path.rglob("*.so")) == []
        return done.stderr

    return build


def test_missing_compiler_is_refused(refusal):
    message = refusal("echo Python.h: No such file >&2; exit 1")
    assert re.search(
        r"caffebn cannot be built: .*/cc failed with exit status 1\nPython.h: No such file", message
    )
    assert "apt install build-essential python3-dev" in message
    assert "CC chooses the compiler" in message


@pytest.mark.skipif(len(level.built()) == 1, reason="only x86-64 has levels")
def test_compiler_without_vector_instructions_is_refused(refusal):
    message = refusal('case "$*" in *avx512*) exit 1;; esac; exec gcc "$@"')
    assert "the compiler does not know -march=x86-64" in message
    assert "-mavx512f" in message
    assert "needs gcc 9, clang 10 or newer" in message


@pytest.mark.parametrize(
    "script",
    [
        pytest.param('case "$*" in *fopenmp*) exit 1;; esac; exec gcc "$@"', id="unknown flag"),
        # programs compile without OpenMP, and find when they run that they have one thread
        pytest.param(
            'for a; do shift; [ "$a" = -fopenmp ] || set -- "$@" "$a"; done; exec gcc "$@"', id="flag ignored"
        ),
    ],
)
def test_compiler_without_openmp_is_refused(refusal, script):
    message = refusal(script)
    assert "the compiler has no working OpenMP" in message
    assert "apt install libomp-dev" in message
    assert "CAFFEBN_NO_OPENMP=1" in message
