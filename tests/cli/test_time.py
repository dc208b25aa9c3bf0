"""``caffebn time``."""

from __future__ import annotations

import json

import pytest

from caffebn.cli import time
from caffebn.net import Net
from caffebn.ops import threads
from caffebn.ops.geometry import DIRECTIONS


@pytest.fixture(autouse=True)
def threads_as_before():
    before = threads.get()
    yield
    threads.set(before)


@pytest.fixture
def train_file(net_file):
    """The small net with a loss and a label in place of its softmax."""
    label = 'layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 } } }'
    prob = 'name: "prob" type: "Softmax" bottom: "fc" top: "prob"'
    loss = 'name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label"'
    net_file.write_text(label + net_file.read_text().replace(prob, loss))
    return net_file


def test_table(run, train_file):
    result = run("time", train_file, "-n", 2, "--threads", 1)
    assert result.exit_code == 0 and result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["layer", "type", "forward", "ms", "backward", "ms", "share"]
    rows = {line.split()[0]: line.split() for line in lines if line.rstrip().endswith("%")}
    assert list(rows) == ["label", "data", "conv", "bn", "scale", "relu", "fc", "loss"]
    assert [len(row) for row in rows.values()] == [4, 4, 6, 5, 5, 5, 5, 5]
    assert rows["conv"][1:3] == ["Convolution,", "gemm"]
    assert abs(sum(float(row[-1].rstrip("%")) for row in rows.values()) - 100) < 1
    (joined,) = (line for line in lines if " + " in line)
    assert joined.split()[:8] == ["conv", "Convolution", "+", "BatchNorm", "+", "Scale", "+", "ReLU"]
    assert lines[-2].startswith("Whole net: forward ") and "backward" in lines[-2]
    assert lines[-1].startswith("With keep=[]: forward ") and lines[-1].endswith(
        "ms  (1 threads, median of 2)"
    )


def test_directions_with_algorithms_of_their_own(run, train_file):
    text = train_file.read_text().replace("dim: 3 dim: 6 dim: 5", "dim: 3 dim: 16 dim: 16")
    train_file.write_text(text.replace("num_output: 4", "num_output: 16"))
    (line,) = (
        line for line in run("time", train_file, "-n", 1).stdout.splitlines() if "Convolution," in line
    )
    assert line.split()[1:7] == ["Convolution,", "gemm", "/", "winograd4", "/", "gemm"]
    found = json.loads(run("time", train_file, "-n", 1, "--forward-only", "--json").stdout)
    assert found["layers"][2]["algorithm"] == {"forward": "gemm"}


def test_forward_only(run, train_file):
    result = run("time", train_file, "-n", 1, "--forward-only")
    assert "backward" not in result.stdout and "forward" in result.stdout


def test_net_without_loss(run, net_file):
    lines = run("time", net_file, "-n", 1).stdout.splitlines()
    assert lines[-3] == "No layer goes backward: the net has no loss."
    assert lines[0].split() == ["layer", "type", "forward", "ms", "share"]


def test_json(run, train_file):
    words = ["time", train_file, "--iterations", 1, "--phase", "train", "--threads", 2, "--json"]
    found = json.loads(run(*words).stdout)
    assert {key: found[key] for key in ("net", "phase", "iterations", "threads")} == {
        "net": "small", "phase": "TRAIN", "iterations": 1, "threads": 2
    }  # fmt: skip
    assert found["forward"] > 0 and found["backward"] > 0
    by_name = {row["name"]: row for row in found["layers"]}
    assert set(by_name["conv"]) == {"name", "type", "algorithm", "forward", "backward"}
    assert by_name["conv"]["algorithm"] == dict.fromkeys(DIRECTIONS, "gemm")
    assert by_name["bn"]["algorithm"] is None
    (joined,) = found["joined"]
    assert joined["layers"] == ["bn", "scale", "relu"] and joined["runs_as"] == "BatchNorm + Scale + ReLU"
    assert joined["forward"] > 0 and joined["backward"] > 0
    assert found["keep"]["forward"] > 0 and found["keep"]["backward"] > 0
    assert by_name["conv"]["forward"] > 0 and by_name["conv"]["backward"] > 0
    assert by_name["data"]["backward"] is None


def test_batch_makes_more_work(run, net_file):
    assert run("time", net_file, "-n", 1, "--batch", 7).exit_code == 0


def test_medians_leave_the_first_run_out(train_file, monkeypatch):
    net = Net(str(train_file), "TRAIN")
    # 8 layers, the net and 6 steps forward; 6 layers, the net and 4 steps backward
    slow = iter([1000.0] * 2 * 26 + [0.0] * 1000)
    clock = [0.0]

    def tick():
        clock[0] += 1 + next(slow)
        return clock[0]

    monkeypatch.setattr(time, "perf_counter", tick)
    result = time.measure(net, 3, backward=True)
    assert result["forward"] == result["backward"] == 1
    assert {row["forward"] for row in result["layers"]} == {1}
    assert [row["backward"] for row in result["layers"]] == [None, None, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("words", [["-n", "0"], ["--threads", "0"], ["--phase", "x"]])
def test_wrong_options(run, net_file, words):
    assert run("time", net_file, *words).exit_code == 2
