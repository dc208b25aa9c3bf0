"""``caffebn train``."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import sys
from pathlib import Path

import pytest

from caffebn import solvers
from caffebn.cli import train
from tests.cli import training

PREFIX = re.compile(r"[IWEF](\d{4}) (\d\d:\d\d:\d\d\.\d{6}) +(\d+) (\S+):(\d+)\] (.*)")


@pytest.fixture
def solver(tmp_path) -> Path:
    return training.make(tmp_path)


def events(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("snap_*"))


def test_trains_and_writes_snapshots(run, solver, tmp_path):
    result = run("train", "--solver", solver)
    assert result.exit_code == 0 and result.stdout == ""
    assert names(tmp_path) == sorted(
        f"snap_iter_{n}.{kind}" for n in (5, 10, 12) for kind in ("caffemodel", "solverstate")
    )


def test_lines_are_those_that_readers_of_logs_look_for(run, solver):
    """The columns and words by which scripts in shell, awk and Python take Caffe's logs apart."""
    lines = run("train", "--solver", solver).stderr.splitlines()
    assert all(PREFIX.fullmatch(line) for line in lines)
    assert sum("] Solving " in line for line in lines) == 1
    text = "\n".join(lines)
    assert re.findall(r"Iteration (\d+) \(.* iters\), loss = [\d.e+-]+", text) == ["0", "4", "8"]
    assert re.findall(r"Iteration (\d+), loss = [\d.e+-]+", text) == ["12"]
    assert re.findall(r"Iteration (\d+), Testing net \(#0\)", text) == ["0", "6", "12"]
    assert len(re.findall(r"Test net output #0: accuracy = [\d.]+$", text, re.M)) == 3
    assert len(re.findall(r"Test net output #1: loss = ([\d.]+) \(\* 1 = \1 loss\)", text)) == 3
    assert len(re.findall(r"Train net output #0: loss = ([\d.]+) \(\* 1 = \1 loss\)", text)) == 3
    rates = [line.split() for line in lines if ", lr = " in line]
    assert [words[8] for words in rates] == ["0.05", "0.05", "0.05"]
    assert {words[2] for words in rates} == {str(os.getpid())}
    assert "Optimization Done." in lines[-1]


