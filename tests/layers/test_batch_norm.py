"""BatchNorm."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import NetError
from caffebn.net import Net
from tests.layers.nets import check_in_place, check_layer, make, outcome, randomise, refusal, values

BN = 'layer {{ name: "bn" type: "BatchNorm" bottom: "x" top: "y" {} }}'
PLAIN = BN.format("")


def param(text: str) -> str:
    return BN.format(f"batch_norm_param {{ {text} }}")


def axes(x: np.ndarray) -> tuple[int, ...]:
    return tuple(i for i in range(x.ndim) if i != 1)


def normalised(x: np.ndarray, mean: np.ndarray, var: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return (x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + np.float32(eps))


def set_statistics(net: Net, mean, var, factor: float) -> None:
    for blob, value in zip(net.params["bn"], (mean, var, [factor]), strict=True):
        blob.data[...] = value


def statistics(net: Net) -> list[list[float]]:
    return [blob.data.tolist() for blob in net.params["bn"]]


SHAPES = [(5, 3), (2, 3, 4), (2, 3, 4, 5), (2, 3, 2, 3, 2), (1, 3, 2, 2), (4, 1, 3), (6, 2, 1, 1)]


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_and_back_ends(shape, phase, device):
    check_layer(PLAIN, device, phase, x=values(*shape))


@pytest.mark.parametrize("text", ["eps: 0.1", "use_global_stats: true", "moving_average_fraction: 0.5"])
def test_gradients_with_parameters(text, device):
    check_layer(param(text), device, x=values(4, 3, 2))


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_in_place_equals_not_in_place(shape, phase, dtype, device):
    check_in_place(PLAIN, device, phase, dtype, x=values(*shape))


def test_by_hand(device):
    """Channel 0 has values 1, 3 (mean 2, variance 1), channel 1 has 5, 5 (variance 0)."""
    net = make(param("eps: 1"), {"x": [[1, 5], [3, 5]]}, device=device)
    net.forward()
    root = np.sqrt(0.5)
    np.testing.assert_allclose(net.blobs["y"].data, [[-root, 0], [root, 0]], rtol=1e-14)
    assert statistics(net) == [[2, 5], [2, 0], [1]], "the variance that is stored is that of a sample, 2"
    net.blobs["y"].diff[...] = [[1, 1], [0, 0]]
    net.backward()
    # dy - mean(dy) = +-1/2, mean(dy y) = -root/2, so dx = (+-1/2 -+ root root/2) root = +-root/4 in channel 0
    np.testing.assert_allclose(net.blobs["x"].diff, [[root / 4, 0.5], [-root / 4, -0.5]], rtol=1e-14)
    assert not any(blob.diff.any() for blob in net.params["bn"]), "statistics have no gradient"


@pytest.mark.parametrize("fraction", [0, 0.5, 0.999, 1])
def test_statistics_accumulate(fraction, device):
    net = make(param(f"moving_average_fraction: {fraction}"), {"x": values(4, 3, 5)}, device=device)
    b = np.float64(np.float32(fraction))
    sums = [np.zeros(3), np.zeros(3), 0.0]
    for seed in range(4):
        x = values(4, 3, 5, seed=seed) * (seed + 1) + seed
        net.blobs["x"].data[...] = x
        net.forward()
        new = x.mean((0, 2)), x.var((0, 2), ddof=1), 1
        sums = [b * old + term for old, term in zip(sums, new, strict=True)]
        np.testing.assert_allclose(
            net.blobs["y"].data, normalised(x, x.mean((0, 2)), x.var((0, 2))), rtol=1e-9
        )
    for blob, expected in zip(net.params["bn"], sums, strict=True):
        np.testing.assert_allclose(blob.data.squeeze(), expected, rtol=1e-12)


@pytest.mark.parametrize("factor", [1, 999.98, 0.25])
def test_stored_statistics_are_divided_by_the_factor(factor, device):
    x, mean, var = values(4, 3, 5), np.array([1, -2, 3.0]), np.array([4, 0.5, 9])
    net = make(PLAIN, {"x": x}, "TEST", device)
    set_statistics(net, mean * factor, var * factor, factor)
    net.forward()
    np.testing.assert_allclose(net.blobs["y"].data, normalised(x, mean, var), rtol=1e-12)


@pytest.mark.parametrize("sums", [0, 7])
def test_factor_zero_means_no_statistics(sums, device):
    x, root = values(4, 3, 5), np.sqrt(np.float64(np.float32(1e-5)))
    net = make(PLAIN, {"x": x}, "TEST", device)
    set_statistics(net, sums, sums, 0)
    found = outcome(net)
    np.testing.assert_allclose(found["y 0"], x / root, rtol=1e-12)
    np.testing.assert_allclose(found["gradient of x"], net.blobs["y"].diff / root, rtol=1e-12)


@pytest.mark.parametrize(
    ("phase", "use_global_stats", "stored"),
    [
        ("TRAIN", None, False),
        ("TRAIN", "false", False),
        ("TRAIN", "true", True),
        ("TEST", None, True),
        ("TEST", "false", False),
        ("TEST", "true", True),
    ],
)
def test_which_statistics_are_used(phase, use_global_stats, stored, device):
    text = param(f"use_global_stats: {use_global_stats}") if use_global_stats else PLAIN
    x, mean, var = values(4, 3, 5), np.array([1, -2, 3.0]), np.array([4, 0.5, 9])
    net = make(text, {"x": x}, phase, device)
    set_statistics(net, 2 * mean, 2 * var, 2)
    before = statistics(net)
    net.forward()
    if stored:
        np.testing.assert_allclose(net.blobs["y"].data, normalised(x, mean, var), rtol=1e-12)
        assert statistics(net) == before
    else:
        np.testing.assert_allclose(
            net.blobs["y"].data, normalised(x, x.mean((0, 2)), x.var((0, 2))), rtol=1e-9
        )
        assert statistics(net)[2] == [pytest.approx(2 * 0.999 + 1)], "accumulated, in TEST as well"


def test_the_phase_of_the_layer_counts(device):
    net = make(BN.format("phase: TEST"), {"x": values(4, 3)}, "TRAIN", device)
    net.forward()
    assert statistics(net)[2] == [0]


def test_one_value_per_channel(device):
    net = make(PLAIN, {"x": [[3.0, -4.0]]}, device=device)
    net.forward()
    assert net.blobs["y"].data.tolist() == [[0, 0]]
    assert statistics(net) == [[3, -4], [0, 0], [1]], "the correction m / (m - 1) is left out"


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_an_empty_batch_changes_nothing(phase, device):
    net = make(PLAIN, {"x": np.zeros((0, 3, 4))}, phase, device)
    set_statistics(net, 1, 2, 3)
    outcome(net)
    assert statistics(net) == [[1] * 3, [2] * 3, [3]]


def test_the_batch_may_change(device):
    net = make(PLAIN, {"x": values(2, 3, 4)}, device=device)
    for shape in [(5, 3, 4), (1, 3, 7), (30, 3, 2)]:
        net.blobs["x"].reshape(*shape)
        net.blobs["x"].data[...] = values(*shape)
        net.forward()
        x = values(*shape)
        np.testing.assert_allclose(
            net.blobs["y"].data, normalised(x, x.mean((0, 2)), x.var((0, 2))), rtol=1e-9
        )


@pytest.mark.parametrize("shape", [(64, 4, 7, 9), (2000, 4)])
def test_a_large_mean_costs_no_accuracy(shape, device):
    """Mean 1e4 and variance 1e-2 in single precision: the deviations have 3 digits left, all of them right."""
    rng = np.random.default_rng(0)
    x = (1e4 + 0.1 * rng.standard_normal(shape)).astype(np.float32)
    exact = x.astype(np.float64)
    mean, var = exact.mean(axes(x)), exact.var(axes(x))
    net = make(PLAIN, {"x": x}, device=device, dtype="float32")
    found = outcome(net)
    np.testing.assert_allclose(found["y 0"], normalised(exact, mean, var), rtol=1e-6, atol=1e-7)
    m = exact[:, 0].size
    np.testing.assert_allclose(found["bn[0]"], mean, rtol=1e-7)
    np.testing.assert_allclose(found["bn[1]"], var * m / (m - 1), rtol=1e-6)

    dy = net.blobs["y"].diff.astype(np.float64)
    y = normalised(exact, mean, var)
    means = [v.mean(axes(x), keepdims=True) for v in (dy, dy * y)]
    shape_c = (1, -1) + (1,) * (x.ndim - 2)
    dx = (dy - means[0] - y * means[1]) / np.sqrt(var.reshape(shape_c) + 1e-5)
    np.testing.assert_allclose(found["gradient of x"], dx, rtol=1e-5, atol=1e-5)


CHAIN = """
layer {{ name: "conv" type: "Convolution" bottom: "x" top: "a"
        convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 bias_term: false }} }}
