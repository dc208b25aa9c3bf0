"""``caffebn device``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import caffebn
from caffebn.cli import device
from caffebn.ops import level, threads


def test_lines(run):
    result = run("device")
    assert result.exit_code == 0
    lines = dict(line.split("  ", 1) for line in result.stdout.splitlines())
    lines = {name: value.strip() for name, value in lines.items()}
    assert list(lines) == ["caffebn", "Python", "NumPy", "processor", "level", "threads", "GPU", "CuPy"]
    assert lines["caffebn"] == caffebn.__version__ and lines["NumPy"] == np.__version__
    assert lines["level"] == f"{level.active()} (available: {', '.join(level.available())})"
    assert lines["threads"].split()[0] == str(threads.get())
    assert all(lines.values())


def test_json(run):
    found = json.loads(run("device", "--json").stdout)
    assert set(found) == {
        "caffebn", "python", "numpy", "processor", "level", "levels", "openmp", "threads", "gpus", "cupy",
        "convolution",
    }  # fmt: skip
    assert found["level"] in found["levels"] and found["threads"] == threads.get()


@pytest.mark.gpu
def test_gpus_by_number(run, monkeypatch):
    monkeypatch.setattr(device, "cupy_version", lambda: "13.0")
    lines = run("device").stdout.splitlines()
    assert any(
        re.match(r"GPU +0: .+, compute capability \d+\.\d+, [\d.]+ of [\d.]+ GiB free", line)
        for line in lines
    )
    assert any(line.startswith("on the GPU  convolution by cu") for line in lines)


def test_processor_of_linux(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Fast 9000\nmodel name\t: Fast 9001\n")
    assert device.processor(tmp_path / "cpuinfo") == "Fast 9000"


def test_processor_elsewhere(tmp_path):
    assert device.processor(tmp_path / "none") != ""


def test_gpus(tmp_path):
    for i, name in enumerate(["NVIDIA H200", "NVIDIA A2"]):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "information").write_text(f"Model: \t\t {name}\nIRQ:   \t\t 1\n")
    assert device.gpus(tmp_path) == ["NVIDIA H200", "NVIDIA A2"]
    assert device.gpus(tmp_path / "none") == []


def test_cupy_is_named_when_it_is_there(monkeypatch):
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    assert device.cupy_version() is None
    monkeypatch.setattr(device, "find_spec", lambda name: Path())
    monkeypatch.setattr(device, "packages_distributions", lambda: {"cupy": ["numpy"]})
    assert device.cupy_version() == np.__version__


@pytest.mark.gpu
def test_gpu_option(run, tmp_path):
    net = tmp_path / "net.prototxt"
    net.write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
        'layer { name: "y" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }\n'
    )
    found = json.loads(run("time", str(net), "--gpu", "0", "-n", "1", "--json").stdout)
    assert found["device"] == "gpu" and {row["name"] for row in found["layers"]} == {"x", "y"}
    assert json.loads(run("time", str(net), "-n", "1", "--json").stdout)["device"] == "cpu"
    result = run("time", str(net), "--gpu", "99")
    assert result.exit_code != 0 and "there is no GPU 99" in result.output
