"""Layers that run as one, and passes that are repeated: the same numbers as layer by layer."""

from __future__ import annotations

import numpy as np
import pytest

import caffebn
from caffebn.net.fuse import NormStep, ProductStep, SumStep
from caffebn.ops import threads

CONV = """
layer {{ name: "{0}" type: "Convolution" bottom: "{1}" top: "{0}"
        convolution_param {{ num_output: 6 kernel_size: 3 pad: 1 bias_term: {2} weight_filler {{ type: "msra" }} }} }}
"""
NORM = 'layer {{ name: "{0}_bn" type: "BatchNorm" bottom: "{0}" top: "{0}" batch_norm_param {{ {1} }} }}\n'
SCALE = """
layer {{ name: "{0}_scale" type: "Scale" bottom: "{0}" top: "{0}"
        scale_param {{ bias_term: true filler {{ type: "uniform" min: 0.5 max: 2 }}
                       bias_filler {{ type: "gaussian" }} }} }}
"""
RELU = 'layer {{ name: "{0}_relu" type: "ReLU" bottom: "{0}" top: "{0}" }}\n'
SUM = 'layer {{ name: "{0}" type: "Eltwise" bottom: "{1}" bottom: "{2}" top: "{0}" }}\n'


def residual_net(norm: str = "") -> str:
    """A residual unit with all that is joined, and an inner product."""
    return (
        'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 3 dim: 4 dim: 5 dim: 6 } } }\n'
        + CONV.format("a", "x", "true") + NORM.format("a", norm) + SCALE.format("a") + RELU.format("a")
        + CONV.format("b", "a", "false") + NORM.format("b", norm) + SCALE.format("b")
        + SUM.format("c", "a", "b") + RELU.format("c")
        + 'layer { name: "d" type: "InnerProduct" bottom: "c" top: "d" inner_product_param { num_output: 7 '
        'weight_filler { type: "xavier" } } }\n'
        + NORM.format("d", norm) + RELU.format("d")
        + 'layer { name: "loss" type: "Reduction" bottom: "d" top: "loss" reduction_param { operation: SUMSQ } '
        "loss_weight: 0.5 }\n"
    )  # fmt: skip


def make_net(text: str, phase: str, dtype: str = "float64", **options) -> caffebn.Net:
    """Make a net whose weights and stored statistics are the same each time."""
    caffebn.set_random_seed(3)
    net = caffebn.Net.from_text(text, phase, dtype=dtype, **options)
    rng = np.random.default_rng(5)
    for layer in net.layers:
        if layer.type == "BatchNorm":
            mean, var, factor = layer.blobs
            mean.data[...], var.data[...] = rng.normal(size=mean.shape), rng.uniform(0.5, 2, var.shape)
            factor.data[...] = 1.5
    return net


def make(
    phase: str, norm: str = "", fuse: bool = True, dtype: str = "float64", device: str = "cpu"
) -> caffebn.Net:
    return make_net("force_backward: true\n" + residual_net(norm), phase, dtype, fuse=fuse, device=device)


def values(net: caffebn.Net, seed: int = 0) -> dict[str, np.ndarray]:
    """Run a pass and collect what can be seen afterwards."""
    net.blobs["x"].data[...] = np.random.default_rng(seed).normal(size=net.blobs["x"].shape)
    net.clear_param_diffs()
    net.forward()
    seen = {f"{name} data": blob.data.copy() for name, blob in net.blobs.items()}
    net.backward()
    seen["x diff"] = net.blobs["x"].diff.copy()
    for p in net.parameters:
        seen[f"{p.layer.name}[{p.index}] diff"] = p.blob.diff.copy()
    for p in net.parameters:
        seen[f"{p.layer.name}[{p.index}]"] = p.blob.data.copy()
    return seen


def check_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], rtol: float = 1e-10) -> None:
    assert found.keys() == expected.keys()
    for what, value in expected.items():
        np.testing.assert_allclose(found[what], value, rtol=rtol, atol=rtol, err_msg=what)


def kinds(net: caffebn.Net) -> list[str]:
    return [step.what for step in net.steps if step.last > step.first]


def test_what_is_joined_in_training():
    net = make("TRAIN")
    assert kinds(net) == [
        "BatchNorm + Scale + ReLU", "BatchNorm + Scale", "Eltwise + ReLU", "BatchNorm + ReLU",
    ]  # fmt: skip
    assert [type(step) for step in net.steps if step.last > step.first] == [
        NormStep,
        NormStep,
        SumStep,
        NormStep,
    ]
    assert not kinds(make("TRAIN", fuse=False))


def test_what_is_joined_in_testing():
    net = make("TEST")
    assert kinds(net) == [
        "Convolution + BatchNorm + Scale + ReLU", "Convolution + BatchNorm + Scale", "Eltwise + ReLU",
        "InnerProduct + BatchNorm + ReLU",
    ]  # fmt: skip
    assert sum(isinstance(step, ProductStep) for step in net.steps) == 3


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("norm", ["", "use_global_stats: true", "use_global_stats: false"])
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_joined_equals_one_by_one(phase, norm, device):
    nets = [make(phase, norm, fuse, device=device) for fuse in (True, False)]
    for seed in range(3):  # the second pass is the recorded one
        found, expected = (values(net, seed) for net in nets)
        check_equal(found, expected)


