"""Where numbers stop being numbers, and the lines of debug_info."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffebn.net import Net
from caffebn.solvers.diagnosis import first_not_finite, single_item_batch_norms
from tests.solvers.small import NET, recorded, solver


@pytest.fixture
def net() -> Net:
    net = Net.from_text(NET, "TRAIN")
    net.blobs["data"].data[...] = np.random.default_rng(0).normal(size=(6, 5))
    net.forward()
    return net


def test_parameters_come_first(net):
    net.params["ip2"][1].data[2] = np.inf
    net.forward()
    assert first_not_finite(net) == (
        'the parameters of layer "ip2" (InnerProduct), blob 1, are no longer finite: the update before was too large'
    )


def test_the_first_blob_is_named_with_those_who_work_in_place(net):
    net.blobs["ip1"].data[3, 1] = np.nan
    net.blobs["ip2"].data[...] = np.inf
    assert first_not_finite(net) == (
        'it first appears in "ip1", made by layer "ip1" (InnerProduct), on which "bn" (BatchNorm) and '
        '"scale" (Scale) and "relu" (ReLU) and "drop" (Dropout) worked in place'
    )


def test_statistics_are_no_parameters_that_were_updated(net):
    net.params["bn"][0].data[0] = np.nan
    net.blobs["ip2"].data[0] = np.nan
    assert first_not_finite(net) == 'it first appears in "ip2", made by layer "ip2" (InnerProduct)'


def test_nothing_but_the_sum(net):
    assert first_not_finite(net) == "all blobs are finite, but their sum is not"


def test_batch_norms_of_one_item():
    one = NET.replace("dim: 6", "dim: 1")
    assert single_item_batch_norms(Net.from_text(one, "TRAIN")) == ["bn"]
    assert single_item_batch_norms(Net.from_text(one, "TEST")) == []
    assert single_item_batch_norms(Net.from_text(NET, "TRAIN")) == []


def test_debug_info_of_displayed_iterations():
    made = solver("debug_info: true display: 2")
    events = recorded(made)
    made.step(2)
    lines = [str(e) for e in events if type(e).__name__ == "Debug"]
    assert {e.iteration for e in events} == {0}
    forward = [line for line in lines if "[Forward]" in line]
    assert len(forward) == 2 + 7 + 9  # tops of the input, tops of the others, parameters
    scale = made.net.params["scale"][0].data
    assert "    [Forward] Layer scale, param blob 0 data: 1" in lines and scale.shape == (8,)
    backward = [line for line in lines if "[Backward] Layer" in line]
    assert re.fullmatch(r"    \[Backward\] Layer loss, bottom blob ip2 diff: [\d.e-]+", backward[0])
    assert not any("Layer data" in line or "Layer bn, param" in line for line in backward)
    pair = r"\([\d.e-]+, [\d.e-]+\)"
    assert re.fullmatch(
        rf"    \[Backward\] All net params \(data, diff\): L1 norm = {pair}; L2 norm = {pair}", lines[-1]
    )


def test_debug_info_shows_the_numbers():
    made = solver("debug_info: true display: 1")
    events = recorded(made)
    seen = {}
    made.add_callback(lambda: None, lambda: seen.update(diff=made.net.params["ip2"][0].diff.copy()))
    made.step(1)
    expected = np.abs(seen["diff"]).mean()
    (line,) = [str(e) for e in events if "Layer ip2, param blob 0 diff" in str(e)]
    assert float(line.rsplit(" ", 1)[1]) == pytest.approx(expected, rel=1e-5)


def test_debug_info_of_test_nets():
    made = solver("debug_info: true test_iter: 1 test_interval: 1")
    events = recorded(made)
    made.step(1)
    assert sum("[Forward] Layer accuracy, top blob accuracy data" in str(e) for e in events) == 1
    assert not any("Backward" in str(e) for e in events)
