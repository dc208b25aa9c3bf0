"""Which snapshots stay."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from caffebn.errors import ArgumentError, CaffebnWarning
from caffebn.solvers import KeepSnapshots, TestResult
from tests.solvers.small import solver

pytestmark = pytest.mark.usefixtures("here")

TEST = 'snapshot_prefix: "snap" test_iter: 1 test_interval: 100 test_initialization: false snapshot: 2'


def kept() -> list[int]:
    return sorted(int(path.stem.rpartition("_")[2]) for path in Path().glob("*.solverstate"))


def scored(made, iteration: int, **values: float) -> None:
    made.tell(TestResult(iteration, 0, {name: np.array(value) for name, value in values.items()}, {}))


def test_the_last_are_kept():
    made = solver(TEST)
    made.listeners.append(KeepSnapshots(made, 2))
    made.step(9)
    assert kept() == [6, 8] and len(list(Path().iterdir())) == 4


@pytest.mark.parametrize(("best", "values", "expected"), [
    ("accuracy", (0.5, 0.4, float("nan")), 2), ("accuracy:min", (0.5, 0.4, 0.45), 4), ("loss", (0.5, 0.4, 0.45), 4),
    ("loss:max", (0.5, 0.4, 0.45), 2),
])  # fmt: skip
def test_the_best_is_kept(best, values, expected):
    made = solver(TEST)
    made.listeners.append(KeepSnapshots(made, 1, best))
    name = best.partition(":")[0]
    for value in values:
        made.step(2)
        scored(made, made.iter, **{name: value})
    made.step(4)
    assert kept() == [expected, 10]
    note = json.loads(Path("snap_best.json").read_text())
    assert (note["name"], note["iteration"]) == (name, expected) and Path(note["state"]).exists()


def test_the_best_is_written_when_there_is_no_snapshot_of_it():
    made = solver(TEST)
    made.listeners.append(KeepSnapshots(made, 1, "accuracy"))
    made.step(1)
    scored(made, 1, accuracy=0.7)
    made.step(3)
    assert kept() == [1, 4]


def test_a_resumed_run_knows_its_earlier_snapshots():
    made = solver(TEST)
    made.listeners.append(KeepSnapshots(made, None, "accuracy"))
    made.step(2)
    scored(made, 2, accuracy=0.7)
    made.step(6)
    Path("snap_iter_6.solverstate").unlink()
    Path(".snap_iter_6.solverstate.x.part").touch()
    Path("snapper_iter_1.solverstate").touch()
    again = solver(TEST)
    again.restore("snap_iter_4.solverstate")
    again.listeners.append(KeepSnapshots(again, 1, "accuracy"))
    scored(again, 4, accuracy=0.6)
    assert kept() == [1, 2, 4, 8]
    again.step(2)
    assert kept() == [1, 2, 6, 8]  # 8 is of another training, as far as this one can know
    assert not list(Path().glob(".*"))


def test_a_new_run_deletes_nothing_of_an_earlier_one():
    made = solver(TEST)
    made.step(4)
    again = solver(TEST.replace("snapshot: 2", "snapshot: 3"))
    again.listeners.append(KeepSnapshots(again, 1))
    again.step(6)
    assert kept() == [2, 4, 6]


def test_what_cannot_be_deleted_is_a_warning():
    made = solver(TEST)
    made.listeners.append(KeepSnapshots(made, 1))
    made.step(2)
    Path("snap_iter_2.solverstate").unlink()
    Path("snap_iter_2.solverstate").mkdir()
    with pytest.warns(CaffebnWarning, match="snap_iter_2.solverstate: this older snapshot cannot be deleted"):
        made.step(2)


@pytest.mark.parametrize(("best", "words"), [
    ("acuracy", 'no test net has an output "acuracy"; did you mean "accuracy"'),
])  # fmt: skip
def test_unknown_outputs(best, words):
    with pytest.raises(ArgumentError, match=words):
        KeepSnapshots(solver(TEST), None, best)


def test_keep_at_least_one():
    with pytest.raises(ArgumentError, match="expected at least 1 snapshot, found 0"):
        KeepSnapshots(solver(TEST), 0)
