"""``debug_info: true`` prints what Caffe prints."""

from __future__ import annotations

import pytest

from caffebn.net import Net

TEXT = """
debug_info: true
layer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" param { name: "weights" }
        inner_product_param { num_output: 2 } }
layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""


@pytest.fixture
def net():
    net = Net.from_text(TEXT, "TRAIN")
    net.blobs["x"].data[...] = [[1, -2, 3], [0, 0, 0]]
    net.blobs["t"].data[...] = 0
    net.params["ip"][0].data[...] = [[1, 1, 1], [-1, 0, 0]]
    net.params["ip"][1].data[...] = [0, 0.5]
    return net


def test_lines(net, capsys):
    net.forward()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "    [Forward] Layer in, top blob x data: 1",
        "    [Forward] Layer in, top blob t data: 0",
        "    [Forward] Layer ip, top blob y data: 0.75",
        "    [Forward] Layer ip, param blob weights data: 0.666667",
        "    [Forward] Layer ip, param blob 1 data: 0.25",
        "    [Forward] Layer relu, top blob y data: 0.625",
        "    [Forward] Layer loss, top blob loss data: 1.0625",
    ]
    net.backward()
    assert capsys.readouterr().err.splitlines() == [
        "    [Backward] Layer loss, bottom blob y diff: 0.3125",
        "    [Backward] Layer relu, bottom blob y diff: 0.3125",
        "    [Backward] Layer ip, param blob weights diff: 1",
        "    [Backward] Layer ip, param blob 1 diff: 0.625",
        "    [Backward] All net params (data, diff): L1 norm = (4.5, 7.25); L2 norm = (2.06155, 3.88104)",
    ]


def test_only_what_is_computed_is_printed(capsys):
    net = Net.from_text(TEXT.replace("debug_info: true", "debug_info: true force_backward: true"), "TRAIN")
    net.forward()
    net.backward()
    lines = capsys.readouterr().err
    assert "Layer ip, bottom blob x diff" in lines and "bottom blob t diff" in lines
    net.backward(end="relu")
    assert "All net params" not in capsys.readouterr().err, "only a whole pass ends with the sums"


def test_off_by_default(capsys):
    net = Net.from_text(TEXT.replace("debug_info: true", ""), "TRAIN")
    net.forward()
    net.backward()
    assert capsys.readouterr().err == ""


def test_blobs_without_values(capsys):
    net = Net.from_text(
        TEXT.replace("dim: 2 dim: 3 }", "dim: 0 dim: 3 }").replace("dim: 2 dim: 2", "dim: 0 dim: 2"), "TRAIN"
    )
    net.forward()
    assert "top blob x data: 0\n" in capsys.readouterr().err
