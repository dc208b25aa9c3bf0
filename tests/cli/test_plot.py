"""``caffebn plot``: of runs, as before, and of what is in a net."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.net import Net


@pytest.fixture
def weights(net_file, tmp_path):
    net = Net(str(net_file), "TEST")
    for blob, value in zip(net.params["bn"], (1, [1, 2, 0, 1], 1), strict=True):
        blob.data[...] = value
    net.save(str(tmp_path / "net.caffemodel"))
    return tmp_path / "net.caffemodel"


@pytest.mark.parametrize("what", ["stats", "weights", "activations"])
def test_pictures(run, net_file, weights, tmp_path, what):
    result = run("plot", what, net_file, weights, "-o", tmp_path / "out.svg")
    assert result.exit_code == 0
    assert (tmp_path / "out.svg").read_bytes().startswith(b"<?xml")
    dead = [line.split() for line in result.stdout.splitlines() if line.startswith("bn")]
    assert dead == ([["bn", "1", "4"]] if what == "stats" else [])


def test_activations_of_an_input(run, net_file, weights, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 6, 5), np.float32))
    words = ["plot", "activations", net_file, weights, "-o", tmp_path / "out.svg", "-i", tmp_path / "x.npy"]
    result = run(*words)
    # all channels of a constant picture are constant
    assert result.exit_code == 0 and "data " in result.stdout


def test_a_run_is_meant_where_no_picture_is_named(run, tmp_path):
    (tmp_path / "run.log").write_text("Iteration 0, loss = 1.5\nIteration 5, loss = 1\n")
    for words in (["run.log", "-o", "a.png"], ["-o", "b.png", "run.log"], ["runs", "run.log", "-o", "c.png"]):
        paths = [str(tmp_path / w) if "." in w else w for w in words]
        assert run("plot", *paths).exit_code == 0
    assert all((tmp_path / f"{name}.png").exists() for name in "abc")


def test_usage(run, tmp_path):
    assert run("plot").exit_code == 2
    assert run("plot", tmp_path / "none.log", "-o", tmp_path / "a.png").exit_code == 2
    result = run("plot", "-h")
    assert result.exit_code == 0 and "activations" in result.stdout


@pytest.mark.parametrize("what", ["stats", "weights", "activations"])
def test_layers_of_other_programs_are_left_out_and_named(run, net_file, weights, tmp_path, what):
    net_file.write_text(
        net_file.read_text() + 'layer { name: "box" type: "PriorBox" bottom: "conv" top: "box" }'
    )
    result = run("plot", what, net_file, weights, "-o", tmp_path / "out.svg")
    assert result.exit_code == 0 and (tmp_path / "out.svg").exists()
    assert (
        '1 layers are left out, for caffebn does not have their types or those before them: "box"'
        in result.stderr
    )
