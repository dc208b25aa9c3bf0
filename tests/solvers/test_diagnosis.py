"""Where numbers stop being numbers, and BatchNorm layers that see one item."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.net import Net
from caffebn.solvers.diagnosis import first_not_finite, single_item_batch_norms
from tests.solvers.small import NET


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
