"""Batch normalisation of other frameworks, by their own formulas."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.bn.dialects import FRAMEWORKS, Parameters, from_framework, to_framework
from caffebn.errors import ArgumentError

C = 5


def arrays(id: str, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.5, 2, C), rng.standard_normal(C), rng.standard_normal(C), rng.uniform(0.1, 3, C)
    return {name: value.astype(np.float32) for name, value in zip(FRAMEWORKS[id].names, values, strict=True)}


def own_formula(id: str, a: dict[str, np.ndarray], x: np.ndarray, eps: float) -> np.ndarray:
    gamma, beta, mean, stored = (a[name].astype(np.float64) for name in FRAMEWORKS[id].names)
    if id == "keras-0":
        return gamma * (x - mean) / (stored + eps) + beta
    if id == "mxnet":
        gamma = np.ones(C)
    return gamma * (x - mean) / np.sqrt(stored + eps) + beta


def caffe(p: Parameters, x: np.ndarray) -> np.ndarray:
    mean, var, factor = (b.astype(np.float64) for b in p.batch_norm)
    y = (x - mean / factor) / np.sqrt(var / factor + p.eps)
    return y * p.scale[0] + p.scale[1] if p.scale else y


@pytest.mark.parametrize("id", FRAMEWORKS)
@pytest.mark.parametrize("eps", [None, 0.01])
def test_there_and_back(id, eps):
    a, x = arrays(id), np.random.default_rng(1).standard_normal((7, C))
    f = FRAMEWORKS[id]
    p = from_framework(id, a, eps)
    np.testing.assert_allclose(
        caffe(p, x), own_formula(id, a, x, f.eps if eps is None else eps), rtol=1e-5, atol=1e-6
    )
    back, back_eps, momentum = to_framework(id, p)
    np.testing.assert_allclose(own_formula(id, back, x, back_eps), caffe(p, x), rtol=1e-5, atol=1e-6)
    assert momentum == pytest.approx(f.momentum)


@pytest.mark.parametrize("id", FRAMEWORKS)
def test_momentum_is_the_part_that_is_kept(id):
    """After one batch, Caffe's average is the framework's."""
    a, new = arrays(id), np.random.default_rng(2).standard_normal(C)
    p = from_framework(id, a, momentum=0.2)
    b = p.moving_average_fraction
    weight = 0.2 if id == "pytorch" else 0.8
    mean = (b * p.batch_norm[0] + new) / (b * p.batch_norm[2] + 1)
    np.testing.assert_allclose(
        mean, (1 - weight) * a[FRAMEWORKS[id].names[2]] + weight * new, rtol=1e-5, atol=1e-6
    )


def test_missing_scale_or_shift():
    a = arrays("tensorflow")
    del a["gamma"]
    p = from_framework("tensorflow", a, live=False)
    np.testing.assert_array_equal(p.scale[0], np.ones(C))
    assert p.batch_norm[2] == [1]
    del a["beta"]
    assert from_framework("tensorflow", a).scale == []


def test_mxnet_with_fix_gamma_false():
    a = arrays("mxnet")
    np.testing.assert_array_equal(from_framework("mxnet", a, fix_gamma=False).scale[0], a["gamma"])


def test_pytorch_agrees():
    torch = pytest.importorskip("torch")
    bn = torch.nn.BatchNorm2d(C, eps=1e-3)
    with torch.no_grad():
        for name, value in arrays("pytorch").items():
            getattr(bn, name).copy_(torch.from_numpy(value))
    bn.eval()
    x = torch.randn(2, C, 3, 3)
    p = from_framework("pytorch", {k: v.numpy() for k, v in bn.state_dict().items()}, eps=1e-3)
    expected = bn(x).detach().numpy()
    found = caffe(p, x.numpy().transpose(0, 2, 3, 1).astype(np.float64)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_refusals():
    with pytest.raises(ArgumentError, match='there is no framework "torch"; did you mean "pytorch"'):
        from_framework("torch", {})
    with pytest.raises(
        ArgumentError,
        match="expected the arrays scale, B, mean, var .the first two may be missing., found X, mean",
    ):
        from_framework("onnx", {"mean": np.ones(2), "X": np.ones(2)})
    with pytest.raises(ArgumentError, match="arrays of different sizes"):
        from_framework("onnx", {"mean": np.ones(2), "var": np.ones(3)})
