"""Reading logs and plotting them."""

from __future__ import annotations

import builtins
import json
from pathlib import Path

import numpy as np
import pytest

from caffebn.errors import ArgumentError, FileError, FormatError, MissingPackageError
from caffebn.net import Net
from caffebn.plot import (
    Curve,
    activation_panels,
    plot_panels,
    plot_runs,
    read_run,
    statistics_panels,
    weight_panels,
)

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


# -- what is in a net ------------------------------------------------------------------------------------

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 5 } } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c"
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "sc" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "late" type: "BatchNorm" bottom: "c" top: "late" }
layer { name: "d" type: "Deconvolution" bottom: "late" top: "d"
        convolution_param { num_output: 2 kernel_size: 2 weight_filler { type: "xavier" } } }
"""


@pytest.fixture
def net():
    made = Net.from_text(NET, "TEST")
    mean, var, factor = made.params["bn"]
    mean.data[...] = [2, 4, 6, 8]
    var.data[...] = [2, 4, 0, 8]
    factor.data[...] = 2
    gamma, beta = made.params["sc"]
    gamma.data[...] = [1, 0, 1, 0.1]
    beta.data[...] = [0, 1, 0, -1]
    made.params["c"][0].data[1] = 0
    made.params["d"][0].data[:, 1] = 0
    made.blobs["data"].data[...] = np.random.default_rng(0).normal(size=(2, 3, 6, 5))
    return made


def test_statistics(net):
    mean, var, gamma, beta = statistics_panels(net)
    assert mean.layers == var.layers == ["bn", "late"] and gamma.layers == beta.layers == ["sc"]
    assert var.percentiles[0] == pytest.approx((0, 0.15, 1.5, 3.7, 4))
    # the third channel has mean 3 and variance 0: its deviation is sqrt(eps)
    assert mean.percentiles[0][-1] == pytest.approx(3 / np.sqrt(1e-5), rel=1e-4)
    assert var.dead == [1, 4]  # late was never trained
    # gamma 0, and a channel that the ReLU keeps at 0: -1 + 4 * 0.1 < 0
    assert gamma.dead == [2] and gamma.channels == [4]


def test_a_shift_below_0_is_dead_in_front_of_a_relu_alone(net):
    text = NET.replace('"ReLU"', '"Sigmoid"')
    other = Net.from_text(text, "TEST")
    other.share_with(net)
    assert statistics_panels(other)[2].dead == [1]


def test_weights(net):
    weights, norms, bias = weight_panels(net)
    assert weights.layers == norms.layers == ["c", "d"] == bias.layers
    assert weights.dead == [1, 1] and weights.channels == [4, 2]
    assert norms.percentiles[0][0] == 0


def test_activations(net):
    values, zeros = activation_panels(net)
    assert values.layers == ["data", "c", "bn", "sc", "r", "late", "d"]
    dead = dict(zip(values.layers, values.dead, strict=True))
    # channel 1 has no weights, a constant; the Scale makes it 1, the ReLU kills the last as well
    assert dead["c"] == 1 and dead["data"] == 0
    assert zeros.percentiles[0] == (0, 0, 0, 0, 0)
    assert zeros.percentiles[values.layers.index("r")][-1] > 0.9


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_pictures_of_a_net(net, tmp_path, ending, start):
    for panels in (statistics_panels(net), weight_panels(net), activation_panels(net)):
        plot_panels(panels, tmp_path / f"out.{ending}", "small")
        assert (tmp_path / f"out.{ending}").read_bytes().startswith(start)


def test_refused_panels(net, tmp_path):
    with pytest.raises(ArgumentError, match="expected a name that ends in"):
        plot_panels(statistics_panels(net), tmp_path / "out.txt")
    with pytest.raises(ArgumentError, match="nothing to plot"):
        plot_panels([], tmp_path / "out.png")
    empty = Net.from_text(NET.split("layer", 2)[0] + "layer" + NET.split("layer", 2)[1], "TEST")
    with pytest.raises(ArgumentError, match="no BatchNorm layer"):
        statistics_panels(empty)
    with pytest.raises(ArgumentError, match="has no weights"):
        weight_panels(empty)
