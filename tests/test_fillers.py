"""Fillers: closed forms, statistics, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn import fillers
from caffebn.errors import NetError
from caffebn.fillers import FILLERS, fill
from caffebn.proto import Message, text


def filled(shape: tuple[int, ...], definition: str, seed: int = 0) -> np.ndarray:
    array = np.full(shape, np.nan, np.float32)
    fill(array, text.parse(definition, "FillerParameter"), np.random.default_rng(seed))
    return array


BIG = (50, 40, 5, 5)  # 50000 values; fan_in 1000, fan_out 1250


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (0, 3)])
@pytest.mark.parametrize("name", sorted(set(FILLERS) - {"bilinear"}))
def test_every_filler_fills_every_shape(name, shape):
    assert np.isfinite(filled(shape, f'type: "{name}"')).all()


@pytest.mark.parametrize("name", sorted(set(FILLERS) - {"constant", "bilinear"}))
def test_random_fillers_depend_on_the_generator(name):
    shape = (4, 3)
    definition = f'type: "{name}"'
    np.testing.assert_array_equal(filled(shape, definition, 1), filled(shape, definition, 1))
    assert (filled(shape, definition, 1) != filled(shape, definition, 2)).any()


def test_the_default_is_the_constant_0():
    assert not filled((2, 3), "").any()
    assert (filled((2, 3), "value: 1.5") == 1.5).all()
    array = np.full((2, 3), np.nan)
    fill(array, Message("LayerParameter").inner_product_param.weight_filler, np.random.default_rng())
    assert not array.any()


def test_uniform():
    found = filled(BIG, 'type: "uniform" min: -2 max: 6')
    assert -2 <= found.min() < -1.99
    assert 5.99 < found.max() <= 6
    assert abs(found.mean() - 2) < 0.05
    assert abs(found.std() - 8 / np.sqrt(12)) < 0.05
    found = filled(BIG, 'type: "uniform"')
    assert 0 <= found.min() < 0.01
    assert 0.99 < found.max() <= 1


def test_gaussian():
    found = filled(BIG, 'type: "gaussian" mean: 3 std: 0.5')
    assert abs(found.mean() - 3) < 0.01
    assert abs(found.std() - 0.5) < 0.01
    assert abs((np.abs(found - 3) < 0.5).mean() - 0.6827) < 0.01
    found = filled(BIG, 'type: "gaussian"')
    assert abs(found.mean()) < 0.02
    assert abs(found.std() - 1) < 0.02


@pytest.mark.parametrize(("sparse", "kept"), [(0, 0), (5, 0.1), (50, 1), (99, 1)])
def test_sparse_gaussian_keeps_a_share_of_the_first_axis(sparse, kept):
    found = filled(BIG, f'type: "gaussian" sparse: {sparse}')
    assert abs((found != 0).mean() - kept) < 0.01


FANS = [("", 1000), ("FAN_IN", 1000), ("FAN_OUT", 1250), ("AVERAGE", 1125)]


@pytest.mark.parametrize(("norm", "n"), FANS)
def test_xavier(norm, n):
    found = filled(BIG, f'type: "xavier" {norm and f"variance_norm: {norm}"}')
    bound = np.sqrt(3 / n)
    assert 0.999 * bound < np.abs(found).max() <= np.float32(bound)
    assert found.std() == pytest.approx(np.sqrt(1 / n), rel=0.02)


@pytest.mark.parametrize(("norm", "n"), FANS)
def test_msra(norm, n):
    found = filled(BIG, f'type: "msra" {norm and f"variance_norm: {norm}"}')
    assert found.std() == pytest.approx(np.sqrt(2 / n), rel=0.02)
    assert abs(found.mean()) < 0.001
    assert (np.abs(found) < np.sqrt(2 / n)).mean() == pytest.approx(0.6827, abs=0.01)


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), [((600,), 1, 600), ((), 1, 1), ((30, 20), 20, 30)])
def test_fans_of_other_shapes(shape, fan_in, fan_out):
    for norm, n in (("FAN_IN", fan_in), ("FAN_OUT", fan_out)):
        found = filled(shape, f'type: "xavier" variance_norm: {norm}')
        assert np.abs(found).max() <= np.float32(np.sqrt(3 / n))
        if found.size > 100:
            assert np.abs(found).max() > 0.98 * np.sqrt(3 / n)


def test_positive_unitball():
    found = filled((7, 3, 5), 'type: "positive_unitball"')
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=(1, 2)), np.ones(7), rtol=1e-6)
    assert filled((), 'type: "positive_unitball"') == 1


def test_bilinear():
    found = filled((2, 3, 4, 4), 'type: "bilinear"')
    line = np.array([0.25, 0.75, 0.75, 0.25])
    np.testing.assert_array_equal(found, np.broadcast_to(np.outer(line, line), (2, 3, 4, 4)))
    found = filled((1, 1, 3, 3), 'type: "bilinear"')
    line = np.array([0.5, 1, 0.5])
    np.testing.assert_array_equal(found[0, 0], np.outer(line, line))
    assert filled((1, 1, 1, 1), 'type: "bilinear"') == 1


@pytest.mark.parametrize(
    ("shape", "definition", "said"),
    [
        (
            (2, 3),
            'type: "gausian"',
            'unknown filler type "gausian"; did you mean "gaussian"? (known: bilinear, constant, gaussian, msra, '
            "positive_unitball, uniform, xavier)",
        ),
        ((2, 3), 'type: "uniform" min: 2', "filler uniform: min 2 is larger than max 1"),
        ((2, 3), 'type: "gaussian" std: -1', "filler gaussian: std -1 is negative"),
        ((), 'type: "gaussian" sparse: 3', "filler gaussian: sparse needs a blob with axes"),
        ((2, 3), 'type: "bilinear"', "filler bilinear needs a square kernel with 4 axes, found 2x3"),
        ((), 'type: "bilinear"', "filler bilinear needs a square kernel with 4 axes, found no axes"),
        (
            (1, 1, 3, 4),
            'type: "bilinear"',
            "filler bilinear needs a square kernel with 4 axes, found 1x1x3x4",
        ),
    ],
)
def test_refusals(shape, definition, said):
    with pytest.raises(NetError) as caught:
        filled(shape, definition)
    assert caught.value.message == said
    assert caught.value.where is not None


@pytest.mark.parametrize("filler", ["uniform", "gaussian", "xavier", "msra"])
def test_drawing_in_pieces_changes_no_number(monkeypatch, filler):
    at_once = filled((7, 11), f'type: "{filler}"')
    monkeypatch.setattr(fillers, "_PIECE", 10)
    np.testing.assert_array_equal(filled((7, 11), f'type: "{filler}"'), at_once)
