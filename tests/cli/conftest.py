"""Running verbs in this process, and small nets for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from caffebn.cli import main

NET = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
        inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


@pytest.fixture
def run():
    """Run the command line with these words; give its result (exit_code, stdout, stderr)."""

    def run(*words: object, **environment: str):
        return CliRunner(env=environment).invoke(main, [str(word) for word in words])

    return run


@pytest.fixture
def net_file(tmp_path) -> Path:
    """A file with a small net: convolution, BatchNorm, Scale, ReLU, two classes."""
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    return path
