"""Imports run one way: a module imports only from a lower floor, or from its own folder.

The folder of ``caffebn/io.py`` is ``caffebn/``: it may import ``caffebn/draw.py``, of its own floor, and not
``caffebn/bn/``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import caffebn

PACKAGE = Path(caffebn.__file__).parent

# A folder or module directly under caffebn/ and its floor; docs/design.md draws the house.
FLOORS = {
    "_kernels": 0,
    "errors": 0,
    "files": 0,
    "logs": 0,
    "seeding": 0,
    "tensors": 1,
    "proto": 1,
    "blocks": 2,
    "dialects": 2,
    "ops": 3,
    "blob": 4,
    "fillers": 4,
    "net_spec": 4,
    "layers": 5,
    "weights": 5,
    "net": 6,
    "data": 6,
    "gradient": 7,
    "bn": 8,
    "classifier": 8,
    "coord_map": 8,
    "detector": 8,
    "draw": 8,
    "export": 8,
    "io": 8,
    "parallel": 8,
    "plot": 8,
    "solvers": 8,
    "surgery": 8,
    "cli": 9,
    "__main__": 10,
}

# What may be imported on one floor alone, so that it stays optional and importing stays quick.
ONLY_IN = {
    "cupy": "ops/gpu/device.py",
    "cupyx": "ops/gpu/device.py",
    "cudnn": "ops/gpu/cudnn_conv.py",
    "rich": "cli/",
    "click": "cli/",
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path, package: Path = PACKAGE) -> Iterator[tuple[int, str]]:
    """Yield line and absolute name of all that a module imports, inside functions too.

    ``from caffebn import blob`` counts as ``caffebn.blob``.
    """
    folder = ("caffebn", *path.relative_to(package).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(folder[: len(folder) + 1 - node.level]) if node.level else ""
            source = ".".join(filter(None, [base, node.module]))
            for alias in node.names:
                yield node.lineno, f"{source}.{alias.name}"
        elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"}:
            name = _literal_start(node.args[0])
            if name.startswith("caffebn"):
                yield node.lineno, name


def _called(node: ast.Call) -> str:
    return getattr(node.func, "attr", None) or getattr(node.func, "id", "")


def _literal_start(node: ast.expr) -> str:
    """Return the part of a string, or of a formatted string, that is known without running it."""
    if isinstance(node, ast.JoinedStr) and node.values:
        node = node.values[0]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def offences(path: Path, package: Path = PACKAGE) -> list[str]:
    """Say which imports of a module break the rule."""
    here = path.relative_to(package)
    home = here.parts[0].removesuffix(".py")
    found = []
    for line, name in imports(path, package):
        top, *rest = name.split(".")
        if top in ONLY_IN and not here.as_posix().startswith(ONLY_IN[top]):
            found.append(f"{here}:{line} imports {name}, which only {ONLY_IN[top]} may")
        if top != "caffebn" or home == "__init__" or not rest or rest[0] == home:
            continue
        if rest[0] not in FLOORS:
            found.append(f"{here}:{line} imports {name}: name the module of a lower floor")
            continue
        neighbours = len(here.parts) == 1 and not (package / rest[0]).is_dir()
        if FLOORS[rest[0]] + (not neighbours) > FLOORS[home]:
            found.append(f"{here}:{line}, floor {FLOORS[home]}, imports {name} from floor {FLOORS[rest[0]]}")
    return found


def test_every_module_has_a_floor():
    homes = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in modules()} - {"__init__"}
    assert sorted(homes - FLOORS.keys()) == []


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_run_one_way(path):
    assert offences(path) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("from caffebn.net import Net", "floor 3, imports caffebn.net.Net from floor 6"),
        ("from caffebn import net", "floor 3, imports caffebn.net from floor 6"),
        ("from ..net import Net", "floor 3, imports caffebn.net.Net from floor 6"),
        ("def f():\n    import caffebn.layers.base", "x.py:2, floor 3, imports caffebn.layers.base"),
        ("import_module(f'caffebn.cli.{verb}')", "imports caffebn.cli. from floor 9"),
        ("from caffebn import Net", "name the module"),
        ("import cupy", "which only ops/gpu/device.py may"),
        ("from caffebn.ops import level", None),
        ("from . import level", None),
        ("from caffebn.errors import NetError", None),
        ("import numpy", None),
    ],
)
def test_offences_are_found(tmp_path, text, said):
    path = tmp_path / "ops" / "x.py"
    path.parent.mkdir()
    path.write_text(text)
    found = offences(path, tmp_path)
    assert (said in found[0]) if said else found == []


def test_files_of_one_floor_may_import_each_other_but_no_folder_there(tmp_path):
    (tmp_path / "bn").mkdir()
    path = tmp_path / "io.py"
    path.write_text("import caffebn.draw")
    assert offences(path, tmp_path) == []
    path.write_text("import caffebn.bn")
    assert offences(path, tmp_path) == ["io.py:1, floor 8, imports caffebn.bn from floor 8"]


def test_kernels_do_not_cimport_each_other(checkout):
    """A .pyx is installed under another package name than it has here, so such a cimport fails on import."""
    sources = sorted((checkout / "pyx").glob("*.pyx"))
    forbidden = {p.stem for p in sources} | {"caffebn"}
    found = []
    for path in sources:
        for match in re.finditer(r"^\s*(?:from\s+([.\w]+)\s+)?cimport\s+(.+)", path.read_text(), re.M):
            names = [match[1]] if match[1] else [n.split()[0] for n in match[2].split(",")]
            found += [
                f"{path.name}: {match[0].strip()}" for n in names if n.strip(".").split(".")[0] in forbidden
            ]
    assert sources
    assert found == []


def test_a_kernel_family_has_one_name_in_every_place(checkout):
    for path in sorted((checkout / "pyx").glob("*.pyx")):
        if path.stem in ("cpuid", "wire"):  # no kernels
            continue
        places = [
            checkout / "caffebn" / "ops" / backend / f"{path.stem}.py" for backend in ("reference", "cpu")
        ]
        places += [checkout / "tests" / "ops" / f"test_{path.stem}.py"]
        places += [checkout / "asv_bench" / "benchmarks" / f"{path.stem}.py"]
        assert [p.relative_to(checkout).as_posix() for p in places if not p.exists()] == []
