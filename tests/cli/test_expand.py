"""``caffebn expand``."""

from __future__ import annotations

import pytest

from caffebn.proto import text

NET = """
name: "n"
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
# a comment
block { type: "Conv" name: "c" num_output: 4 kernel_size: 1 }
"""

PLAIN = """\
name: "n"
layer {
  name: "in"
  type: "Input"
  top: "data"
  input_param {
    shape {
      dim: 1
      dim: 3
      dim: 8
      dim: 8
    }
  }
}
layer {
  name: "c"
  type: "Convolution"
  bottom: "data"
  top: "c"
  convolution_param {
    num_output: 4
    bias_term: false
    kernel_size: 1
    weight_filler {
      type: "msra"
    }
  }
}
"""


@pytest.fixture
def block_file(tmp_path):
    path = tmp_path / "blocks.prototxt"
    path.write_text(NET)
    return path


def test_prints_plain_prototxt(run, block_file):
    result = run("expand", block_file)
    assert (result.exit_code, result.stdout, result.stderr) == (0, PLAIN, "")


def test_writes_a_file(run, block_file, tmp_path):
    result = run("expand", block_file, "-o", tmp_path / "plain.prototxt")
    assert (result.exit_code, result.stdout) == (0, "")
    assert (tmp_path / "plain.prototxt").read_text() == PLAIN
    assert run("expand", tmp_path / "plain.prototxt").stdout == PLAIN


def test_a_plain_net_stays_as_it_is(run, net_file):
    assert run("expand", net_file).stdout == text.dump(text.read(net_file))


def test_other_verbs_take_blocks(run, block_file):
    assert "Convolution  1x4x8x8" in run("info", block_file).stdout


def test_errors(run, block_file, tmp_path):
    block_file.write_text('block { type: "Cnv" }')
    result = run("expand", block_file)
    assert result.exit_code == 1
    assert result.stderr.strip() == (
        f'error: {block_file}:1:9: there is no template "Cnv" before this block; did you mean "Conv"?'
    )
    block_file.write_text(NET)
    assert "cannot write here" in run("expand", block_file, "-o", tmp_path / "none" / "x").stderr
    assert run("expand", tmp_path / "none").exit_code == 2
