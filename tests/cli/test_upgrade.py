"""``caffebn upgrade``."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.cli import nets
from caffebn.errors import FileError
from caffebn.proto import binary, text

V1 = 'layers { name: "a" type: RELU bottom: "x" top: "y" }'
NOW = 'layer { name: "a" type: "ReLU" bottom: "x" top: "y" }'
V1_WORDS = "1 layers in the V1 form (layers) are now in the present form (layer)\n"


@pytest.fixture
def upgraded(run, tmp_path):
    """Upgrade a text; give the result of the command and the text written."""

    def upgraded(content):
        source, target = tmp_path / "in.prototxt", tmp_path / "out.prototxt"
        source.write_text(content, encoding="utf-8")
        result = run("upgrade", source, target)
        assert result.exit_code == 0, result.output
        assert source.read_text(encoding="utf-8") == content
        return result, target.read_text(encoding="utf-8")

    return upgraded


def test_net_in_text(upgraded, tmp_path):
    result, written = upgraded("# a remark\n" + V1)
    assert text.parse(written) == text.parse(NOW)
    assert result.stdout == f"{V1_WORDS}written to {tmp_path / 'out.prototxt'}\n"


def test_net_of_the_v0_form(upgraded):
    result, written = upgraded(
        'layers { layer { name: "p" type: "padding" pad: 1 } bottom: "x" top: "p" }'
        'layers { layer { name: "c" type: "conv" num_output: 2 kernelsize: 3 } bottom: "p" top: "c" }'
    )
    assert text.parse(written) == text.parse(
        'layer { name: "c" type: "Convolution" bottom: "x" top: "c" '
        "convolution_param { num_output: 2 kernel_size: 3 pad: 1 } }"
    )
    assert '1 padding layers are now the pad of what read them: "p"' in result.stdout


def test_solver(upgraded):
    result, written = upgraded('net: "net.prototxt" base_lr: 0.1 solver_type: ADAM')
    assert text.parse(written, "SolverParameter") == text.parse(
        'net: "net.prototxt" base_lr: 0.1 type: "Adam"', "SolverParameter"
    )
    assert 'solver_type: ADAM is now type: "Adam"\n' in result.stdout


def test_solver_with_an_old_net_in_it(upgraded):
    result, written = upgraded(f"max_iter: 1 net_param {{ {V1} }}")
    assert text.parse(written, "SolverParameter").net_param == text.parse(NOW)
    assert f"net_param: {V1_WORDS}" in result.stdout


@pytest.mark.parametrize("content", [NOW, 'name: "nothing else"', "", "debug_info: true", "max_iter: 3"])
def test_what_is_in_the_present_form(upgraded, content):
    result, written = upgraded(content)
    assert result.stdout.startswith("nothing to change: it is in the present form\nwritten to ")
    type = "SolverParameter" if "max_iter" in content else "NetParameter"
    assert text.parse(written, type) == text.parse(content, type)


def test_net_in_binary_keeps_its_weights(run, tmp_path):
    net = text.parse(V1.replace("RELU", "INNER_PRODUCT"))
    net.layers[0].add("blobs", num=1, channels=1, height=2, width=3, data=np.arange(6, dtype=np.float32))
    binary.write(tmp_path / "in.caffemodel", net)
    result = run("upgrade", tmp_path / "in.caffemodel", tmp_path / "out.caffemodel")
    assert result.exit_code == 0 and result.stdout.startswith(V1_WORDS)
    (layer,) = binary.read(tmp_path / "out.caffemodel").layer
    assert layer.type == "InnerProduct"
    assert layer.blobs == net.layers[0].blobs


@pytest.mark.parametrize("write", [
    lambda path: path.write_text(V1),
    lambda path: binary.write(path, text.parse(V1)),
])  # fmt: skip
def test_the_input_is_overwritten_only_when_asked_to(run, tmp_path, write):
    path, link = tmp_path / "net", tmp_path / "link"
    write(path)
    link.symlink_to(path)
    before = path.read_bytes()
    for target in (path, link):
        result = run("upgrade", path, target)
        assert result.exit_code == 1
        assert "OUT is IN; --overwrite allows that, comments in it will be lost" in result.stderr
        assert path.read_bytes() == before
    assert run("upgrade", path, path, "--overwrite").exit_code == 0
    assert nets.read_message(str(path)) == text.parse(NOW)
    assert nets.is_binary(str(path)) == (before != V1.encode())


@pytest.mark.parametrize(("content", "words"), [
    (b"layers { layer { name: 'a' type: 'no' } }", "there is no type"),
    (b"layer {} layers {}", "the net has layers in the present form"),
    (b'type: "SGD" solver_type: SGD', "are both given"),
    (b"layer {", "in.prototxt:1:8"),
    (b"\x08\x01", "in.prototxt: a binary file without layers; expected a net, such as a .caffemodel"),
    (b"\x0a\xff\x01", "in.prototxt: "),
])  # fmt: skip
def test_what_cannot_be_upgraded_leaves_no_file(run, tmp_path, content, words):
    (tmp_path / "in.prototxt").write_bytes(content)
    (tmp_path / "out.prototxt").write_text("old")
    result = run("upgrade", tmp_path / "in.prototxt", tmp_path / "out.prototxt")
    assert result.exit_code == 1 and words in result.stderr
    assert (tmp_path / "out.prototxt").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


def test_fields_without_effect_are_warned_of(upgraded):
    result, written = upgraded('layers { layer { name: "a" type: "relu" stride: 2 } bottom: "x" top: "y" }')
    assert 'layer "a": stride has no effect in a layer of type "relu", as in Caffe' in result.stderr
    assert text.parse(written) == text.parse(NOW)


def test_unknown_fields_are_kept_and_warned_of_once(upgraded):
    result, written = upgraded(NOW.replace("}", "fork_param { deep: 3 } }"))
    assert "fork_param {" in written and "deep: 3" in written
    assert result.stderr.count("fork_param") == 1


def test_letters_of_the_world(upgraded):
    _, written = upgraded(NOW.replace('"a"', '"卷积 é"'))
    assert text.parse(written).layer[0].name == "卷积 é"


def test_a_file_that_is_gone(tmp_path):
    with pytest.raises(FileError, match="cannot be read: No such file"):
        nets.is_binary(str(tmp_path / "none"))
