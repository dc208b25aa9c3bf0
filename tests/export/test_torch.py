"""PyTorch modules: readable source, the net's numbers, its gradients and its training."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from caffebn import Net, export, get_solver, set_random_seed
from caffebn.errors import ArgumentError, MissingPackageError, NetError
from caffebn.export.torch_module import load_source
from caffebn.proto import text
from tests.export.nets import fill_statistics, golden_files, golden_net

torch = pytest.importorskip("torch")

HEAD = (
    'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 4 dim: 7 dim: 6 } } }'
)


def net_of(layers: str, head: str = HEAD) -> Net:
    return fill_statistics(Net.from_text(head + layers, "TEST"))


def module_of(exported):
    module = load_source(exported.source, exported.class_name)
    module.load_state_dict(
        {name: torch.from_numpy(np.array(value)) for name, value in exported.state.items()}
    )
    return module


# -- all layer types, on the nets that real Caffe was recorded with


@pytest.mark.parametrize(
    "path", [path for path in golden_files() if path.stem != "Im2col__nd"], ids=lambda path: path.stem
)
def test_recorded_layers(path):
    net, ends = golden_net(path)
    try:
        exported = export.torch(net, outputs=ends)
    except NetError as e:
        assert "--fixed-batch" in str(e)
        exported = export.torch(net, outputs=ends, fixed_batch=True)
    assert exported.verification.agrees


# -- what it looks like

SOURCE = '''\
"""small, written by caffebn from a Caffe net.

    net = Small()
    net.load_state_dict(torch.load("net.pt", weights_only=True))
    net.eval()

data: (N, 3, 9, 8)
returns prob: (N, 4)