def test_log_and_json_lines(run, solver, tmp_path):
    log = tmp_path / "run.log"
    result = run("train", "--solver", solver, "--log", log, "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    assert all(PREFIX.fullmatch(line) for line in log.read_text().splitlines())
    found = events(tmp_path / "run.log.jsonl")
    assert [(e["event"], e["iteration"]) for e in found] == [
        ("start", 0), ("test", 0), ("progress", 0), ("progress", 4), ("snapshot", 5), ("test", 6), ("progress", 8),
        ("snapshot", 10), ("snapshot", 12), ("progress", 12), ("test", 12), ("end", 12),
    ]  # fmt: skip
    start, test, progress = found[0], found[1], found[2]
    assert (start["net"], start["type"], start["max_iter"], start["items_per_iteration"]) == (
        "small",
        "SGD",
        12,
        6,
    )
    assert start["trainable"][:2] == ["ip1[0]", "ip1[1]"]
    assert set(test["outputs"]) == {"accuracy", "loss"} and test["net"] == 0
    assert progress["lr"] == pytest.approx(0.05) and progress["loss"] == progress["outputs"]["loss"]
    assert progress["items_per_second"] == pytest.approx(6 / progress["seconds"])
    assert found[4]["state"] == str(tmp_path / "snap_iter_5.solverstate")
    assert found[-1]["reason"] == "done"


def test_going_on_from_a_snapshot(run, solver, tmp_path):
    run("train", "--solver", solver)
    unbroken = training.params(tmp_path / "snap_iter_12.caffemodel")
    (tmp_path / "snap_iter_12.caffemodel").unlink()
    log = tmp_path / "log"
    result = run(
        "train", "--solver", solver, "--snapshot", tmp_path / "snap_iter_5.solverstate", "--log", log
    )
    assert result.exit_code == 0 and "Resumed from" in result.stderr
    assert training.params(tmp_path / "snap_iter_12.caffemodel") == unbroken
    assert events(Path(f"{log}.jsonl"))[0]["iteration"] == 5


def test_weights_and_iterations(run, tmp_path):
    solver = training.make(tmp_path, snapshot=None)
    run("train", "--solver", solver, "--iterations", 5)
    assert names(tmp_path) == ["snap_iter_5.caffemodel", "snap_iter_5.solverstate"]
    (tmp_path / "snap_iter_5.caffemodel").rename(tmp_path / "start.caffemodel")
    start = tmp_path / "start.caffemodel"
    assert run("train", "--solver", solver, "--weights", start, "-n", 0).exit_code == 0
    assert training.params(tmp_path / "snap_iter_0.caffemodel") == training.params(start)


def test_weights_and_snapshot_exclude_each_other(run, solver):
    result = run("train", "--solver", solver, "--weights", solver, "--snapshot", solver)
    assert result.exit_code == 2 and "--weights and --snapshot exclude each other" in result.stderr


def test_freeze(run, solver, tmp_path):
    result = run("train", "--solver", solver, "--freeze-bn", "stats+scale", "-n", 0)
    assert result.exit_code == 0
    assert result.stdout == (
        "Trained are 4 of 9 parameter blobs, 75 of 108 numbers: ip1[0], ip1[1], ip2[0], ip2[1]\n"
    )
    assert "scale[0]" in run("train", "--solver", solver, "--freeze-bn", "stats", "-n", 0).stdout


@pytest.mark.parametrize(("settings", "words"), [
    ({"snapshot_prefix": '"FOLDER/no/such"'}, 'snapshot_prefix: there is no folder "'),
    ({"base_lr": None}, "base_lr"),
    ({"net": '"no.prototxt"'}, 'there is no file "no.prototxt"'),
])  # fmt: skip
def test_errors(run, tmp_path, settings, words):
    solver = training.make(
        tmp_path, **{k: v and v.replace("FOLDER", str(tmp_path)) for k, v in settings.items()}
    )
    result = run("train", "--solver", solver, "-q")
    assert result.exit_code == 1 and result.stderr.startswith("error: ") and words in result.stderr


def test_unwritable_log(run, solver, tmp_path):
    result = run("train", "--solver", solver, "--log", tmp_path / "no" / "log")
    assert result.exit_code == 1 and "log: the log cannot be written: No such file" in result.stderr


def test_a_net_is_no_solver(run, solver, tmp_path):
    result = run("train", "--solver", tmp_path / "net.prototxt")
    assert result.exit_code == 1 and "expected a solver, found a net" in result.stderr


def test_unknown_output_for_the_best(run, solver):
    result = run("train", "--solver", solver, "-q", "--keep-best", "acuracy")
    assert result.exit_code == 1
    assert 'no test net has an output "acuracy"; did you mean "accuracy"?' in result.stderr


def test_full_disk_loses_nothing(run, solver, tmp_path, monkeypatch):
    run("train", "--solver", solver, "-n", 5, "-q")
    before = {path: path.read_bytes() for path in tmp_path.glob("snap_*")}

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    log = tmp_path / "log"
    result = run(
        "train", "--solver", solver, "--snapshot", tmp_path / "snap_iter_5.solverstate", "-q",
        "--keep", 1, "--log", log,
    )  # fmt: skip
    assert result.exit_code == 1
    assert "snap_iter_10.caffemodel: not written, any old file is untouched: No space left" in result.stderr
    assert {path: path.read_bytes() for path in tmp_path.glob("snap_*")} == before
    assert list(tmp_path.glob(".*")) == []
    assert events(Path(f"{log}.jsonl"))[-1]["reason"].startswith("error: ")


def test_keep(run, solver, tmp_path):
    assert run("train", "--solver", solver, "-q", "--keep", 2).exit_code == 0
    assert names(tmp_path) == sorted(
        f"snap_iter_{n}.{kind}" for n in (10, 12) for kind in ("caffemodel", "solverstate")
    )


def test_bar(solver):
    from rich.console import Console

    made = solvers.get_solver(solver)
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with train.Bar(made, console) as bar:
        made.hooks.append(bar)
        made.listeners.append(bar.tell)
        made.solve()
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", console.file.getvalue())
    assert re.search(r"12/12 .*loss [\d.]+  lr 0.025  [\d.e+]+ images/s", shown)
    assert "Test net output #0: accuracy" in shown and "lr = " not in shown


def test_ctrl_c_of_the_command(solver, tmp_path):
    """The first Ctrl-C ends the iteration and leaves a snapshot of it."""
    import signal
    import subprocess

    log = tmp_path / "log"
    words = ["train", "--solver", str(solver), "--log", str(log), "--iterations", "1000000"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen(
        [sys.executable, "-m", "caffebn", *words], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        for line in process.stderr:
            if "Iteration 8," in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        assert process.wait() == 0
    assert "Stopping when this iteration is done" in rest and "Optimization stopped early." in rest
    end = events(Path(f"{log}.jsonl"))[-1]
    assert (end["event"], end["reason"]) == ("end", "stopped")
    assert (tmp_path / f"snap_iter_{end['iteration']}.solverstate").exists()