def test_joined_is_near_in_single_precision():
    found, expected = (values(make("TRAIN", fuse=fuse, dtype="float32")) for fuse in (True, False))
    check_equal(found, expected, 2e-4)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_number_of_threads_changes_nothing(count):
    net = make("TRAIN", dtype="float32")
    first = values(make("TRAIN", dtype="float32"))
    before = threads.get()
    threads.set(count)
    try:
        again = values(net)
    finally:
        threads.set(before)
    for what, value in first.items():
        np.testing.assert_array_equal(again[what], value, err_msg=what)


def test_a_pass_is_recorded_and_sees_new_values():
    net, fresh = make("TRAIN"), make("TRAIN", fuse=False)
    values(net, 0), values(fresh, 0)
    values(net, 1), values(fresh, 1)
    assert net._forward_pass._state is not None, "nothing has changed since the first pass"
    for other in (net, fresh):
        other.params["a"][0].data[...] *= 2
    check_equal(values(net, 2), values(fresh, 2))


def test_new_shapes_are_followed():
    net, fresh = make("TRAIN"), make("TRAIN", fuse=False)
    for shape in ((2, 4, 5, 6), (5, 4, 5, 6), (3, 4, 5, 6)):
        for other in (net, fresh):
            other.blobs["x"].reshape(*shape)
        for seed in (0, 1):
            check_equal(values(net, seed), values(fresh, seed))


def test_someone_who_looks_inside_sees_each_layer():
    net, plain = make("TRAIN"), make("TRAIN", fuse=False)
    values(net), values(plain)
    for end in ("a", "a_bn", "a_scale", "b", "b_bn"):
        for other in (net, plain):
            other.forward(end=end)
        np.testing.assert_allclose(net.blobs[end[0]].data, plain.blobs[end[0]].data, rtol=1e-10)
    seen: dict[int, list[np.ndarray]] = {0: [], 1: []}
    for k, other in enumerate((net, plain)):
        other.after_forward(lambda i, k=k, other=other: seen[k].append(other.blobs["a"].data.copy()))
        other.forward()
    for found, expected in zip(*seen.values(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("norm", ["", "use_global_stats: true"])
@pytest.mark.parametrize("start", ["d_bn", "b_scale", "b_bn", "a_relu", "a_scale", "a_bn", "a"])
def test_a_backward_pass_may_begin_inside(start, norm):
    diffs = []
    for fuse in (True, False):
        net = make("TRAIN", norm, fuse)
        values(net)
        net.forward()
        statistics = [blob.data.copy() for blob in net.params["a_bn"]]
        for blob in net.blobs.values():
            blob.diff[...] = 1
        net.clear_param_diffs()
        net.backward(start=start)
        for blob, stored in zip(net.params["a_bn"], statistics, strict=True):
            np.testing.assert_array_equal(blob.data, stored)
        diffs.append([net.blobs["x"].diff.copy(), *(p.blob.diff.copy() for p in net.parameters)])
    for found, expected in zip(*diffs, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


def test_gradients_of_joined_layers():
    from caffebn.gradient import check_gradients

    net = make("TRAIN")
    net.blobs["x"].data[...] = np.random.default_rng(0).normal(size=net.blobs["x"].shape)
    check_gradients(net)


def test_what_others_read_is_not_hidden():
    text = (
        'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }\n'
        + CONV.format("a", "x", "true")
        + 'layer { name: "n" type: "BatchNorm" bottom: "a" top: "n" }\n'
        + RELU.format("n")
        + CONV.format("b", "n", "true")
    )
    net = caffebn.Net.from_text(text, "TEST")
    assert kinds(net) == ["BatchNorm + ReLU"], "a can be seen, so that the convolution writes it"
    other = caffebn.Net.from_text(text, "TEST", fuse=False)
    for p, q in zip(net.parameters, other.parameters, strict=True):
        q.blob.data[...] = p.blob.data
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 4))
    np.testing.assert_allclose(net.forward(x=x)["b"], other.forward(x=x)["b"], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(net.blobs["a"].data, other.blobs["a"].data, rtol=1e-5, atol=1e-5)


def test_leaky_relu_and_scale_of_another_axis():
    text = (
        'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 4 dim: 4 dim: 4 dim: 4 } } }\n'
        + CONV.format("a", "x", "true")
        + NORM.format("a", "")
        + 'layer { name: "s" type: "Scale" bottom: "a" top: "a" scale_param { axis: 2 } }\n'
        + 'layer { name: "r" type: "ReLU" bottom: "a" top: "a" relu_param { negative_slope: -0.5 } }\n'
    )
    assert kinds(caffebn.Net.from_text(text, "TEST")) == ["Convolution + BatchNorm"]


def test_winograd_can_be_switched_off():
    text = """
    layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 64 dim: 28 dim: 28 } } }
    layer { name: "y" type: "Convolution" bottom: "x" top: "y"
            convolution_param { num_output: 64 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
    """
    found, algorithms = [], []
    for winograd, dtype in ((True, "float32"), (False, "float32"), (True, "float64")):
        caffebn.set_random_seed(3)
        net = caffebn.Net.from_text(text, "TEST", winograd=winograd, dtype=dtype)
        layer = net.layer_dict["y"]
        algorithms.append(layer.geometry.choice(1, layer.dtype))
        found.append(net.forward(x=np.random.default_rng(1).normal(size=(1, 64, 28, 28)))["y"].copy())
    assert algorithms == ["winograd4", "gemm", "gemm"]
    errors = [np.abs(y - found[2]).max() for y in found[:2]]
    assert errors[1] < errors[0] < 1e-5 * np.abs(found[2]).max()