Training here and in Caffe:
- running statistics: Caffe gives the first batches of a continued training the weight 1 / (fraction * factor + 1), \
here 0.0741 (factor 12.5), which falls to 0.001 (momentum) as the factor grows to 1000; PyTorch gives it from the start
- a channel with a single value in the whole batch is an error when PyTorch trains; Caffe takes 0
"""

import torch
import torch.nn.functional as F
from torch import nn


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, groups=3)
        self.bn = nn.BatchNorm2d(6, momentum=0.001)
        self.fc = nn.Linear(54, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, data):
        conv = self.conv(data)
        conv = self.bn(conv)
        conv = F.relu(conv)
        pool = F.max_pool2d(conv, 3, stride=2, ceil_mode=True)
        fc = self.fc(torch.flatten(pool, 1))
        fc = self.drop(fc)
        prob = F.softmax(fc, dim=1)
        return prob
'''


def test_source(small, tmp_path):
    exported = export.torch(small, tmp_path / "net.py")
    assert (tmp_path / "net.py").read_text() == exported.source == SOURCE
    assert list(exported.state) == [
        "conv.weight", "conv.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var",
        "bn.num_batches_tracked", "fc.weight", "fc.bias",
    ]  # fmt: skip
    assert "PyTorch and caffebn agree: batch sizes 1, 2, 5" in str(exported.verification)


@pytest.mark.parametrize("state", ["pt", "safetensors"])
def test_the_files_are_enough(small, tmp_path, state):
    """As a user would: import the file, load the state_dict."""
    export.torch(small, tmp_path / "net.py", state=state)
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    load = {
        "pt": "torch.load('net.pt', weights_only=True)",
        "safetensors": "__import__('safetensors.torch').torch.load_file('net.safetensors')",
    }[state]
    if state == "safetensors":
        pytest.importorskip("safetensors")
    code = (
        "import numpy as np, torch, net\n"
        f"m = net.Small(); m.load_state_dict({load}); m.eval()\n"
        "np.save('y.npy', m(torch.from_numpy(np.load('x.npy'))).detach().numpy())"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=100)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), small.forward(data=x)["prob"], atol=1e-6)


def test_names_that_python_or_modules_use():
    net = net_of(
        'layer { name: "train" type: "ReLU" bottom: "data" top: "1/x" }'
        'layer { name: "type" type: "PReLU" bottom: "1/x" top: "class" }'
        'layer { name: "1a" type: "PReLU" bottom: "class" top: "F" }'
        'layer { name: "1.a" type: "PReLU" bottom: "F" top: "1_x" }'
        'layer { name: "_1a" type: "PReLU" bottom: "1_x" top: "self" }'
    )
    exported = export.torch(net)
    assert "self.type_ = nn.PReLU(4)" in exported.source
    assert sorted(exported.state) == ["_1_a.weight", "_1a.weight", "_1a_.weight", "type_.weight"]


def test_shared_parameters_stay_shared():
    conv = (
        'layer {{ name: "{0}" type: "Convolution" bottom: "{1}" top: "{0}" param {{ name: "w" }} convolution_param '
        '{{ num_output: 4 kernel_size: 3 pad: 1 bias_term: false weight_filler {{ type: "xavier" }} }} }}'
    )
    module = module_of(export.torch(net_of(conv.format("a", "data") + conv.format("b", "a"))))
    assert module.a.weight is module.b.weight


def test_rates_of_the_text():
    net = net_of(
        'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" param { lr_mult: 5 } '
        "param { lr_mult: 10 decay_mult: 0 } inner_product_param { num_output: 2 } }"
        'layer { name: "p" type: "PReLU" bottom: "fc" top: "p" }'
    )
    groups = module_of(export.torch(net)).param_groups(0.1, weight_decay=0.01)
    assert [(round(g["lr"], 9), round(g["weight_decay"], 9), len(g["params"])) for g in groups] == [
        (0.5, 0.01, 1), (1.0, 0.0, 1), (0.1, 0.01, 1),
    ]  # fmt: skip


def test_large_padding():
    """PyTorch refuses a padding above half the kernel, Caffe does not."""
    for pool in ("MAX", "AVE"):
        for size in range(5, 10):
            net = net_of(
                f'layer {{ name: "p" type: "Pooling" bottom: "data" top: "p" '
                f"pooling_param {{ pool: {pool} kernel_size: 3 stride: 2 pad: 2 }} }}",
                HEAD.replace("dim: 7", f"dim: {size}"),
            )
            exported = export.torch(net)
            assert "F.pad" in exported.source and exported.verification.agrees


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize(
    "kernel, stride, pad", [(2, 2, 0), (3, 2, 0), (3, 2, 1), (4, 3, 1), (5, 2, 2), (2, 3, 1)]
)
def test_pooling_by_the_rules_of_caffe(pool, kernel, stride, pad):
    for height in range(5, 11):
        net = net_of(
            f'layer {{ name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param {{ pool: {pool} '
            f"kernel_size: {kernel} stride: {stride} pad: {pad} }} }}",
            HEAD.replace("dim: 7", f"dim: {height}"),
        )
        assert export.torch(net, tolerance=1e-6).verification.agrees


# -- BatchNorm and training


def test_statistics(small):
    state = export.torch(small).state
    mean, var, factor = (blob.data.astype(np.float64) for blob in small.params["bn"])
    np.testing.assert_array_equal(state["bn.running_mean"], (mean / factor).astype(np.float32))
    np.testing.assert_array_equal(state["bn.running_var"], (var / factor).astype(np.float32))


BN = 'layer {{ name: "bn" type: "BatchNorm" bottom: "data" top: "bn" batch_norm_param {{ {} }} }}'


@pytest.mark.parametrize(
    ("fields", "option", "expected"),
    [
        ("", "text", "nn.BatchNorm2d(4, affine=False, momentum=0.001)"),
        (
            "moving_average_fraction: 0.95 eps: 0.001",
            "text",
            "nn.BatchNorm2d(4, eps=0.001, affine=False, momentum=0.05)",
        ),
        ("moving_average_fraction: 1", "text", "nn.BatchNorm2d(4, affine=False, momentum=None)"),
        ("use_global_stats: true", "text", "FrozenBatchNorm2d(4, affine=False)"),
        ("use_global_stats: true", "train", "nn.BatchNorm2d(4, affine=False, momentum=0.001)"),
        ("", "frozen", "FrozenBatchNorm2d(4, affine=False)"),
        ("use_global_stats: false", "frozen", "nn.BatchNorm2d(4, affine=False, track_running_stats=False)"),
    ],
)
def test_batch_norm(fields, option, expected):
    exported = export.torch(net_of(BN.format(fields)), batch_norm=option)
    assert f"self.bn = {expected}\n" in exported.source
    module = module_of(exported)
    module.train()
    assert module.bn.training == ("Frozen" not in expected)


def test_a_frozen_net_says_so():
    notes = export.torch(net_of(BN.format("use_global_stats: true"))).notes
    assert notes[0].startswith("1 BatchNorm use their stored statistics in training, too")


def test_scale_without_bias_is_noted():
    net = net_of(BN.format("") + 'layer { name: "s" type: "Scale" bottom: "bn" top: "s" }')
    assert "self.bn.bias.requires_grad_(False)" in export.torch(net).source


TRAINED = """
layer { name: "data" type: "Input" top: "data" top: "label" input_param {
        shape { dim: 6 dim: 3 dim: 9 dim: 8 } shape { dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" batch_norm_param { moving_average_fraction: 0.9 } }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" param { lr_mult: 2 } param { lr_mult: 4 decay_mult: 0 }
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "bn2" type: "BatchNorm" bottom: "fc" top: "fc" batch_norm_param { moving_average_fraction: 0.9 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""

# Caffe's name and index -> the state_dict's
PAIRS = {
    ("conv", 0): "conv.weight",
    ("conv", 1): "conv.bias",
    ("scale", 0): "bn.weight",
    ("scale", 1): "bn.bias",
    ("fc", 0): "fc.weight",
    ("fc", 1): "fc.bias",
}


def trained() -> tuple[Net, object]:
    """A net in the phase TRAIN with data, and its module in PyTorch."""
    set_random_seed(7)
    net = fill_statistics(Net.from_text(TRAINED, "TRAIN"))
    for name in ("bn", "bn2"):  # the factor that 0.9 leads to: from there on the two averages are the same
        for blob in net.params[name]:
            blob.data[...] *= 10 / 12.5
    rng = np.random.default_rng(5)
    net.blobs["data"].data[...] = rng.standard_normal((6, 3, 9, 8))
    net.blobs["label"].data[...] = rng.integers(0, 4, 6)
    deploy = Net.from_text(TRAINED, "TEST")
    deploy.share_with(net)
    module = module_of(export.torch(deploy, outputs=["fc"]))
    module.train()
    return net, module


def run_module(net: Net, module) -> torch.Tensor:
    label = torch.from_numpy(net.blobs["label"].data.astype(np.int64))
    return torch.nn.functional.cross_entropy(module(torch.from_numpy(net.blobs["data"].data.copy())), label)


def test_gradients_are_those_of_caffe():
    net, module = trained()
    expected = net.forward_backward()
    loss = run_module(net, module)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    names = dict(module.named_parameters())
    assert len(names) == len(PAIRS)
    for (layer, i), name in PAIRS.items():
        np.testing.assert_allclose(
            names[name].grad.numpy(), net.params[layer][i].diff, atol=1e-5, err_msg=name
        )


def test_training_steps_are_those_of_caffe():
    """Momentum, weight decay, lr_mult, and the running statistics."""
    net, module = trained()
    optimizer = torch.optim.SGD(module.param_groups(0.1, 0.01), momentum=0.9)
    settings = text.parse(
        "base_lr: 0.1 lr_policy: 'fixed' momentum: 0.9 weight_decay: 0.01", "SolverParameter"
    )
    settings.net_param = text.parse(TRAINED)
    solver = get_solver(settings)
    for name, blobs in net.params.items():
        for blob, source in zip(solver.net.params[name], blobs, strict=True):
            blob.data[...] = source.data
    for name in ("data", "label"):
        solver.net.blobs[name].data[...] = net.blobs[name].data
    for _ in range(3):
        solver.step(1)
        optimizer.zero_grad()
        run_module(net, module).backward()
        optimizer.step()
        state = {name: value.numpy() for name, value in module.state_dict().items()}
        for (layer, i), name in PAIRS.items():
            np.testing.assert_allclose(state[name], solver.net.params[layer][i].data, atol=1e-5, err_msg=name)
        for name in ("bn", "bn2"):
            mean, var, factor = (blob.data for blob in solver.net.params[name])
            np.testing.assert_allclose(state[f"{name}.running_mean"], mean / factor, atol=1e-5)
            np.testing.assert_allclose(state[f"{name}.running_var"], var / factor, rtol=1e-5)


def test_a_fraction_of_1_averages_over_all_batches_in_both():
    fields = "moving_average_fraction: 1"
    net = Net.from_text(HEAD + BN.format(fields), "TRAIN")
    rng = np.random.default_rng(0)
    batches = rng.standard_normal((5, 2, 4, 7, 6)).astype(np.float32)
    for x in batches[:3]:
        net.forward(data=x)
    deploy = Net.from_text(HEAD + BN.format(fields), "TEST")
    deploy.share_with(net)
    module = module_of(export.torch(deploy))
    module.train()
    for x in batches[3:]:
        net.forward(data=x)
        module(torch.from_numpy(x))
    mean, var, factor = (blob.data for blob in net.params["bn"])
    np.testing.assert_allclose(module.bn.running_mean, mean / factor, atol=1e-6)
    np.testing.assert_allclose(module.bn.running_var, var / factor, rtol=1e-5)


# -- refusals


def test_refusals(small, tmp_path):
    with pytest.raises(ArgumentError, match="state: expected pt or safetensors, found 'npz'"):
        export.torch(small, state="npz")
    with pytest.raises(ArgumentError, match="batch_norm: expected one of text, train, frozen, found 'on'"):
        export.torch(small, batch_norm="on")
    with pytest.raises(ArgumentError, match="written to a file that ends in .py"):
        export.torch(small, tmp_path / "net.pt")
    for name in ("2x", "class", "Scale"):
        with pytest.raises(ArgumentError, match=f"class_name: '{name}' cannot be the name"):
            export.torch(small, class_name=name)
    net = net_of(
        'layer { name: "im" type: "Im2col" bottom: "data" top: "im" convolution_param { axis: 2 kernel_size: 2 } }'
    )
    with pytest.raises(NetError, match='layer "im" .Im2col.: PyTorch\'s unfold takes 2 spatial axes'):
        export.torch(net)


def test_without_the_package(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        MissingPackageError, match=r'verifying a module .*--no-check.* pip install "caffebn\[torch\]"'
    ):
        export.torch(small)
    with pytest.raises(
        MissingPackageError, match=r"writing a \.pt file .weights as \.safetensors need none."
    ):
        export.torch(small, tmp_path / "net.py", check=False)
    assert list(tmp_path.iterdir()) == []
    export.torch(small, tmp_path / "net.py", check=False, state="safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.py", "net.safetensors"]
