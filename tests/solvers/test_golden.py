"""Every solver trains as real Caffe did, writes what Caffe writes, and goes on from what Caffe wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffebn.proto import binary, blob_array
from caffebn.solvers.rules import RULES
from tests.solvers.golden import FILES, Record, parameter

pytestmark = pytest.mark.usefixtures("here")

ALL = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def test_there_is_a_record_of_every_rule_that_caffe_has():
    assert len(FILES) == 22
    assert {path.stem.split("__")[0] for path in FILES} == RULES.keys() - {"Nadam"}


@ALL
@pytest.mark.parametrize("device", ["cpu", "reference", pytest.param("gpu", marks=pytest.mark.gpu)])
def test_trains_as_caffe_did(path, device):
    record = Record(path)
    solver = record.solver(device=device)
    record.train(solver, 0, record.iterations)
    assert solver.iter == int(record.arrays["iter"])
    assert len(solver.history) == int(record.arrays["history_count"])
    for name, value in record.named("history_end_"):
        record.compare(solver.history[int(name)], value, f"history {name}")


@ALL
def test_gradients_and_update_of_the_first_iteration(path):
    record = Record(path)
    solver = record.solver(dtype="float64")
    gradients = {}

    def keep_gradients() -> None:
        for name, _ in record.named("grad_it0_"):
            gradients[name] = parameter(solver.net, name).diff.copy()

    solver.add_callback(lambda: None, keep_gradients)
    record.train(solver, 0, 1)
    for name, value in record.named("grad_it0_"):
        record.compare(gradients[name], value, f"gradient {name}")
    for name, value in record.named("update_it0_"):
        record.compare(parameter(solver.net, name).diff, value, f"update {name}")


@ALL
def test_goes_on_from_caffes_own_snapshot(path):
    record = Record(path)
    for name, content in record.named("file_"):
        Path(name).write_bytes(content.tobytes())
    half = record.iterations // 2
    solver = record.solver()
    solver.restore(f"snap_iter_{half}.solverstate")
    assert solver.iter == half
    record.train(solver, half, record.iterations)
    solver.snapshot()
    state = binary.read(f"snap_iter_{record.iterations}.solverstate", "SolverState")
    assert state.current_step == int(record.arrays["current_step_end"])


@ALL
def test_writes_what_caffe_writes(path):
    """The same fields, names and shapes in the same places; values as near as training is."""
    record = Record(path)
    half = record.iterations // 2
    solver = record.solver()
    record.train(solver, 0, half)
    solver.snapshot()
    for ending, kind in ((".caffemodel", "NetParameter"), (".solverstate", "SolverState")):
        name = f"snap_iter_{half}{ending}"
        found = binary.read(name, kind)
        expected = binary.parse(record.arrays[f"file_{name}"].tobytes(), kind)
        pairs = (
            [(layer, twin) for layer, twin in zip(found.layer, expected.layer, strict=True)]
            if kind == "NetParameter"
            else [(found, expected)]
        )
        for mine, caffes in pairs:
            field = "blobs" if kind == "NetParameter" else "history"
            blobs, theirs = list(getattr(mine, field)), list(getattr(caffes, field))
            assert len(blobs) == len(theirs)
            for a, b in zip(blobs, theirs, strict=True):
                assert not a.unknown and a.has("shape") and a.shape == b.shape
                record.compare(blob_array(a), blob_array(b), name)
            mine.clear(field)
            caffes.clear(field)
            if kind == "NetParameter":
                caffes.clear("loss_weight")  # Caffe writes down the weight 1 that a loss has by default
        found.unknown.clear()
        assert found == expected


def test_rates_were_recorded():
    assert sum(not np.isnan(Record(path).arrays["lr"]).any() for path in FILES) > 10
