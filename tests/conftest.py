"""Fixtures and rules for all tests."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import caffebn
import caffebn.ops
from tests import gpu_emulation

TESTS = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--installed", action="store_true", help="fail unless the installed package is under test"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("installed") and Path(caffebn.__file__).parent == TESTS.parent / "caffebn":
        raise pytest.UsageError("--installed: the package under test is that of the checkout")


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.getoption("installed"):
        # a Python that a test starts looks for packages in the current folder first
        os.chdir(TESTS)


def pytest_runtest_setup(item: pytest.Item) -> None:
    marker = item.get_closest_marker("gpu")
    if marker and (why := missing_gpu()):
        if os.environ.get("CAFFEBN_REQUIRE_GPU", "0") == "1":
            pytest.fail(f"CAFFEBN_REQUIRE_GPU is set, but {why}", pytrace=False)
        if not marker.kwargs.get("emulated", True) or not gpu_emulation.compiler():
            pytest.skip(why)
        gpu_emulation.install()


def pytest_runtest_teardown(item: pytest.Item) -> None:
    # the GPU back end goes on with what it has imported; other tests find that there is no CuPy
    gpu_emulation.remove()


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let CuPy be missing."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    for name in [n for n in sys.modules if f"{n}.".startswith("caffebn.ops.gpu.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(caffebn.ops, "gpu", raising=False)


@functools.cache
def missing_gpu() -> str:
    """Say why GPU tests cannot run here; empty when they can."""
    try:
        import cupy
    except ImportError as e:
        return f"CuPy cannot be imported ({e})"
    try:
        return "" if cupy.cuda.runtime.getDeviceCount() else "there is no CUDA device"
    except cupy.cuda.runtime.CUDARuntimeError as e:
        return f"there is no usable CUDA device ({e})"


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of numbers that real Caffe produced."""
    return TESTS / "golden"


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder of setup.py, pyx/ and prototxt_examples/."""
    return TESTS.parent


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs Python code in a process of its own, with the package under test."""

    def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run
