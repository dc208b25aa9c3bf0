"""``make gpu-check``, as far as it goes without a GPU, and what the README says about GPUs."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest


@pytest.fixture
def gpu_check(checkout):
    spec = importlib.util.spec_from_file_location("gpu_check", checkout / "asv_bench" / "gpu_check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REPORT = {
    "facts": {
        "date": "2030-01-02", "device": "NVIDIA H100 80GB", "convolution": "cuDNN 91000", "cupy": "14.2.0",
        "torch": "2.9", "tf32": False,
    },
    "checks": {"tests": "passed in 100 s: 5 passed"},
    "rows": [
        {"what": "moments 2x3x4", "GB/s": 900.0, "copy GB/s": 1000.0, "ratio": 0.9},
        {"what": "ResNet", "images/s": 2000.0, "PyTorch a images/s": 1000.0, "ratio to a": 2.0,
         "PyTorch b images/s": 4000.0, "ratio to b": 0.5},
        {"what": "a net", "error": "DeviceError: no"},
    ],
}  # fmt: skip


def test_readme_says_what_was_measured(gpu_check, checkout):
    said = gpu_check.readme_section((checkout / "README.md").read_text(encoding="utf-8"))
    results = sorted((checkout / "asv_bench" / "results" / "gpu").glob("*.json"))
    if results:
        tables = [gpu_check.table(json.loads(path.read_text(encoding="utf-8"))) for path in results]
        assert said in tables
    else:
        assert said == gpu_check.NOT_YET


def test_table(gpu_check):
    head, _, names, rule, *rows = gpu_check.table(REPORT).splitlines()
    assert head.startswith(
        "Measured on 2030-01-02 on one NVIDIA H100 80GB, single precision, convolution by cuDNN"
    )
    assert names.count("|") == rule.count("|")
    assert rows == [
        "| moments 2x3x4 | 900 GB/s | copy 1000 | 0.90 |",
        "| ResNet | 2000 images/s | PyTorch a 1000, PyTorch b 4000 | 2.00, 0.50 |",
        "| a net | DeviceError: no | | |",
    ]


def test_results_are_written(gpu_check, tmp_path, monkeypatch, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{gpu_check.BEGIN}\n{gpu_check.NOT_YET}\n{gpu_check.END}\nbehind\n")
    for name, value in (("README", readme), ("RESULTS", tmp_path / "gpu"), ("ROOT", tmp_path)):
        monkeypatch.setattr(gpu_check, name, value)
    gpu_check.write(REPORT)
    written = tmp_path / "gpu" / "2030-01-02-nvidia-h100-80gb.json"
    assert json.loads(written.read_text()) == REPORT
    text = readme.read_text()
    assert gpu_check.readme_section(text) == gpu_check.table(REPORT)
    assert text.startswith("before\n") and text.endswith("behind\n")
    assert "tests: passed" in capsys.readouterr().out


def test_commands_have_a_time_limit(gpu_check):
    result, text = gpu_check.run([sys.executable, "-c", "print(7)"], 20)
    assert result.startswith("passed") and text == "7\n"
    result, _ = gpu_check.run([sys.executable, "-c", "raise SystemExit(3)"], 20)
    assert result.startswith("failed (3)")
    result, _ = gpu_check.run([sys.executable, "-c", "import time; time.sleep(60)"], 0.5)
    assert result == "failed: not done within 0 s"


def test_it_says_why_it_cannot_run(gpu_check, no_gpu, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu_check.py"])
    with pytest.raises(SystemExit, match='gpu-check: the GPU back end needs the package "cupy"'):
        gpu_check.main()


def test_one_benchmark_that_fails_costs_no_other(gpu_check, monkeypatch, capsys):
    def fails(*_):
        raise ValueError("no")

    monkeypatch.setattr(gpu_check, "channel", fails)
    monkeypatch.setattr(gpu_check, "resnet", fails)
    monkeypatch.setattr(gpu_check, "mlp", lambda: [{"what": "MLP", "iterations/s": 1.0}])
    rows = []
    gpu_check.benchmarks(rows, float("inf"))
    assert [row.get("error") for row in rows] == ["ValueError: no", None] + ["ValueError: no"] * 4
    gpu_check.benchmarks(rows, 0)
    assert rows[-1]["error"] == "not run: out of time"


@pytest.mark.gpu
def test_the_small_net_is_timed(gpu_check, monkeypatch):
    monkeypatch.setattr(gpu_check, "seconds", lambda work, synchronize, *_: (work(), synchronize(), 0.5)[-1])
    monkeypatch.setattr(gpu_check, "torch_with_cuda", lambda: None)
    assert [row["iterations/s"] for row in gpu_check.mlp()] == [2.0, 2.0]


@pytest.mark.gpu
@pytest.mark.slow
def test_every_kernel_runs_for_the_sanitizer(gpu_check):
    gpu_check.run_every_kernel()
