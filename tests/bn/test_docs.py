"""What docs/batchnorm.md shows is what the commands print, but for the digits of rounding."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

from caffebn.bn.rules import RULES

TRAIN = """\
layer { name: "data" type: "DummyData" top: "data" top: "label"
        dummy_data_param { shape { dim: 4 dim: 3 dim: 32 dim: 32 } shape { dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" batch_norm_param { eps: 0.001 } }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
USE = """\
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" batch_norm_param { use_global_stats: false } }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 2 } }
"""


@pytest.fixture(scope="module")
def page(checkout) -> str:
    return (checkout / "docs" / "batchnorm.md").read_text(encoding="utf-8")


@pytest.fixture
def shown(page, cli, monkeypatch, tmp_path):
    """Run the command of the page that begins with these words; check that it prints the lines there."""
    monkeypatch.chdir(tmp_path)

    def check(start: str):
        block = next(
            b for b in re.findall(r"(?:^    .*\n|^\n(?=    ))+", page, re.M) if f"$ caffebn {start}" in b
        )
        first, *lines = (line[4:].rstrip() for line in block.splitlines() if line.strip())
        result = cli(*first.removeprefix("$ caffebn ").split())
        printed = {rounded(line) for line in result.stdout.splitlines()}
        assert [line for line in lines if line != "..." and rounded(line) not in printed] == []
        return result

    return check


def rounded(line: str) -> str:
    """A line without what differs between machines: digits of small errors, widths of columns."""
    line = re.sub(r"\d\.?\d*e-(0[4-9]|1\d)", "tiny", re.sub(r"─+", "-", line))
    return re.sub(r"\s+", " ", line).strip()


def test_fold_and_compare(shown, open_nsfw):
    net, weights = map(Path, open_nsfw)
    shutil.copy(net, "deploy.prototxt")
    shutil.copy(weights, "w.caffemodel")
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or importlib.util.find_spec("PIL") is None:
        pytest.skip("the photograph comes with matplotlib, and is read by Pillow")
    shutil.copy(Path(spec.origin).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg", "photo.jpg")
    assert shown("fold deploy").exit_code == 0
    text = Path("deploy.prototxt").read_text()
    Path("port.prototxt").write_text(text.replace("batch_norm_param {", "batch_norm_param { eps: 0.001"))
    assert shown("compare deploy.prototxt,w").exit_code == 1
    assert shown("plot stats").exit_code == 0


def test_lint(shown):
    Path("train.prototxt").write_text(TRAIN)
    Path("use.prototxt").write_text(USE)
    assert shown("lint train").exit_code == 1


def test_every_rule_is_in_the_table(page):
    for rule in RULES:
        for code in re.findall(r"BN\d\d\d", rule.__doc__):
            assert code in page
