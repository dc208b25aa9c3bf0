"""Keeping BatchNorm's statistics, and Scale's values, as they were."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import ArgumentError
from caffebn.net import Net
from caffebn.proto import text
from caffebn.solvers import freeze_batch_norm, freeze_solver, get_solver, trainable
from tests.solvers.small import NET, message, solver, state_of

ALL = ["ip1[0]", "ip1[1]", "scale[0]", "scale[1]", "ip2[0]", "ip2[1]"]


def test_what_is_trainable():
    net = text.parse(NET)
    assert trainable(Net(net, "TRAIN")) == ALL
    assert trainable(Net(freeze_batch_norm(net), "TRAIN")) == ALL
    frozen = Net(freeze_batch_norm(net, "stats+scale"), "TRAIN")
    assert trainable(frozen) == ["ip1[0]", "ip1[1]", "ip2[0]", "ip2[1]"]


def test_the_text_given_is_not_changed():
    net = text.parse(NET)
    before = net.copy()
    frozen = freeze_batch_norm(net, "stats+scale")
    assert net == before != frozen
    (bn,) = [layer for layer in frozen.layer if layer.type == "BatchNorm"]
    assert bn.batch_norm_param.use_global_stats is True


@pytest.mark.parametrize("what", ["stats", "stats+scale"])
@pytest.mark.parametrize("rule", ["SGD", "Adam"])
def test_training_leaves_alone_what_is_frozen(what, rule):
    trained = solver()
    trained.step(5)
    frozen = text.dump(freeze_batch_norm(text.parse(NET), what))
    made = solver(f'type: "{rule}" weight_decay: 0.1 momentum: 0.9', net=frozen)
    for name, blobs in trained.net.params.items():
        for blob, twin in zip(blobs, made.net.params[name], strict=True):
            twin.data[...] = blob.data
    before = state_of(made)
    made.step(5)
    after = state_of(made)
    same = {name for name in before if before[name] == after[name] and "history" not in name}
    assert same == {"bn[0]", "bn[1]", "bn[2]"} | (
        {"scale[0]", "scale[1]"} if what == "stats+scale" else set()
    )


def test_a_frozen_pair_is_a_fixed_function():
    net = Net(freeze_batch_norm(text.parse(NET), "stats+scale"), "TRAIN")
    mean, var, factor = (blob.data for blob in net.params["bn"])
    mean[...], var[...], factor[...] = 3, 4, 2
    net.params["scale"][1].data[...] = 1
    net.blobs["ip1"].data[...] = 5
    net.forward(start="bn", end="scale")
    np.testing.assert_allclose(net.blobs["ip1"].data, (5 - 1.5) / np.sqrt(2 + 1e-5) + 1, rtol=1e-6)


def test_only_scales_behind_a_batch_norm():
    net = """
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
    layer { name: "first" type: "Scale" bottom: "x" top: "a" }
    layer { name: "bn" type: "BatchNorm" bottom: "a" top: "b" }
    layer { name: "own" type: "Scale" bottom: "b" top: "c" param { name: "s" } scale_param { bias_term: true } }
    layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
    layer { name: "last" type: "Scale" bottom: "c" top: "d" }
    """
    assert trainable(Net(freeze_batch_norm(text.parse(net), "stats+scale"), "TRAIN")) == [
        "first[0]",
        "last[0]",
    ]


def test_refusals():
    with pytest.raises(ArgumentError, match="expected 'stats' or 'stats\\+scale', found 'scale'"):
        freeze_batch_norm(text.parse(NET), "scale")
    with pytest.raises(ArgumentError, match="found 'stat'; did you mean \"stats\""):
        freeze_batch_norm(text.parse(NET), "stat")
    with pytest.raises(ArgumentError, match='the net "plain" has no BatchNorm layer'):
        freeze_batch_norm(text.parse('name: "plain"'))


def test_a_solver_with_a_frozen_net(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    for name, given in (("net", "net_param"), ("train_net", "train_net_param")):
        p = message(net=None)
        setattr(p, name, str(tmp_path / "net.prototxt"))
        frozen = freeze_solver(p, "stats+scale")
        assert not frozen.has(name) and frozen.has(given) and p.has(name)
        assert trainable(get_solver(frozen).net) == ["ip1[0]", "ip1[1]", "ip2[0]", "ip2[1]"]
