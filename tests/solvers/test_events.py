"""Events: Caffe's words, which programs that read its logs expect."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest

from caffebn.solvers import Event, Progress, TestResult
from tests.solvers.small import NET, recorded, solver


def test_progress():
    event = Progress(
        100, 0.25, 0.01, {"loss": np.float32(0.5), "pair": np.array([1.0, 2e-7])}, {"loss": 2.0}, 4.0, 50
    )
    assert str(event).splitlines() == [
        "Iteration 100 (12.5 iter/s, 4s/50 iters), loss = 0.25",
        "    Train net output #0: loss = 0.5 (* 2 = 1 loss)",
        "    Train net output #1: pair = 1",
        "    Train net output #2: pair = 2e-07",
        "Iteration 100, lr = 0.01",
    ]
    assert str(Progress(5, 0.125)) == "Iteration 5, loss = 0.125"


def test_test_result():
    event = TestResult(500, 1, {"accuracy": np.array(0.75), "loss": np.array(0.5)}, {"loss": 1.0})
    assert str(event).splitlines() == [
        "Iteration 500, Testing net (#1)",
        "    Test net output #0: accuracy = 0.75",
        "    Test net output #1: loss = 0.5 (* 1 = 0.5 loss)",
    ]
    event = TestResult(500, 0, {}, {}, 0.25)
    assert str(event).splitlines() == ["Iteration 500, Testing net (#0)", "Test loss: 0.25"]


def test_a_reader_of_caffes_logs_finds_its_lines(caplog):
    """The expressions by which Caffe's own tools read its logs."""
    with caplog.at_level(logging.INFO, "caffebn.solvers"):
        solver("display: 2 test_iter: 2 test_interval: 5 snapshot_after_train: false", max_iter="6").solve()
    lines = [record.getMessage() for record in caplog.records]
    assert all("\n" not in line for line in lines)
    text = "\n".join(lines)
    assert re.findall(r"Iteration (\d+), lr = ([\d.e+-]+)", text) == [
        ("0", "0.1"),
        ("2", "0.1"),
        ("4", "0.1"),
    ]
    assert len(re.findall(r"Train net output #0: loss = [\d.e+-]+ \(\* 1 = [\d.e+-]+ loss\)", text)) == 3
    assert re.findall(r"Iteration (\d+), Testing net \(#0\)", text) == ["0", "5"]
    assert len(re.findall(r"Test net output #0: accuracy = [\d.]+", text)) == 2
    assert [int(i) for i in re.findall(r"Iteration (\d+)", text)] == [0, 0, 0, 2, 2, 4, 4, 5, 6]


def test_nothing_is_printed_unless_asked_for(capfd):
    made = solver("display: 1")
    made.step(2)
    assert capfd.readouterr() == ("", "")
    made.listeners.append(print)
    made.step(1)
    assert capfd.readouterr().out.startswith("Iteration 2 (")


def test_results_are_copies():
    made = solver("test_iter: 1 test_interval: 1 display: 1")
    events = recorded(made)
    made.step(3)
    losses = [float(e.outputs["loss"]) for e in events if isinstance(e, Progress)]
    assert len(set(losses)) == 3
    assert all(isinstance(e, Event) for e in events)


def test_events_may_not_be_changed():
    with pytest.raises(AttributeError):
        Event(1).iteration = 2


# -- tests of a net, and the schedule ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("test_interval: 4", [0, 4, 8]),
        ("test_interval: 5", [0, 5, 10]),
        ("test_interval: 4 test_initialization: false", [4, 8]),
        ("test_interval: 100 test_initialization: false", []),
    ],
)
def test_when_tests_run(more, expected):
    made = solver(f"{more} test_iter: 1 snapshot_after_train: false")
    events = recorded(made)
    made.solve()
    assert [e.iteration for e in events] == expected


def test_outputs_are_averaged():
    net = NET.replace('type: "Dropout"', 'type: "ReLU"')
    made = solver("test_iter: 3 test_interval: 1 test_compute_loss: true", net=net)
    made.step(3)
    test_net = made.test_nets[0]
    made_up = iter(range(1, 4))
    test_net.before_forward(
        lambda i: test_net.blobs["data"].data.__imul__(np.float32(next(made_up))) if i == 0 else None
    )
    seen = []
    test_net.after_forward(
        lambda i: (
            seen.append({n: float(test_net.blobs[n].data) for n in test_net.outputs})
            if i == len(test_net.layers) - 1
            else None
        )
    )
    result = made.test()
    assert len(seen) == 3 and len({s["loss"] for s in seen}) == 3
    for name in ("accuracy", "loss"):
        assert float(result.outputs[name]) == pytest.approx(np.mean([s[name] for s in seen]), rel=1e-12)
    assert result.loss == pytest.approx(np.mean([s["loss"] for s in seen]))
    assert result.loss_weights == {"loss": 1.0}
