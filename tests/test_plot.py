"""Reading logs and plotting them."""

from __future__ import annotations

import builtins
import json
from pathlib import Path

import pytest

from caffebn.errors import ArgumentError, FileError, FormatError, MissingPackageError
from caffebn.plot import Curve, plot_runs, read_run

# lines as Caffe writes them, of an old and of a newer version
CAFFE = """\
I1120 12:34:56.789012  4321 solver.cpp:60] Solving small
I1120 12:34:56.789012  4321 solver.cpp:330] Iteration 0, Testing net (#0)
I1120 12:34:57.789012  4321 solver.cpp:397]     Test net output #0: accuracy = 0.25
I1120 12:34:57.789012  4321 solver.cpp:397]     Test net output #1: cost = 1.5 (* 1 = 1.5 loss)
I1120 12:34:57.789012  4321 solver.cpp:218] Iteration 0 (0 iter/s, 0.1s/10 iters), loss = 1.6
I1120 12:34:57.789012  4321 solver.cpp:237]     Train net output #0: loss = 1.6 (* 1 = 1.6 loss)
I1120 12:34:57.789012  4321 sgd_solver.cpp:105] Iteration 0, lr = 0.01
I1120 12:34:58.789012  4321 solver.cpp:189] Iteration 10, loss = 1.25e-01
I1120 12:34:58.789012  4321 sgd_solver.cpp:105] Iteration 10, lr = 1e-05
I1120 12:34:58.789012  4321 solver.cpp:330] Iteration 10, Testing net (#1)
I1120 12:34:58.789012  4321 solver.cpp:397]     Test net output #0: accuracy = 0.5
I1120 12:34:58.789012  4321 solver.cpp:189] Iteration 20, loss = nan
"""


@pytest.fixture
def caffe_log(tmp_path) -> Path:
    path = tmp_path / "train.log"
    path.write_text(CAFFE)
    return path


def test_log_of_caffe(caffe_log):
    run = read_run(caffe_log)
    assert run.loss.iterations == [0, 10, 20] and run.loss.values[:2] == [1.6, 0.125]
    assert run.rate == Curve([0, 10], [0.01, 1e-05])
    assert run.scores == {"accuracy": Curve([0], [0.25]), "accuracy #1": Curve([10], [0.5])}
    assert run.test_losses == {"cost": Curve([0], [1.5])}


def test_json_lines_of_a_resumed_run(tmp_path):
    path = tmp_path / "run.jsonl"
    lines = [
        {"event": "progress", "iteration": i, "loss": loss, "lr": 0.1}
        for i, loss in ((0, 3), (5, 2), (10, 9))
    ]
    test = {
        "event": "test",
        "iteration": 5,
        "net": 0,
        "outputs": {"acc": 0.5, "loss": 1.0, "many": [1.0, 2.0]},
    }
    text = "\n".join(map(json.dumps, [*lines, test]))
    more = json.dumps({"event": "progress", "iteration": 10, "loss": 1, "lr": None})
    path.write_text(f'{text}\n{{"event": "progr\n{more}\n')
    run = read_run(path)
    assert run.loss == Curve([0, 5, 10], [3, 2, 1])
    assert run.rate.iterations == [0, 5, 10]
    assert run.scores == {"acc": Curve([5], [0.5])} and run.test_losses == {"loss": Curve([5], [1.0])}


def test_going_back_drops_what_is_ahead():
    curve = Curve()
    for iteration in (0, 5, 10, 5):
        curve.add(iteration, iteration)
    assert curve == Curve([0, 5], [0, 5])


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_pictures(caffe_log, tmp_path, ending, start):
    run = read_run(caffe_log)
    plot_runs([run, run], tmp_path / f"out.{ending}")
    assert (tmp_path / f"out.{ending}").read_bytes().startswith(start)


def test_refusals(caffe_log, tmp_path, monkeypatch):
    run = read_run(caffe_log)
    with pytest.raises(ArgumentError, match=r"expected a name that ends in one of \.png, \.svg, \.pdf"):
        plot_runs([run], "out.jpeg2")
    with pytest.raises(ArgumentError, match="no run to plot"):
        plot_runs([], "out.png")
    with pytest.raises(FileError, match="cannot be read"):
        read_run(tmp_path / "none")
    (tmp_path / "empty").write_text("nothing\n")
    with pytest.raises(FormatError, match="no iteration of a training is in it"):
        read_run(tmp_path / "empty")
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackageError, match=r'Plotting needs the package "matplotlib"'):
        plot_runs([run], tmp_path / "out.png")
