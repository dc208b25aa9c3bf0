"""The examples in docs/porting.md and docs/dialects.md run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from caffebn import Net
from caffebn.cli import main
from caffebn.proto import Message, binary, make_blob, text
from caffebn.tensors import write_tensors
from tests.export.nets import SMALL, fill_statistics

pytest.importorskip("onnxruntime")


@pytest.fixture
def page(tmp_path, monkeypatch, checkout):
    """A function that gives the text of a page; the current folder has the files that the pages speak of."""
    monkeypatch.chdir(tmp_path)
    Path("deploy.prototxt").write_text(SMALL.replace('name: "conv"', 'name: "conv1"'))
    net = fill_statistics(Net("deploy.prototxt", "TEST"))
    net.save("weights.caffemodel")
    rng = np.random.default_rng(0)
    norm = {k: rng.uniform(0.5, 2, 6) for k in ("weight", "bias", "running_mean", "running_var")}
    state = {"features.0.weight": rng.standard_normal((6, 1, 3, 3)), "features.0.bias": np.zeros(6)}
    state |= {f"features.1.{k}": v for k, v in norm.items()}
    state |= {"fc.weight": rng.standard_normal((4, 54)), "fc.bias": np.zeros(4)}
    write_tensors("weights.safetensors", state)
    return lambda name: (checkout / "docs" / name).read_text()


def test_porting_in_python(page):
    pytest.importorskip("torch")
    (example,) = re.findall(r"```python\n(.*?)```", page("porting.md"), re.S)
    exec(example, {})
    assert all(Path(name).exists() for name in ("net.onnx", "net.py", "net.pt", "weights.npz"))


def test_porting_on_the_command_line(page):
    pytest.importorskip("torch")
    lines = page("porting.md").replace("\\\n", "").splitlines()
    commands = [line.split("#")[0] for line in lines if line.startswith("    caffebn export")]
    assert len(commands) == 4
    for command in commands:
        result = CliRunner().invoke(main, shlex.split(command)[1:])
        assert result.exit_code == 0, result.output


def test_dialects(page):
    (example,) = re.findall(r"```python\n(.*?)```", page("dialects.md"), re.S)
    definition = text.parse(
        'layer { name: "bn" type: "BN" bottom: "x" top: "y" bn_param { slope_filler { value: 1 } } }'
    )
    stored = Message("NetParameter")
    stored.add("layer", name="bn", type="BN").blobs = [
        make_blob(np.ones((1, 3, 1, 1), np.float32)) for _ in range(4)
    ]
    names = {"definition": definition, "stored": binary.parse(binary.dump(stored))}
    exec(example, names)
    assert names["back"].net.layer[0].type == "BN" and names["plain"].changed == ["bn"]


def test_every_dialect_is_in_the_table(page):
    from caffebn.bn.dialects import DIALECTS, FRAMEWORKS

    for id in [*DIALECTS, *FRAMEWORKS]:
        assert f"`{id}`" in page("dialects.md")
