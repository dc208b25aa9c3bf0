"""The examples of docs/extending.md do what the page says."""

from __future__ import annotations

import re
import runpy
import sys

import numpy as np
import pytest

from caffebn.layers import LAYERS, layer_type_list
from caffebn.net import Net
from tests.layers.nets import check_in_place, check_layer, values

INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'
MISH = 'layer { name: "act" type: "Mish" bottom: "x" top: "y" }'


@pytest.fixture(scope="module")
def blocks(checkout) -> list[tuple[str, str]]:
    """The code blocks of the page, with their language."""
    page = (checkout / "docs" / "extending.md").read_text(encoding="utf-8")
    return re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def installed(blocks, tmp_path, monkeypatch):
    """The modules of the page on Python's path, with the entry points of its pyproject.toml; forgotten afterwards."""
    clamp, _, mish, check, project = (code for _, code in blocks)
    (tmp_path / "clamp.py").write_text(clamp)
    (tmp_path / "mish.py").write_text(mish)
    (tmp_path / "check.py").write_text(check)
    entries = project.partition('[project.entry-points."caffebn.layers"]')[2].replace('"', "")
    info = tmp_path / "caffebn_mish-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: caffebn-mish\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[caffebn.layers]\n{entries}")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    LAYERS.pop("Mish", None)
    for name in ("clamp", "mish"):
        sys.modules.pop(name, None)


def test_the_page_has_the_blocks_that_are_tested(blocks):
    assert [language for language, _ in blocks] == ["python", "", "python", "python", "toml"]


def test_the_layer_in_python(blocks):
    net = Net.from_text(f"force_backward: true {INPUT} {blocks[1][1]}", "TRAIN")
    net.blobs["x"].data[...] = [[-2, -1, 0], [1, 1.5, 2]]
    assert net.forward()["y"].tolist() == [[-1.5, -1, 0], [1, 1.5, 1.5]]
    net.blobs["y"].diff[...] = 4
    net.backward()
    assert net.blobs["x"].diff.tolist() == [[0, 4, 4], [4, 4, 0]]


def test_the_layer_type_is_found_by_its_entry_point():
    assert "Mish" in layer_type_list() and "mish" not in sys.modules
    y = Net.from_text(INPUT + MISH, "TEST", dtype="float64").forward(x=[[0, 1, -1], [2, -2, 30]])["y"]
    x = np.array([[0, 1, -1], [2, -2, 30.0]])
    np.testing.assert_allclose(y, x * np.tanh(np.log1p(np.exp(x))), rtol=1e-14)


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_the_layer_type_keeps_all_rules(device):
    assert check_layer(MISH, device, x=values(3, 4)).excluded == 0
    check_in_place(MISH, device, x=values(3, 4))


def test_the_check(installed):
    runpy.run_path(str(installed / "check.py"))
