"""The family batch_norm: normalisation, affine map, residual sum and activation as one op."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import caffebn
import caffebn.ops
from caffebn.errors import ArgumentError
from caffebn.ops import level

REFERENCE, CPU = caffebn.ops.get("reference"), caffebn.ops.get("cpu")

shapes = st.tuples(st.integers(0, 40), st.integers(0, 20), st.integers(0, 40))
dtypes = st.sampled_from([np.dtype("float32"), np.dtype("float64")])
slopes = st.sampled_from([None, 0.0, 0.25])

# Around the limits of the layouts: 16 and 512 places; whole vectors; rows of 2048 and of twice as many; 256 columns;
# tiles of channels; blocks of 16 images
EDGES = [
    *[
        (1, 1, 1),
        (2, 1, 1),
        (1, 3, 2),
        (3, 2, 15),
        (3, 2, 16),
        (3, 2, 17),
        (2, 3, 31),
        (2, 3, 33),
        (17, 2, 16),
    ],
    *[
        (2, 2, 2047),
        (1, 2, 2048),
        (2, 1, 4095),
        (1, 1, 4096),
        (1, 2, 6143),
        (1, 1, 8200),
        (2, 70, 1),
        (33, 255, 1),
    ],
    *[
        (33, 256, 1),
        (3, 257, 1),
        (3, 2500, 1),
        (2, 300, 7),
        (700, 1, 1),
        (5, 90, 49),
        (16, 190, 49),
        (40, 230, 17),
        (1, 600, 16),
        (4, 50, 196),
        (9, 3, 511),
        (9, 3, 512),
        (17, 33, 100),
        (50, 9, 361),
        (0, 3, 4),
        (2, 3, 0),
    ],
]


class Case:
    """The arguments of a call, from a random generator."""

    def __init__(self, shape, dtype, seed=0, scale=True, shift=True, residual=False, slope=0.0, eps=1e-3):
        rng = np.random.default_rng(seed)
        self.shape, self.dtype, self.slope, self.eps = shape, np.dtype(dtype), slope, eps
        self.x, self.dy, extra = (rng.standard_normal(shape).astype(dtype) for _ in range(3))
        vectors = [rng.standard_normal(shape[1]).astype(dtype) for _ in range(2)]
        self.scale, self.shift = vectors[0] if scale else None, vectors[1] if shift else None
        self.residual = extra if residual else None

    def forward(self, ops, x=None, y=None, scale=None, shift=None, residual=None):
        """Return y, mean, var and inv_std; arguments stand in for those of the case."""
        x = self.x if x is None else x
        y = np.full(self.shape, np.nan, x.dtype) if y is None else y
        mean, var, inv_std = (np.full(self.shape[1], np.nan) for _ in range(3))
        scale = self.scale if scale is None else scale
        shift = self.shift if shift is None else shift
        residual = self.residual if residual is None else residual
        ops.batch_norm(x, self.eps, scale, shift, residual, self.slope, y, mean, var, inv_std)
        return y, mean, var, inv_std

    def backward(self, ops, y, mean, inv_std, frozen=False, wanted=(True, True, True, True)):
        """Return dx, dscale, dshift and dresidual, None for what is not wanted."""
        tensor = iter([np.full(self.shape, np.nan, self.dtype) for _ in range(2)])
        vector = np.ones(self.shape[1], self.dtype)
        outputs = [next(tensor), vector, vector.copy(), next(tensor)]
        outputs = [out if want else None for out, want in zip(outputs, wanted, strict=True)]
        ops.batch_norm_backward(
            self.x, mean, inv_std, self.scale, self.shift, y, self.slope, frozen, self.dy, *outputs
        )
        return outputs


def one_by_one(ops, case):
    """The forward pass by the single ops."""
    mean, var, inv_std = (np.empty(case.shape[1]) for _ in range(3))
    y = np.empty_like(case.x)
    ops.moments(case.x, mean, var)
    ops.inv_std(var, case.eps, inv_std)
    ops.normalize(case.x, mean, inv_std, y)
    ops.affine(y, case.scale, case.shift, y)
    if case.residual is not None:
        ops.weighted_sum(y, 1.0, case.residual, 1.0, y)
    if case.slope is not None:
        ops.relu(y, y, case.slope)
    return y, mean, var, inv_std


def test_forward_in_closed_form(ops, dtype):
    x = np.array([[[1, 3], [5, 5]], [[5, 7], [5, 5]]], dtype)  # means 4 and 5, variances 5 and 0
    y, vectors = np.empty_like(x), [np.empty(2) for _ in range(3)]
    scale, shift = np.array([3, 1], dtype), np.array([1, -1], dtype)
    ops.batch_norm(x, 4.0, scale, shift, None, None, y, *vectors)
    np.testing.assert_array_equal(vectors, [[4, 5], [5, 0], [1 / 3, 1 / 2]])
    np.testing.assert_allclose(y, [[[-2, 0], [-1, -1]], [[2, 4], [-1, -1]]], rtol=1e-6)
    ops.batch_norm(x, 4.0, scale, shift, None, 0.0, y, *vectors)
    np.testing.assert_allclose(y, [[[0, 0], [0, 0]], [[2, 4], [0, 0]]], rtol=1e-6)
    ops.batch_norm(x, 4.0, scale, shift, x, 0.5, y, *vectors)
    np.testing.assert_allclose(y, [[[-0.5, 3], [4, 4]], [[7, 11], [4, 4]]], rtol=1e-6)


def test_backward_in_closed_form(ops, dtype):
    """Two values a channel: with no eps they become -1 and 1, whatever they were, so dx is 0."""
    x = np.array([[[1]], [[4]]], dtype)
    dy = np.array([[[2]], [[3]]], dtype)
    mean, inv_std = np.array([2.5]), np.array([1 / 1.5])
    scale, shift = np.array([6], dtype), np.array([1], dtype)
    dx, dz = np.empty_like(x), np.empty_like(x)
    dscale, dshift = np.array([10], dtype), np.array([20], dtype)
    ops.batch_norm_backward(x, mean, inv_std, scale, shift, None, None, False, dy, dx, dscale, dshift, dz)
    np.testing.assert_allclose(dx, 0, atol=1e-5)
    np.testing.assert_allclose([dscale, dshift], [[11], [25]], rtol=1e-6)
    np.testing.assert_array_equal(dz, dy)
    # z is -5 and 7: the first is shut
    ops.batch_norm_backward(x, mean, inv_std, scale, shift, None, 0.0, True, dy, dx, dscale, dshift, dz)
    np.testing.assert_allclose(dx, [[[0]], [[12]]], rtol=1e-6)
    np.testing.assert_allclose([dscale, dshift], [[14], [28]], rtol=1e-6)
    np.testing.assert_array_equal(dz, [[[0]], [[3]]])


def test_normalize_act_in_closed_form(ops, dtype):
    x = np.array([[[1, -2], [3, np.nan]]], dtype)
    mean, inv_std = np.array([0.5, 1.0]), np.array([2.0, 0.5])
    scale, shift = np.array([3, -1], dtype), np.array([1, 0.5], dtype)
    y = np.empty_like(x)
    ops.normalize_act(x, mean, inv_std, None, None, None, None, y)
    np.testing.assert_array_equal(y, [[[1, -5], [1, np.nan]]])
    ops.normalize_act(x, mean, inv_std, scale, shift, None, None, y)
    np.testing.assert_array_equal(y, [[[4, -14], [-0.5, np.nan]]])
    ops.normalize_act(x, mean, inv_std, scale, shift, None, 0.0, y)
    np.testing.assert_array_equal(y, [[[4, 0], [0, np.nan]]])
    ops.normalize_act(x, mean, inv_std, scale, shift, x, 0.5, y)
    np.testing.assert_array_equal(y, [[[5, -8], [2.5, np.nan]]])


@pytest.mark.parametrize("shape", [(3, 4, 17), (2, 3, 5000), (40, 30, 1), (5, 7, 6)])
@pytest.mark.parametrize("slope", [None, 0.0, 0.25])
def test_normalize_act_is_the_second_half_of_batch_norm(ops, dtype, shape, slope):
    case = Case(shape, dtype, residual=True, slope=slope)
    y, mean, _, inv_std = case.forward(ops)
    again = np.empty_like(y)
    ops.normalize_act(case.x, mean, inv_std, case.scale, case.shift, case.residual, slope, again)
    np.testing.assert_array_equal(again, y)


def test_normalize_act_keeps_what_a_large_mean_leaves(ops):
    """In float32 the mean itself is not exact."""
    mean = 1000 + 1e-5
    x = np.full((2, 1, 20), mean, np.float32) + np.float32(1 / 8)
    y = np.empty_like(x)
    ops.normalize_act(x, np.array([mean]), np.ones(1), None, None, None, None, y)
    np.testing.assert_allclose(y, x.astype(float) - mean, rtol=1e-6)


def test_fold_statistics_in_closed_form(ops, dtype):
    mean, var = np.array([1.0, 2.0]), np.array([3.0, 8.0])
    a, b = np.empty((2, 2), dtype)
    ops.fold_statistics(mean, var, 1.0, None, None, None, a, b)
    np.testing.assert_array_equal([a, b], np.array([[1 / 2, 1 / 3], [-1 / 2, -2 / 3]], dtype))
    scale, shift, bias = np.array([4, 3], dtype), np.array([5, 6], dtype), np.array([7, 2], dtype)
    ops.fold_statistics(mean, var, 1.0, scale, shift, bias, a, b)
    np.testing.assert_array_equal([a, b], [[2, 1], [17, 6]])
    ops.fold_statistics(mean, var, 1.0, None, shift, None, a, b)
    np.testing.assert_array_equal([a, b], np.array([[1 / 2, 1 / 3], [4.5, 6 - 2 / 3]], dtype))


def test_a_folded_map_is_the_normalisation(ops):
    case = Case((4, 5, 9), "float64", slope=None)
    y, mean, var, _ = case.forward(ops)
    a, b = np.empty((2, 5))
    ops.fold_statistics(mean, var, case.eps, case.scale, case.shift, None, a, b)
    np.testing.assert_allclose(case.x * a[:, None] + b[:, None], y, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=80)
@given(
    shape=shapes,
    dtype=dtypes,
    seed=st.integers(0, 99),
    scale=st.booleans(),
    shift=st.booleans(),
    residual=st.booleans(),
    slope=slopes,
)
def test_forward_has_the_bits_of_the_single_ops(shape, dtype, seed, scale, shift, residual, slope):
    case = Case(shape, dtype, seed, scale, shift, residual, slope)
    expected = one_by_one(CPU, case)
    for name, e, f in zip(("y", "mean", "var", "inv_std"), expected, case.forward(CPU), strict=True):
        np.testing.assert_array_equal(f, e, err_msg=name)
        assert f.tobytes() == e.tobytes(), name


@pytest.mark.parametrize("shape", EDGES)
def test_forward_at_the_limits_of_the_layouts(dtype, shape, use_threads):
    case = Case(shape, dtype, residual=True, slope=0.25)
    tolerance = 1e-5 if dtype == np.float32 else 1e-11
    if case.x.size:
        expected = case.forward(REFERENCE)
    for n in (1, 2, 3, 4):
        use_threads(n)
        found, single = case.forward(CPU), one_by_one(CPU, case)
        if n == 1:
            first = [f.tobytes() for f in found]
        assert [f.tobytes() for f in found] == [f.tobytes() for f in single] == first
        if case.x.size:
            for e, f in zip(expected, found, strict=True):
                np.testing.assert_allclose(f, e, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", EDGES)
@pytest.mark.parametrize("frozen", [False, True])
def test_backward_at_the_limits_of_the_layouts(dtype, shape, frozen, use_threads):
    case = Case(shape, dtype)
    _, mean, _, inv_std = case.forward(REFERENCE)
    expected = case.backward(REFERENCE, None, mean, inv_std, frozen)
    results = []
    for n in (1, 2, 3, 4):
        use_threads(n)
        found = case.backward(CPU, None, mean, inv_std, frozen)
        results.append([f.tobytes() for f in found])
    assert results[0] == results[1] == results[2] == results[3]
    _assert_gradients_close(case, found, expected, inv_std)


def _assert_gradients_close(case, found, expected, inv_std):
    """Roundings are measured against the terms of a sum, which may cancel."""
    eps = np.finfo(case.dtype).eps
    count = max(1, case.shape[0] * case.shape[2]) * (2 + inv_std)
    k = np.abs(inv_std * (1 if case.scale is None else case.scale))
    terms = (1 + np.abs(case.x) * inv_std[:, None]) * 6 * k[:, None]
    for name, f, e, size in zip(
        ("dx", "dscale", "dshift", "dresidual"), found, expected, (terms, count, count, 0), strict=True
    ):
        assert (f is None) == (e is None)
        if f is not None:
            assert np.all(np.abs(f - e) <= 8 * eps * size), name


@pytest.mark.parametrize("places", [range(1, 16), range(16, 36), range(36, 71)], ids=str)
def test_small_maps_of_every_size(dtype, places, use_threads):
    """Runs of every length; with one thread a group of channels is visited image by image, with more not always."""
    for S in places:
        case = Case((5, 133, S), dtype)
        results = []
        for n in (1, 3):
            use_threads(n)
            forward = case.forward(CPU)
            backward = case.backward(CPU, None, forward[1], forward[3])
            results.append([f.tobytes() for f in (*forward, *backward)])
        assert results[0] == results[1], S
        expected = case.forward(REFERENCE)
        tolerance = 1e-5 if dtype == np.float32 else 1e-11
        for e, f in zip(expected, forward, strict=True):
            np.testing.assert_allclose(f, e, rtol=tolerance, atol=tolerance, err_msg=str(S))
        expected = case.backward(REFERENCE, None, expected[1], expected[3])
        _assert_gradients_close(case, backward, expected, forward[3])


@settings(deadline=None, max_examples=100)
@given(
    shape=shapes,
    dtype=dtypes,
    seed=st.integers(0, 99),
    scale=st.booleans(),
    shift=st.booleans(),
    slope=slopes,
    frozen=st.booleans(),
    give_y=st.booleans(),
    wanted=st.tuples(*[st.booleans()] * 4),
)
def test_backward_is_that_of_the_reference(shape, dtype, seed, scale, shift, slope, frozen, give_y, wanted):
    case = Case(shape, dtype, seed, scale, shift, residual=give_y, slope=slope)
    y, mean, _, inv_std = case.forward(CPU)
    expected, found = (
        case.backward(ops, y if give_y else None, mean, inv_std, frozen, wanted) for ops in (REFERENCE, CPU)
    )
    _assert_gradients_close(case, found, expected, inv_std)


@pytest.mark.parametrize("shape", [(3, 4, 20), (6, 300, 1), (9, 4, 3), (2, 3, 4100)])
@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_the_recomputed_mask_is_that_of_the_forward_pass(dtype, shape, slope):
    """A third of the outputs lies within a rounding of 0."""
    case = Case(shape, dtype, slope=slope)
    rng = np.random.default_rng(5)
    _, mean, _, inv_std = case.forward(CPU)
    root = mean - case.shift.astype(float) / (inv_std * case.scale)
    near = root[:, None] * (1 + rng.integers(-2, 3, shape) * np.finfo(dtype).eps)
    case.x = np.where(rng.random(shape) < 0.33, near, case.x).astype(dtype)
    y = np.empty_like(case.x)
    CPU.normalize(case.x, mean, inv_std, y)
    CPU.affine(y, case.scale, case.shift, y)
    CPU.relu(y, y, slope)
    assert np.mean(np.abs(y) < 1e-5) > 0.2
    for recomputed, read in zip(
        case.backward(CPU, None, mean, inv_std), case.backward(CPU, y, mean, inv_std), strict=True
    ):
        np.testing.assert_array_equal(recomputed, read)
    for recomputed, read in zip(
        case.backward(CPU, None, mean, inv_std, True),
        case.backward(CPU, y, mean, inv_std, True),
        strict=True,
    ):
        np.testing.assert_array_equal(recomputed, read)


@pytest.mark.parametrize("places", [1, 20])
def test_the_recomputed_mask_where_the_root_is_hard_to_find(dtype, places):
    """Roots at 0, of which many numbers have the same distance from the mean, and maps that have no root."""
    tiny, big = np.finfo(dtype).tiny, np.finfo(dtype).max / 8
    values = [0, -0.0, tiny, -tiny, 1e-30, -1e-30, 1e-8, -1e-8, 1e-5, 1, -1, 999, 1000, 1001, big, -big]
    values += [np.inf, -np.inf]
    maps = [
        (2, 2000),
        (-2, -2000),
        (2, None),
        (0, 1),
        (0, -1),
        (1e-30, 1),
        (-1e-30, 1),
        (2, 2e12),
        (2, np.nan),
    ]
    for scale, shift in maps:
        images = (
            len(values) * 100 // places
        )  # so many that the interval is found, and not each sign by itself
        case = Case((images, 1, places), dtype, shift=shift is not None)
        case.x = np.broadcast_to(np.resize(np.array(values, dtype), images)[:, None, None], case.shape).copy()
        case.scale[:] = scale
        if shift is not None:
            case.shift[:] = shift
        for mean in (1000.0, 0.0):
            mean, inv_std = np.array([mean]), np.array([1.0])
            y = np.empty_like(case.x)
            CPU.normalize(case.x, mean, inv_std, y)
            CPU.affine(y, case.scale, case.shift, y)
            signed = np.isfinite(case.x) | (scale != 0)  # 0 times infinity has no sign
            results = [
                case.backward(CPU, given, mean, inv_std, wanted=(0, 0, 0, 1))[3][signed]
                for given in (y, None)
            ]
            np.testing.assert_array_equal(*results, err_msg=f"{scale}, {shift}, {mean}")


@pytest.mark.parametrize("places", [1, 3, 20])
def test_the_recomputed_mask_of_channels_whose_roots_differ(dtype, places):
    """Ends of intervals are sought for 16 channels at once, and by steps where they are none of 16 numbers."""
    C = 53
    case = Case((20 * 20 // places, C, places), dtype)
    rng = np.random.default_rng(6)
    case.scale[:] = rng.choice([2, -2, 0, 1e-30, -1e-30, 1], C)
    case.shift[:] = case.scale * rng.choice([0, 0.5, -1e-8, 1000, 1e12], C) + rng.choice([0, 1], C)
    mean, inv_std = rng.choice([0, 0.5, 1000, 1e-20], C), rng.choice([1.0, 0.3, 0], C)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        root = mean - case.shift.astype(float) / (inv_std * case.scale)
        near = root[:, None] * (1 + rng.integers(-9, 10, case.shape) * np.finfo(dtype).eps)
        case.x = np.where(rng.random(case.shape) < 0.5, near, case.x + mean[:, None]).astype(dtype)
    y = np.empty_like(case.x)
    CPU.normalize_act(case.x, mean, inv_std, case.scale, case.shift, None, 0.0, y)
    recomputed, read = (
        case.backward(CPU, given, mean, inv_std, wanted=(0, 0, 0, 1))[3] for given in (None, y)
    )
    finite = np.isfinite(case.x) & np.isfinite(y)
    assert finite.mean() > 0.5
    np.testing.assert_array_equal(recomputed[finite], read[finite])


@pytest.mark.parametrize("shape", [(3, 2, 1), (2, 3, 5), (2, 2, 17), (5, 260, 1), (3, 65, 16)])
@pytest.mark.parametrize("slope", [None, 0.0, 0.25])
@pytest.mark.parametrize("residual", [False, True])
def test_gradient(ops, shape, slope, residual):
    """Against differences along random directions of x, scale, shift and the residual, in float64."""
    case = Case(shape, "float64", seed=3, residual=residual, slope=slope)
    y, mean, _, inv_std = case.forward(ops)
    gradients = case.backward(ops, y if residual else None, mean, inv_std)
    rng = np.random.default_rng(7)
    names = ["x", "scale", "shift", *(["residual"] if residual else [])]
    for name, gradient in zip(names, gradients, strict=False):
        value = getattr(case, name)
        direction = rng.standard_normal(value.shape)
        h = 1e-7
        plus, minus = (case.forward(ops, **{name: value + s * h * direction})[0] for s in (1, -1))
        # an element whose sign changes between the two has no derivative there
        smooth = (plus > 0) == (minus > 0)
        assert smooth.all() or slope is not None
        numeric = ((plus - minus) * case.dy)[smooth].sum() / (2 * h)
        if name in ("scale", "shift"):
            gradient = gradient - 1  # what was there before
        if smooth.all():
            np.testing.assert_allclose((gradient * direction).sum(), numeric, rtol=2e-6, atol=2e-6)


def test_gradient_with_frozen_statistics(ops):
    case = Case((3, 4, 17), "float64", slope=0.0)
    mean, inv_std = np.linspace(-0.2, 0.1, 4), np.linspace(0.5, 2, 4)
    dx, dscale, dshift, _ = case.backward(ops, None, mean, inv_std, frozen=True)
    rng = np.random.default_rng(7)

    def forward(x, scale, shift):
        y = np.empty_like(x)
        ops.normalize_act(x, mean, inv_std, scale, shift, None, 0.0, y)
        return y

    h = 1e-6
    arguments = [case.x, case.scale, case.shift]
    for i, gradient in enumerate((dx, dscale - 1, dshift - 1)):
        direction = rng.standard_normal(arguments[i].shape)
        plus, minus = (
            forward(*[v + s * h * direction if j == i else v for j, v in enumerate(arguments)])
            for s in (1, -1)
        )
        numeric = ((plus - minus) * case.dy).sum() / (2 * h)
        np.testing.assert_allclose((gradient * direction).sum(), numeric, rtol=1e-6)


@pytest.mark.parametrize("shape", [(8, 3, 500), (300, 5, 1), (40, 3, 9), (8, 300, 1), (8, 4, 49)])
def test_a_large_mean_costs_no_digits(ops, dtype, shape):
    """Mean 1e4 and deviation 1, against numbers of extended precision."""
    case = Case(shape, dtype, slope=None)
    case.x = (1e4 + np.random.default_rng(1).standard_normal(shape)).astype(dtype)
    exact = case.x.astype(np.longdouble)
    centred = exact - exact.mean(axis=(0, 2))[:, None]
    var = (centred**2).mean(axis=(0, 2))
    inv_std = 1 / np.sqrt(var + case.eps)
    xhat = centred * inv_std[:, None]
    expected = xhat * case.scale[:, None] + case.shift[:, None]
    y, mean, found_var, found_inv_std = case.forward(ops)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(found_var, var.astype(float), rtol=1e-11)
    size = np.abs(xhat * case.scale[:, None]) + np.abs(case.shift[:, None])
    # of 16 digits, the mean takes 4
    assert np.all(np.abs(y - expected) <= 4 * eps * size + 2e-11)
    dz = case.dy.astype(np.longdouble)
    mean_dz, mean_dz_xhat = dz.mean(axis=(0, 2)), (dz * xhat).mean(axis=(0, 2))
    dx = (dz - mean_dz[:, None] - xhat * mean_dz_xhat[:, None]) * (inv_std * case.scale)[:, None]
    found = case.backward(ops, None, mean, found_inv_std)
    np.testing.assert_allclose(
        found[0].astype(float), dx.astype(float), rtol=1e-6, atol=4 * eps * np.abs(dx).max() + 1e-11
    )
    count = shape[0] * shape[2]
    np.testing.assert_allclose(
        found[1], (1 + mean_dz_xhat * count).astype(float), rtol=eps, atol=1e-9 * count
    )


@pytest.mark.parametrize(
    "shape", [(2, 3, 3000), (16, 30, 49), (8, 3, 784), (1, 2, 4100), (300, 5, 1), (40, 3, 9)]
)
def test_statistics_are_as_exact_as_two_passes_with_any_mean(dtype, shape):
    """One pass sums deviations from an estimate of the mean, which must not show in the error."""
    rng = np.random.default_rng(2)
    for mean in (0, 0.01, 0.1, 1, 3, 4, 10, 100, 1e3, 1e4):
        x = (mean + rng.standard_normal(shape)).astype(dtype)
        _assert_exact_moments(x)


def test_statistics_are_as_exact_where_the_estimate_of_the_mean_is_far_off(dtype):
    """It is made of elements in the middle of the images: here these are much larger, or overflow when added."""
    for middle in (1e3, 1e30 if dtype == np.float32 else 1e150):
        x = np.random.default_rng(3).standard_normal((20, 5, 4100)).astype(dtype)
        x[:, 1, 2040:2060] += 50
        x[:16, 3, 2040:2060] = middle
        x[3, 3, 2040:2060] *= -15
        _assert_exact_moments(x)


def _assert_exact_moments(x):
    exact = x.astype(np.longdouble)
    found_mean, found_var = np.empty(x.shape[1]), np.empty(x.shape[1])
    CPU.moments(x, found_mean, found_var)
    exact_mean = exact.mean(axis=(0, 2))
    exact_var = ((exact - exact_mean[:, None]) ** 2).mean(axis=(0, 2))
    largest = np.abs(x).astype(float).max(axis=(0, 2))
    assert np.all(np.abs(found_mean - exact_mean) <= 1e-15 * np.abs(exact_mean) + 1e-17 * largest)
    np.testing.assert_allclose(found_var, exact_var.astype(float), rtol=4e-15)


def test_a_constant_channel(ops, dtype):
    """Its variance is exactly 0, its output the shift, its gradient 0 when dy is the same everywhere."""
    for shape in ((3, 2, 40), (7, 2, 1), (2, 300, 1)):
        case = Case(shape, dtype, slope=None)
        case.x[...] = 7.1
        case.dy[...] = 2
        y, mean, var, inv_std = case.forward(ops)
        np.testing.assert_allclose(mean, float(case.x[0, 0, 0]), rtol=1e-15)
        np.testing.assert_allclose(var, 0, atol=1e-28)
        np.testing.assert_allclose(y, np.broadcast_to(case.shift[:, None], shape), rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(
            case.backward(ops, None, mean, inv_std)[0], 0, atol=1e-3 if dtype == np.float32 else 1e-10
        )


def test_empty_tensors(ops, dtype):
    for shape in ((0, 3, 4), (2, 3, 0)):
        case = Case(shape, dtype)
        y, mean, var, inv_std = case.forward(ops)
        np.testing.assert_array_equal([mean, var], 0)
        np.testing.assert_allclose(inv_std, 1 / np.sqrt(1e-3))
        _, dscale, dshift, _ = case.backward(ops, None, mean, inv_std)
        np.testing.assert_array_equal([dscale, dshift], 1)
    case = Case((2, 3, 0), dtype, eps=0.0)
    np.testing.assert_array_equal(case.forward(ops)[3], np.inf)


def test_nan_stays(ops, dtype):
    case = Case((2, 3, 20), dtype)
    case.x[1, 1, 3] = np.nan
    y, mean, var, _ = case.forward(ops)
    assert np.isnan(y[:, 1]).all() and np.isnan([mean[1], var[1]]).all()
    assert not np.isnan(y[:, [0, 2]]).any()


def test_an_infinite_value_is_seen_once(dtype):
    """At the end of a row some elements are read twice and counted once."""
    case = Case((1, 2, 35), dtype, slope=None)
    case.x[0, 0, 25] = np.inf
    _, mean, _, _ = case.forward(CPU)
    assert mean[0] == np.inf and np.isfinite(mean[1])


@pytest.mark.parametrize("shape", [(2, 20, 4200), (300, 37, 1), (33, 40, 49), (40, 300, 2), (130, 2, 3)])
def test_all_levels_give_the_same_bits(dtype, shape, cpu_at_level):
    """In the ways that the one call of each op, which is compared for all ops, does not go."""
    digests = {}
    for name in level.available():
        cpu = cpu_at_level(name)
        for residual, slope, frozen in itertools.product((False, True), (None, 0.0, 0.25), (False, True)):
            case = Case(shape, dtype, residual=residual, slope=slope)
            y, mean, var, inv_std = case.forward(cpu)
            gradients = case.backward(cpu, y if residual else None, mean, inv_std, frozen)
            given = np.empty_like(y)
            vectors = mean + 0.5, inv_std * 2, case.scale, case.shift
            cpu.normalize_act(case.x, *vectors, case.residual, slope, given)
            found = [v.tobytes() for v in (y, mean, var, inv_std, *gradients, given)]
            assert digests.setdefault((residual, slope, frozen), found) == found, name
    assert len(digests) == 12


def test_dx_may_take_the_place_of_x_and_dresidual_that_of_dy(ops, dtype):
    for shape in ((3, 5, 700), (40, 300, 1)):
        case = Case(shape, dtype, residual=True)
        y, mean, _, inv_std = case.forward(ops)
        expected = case.backward(ops, y, mean, inv_std)
        x, dy = case.x.copy(), case.dy.copy()
        ops.batch_norm_backward(
            x, mean, inv_std, case.scale, case.shift, y, 0.0, False, dy, x, None, None, dy
        )
        np.testing.assert_array_equal(x, expected[0])
        np.testing.assert_array_equal(dy, expected[3])


def test_messages():
    x = np.ones((2, 3, 4), np.float32)
    v, d, y = np.ones(3, np.float32), np.ones(3), np.ones_like(x)
    with pytest.raises(
        ArgumentError,
        match=r"^batch_norm: scale must be a C-contiguous float32 array of shape \(3,\); found float64 array of "
        r"shape \(3,\)$",
    ):
        CPU.batch_norm(x, 1e-5, d, v, None, 0.0, y, d, d, d)
    with pytest.raises(
        ArgumentError, match=r"^batch_norm: residual must be .* of shape \(2, 3, 4\); found float32"
    ):
        CPU.batch_norm(x, 1e-5, v, v, x[:1], 0.0, y, d, d, d)
    with pytest.raises(
        ArgumentError,
        match=r"^batch_norm_backward: dx and dresidual must be two arrays; found one, of shape \(2, 3, 4\)$",
    ):
        CPU.batch_norm_backward(x, d, d, v, v, y, 0.0, False, x, y, None, None, y)
    with pytest.raises(
        ArgumentError, match=r"^normalize_act: mean must be a C-contiguous float64 array of shape \(3,\)"
    ):
        CPU.normalize_act(x, v, d, v, v, None, 0.0, y)
    with pytest.raises(
        ArgumentError, match=r"^fold_statistics: shift must be a C-contiguous float32 .*; found float64"
    ):
        CPU.fold_statistics(d, d, 1e-5, v, d, None, v.copy(), v.copy())


# more than 16 MB, so that results are written past the caches; odd sizes, so that lines are cut
LARGE = [(3, 7, 210001), (5, 33, 26803), (16, 420, 683), (16, 600, 499), (44003, 101, 1), (15005, 20, 15)]
# and sizes with which tiles of small maps are made of whole lines
LARGE += [(21, 1024, 208), (19, 4801, 49), (41000, 112, 1)]


def at_a_line(shape):
    """Return an array of NaN as blobs are: in memory that begins at a line of the cache."""
    a = caffebn.Blob(shape).data
    a[...] = np.nan
    return a


@pytest.mark.parametrize("shape", LARGE, ids=lambda s: "x".join(map(str, s)))
def test_large_results_are_those_written_in_place(shape):
    """What may not be written past the caches, as it lies where it was read, has the same bits."""
    case = Case(shape, "float32", slope=0.25)
    y, mean, _, inv_std = case.forward(CPU, y=at_a_line(shape))
    vectors = mean, inv_std, case.scale, case.shift
    again = case.x.copy()
    CPU.normalize_act(again, *vectors, None, 0.25, again)
    np.testing.assert_array_equal(again, y)
    for frozen in (False, True):
        dx, dy = at_a_line(shape), case.dy.copy()
        for to in (dx, dy):
            CPU.batch_norm_backward(case.x, *vectors, None, 0.25, frozen, dy, to, None, None, None)
        np.testing.assert_array_equal(dx, dy)


def test_large_results_end_where_they_end():
    """Nothing in front of a result or behind it is written."""
    count = 4_400_011
    memory = np.full(count + 64, 7, np.float32)
    x = np.random.default_rng(3).standard_normal((1, 1, count), np.float32)
    for offset in (0, 1, 15, 16, 33):
        memory[:] = 7
        y = memory[offset : offset + count].reshape(x.shape)
        CPU.normalize_act(x, np.zeros(1), np.ones(1), None, None, None, None, y)
        np.testing.assert_array_equal(y, x)
        assert (memory[:offset] == 7).all() and (memory[offset + count :] == 7).all()
