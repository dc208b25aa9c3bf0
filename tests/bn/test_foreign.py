"""The workbench on nets in a dialect of batch normalisation: they are read as plain ones, and that is said."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from caffebn import Net, blocks
from caffebn.bn import bn_stats, compare, dialects, fold
from caffebn.errors import CaffebnWarning
from caffebn.proto import Message, binary, make_blob, text
from tests.bn.nets import bn, conv, data, random_weights, relu, scale

PLAIN = (
    data(2, 3, 8, 8) + conv("conv", "data") + bn("bn", "conv") + scale("sc", "conv") + relu("relu", "conv")
)


@pytest.fixture
def files(tmp_path):
    """A plain net, and the same as PSPNet would have written it."""
    plain, weights = blocks.parse(PLAIN), random_weights(PLAIN)
    stored = plain.copy()
    for layer in stored.layer:
        layer.blobs = [make_blob(array) for array in weights.get(layer.name, ())]
    theirs = dialects.from_plain(plain, binary.parse(binary.dump(stored)), "pspnet")
    (tmp_path / "plain.prototxt").write_text(PLAIN)
    binary.write(tmp_path / "plain.caffemodel", stored)
    (tmp_path / "theirs.prototxt").write_text(text.dump(theirs.net))
    binary.write(tmp_path / "theirs.caffemodel", theirs.weights)
    return tmp_path


def pair(files, name: str) -> tuple[str, str]:
    return str(files / f"{name}.prototxt"), str(files / f"{name}.caffemodel")


SAYS = "1 layers of dialect pspnet .* converted"


def test_fold(files):
    with pytest.warns(CaffebnWarning, match=SAYS):
        done = fold(*pair(files, "theirs"))
    assert done.certificate.count("folded") == 1 and done.certificate.worst < 1e-5
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8))
    expected = Net(*pair(files, "plain"), "TEST").forward(data=x)["conv"]
    done.save(files / "f.prototxt", files / "f.caffemodel")
    found = Net(files / "f.prototxt", files / "f.caffemodel", "TEST").forward(data=x)["conv"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_compare(files):
    with pytest.warns(CaffebnWarning, match=SAYS):
        found = compare(pair(files, "theirs"), pair(files, "plain"))
    assert found.equal and found.left_out == []
    with pytest.warns(CaffebnWarning, match=SAYS):
        assert compare(pair(files, "plain"), pair(files, "theirs")).equal


def test_bn_stats_writes_plain_weights(files):
    x = np.random.default_rng(0).normal(1, 2, (6, 3, 8, 8))
    with pytest.warns(CaffebnWarning, match=SAYS):
        result = bn_stats(*pair(files, "theirs"), {"data": x})
    result.save(files / "new.caffemodel")
    expected = bn_stats(*pair(files, "plain"), {"data": x})
    np.testing.assert_allclose(result.layers[0].var, expected.layers[0].var, rtol=1e-6)
    stored: Message = binary.read(files / "new.caffemodel", "NetParameter")
    assert {layer.name: len(layer.blobs) for layer in stored.layer if layer.blobs} == {
        "conv": 2,
        "bn": 3,
        "bn_scale": 2,
    }


@pytest.mark.parametrize("what", ["stats", "activations"])
def test_plot(cli, files, what):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = cli("plot", what, *pair(files, "theirs"), "-o", files / "out.svg")
    assert result.exit_code == 0 and (files / "out.svg").exists()


def test_lint_says_that_it_did_not_look(cli, files):
    result = cli("lint", *pair(files, "theirs")[:1])
    assert result.exit_code == 0 and "note BN108" in result.stdout and "caffebn convert-bn" in result.stdout
