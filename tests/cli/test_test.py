"""``caffebn test``, ``features`` and ``plot``, on a net that was trained."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from caffebn.data import read_database
from caffebn.net import Net
from caffebn.proto import binary
from tests.cli import training


@pytest.fixture
def trained(run, tmp_path):
    """The net's text, its weights and the log of its training."""
    # with a display at the end, one more forward pass would change the statistics before the last test
    solver = training.make(tmp_path, display="5")
    assert run("train", "--solver", solver, "-q", "--log", tmp_path / "log").exit_code == 0
    return tmp_path / "net.prototxt", tmp_path / "snap_iter_12.caffemodel", tmp_path / "log"


def test_scores_are_those_of_the_training(run, trained):
    net, weights, log = trained
    last = json.loads(log.with_name("log.jsonl").read_text().splitlines()[-2])
    found = json.loads(run("test", "--model", net, "--weights", weights, "-n", 2, "--json").stdout)
    assert (found["net"], found["iterations"], found["loss_weights"]) == ("small", 2, {"loss": 1})
    assert found["outputs"] == pytest.approx(last["outputs"])
    assert found["loss"] == pytest.approx(found["outputs"]["loss"])
    lines = run("test", "--model", net, "--weights", weights, "--iterations", 2).stdout.splitlines()
    value = f"{found['loss']:g}"
    assert lines == [
        f"Loss: {value}",
        f"accuracy = {found['outputs']['accuracy']:g}",
        f"loss = {value} (* 1 = {value} loss)",
    ]


def test_a_net_without_data(run, tmp_path, trained):
    net_file = tmp_path / "deploy.prototxt"
    net_file.write_text('layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 } } }')
    result = run("test", "--model", net_file, "--weights", trained[1])
    assert result.exit_code == 1 and "this net waits for its inputs (data)" in result.stderr


def test_features(run, trained, tmp_path):
    net, weights, _ = trained
    reference = Net(str(net), "TEST", weights=str(weights))
    expected = []
    for _ in range(3):
        reference.forward()
        expected.append(reference.blobs["ip2"].data.copy())
    expected = np.concatenate(expected)
    assert run("features", net, weights, "ip2,loss", tmp_path / "f.npz", "-n", 3).exit_code == 0
    with np.load(tmp_path / "f.npz") as found:
        np.testing.assert_array_equal(found["ip2"], expected)
        assert found["loss"].shape == (3,)
    assert run("features", net, weights, "ip2,loss", tmp_path / "f.h5", "-n", 3).exit_code == 0
    with h5py.File(tmp_path / "f.h5") as found:
        np.testing.assert_array_equal(found["ip2"], expected)
    assert run("features", net, weights, "ip2", tmp_path / "f.lmdb", "-n", 3).exit_code == 0
    records = list(read_database(tmp_path / "f.lmdb"))
    assert [key for key, _ in records] == [b"%010d" % i for i in range(30)]
    datum = binary.parse(records[7][1], "Datum")
    assert (datum.channels, datum.height, datum.width) == (3, 1, 1)
    np.testing.assert_array_equal(np.float32(datum.float_data), expected[7])


@pytest.mark.parametrize(("blobs", "out", "words"), [
    ("ip3", "f.npz", 'there is no blob "ip3"; did you mean'),
    ("ip2", "f.txt", "expected a name that ends in one of .npz, .h5, .hdf5, .lmdb"),
    ("ip1,ip2", "f.lmdb", "a database holds one blob, found 2"),
])  # fmt: skip
def test_features_refused(run, trained, tmp_path, blobs, out, words):
    result = run("features", *trained[:2], blobs, tmp_path / out, "-n", 1)
    assert result.exit_code == 1 and words in result.stderr


def test_plot(run, trained, tmp_path):
    log = trained[2]
    assert run("plot", log, log.with_name("log.jsonl"), "-o", tmp_path / "out.png").exit_code == 0
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    result = run("plot", trained[0], "-o", tmp_path / "out.png")
    assert result.exit_code == 1 and "expected a log of Caffe or of caffebn" in result.stderr
