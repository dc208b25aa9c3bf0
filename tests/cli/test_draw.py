"""``caffebn draw``."""

from __future__ import annotations

import pytest

from caffebn import draw
from caffebn.proto import binary, text


def test_draws_to_the_file(run, net_file, tmp_path):
    out = tmp_path / "net.dot"
    result = run("draw", net_file, out)
    assert (result.exit_code, result.output) == (0, "")
    assert out.read_text() == draw.dot_graph(text.read(net_file))


def test_options(run, net_file, tmp_path):
    out = tmp_path / "net.dot"
    assert (
        run("draw", net_file, out, "--rankdir", "tb", "--phase", "test", "--lr-mult", "--group").exit_code
        == 0
    )
    assert out.read_text() == draw.dot_graph(text.read(net_file), "TB", True, "TEST", True, True)
    assert "bn + scale" in out.read_text()


def test_a_binary_net(run, net_file, tmp_path):
    binary.write(tmp_path / "net.caffemodel", text.read(net_file))
    assert run("draw", tmp_path / "net.caffemodel", tmp_path / "net.dot").exit_code == 0
    assert (tmp_path / "net.dot").read_text() == draw.dot_graph(text.read(net_file))


@pytest.mark.parametrize(("content", "words"), [
    ("base_lr: 1", "expected a net, found a solver"),
    ("layer {", "solver.prototxt:1:8: "),
])  # fmt: skip
def test_no_net(run, tmp_path, content, words):
    (tmp_path / "solver.prototxt").write_text(content)
    result = run("draw", tmp_path / "solver.prototxt", tmp_path / "net.dot")
    assert result.exit_code == 1 and words in result.stderr.replace("\n", "")
    assert not (tmp_path / "net.dot").exists()


def test_without_dot(run, net_file, tmp_path):
    result = run("draw", net_file, tmp_path / "net.png", PATH=str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr.startswith('error: drawing png needs the program "dot" of Graphviz')


def test_unknown_direction(run, net_file, tmp_path):
    result = run("draw", net_file, tmp_path / "net.dot", "--rankdir", "UP")
    assert result.exit_code == 2 and "'UP' is not one of" in result.stderr


def test_a_net_with_blocks(run, tmp_path):
    (tmp_path / "net.prototxt").write_text(
        'template { name: "T" layer { name: "${name}_r" type: "ReLU" bottom: ${bottom} top: ${name} } }\n'
        'layer { name: "in" type: "Input" top: "x" }\nblock { type: "T" name: "y" }\n'
    )
    assert run("draw", tmp_path / "net.prototxt", tmp_path / "net.dot").exit_code == 0
    assert "y_r" in (tmp_path / "net.dot").read_text()


def test_shapes(run, net_file, tmp_path):
    assert run("draw", net_file, tmp_path / "net.dot", "--shapes").exit_code == 0
    assert "conv\\n2x4x4x3" in (tmp_path / "net.dot").read_text()


def test_layers_that_run_as_one(run, net_file, tmp_path):
    assert run("draw", net_file, tmp_path / "net.dot", "--fused").exit_code == 0
    graph = (tmp_path / "net.dot").read_text()
    assert "subgraph cluster0" in graph and "layer1; layer2; layer3; layer4;" in graph
    assert run("draw", net_file, tmp_path / "net.dot").exit_code == 0
    assert "subgraph" not in (tmp_path / "net.dot").read_text()
