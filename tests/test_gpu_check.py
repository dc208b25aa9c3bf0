"""``make gpu-check``, as far as it goes without a GPU, and what the README says about GPUs."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest

from caffebn import blocks


@pytest.fixture
def gpu_check(checkout):
    spec = importlib.util.spec_from_file_location("gpu_check", checkout / "asv_bench" / "gpu_check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FACTS = {
    "date": "2030-01-02", "device": "NVIDIA H100 80GB", "convolution": "cuDNN 91000", "cupy": "14.2.0",
    "torch": "2.9", "tf32": False,
}  # fmt: skip
REPORT = {
    "facts": FACTS,
    "checks": {"kernels": "passed: 3 calls right", "tests": "failed (1), 5 passed, 0 skipped, 1 failed"},
    "rows": [
        {"what": "moments 2x3x4", "GB/s": 900.0, "copy GB/s": 1000.0, "ratio": 0.9, "times the least": 1.5},
        {"what": "ResNet", "images/s": 2000.0, "PyTorch a images/s": 1000.0, "ratio to a": 2.0,
         "PyTorch b images/s": 4000.0, "ratio to b": 0.5},
        {"what": "a net", "error": "DeviceError: no"},
    ],
}  # fmt: skip

INPUT = 'layer { name: "in" type: "Input" %s }'
BODY = """
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 2 kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "s" type: "InnerProduct" bottom: "c" top: "s" inner_product_param { num_output: 3 } }
"""
SMALL = {
    False: INPUT % 'top: "data" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 5 } }' + BODY,
    True: INPUT
    % 'top: "data" top: "label" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 5 } shape { dim: 2 } }'
    + BODY
    + 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "s" bottom: "label" top: "loss" }',
}


def test_readme_says_what_was_measured(gpu_check, checkout):
    said = gpu_check.readme_section((checkout / "README.md").read_text(encoding="utf-8"))
    results = sorted((checkout / "asv_bench" / "results" / "gpu").glob("*.json"))
    if results:
        tables = [gpu_check.table(json.loads(path.read_text(encoding="utf-8"))) for path in results]
        assert said in tables
    else:
        assert said == gpu_check.NOT_YET


def test_table(gpu_check):
    head, wrong, names, rule, *rows = [line for line in gpu_check.table(REPORT).splitlines() if line]
    assert head.startswith(
        "Measured on 2030-01-02 on one NVIDIA H100 80GB, single precision, convolution by cuDNN"
    )
    assert wrong == "Not right: tests: failed (1), 5 passed, 0 skipped, 1 failed"
    assert names.count("|") == rule.count("|")
    assert rows == [
        "| moments 2x3x4 | 900 GB/s | copy 1000, times the least 1.5 | 0.90 |",
        "| ResNet | 2000 images/s | PyTorch a 1000, PyTorch b 4000 | 2.00, 0.50 |",
        "| a net | DeviceError: no | | |",
    ]


@pytest.fixture
def folders(gpu_check, tmp_path, monkeypatch):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{gpu_check.BEGIN}\n{gpu_check.NOT_YET}\n{gpu_check.END}\nbehind\n")
    monkeypatch.setattr(gpu_check, "README", readme)
    monkeypatch.setattr(gpu_check, "RESULTS", tmp_path / "gpu")
    return tmp_path


def test_results_are_written(gpu_check, folders):
    readme = folders / "README.md"
    gpu_check.write(REPORT, folders / "elsewhere")
    assert gpu_check.readme_section(readme.read_text()) == gpu_check.NOT_YET
    gpu_check.write(REPORT)
    for folder in ("gpu", "elsewhere"):
        written = folders / folder / "2030-01-02-nvidia-h100-80gb.json"
        assert json.loads(written.read_text()) == REPORT
    text = readme.read_text()
    assert gpu_check.readme_section(text) == gpu_check.table(REPORT)
    assert text.startswith("before\n") and text.endswith("behind\n")


def test_commands_end_in_time_with_all_that_they_have_started(gpu_check, tmp_path):
    log = tmp_path / "log"
    assert gpu_check.run([sys.executable, "-c", "print(7)"], 20, log) == 0 and log.read_text() == "7\n"
    assert gpu_check.run([sys.executable, "-c", "raise SystemExit(3)"], 20, log) == 3
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    assert gpu_check.run([sys.executable, "-c", child], 0.5, log) is None


def test_the_parts_fit_into_their_time(gpu_check):
    assert sum(gpu_check.SECONDS.values()) <= gpu_check.TOTAL < 540


def test_a_part_that_fails_costs_no_other(gpu_check, folders, monkeypatch, capsys):
    """What is left of the time goes to the next part, and what has been found is written after each."""
    limits, written = {}, []

    def run_part(name, limit, log, scratch):
        limits[name] = limit
        written.append([path.name for path in folders.glob("gpu/*.json")])
        return {
            "facts": ("done", [FACTS]),
            "kernels": ("failed: 1 calls right; relu float32: ended the process", []),
            "channel": ("failed (-11)", [{"what": "moments 1x2x3", "GB/s": 1.0}]),
            "mlp": ("done", [{"what": "MLP", "iterations/s": 2.0}]),
        }[name]

    monkeypatch.setattr(gpu_check, "run_part", run_part)
    said = gpu_check.check(["facts", "kernels", "channel", "mlp"])
    assert said == "gpu-check: failed: kernels, channel"
    report = json.loads((folders / "gpu" / "2030-01-02-nvidia-h100-80gb.json").read_text())
    assert [row.get("error") for row in report["rows"]] == [None, "failed (-11)", None]
    assert [bool(files) for files in written] == [False, True, True, True]
    assert gpu_check.TOTAL - 5 < limits["mlp"] <= gpu_check.TOTAL  # nothing comes behind it
    assert limits["facts"] < gpu_check.TOTAL / 2


def test_it_says_why_it_cannot_run(gpu_check, folders, monkeypatch):
    monkeypatch.setattr(
        gpu_check, "run_part", lambda *_: ("failed (1): gpu-check: there is no usable CUDA device", [])
    )
    assert (
        gpu_check.check(["facts", "mlp"])
        == "gpu-check: failed (1): gpu-check: there is no usable CUDA device"
    )
    assert not (folders / "gpu").exists()


def test_the_large_net_can_be_read(gpu_check):
    for training in (False, True):
        layers = blocks.parse(gpu_check.resnet_text(2, training, 32)).layer
        assert len(layers) > 200 and (layers[-1].type == "SoftmaxWithLoss") == training


def test_rows_of_a_part_that_was_ended_are_kept(gpu_check, tmp_path):
    path = tmp_path / "rows"
    path.write_text('{"what": "a", "x": 1}\n{"what": "b", "x": 1}\n{"what": "a", "x": 2}\n{"what": "c", ')
    assert gpu_check.read_rows(path) == [{"what": "a", "x": 2}, {"what": "b", "x": 1}]
    assert gpu_check.read_rows(tmp_path / "none") == []


class TestParts:
    """What each part does, on small arrays."""

    pytestmark = pytest.mark.gpu

    @pytest.fixture(autouse=True)
    def _quick(self, gpu_check, monkeypatch):
        monkeypatch.setattr(gpu_check, "seconds", lambda work, sync, *_: (work(), sync(), 0.5)[-1])
        monkeypatch.setattr(gpu_check, "torch_with_cuda", lambda: None)

    def test_facts(self, gpu_check):
        (found,) = gpu_check.facts()
        assert FACTS.keys() <= found.keys()

    def test_channel(self, gpu_check):
        rows = list(gpu_check.channel_of((2, 3, 8), memory=1))
        assert len(rows) == 8 and all(row["GB/s"] > 0 and row["times the least"] > 0 for row in rows)

    def test_the_small_net(self, gpu_check):
        assert [row["iterations/s"] for row in gpu_check.mlp()] == [2.0, 2.0]

    @pytest.mark.parametrize("phase", ["TEST", "TRAIN"])
    def test_a_net_of_images(self, gpu_check, monkeypatch, phase):
        monkeypatch.setattr(gpu_check, "resnet_text", lambda batch, training: SMALL[training])
        rows = list(gpu_check.resnet(phase, 2))
        assert [row["images/s"] for row in rows] == [4.0, 4.0]

    @pytest.mark.slow
    def test_kernels(self, gpu_check, tmp_path, monkeypatch):
        path = tmp_path / "rows"
        path.write_text('{"what": "relu float32", "result": "right"}\n')
        rows = list(gpu_check.kernels(path))
        assert {row["result"] for row in rows} == {"ended the process", "right"}
        last = {row["what"]: row["result"] for row in rows}
        assert set(last.values()) == {"right"} and len(last) > 150 and "relu float32" not in last
