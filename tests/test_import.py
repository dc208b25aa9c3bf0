"""`import caffebn` is quick and takes only what it needs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import caffebn

# Optional packages, and required ones that only some uses need.
LATE = ["click", "cupy", "h5py", "lmdb", "matplotlib", "mpi4py", "onnx", "PIL", "rich", "scipy", "torch"]

# Processor time, as a multiple of what NumPy takes: seconds say as much about the machine as about the package.
BUDGET = 3

TIMED_IMPORT = """
from time import process_time
start = process_time()
import numpy
middle = process_time()
import caffebn
print((process_time() - middle) / (middle - start))
"""


@pytest.fixture
def output(python):
    """A function that runs Python code in a process of its own and returns what it prints."""

    def run(code: str) -> str:
        done = python(code)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_import_keeps_its_time_budget(output):
    best = min(float(output(TIMED_IMPORT)) for _ in range(5))
    assert best < BUDGET


def test_import_leaves_optional_and_slow_packages_alone(output):
    loaded = output("import sys, caffebn; print(*sys.modules)").split()
    assert "caffebn" in loaded
    assert [name for name in LATE if name in loaded] == []


def test_import_does_not_write_to_the_terminal(output):
    assert output("import caffebn") == ""


def test_package_declares_its_type_hints():
    assert Path(caffebn.__file__).with_name("py.typed").exists()


def test_version_is_that_of_the_installed_package():
    try:
        installed = version("caffebn")
    except PackageNotFoundError:
        pytest.skip("run from a checkout, nothing is installed")
    assert caffebn.__version__ == installed


def test_public_names_exist():
    assert len(set(caffebn.__all__)) == len(caffebn.__all__) > 0
    assert [name for name in caffebn.__all__ if not hasattr(caffebn, name)] == []


def test_workbench_is_imported_when_asked_for(output):
    code = "import sys, caffebn; print('caffebn.bn' in sys.modules, callable(caffebn.bn.fold))"
    assert output(code).split() == ["False", "True"]


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        caffebn.nothing  # noqa: B018
