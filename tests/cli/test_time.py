"""``caffebn time``."""

from __future__ import annotations

import json

import pytest

from caffebn.cli import time
from caffebn.net import Net
from caffebn.ops import threads


@pytest.fixture(autouse=True)
def threads_as_before():
    before = threads.get()
    yield
    threads.set(before)


def test_table(run, net_file):
    result = run("time", net_file, "-n", 2, "--threads", 1)
    assert result.exit_code == 0 and result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["layer", "type", "forward", "ms", "backward", "ms", "share"]
    rows = {line.split()[0]: line.split() for line in lines if line.endswith("%")}
    assert list(rows) == ["data", "conv", "bn", "scale", "relu", "fc", "prob"]
    assert all(len(row) == 5 for row in rows.values())
    assert abs(sum(float(row[-1].rstrip("%")) for row in rows.values()) - 100) < 1
    assert lines[-1].startswith("Whole net: forward ") and lines[-1].endswith("ms  (1 threads, median of 2)")


def test_forward_only(run, net_file):
    result = run("time", net_file, "-n", 1, "--forward-only")
    assert "backward" not in result.stdout and "forward" in result.stdout


def test_json(run, net_file):
    found = json.loads(run("time", net_file, "--iterations", 1, "--phase", "train", "--threads", 2, "--json").stdout)
    assert {key: found[key] for key in ("net", "phase", "iterations", "threads")} == {
        "net": "small", "phase": "TRAIN", "iterations": 1, "threads": 2
    }  # fmt: skip
    assert found["forward"] > 0 and found["backward"] > 0
    assert set(found["layers"][1]) == {"name", "type", "forward", "backward"}
    assert found["layers"][1]["forward"] > 0


def test_batch_makes_more_work(run, net_file):
    assert run("time", net_file, "-n", 1, "--batch", 7).exit_code == 0


def test_labels_are_valid(net_file):
    net_file.write_text(net_file.read_text().replace('name: "prob" type: "Softmax" bottom: "fc" top: "prob"',
                                                     'name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label"')
                        + 'layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 } } }')  # fmt: skip
    text = net_file.read_text().splitlines()
    net_file.write_text("\n".join([text[-1], *text[:-1]]))
    result = time.measure(Net(str(net_file), "TRAIN"), 1, backward=True)
    assert len(result["layers"]) == 8


def test_medians_leave_the_first_run_out(net_file, monkeypatch):
    net = Net(str(net_file), "TEST")
    clock = iter(range(10**6))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    result = time.measure(net, 3, backward=True)
    assert result["forward"] == result["backward"] == 1
    assert {row["forward"] for row in result["layers"]} == {1}


@pytest.mark.parametrize("words", [["-n", "0"], ["--threads", "0"], ["--phase", "x"]])
def test_wrong_options(run, net_file, words):
    assert run("time", net_file, *words).exit_code == 2
