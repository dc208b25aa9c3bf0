"""MVN."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.nets import check_in_place, check_layer, make, outcome, refusal, values

MVN = 'layer {{ name: "m" type: "MVN" bottom: "x" top: "y" mvn_param {{ {} }} }}'
PARAMS = [
    "",
    "across_channels: true",
    "normalize_variance: false",
    "normalize_variance: false across_channels: true",
]


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("param", PARAMS)
def test_gradients_and_back_ends(param, phase, device):
    assert check_layer(MVN.format(param), device, phase, x=values(2, 3, 4, 5)).excluded == 0


@pytest.mark.parametrize("param", PARAMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_in_place_equals_not_in_place(param, dtype, device):
    check_in_place(MVN.format(param), device, dtype=dtype, x=values(2, 3, 4, 5))


@pytest.mark.parametrize(("param", "axes"), [("", (2, 3)), ("across_channels: true", (1, 2, 3))])
def test_mean_and_variance(param, axes, device):
    y = make(MVN.format(param), {"x": 5 + 3 * values(2, 3, 4, 5)}, device=device).forward()["y"]
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-14)
    np.testing.assert_allclose(y.var(axes), 1, rtol=1e-8)


def test_eps_is_added_to_the_deviation(device):
    x = np.array([1.0, 5]).reshape(1, 1, 1, 2)
    net = make(MVN.format("eps: 2"), {"x": x}, device=device)
    assert net.forward()["y"].ravel().tolist() == [-0.5, 0.5]
    net.blobs["y"].diff[...] = np.array([1.0, 3]).reshape(1, 1, 1, 2)
    net.backward()
    # (dy - mean(dy) - y mean(dy y)) / (s + eps): not the derivative, for y has not variance 1
    np.testing.assert_allclose(net.blobs["x"].diff.ravel(), [-0.1875, 0.1875], rtol=1e-14)


def test_a_constant_channel(device):
    found = outcome(make(MVN.format(""), {"x": np.full((1, 2, 2, 2), 1e3)}, device=device))
    assert not found["y 0"].any() and np.isfinite(found["gradient of x"]).all()


def test_a_large_offset(device):
    x = (1e4 + values(2, 3, 8, 8) / 10).astype("f")
    y = make(MVN.format(""), {"x": x}, device=device, dtype="float32").forward()["y"]
    x = x.astype(float)
    expected = (x - x.mean((2, 3), keepdims=True)) / x.std((2, 3), keepdims=True)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), ()])
def test_the_top_has_4_axes(shape, device):
    found = outcome(make(MVN.format(""), {"x": values(*shape)}, device=device))
    assert found["y 0"].shape == shape + (1,) * (4 - len(shape))
    assert found["gradient of x"].shape == shape


@pytest.mark.parametrize("param", PARAMS)
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 1, 1), (2, 3, 0, 1)])
def test_empty_shapes(param, shape, device):
    assert outcome(make(MVN.format(param), {"x": np.zeros(shape)}, device=device))["y 0"].shape == shape


def test_more_than_4_axes_are_refused():
    said = 'layer "m" (MVN): takes at most 4 axes, found "x" (1x2x3x4x5)'
    assert refusal(MVN.format(""), x=(1, 2, 3, 4, 5)) == said
