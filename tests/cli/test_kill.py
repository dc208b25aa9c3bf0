"""A training that is killed again and again ends as one that is not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from caffebn.solvers.snapshot import read_state
from tests.cli import training

SLOW = """
import time
import caffebn

class Slow(caffebn.Layer):
    def reshape(self, bottom, top):
        top[0].reshape(1)

    def forward(self, bottom, top):
        time.sleep(0.001)  # so that processes of any speed are killed at many places
"""
LAYERS = """
layer { name: "slow" type: "Python" bottom: "label" top: "slow" python_param { module: "slow" layer: "Slow" } }
layer { name: "silence" type: "Silence" bottom: "slow" }
"""


def begin(folder: Path, *words: str) -> subprocess.Popen:
    path = os.pathsep.join([str(folder), *(p for p in sys.path if p)])
    return subprocess.Popen(
        [sys.executable, "-m", "caffebn", "train", "--solver", str(folder / "solver.prototxt"), *words,
         "--log", str(folder / "log"), "--quiet", "--keep", "2", "--keep-best", "accuracy"],
        env=os.environ | {"PYTHONPATH": path, "CAFFEBN_NUM_THREADS": "1"},
    )  # fmt: skip


def newest(folder: Path) -> Path | None:
    found = folder.glob("snap_iter_*.solverstate")
    return max(found, key=lambda path: int(path.stem.rpartition("_")[2]), default=None)


def _lines(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0


def wait_for(lines: int, log: Path, process: subprocess.Popen) -> None:
    """Wait until the log has so many lines, as long as it grows.

    What is limited is the number of looks without a new line, two minutes of them: by the clock, a machine that
    was busy or asleep would count as a training that stands.
    """
    found, looks = _lines(log), 0
    while process.poll() is None and found < lines:
        assert looks < 60_000, f"the training stands at line {found} of its log"
        time.sleep(0.002)
        before, found = found, _lines(log)
        looks = looks + 1 if found == before else 0


@pytest.mark.parametrize("kills", [12, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_again_and_again(tmp_path, kills):
    last = 60 * kills
    ends = []
    for name in ("unbroken", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        training.make(
            folder,
            max_iter=str(last),
            snapshot="10",
            test_interval="50",
            display="5",
            stepsize=str(last // 3),
        )
        (folder / "slow.py").write_text(SLOW)
        with (folder / "net.prototxt").open("a") as f:
            f.write(LAYERS)
    assert begin(tmp_path / "unbroken").wait() == 0
    folder = tmp_path / "killed"
    chance = random.Random(1)
    log = folder / "log.jsonl"
    for _ in range(kills):
        state = newest(folder)
        lines = _lines(log) + chance.randint(1, 10)
        process = begin(folder, *(["--snapshot", str(state)] if state else []))
        wait_for(lines, log, process)
        time.sleep(chance.uniform(0, 0.02))
        assert process.poll() is None, "the training ended by itself"
        process.send_signal(signal.SIGKILL)
        process.wait()
        ends.append(newest(folder))
    assert len(set(ends)) > kills // 3  # it was killed at many places
    assert begin(folder, "--snapshot", str(newest(folder))).wait() == 0
    names = [
        sorted(path.name for path in (tmp_path / name).glob("*snap_*")) for name in ("unbroken", "killed")
    ]
    assert names[0] == names[1]  # the last two and the best, and nothing half written
    files = [tmp_path / name / f"snap_iter_{last}" for name in ("unbroken", "killed")]
    assert training.params(f"{files[0]}.caffemodel") == training.params(f"{files[1]}.caffemodel")
    states = [read_state(f"{file}.solverstate") for file in files]
    assert [h.tobytes() for h in states[0].history] == [h.tobytes() for h in states[1].history]
    assert states[0].resumption.random == states[1].resumption.random
