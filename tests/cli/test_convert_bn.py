"""``caffebn convert-bn``."""

from __future__ import annotations

import json

import numpy as np
import pytest

from caffebn import Net
from caffebn.proto import Message, binary, make_blob, text

C = 4
NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 4 dim: 3 dim: 3 } } }
layer { name: "bn" type: "BN" bottom: "data" top: "bn" bn_param { slope_filler { value: 1 } } }
"""


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "net.prototxt").write_text(NET)
    net = Message("NetParameter")
    layer = net.add("layer", name="bn", type="BN")
    layer.blobs = [make_blob(rng.uniform(0.5, 2, (1, C, 1, 1)).astype(np.float32)) for _ in range(4)]
    binary.write(tmp_path / "net.caffemodel", net)
    return tmp_path


def test_verdicts(run, files):
    result = run("convert-bn", files / "net.prototxt", files / "net.caffemodel")
    assert result.exit_code == 0
    assert (
        "bn" in result.stdout
        and "pspnet" in result.stdout
        and "blobs of the shape (1, C, 1, 1)" in result.stdout
    )
    (verdict,) = json.loads(run("convert-bn", files / "net.caffemodel", "--json").stdout)
    assert verdict["layer"] == "bn" and not verdict["certain"] and "happynear" in verdict["choices"]


def test_conversion(run, files):
    net_out, weights_out = files / "plain.prototxt", files / "plain.caffemodel"
    result = run(
        "convert-bn",
        files / "net.prototxt",
        files / "net.caffemodel",
        "--net-out",
        net_out,
        "--weights-out",
        weights_out,
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith('1 layers of dialect pspnet (PSPNet, ICNet) converted: "bn"\nlost: ')
    net = Net(net_out, weights_out, "TEST", dialect="bvlc")
    assert [layer.type for layer in net.layers] == ["Input", "BatchNorm", "Scale"]
    assert net.params["bn"][2].data[0] == np.float32(10)
    exact = run(
        "convert-bn",
        files / "net.prototxt",
        files / "net.caffemodel",
        "--weights-out",
        weights_out,
        "--factor-1",
    )
    assert exact.exit_code == 0
    assert Net(net_out, weights_out, "TEST").params["bn"][2].data[0] == 1
    back = run(
        "convert-bn",
        net_out,
        weights_out,
        "--to",
        "pspnet",
        "--net-out",
        files / "b.prototxt",
        "--weights-out",
        files / "b.caffemodel",
    )
    assert back.exit_code == 0, back.output
    again = binary.read(files / "b.caffemodel").layer[0]
    first = binary.read(files / "net.caffemodel").layer[0]
    for a, b in zip(again.blobs, first.blobs, strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-6)
    plain = run("convert-bn", net_out, "--net-out", files / "c.prototxt")
    assert plain.stdout == "nothing to convert: it is plain\n"
    assert text.parse((files / "c.prototxt").read_text()) == text.parse(net_out.read_text())


def test_doubt(run, files):
    out = files / "plain.caffemodel"
    result = run("convert-bn", files / "net.caffemodel", "--weights-out", out)
    assert result.exit_code == 1 and not out.exists()
    assert (
        "the dialect of batch normalisation is not certain" in result.stderr and "happynear" in result.stderr
    )
    assert (
        run("convert-bn", files / "net.caffemodel", "--weights-out", out, "--as", "happynear").exit_code == 0
    )
    assert (
        run("convert-bn", files / "net.caffemodel", "--weights-out", out, "--as", "bn=pspnet").exit_code == 0
    )


def test_forks_of_numbers(run, files):
    net = binary.read(files / "net.caffemodel")
    pool = net.add("layer", name="pool", type="Pooling", bottom=["bn"], top=["pool"])
    pool.pooling_param = {"round_mode": "FLOOR"}
    binary.write(files / "p.caffemodel", net)
    result = run("convert-bn", files / "p.caffemodel")
    assert "warning: field 13 of 1 Pooling layers" in result.stderr
    result = run(
        "convert-bn",
        files / "p.caffemodel",
        "--fork",
        "py-rfcn",
        "--as",
        "pspnet",
        "--weights-out",
        files / "q.caffemodel",
    )
    assert result.stdout.startswith('ceil_mode is now round_mode: "pool"')
    assert binary.read(files / "q.caffemodel").layer[-1].pooling_param.round_mode == "CEIL"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["net.prototxt", "net.prototxt"], "a second prototxt"),
        (["net.caffemodel", "net.caffemodel"], "a second weights file"),
        (["net.prototxt", "--fork", "intel"], "--fork is for a caffemodel without a prototxt"),
        (
            ["net.prototxt", "--weights-out", "x.caffemodel"],
            "there is nothing to write there: no caffemodel was given",
        ),
        (["net.prototxt", "--as", "pspnet", "--as", "intel"], "--as: give one dialect for all layers"),
        (["solver.prototxt"], "expected a net, found a solver"),
    ],
)
def test_refusals(run, files, words, said):
    (files / "solver.prototxt").write_text("base_lr: 0.1")
    words = [str(files / word) if "." in word else word for word in words]
    result = run("convert-bn", *words)
    assert result.exit_code == 1 and said in result.stderr
