"""A training that reads data goes on, after an interruption, with the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import caffebn
from caffebn.proto import text

NET = """
layer { name: "d" type: "Data" top: "data" top: "label"
        data_param { source: "db" batch_size: 5 backend: LMDB rand_skip: 9 }
        transform_param { crop_size: 4 mirror: true scale: 0.01 } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
layer { name: "drop" type: "Dropout" bottom: "fc" top: "fc" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
SOLVER = (
    'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: 12 snapshot_prefix: "snap" '
    "random_seed: {}"
)


def solver(seed: int):
    return caffebn.SGDSolver(text.parse(SOLVER.format(seed), "SolverParameter"))


def test_it_goes_on_with_the_same_bits(lmdb):
    lmdb(7, (3, 6, 6))
    Path("net.prototxt").write_text(NET)
    unbroken = solver(1)
    unbroken.step(5)
    _, state = unbroken.snapshot()
    unbroken.step(7)
    resumed = solver(2)
    resumed.step(2)
    resumed.restore(state)
    resumed.step(7)
    assert resumed.net.layer_dict["d"].position == unbroken.net.layer_dict["d"].position
    for found, expected in zip(resumed.net.params["fc"], unbroken.net.params["fc"], strict=True):
        np.testing.assert_array_equal(found.data, expected.data)
