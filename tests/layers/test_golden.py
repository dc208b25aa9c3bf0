"""Every layer gives the numbers that real Caffe gave, forward and backward."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffebn.layers import layer_type_list
from tests.layers.golden import FILES, compare, run

# Most records differ from exact arithmetic by less than a tenth of their tolerance, which is 1e-4 as a rule.
STRICT = 0.1

# Those that need a picture library, and the one that is what its user writes.
WITHOUT_RECORD = {"ImageData", "Python", "WindowData"}


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.usefixtures("here")
def test_golden(path, device):
    run(path, device, scale=STRICT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.usefixtures("here")
def test_golden_in_double_precision(path):
    run(path, "reference", np.float64, scale=STRICT)


def test_there_is_a_record_for_every_layer_type():
    recorded = set()
    for path in FILES:
        with np.load(path) as z:
            recorded.update(re.findall(r'type:\s*"(\w+)"', str(z["prototxt"])))
    assert set(layer_type_list()) - recorded == WITHOUT_RECORD


@pytest.mark.parametrize(
    ("found", "recorded", "said"),
    [
        (np.zeros(3), np.zeros((3, 1)), r"shape \(3,\), recorded \(3, 1\)"),
        (np.array([[1.0, 2.1]]), np.array([[1.0, 2.0]]), r"x\[0, 1\]: found 2.1, recorded 2, 83.3 times"),
        (np.array([np.nan]), np.array([1.0]), r"x\[0\]: found nan"),
        (np.array([1.0]), np.array([np.nan]), r"recorded nan, inf times"),
        (np.array([-np.inf]), np.array([np.inf]), r"x\[0\]: found -inf"),
    ],
)
def test_compare_finds_differences(found, recorded, said):
    with pytest.raises(AssertionError, match=said):
        compare(found, recorded, 1e-4, 5e-4, "x")


def test_compare_passes_what_is_near():
    recorded = np.array([1e4, 1.0, 0.0, np.nan, np.inf])
    compare(recorded + [0.9, 0.9, -0.9, 0, 0], recorded, 1e-5, 1e-4, "x")
    compare(np.zeros((0, 3)), np.zeros((0, 3)), 0, 0, "x")