layer {{ name: "bn" type: "BatchNorm" bottom: "a" top: "{0}" {4} }}
layer {{ name: "scale" type: "Scale" bottom: "{0}" top: "{1}" scale_param {{ bias_term: true }} }}
layer {{ name: "relu" type: "ReLU" bottom: "{1}" top: "{2}" }}
layer {{ name: "sigmoid" type: "Sigmoid" bottom: "{2}" top: "{3}" }}
"""


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("more", ["", "batch_norm_param { use_global_stats: true }"])
def test_the_usual_chain_in_place_equals_the_same_with_tops_of_their_own(phase, more, device):
    results = []
    for names in ("bcde", "aaaa", "bbcc", "aacc"):
        for fuse in (False, True):
            text = CHAIN.format(*names, more)
            net = make(text, {"x": values(2, 3, 5, 4)}, phase, device, "float32", fuse=fuse)
            randomise(net)
            results.append({what: v for what, v in outcome(net).items() if not what.endswith(" 0")})
    for k, found in enumerate(results[1:], start=1):
        for what, value in results[0].items():
            if k % 2:  # joined layers round less often
                np.testing.assert_allclose(found[what], value, rtol=1e-5, atol=2e-6, err_msg=what)
            else:
                np.testing.assert_array_equal(found[what], value, err_msg=what)


def entries(net: Net) -> list[tuple[float, float]]:
    return [(entry.lr_mult, entry.decay_mult) for entry in net.layer_dict["bn"].spec.param]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [(0, 1)] * 3),
        ("param { lr_mult: 0 decay_mult: 0 }", [(0, 0), (0, 1), (0, 1)]),
        ("param { lr_mult: 0 } param { lr_mult: 0 }", [(0, 1)] * 3),
        ("param { lr_mult: 0 } " * 3, [(0, 0)] * 3),
        ("param { } param { lr_mult: 2 } param { decay_mult: 3 }", [(0, 0)] * 3),
    ],
)
def test_learning_rates_are_zero(text, expected):
    net = make(BN.format(text), {"x": values(4, 3)})
    assert entries(net) == expected
    assert [p.lr_mult for p in net.parameters] == [0, 0, 0]


@pytest.mark.parametrize(
    ("text", "index", "found"),
    [
        ("param { }", 0, "1"),
        ("param { lr_mult: 0 } param { lr_mult: 0.5 }", 1, "0.5"),
        ('param { name: "w" }', 0, "1"),
    ],
)
def test_a_learning_rate_is_refused(text, index, found):
    assert refusal(BN.format(text), x=(4, 3)) == (
        f'layer "bn" (BatchNorm): the statistics are not learned: param {index} must say lr_mult: 0, found {found} '
        "(1 is the default): write param { lr_mult: 0 } three times, or no param at all"
    )


def test_the_refusal_points_at_the_entry():
    text = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 } } }\n'
    with pytest.raises(NetError) as caught:
        Net.from_text(text + BN.format("\nparam { lr_mult: 0 }\n  param { lr_mult: 1 }"), "TRAIN")
    assert caught.value.where.line == 4


@pytest.mark.parametrize(("shape", "shown"), [((5,), "5"), ((), "no axes")])
def test_too_few_axes_are_refused(shape, shown):
    message = refusal(PLAIN, x=shape)
    assert (
        message
        == f'layer "bn" (BatchNorm): needs at least 2 axes, of which axis 1 is the channel, found "x" ({shown})'
    )


def test_another_number_of_channels_is_refused():
    net = make(PLAIN, {"x": values(2, 3, 4)})
    net.blobs["x"].reshape(2, 4, 3)
    with pytest.raises(NetError, match=r'has statistics of 3 channels \(axis 1\), found "x" \(2x4x3\)'):
        net.forward()


def test_macs():
    net = make(PLAIN, {"x": values(2, 3, 4)})
    assert net.layers[1].macs([net.blobs["x"]], [net.blobs["y"]]) == 24
