"""The instruction-set level: the highest that runs here, unless the user says otherwise."""

from __future__ import annotations

import os
import platform
from types import SimpleNamespace

import pytest

from caffebn.errors import CaffebnError, LevelError
from caffebn.ops import level

X86_64 = platform.machine().lower() in ("x86_64", "amd64")

NAMES = tuple(level.LEVELS)


@pytest.fixture
def ask(python):
    """A function that starts Python with CAFFEBN_LEVEL set and prints the level that caffebn takes."""
    code = "from caffebn.ops import level; print(level.active(), level.kernels('channel').__name__)"
    return lambda wanted: python(code, CAFFEBN_LEVEL=wanted)


@pytest.fixture
def processor(monkeypatch):
    """Pretend to have a processor with all that a level needs, and perhaps more."""

    def pretend(name: str | None, *more: str) -> None:
        has = (level.LEVELS[name] if name else frozenset()) | set(more)
        monkeypatch.setattr(level, "cpuid", SimpleNamespace(X86_64=True, features=lambda: has))

    return pretend


def test_levels_agree_with_what_the_operating_system_reports():
    """A second opinion: the flags that Linux lists are those it lets programs use."""
    try:
        with open("/proc/cpuinfo") as f:
            flags = next(line for line in f if line.startswith("flags")).split()
    except (OSError, StopIteration):
        pytest.skip("no list of processor flags in /proc/cpuinfo")
    other_names = {"sse3": "pni", "sse4.1": "sse4_1", "sse4.2": "sse4_2", "lzcnt": "abm", "sahf": "lahf_lm"}
    other_names["bmi"] = "bmi1"
    expected = {name for name in level.cpuid.known() if other_names.get(name, name) in flags}
    assert level.cpuid.features() == expected


@pytest.mark.skipif(not X86_64, reason="only x86-64 has levels")
def test_every_level_is_built():
    assert level.built() == NAMES


def test_highest_available_level_is_active_unless_overridden():
    assert level.active() == (os.environ.get("CAFFEBN_LEVEL") or level.available()[-1])


@pytest.mark.parametrize("name", level.available())
def test_override_decides_which_kernels_run(ask, name):
    done = ask(name)
    assert done.stdout.split() == [name, f"caffebn._kernels.{name}.channel"], done.stderr


def test_empty_override_means_no_override(ask):
    assert ask("").stdout.split()[0] == level.available()[-1]


def test_unknown_level_is_refused_on_import(ask):
    done = ask("avx2")
    assert done.returncode != 0
    assert (
        "LevelError: the environment variable CAFFEBN_LEVEL asks for the level 'avx2', but there is no such "
        f"level, the levels are base, v3, v4; available here: {', '.join(level.available())}"
    ) in done.stderr


@pytest.mark.parametrize(
    ("name", "more", "expected"),
    [
        (None, (), ()),
        ("base", (), ("base",)),
        ("base", ("avx", "avx2", "fma"), ("base",)),
        ("v3", (), ("base", "v3")),
        ("v3", ("avx512f", "avx512bw", "avx512cd", "avx512dq"), ("base", "v3")),
        ("v4", (), ("base", "v3", "v4")),
    ],
)
def test_level_needs_all_its_features(processor, name, more, expected):
    processor(name, *more)
    assert level.supported() == expected


def test_other_architectures_have_one_level(monkeypatch):
    monkeypatch.setattr(level, "cpuid", SimpleNamespace(X86_64=False, features=frozenset))
    assert level.supported() == ("base",)
    with pytest.raises(LevelError, match="lacks the x86-64 architecture; available here: base"):
        level.kernels("channel", "v3")


def test_level_that_the_processor_lacks_is_refused(processor):
    processor("v3", "avx512f", "avx512bw", "avx512vl")
    with pytest.raises(
        LevelError,
        match=r"asks for the level 'v4', but this processor \(or its operating system\) lacks avx512cd, "
        "avx512dq; available here: base, v3",
    ):
        level._choose("v4")


def test_level_that_was_not_built_is_refused(monkeypatch, processor):
    processor("v4")
    monkeypatch.setattr(level, "built", lambda: ("base",))
    assert level._choose(None) == "base"
    with pytest.raises(LevelError, match="was built without it; available here: base"):
        level._choose("v3")


def test_processor_below_all_levels_is_refused(processor):
    processor(None, "sse3")
    with pytest.raises(
        LevelError, match="lacks cx16, popcnt, sahf, sse4.1, sse4.2, ssse3; no level is available here"
    ):
        level._choose(None)


def test_installation_without_kernels_is_refused(monkeypatch):
    monkeypatch.setattr(level, "built", tuple)
    with pytest.raises(
        LevelError, match="no kernels for this processor .* built: none.* pip install --force-reinstall"
    ):
        level._choose(None)


def test_missing_kernels_are_refused():
    with pytest.raises(
        LevelError, match='kernels "chanel" cannot be loaded at level .*: the installation is broken'
    ):
        level.kernels("chanel")


def test_level_error_belongs_to_the_family():
    assert issubclass(LevelError, CaffebnError)


@pytest.mark.parametrize("variable", [None, "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_the_environment_is_left_as_it_was(python, monkeypatch, variable):
    """Loading kernels sets a variable of OpenMP's for a moment, unless the user has set it."""
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "passive" if variable == "OMP_WAIT_POLICY" else "7")
    code = "import os; from caffebn.ops import get; get('cpu'); print([k for k in os.environ if 'OMP_' in k])"
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([variable] if variable else [])
