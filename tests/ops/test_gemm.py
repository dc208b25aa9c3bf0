"""Products of matrices: definition, agreement, threads, refusals."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caffebn import ops
from caffebn.errors import ArgumentError
from caffebn.ops import level, threads
from caffebn.ops.cpu.checks import by_dtype

CPU, REFERENCE = ops.get("cpu"), ops.get("reference")
DTYPES = ("float32", "float64")
sizes = st.integers(0, 70)


def operands(m, n, k, dtype, trans_a=False, trans_b=False, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(k, m) if trans_a else (m, k)).astype(dtype)
    b = rng.normal(size=(n, k) if trans_b else (k, n)).astype(dtype)
    c = rng.normal(size=(m, n)).astype(dtype)
    return a, b, c


def tolerance(dtype, k):
    return (k + 1) * np.finfo(dtype).eps * 8


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, sizes, st.sampled_from(DTYPES), st.booleans(), st.booleans(), st.booleans())
def test_backends_agree(m, n, k, dtype, trans_a, trans_b, accumulate):
    a, b, c = operands(m, n, k, dtype, trans_a, trans_b)
    expected = c.astype("d")
    REFERENCE.gemm(a.astype("d"), b.astype("d"), expected, trans_a, trans_b, accumulate)
    CPU.gemm(a, b, c, trans_a, trans_b, accumulate)
    np.testing.assert_allclose(c, expected, rtol=0, atol=tolerance(dtype, k))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1000, 513), (64, 200, 300), (8, 48, 256), (9, 49, 257), (300, 1, 700)]
)
@pytest.mark.parametrize("trans", [(False, False), (False, True), (True, False), (True, True)])
def test_block_borders(dtype, shape, trans):
    a, b, c = operands(*shape, dtype, *trans)
    expected = (a.T if trans[0] else a).astype("d") @ (b.T if trans[1] else b)
    CPU.gemm(a, b, c, *trans)
    np.testing.assert_allclose(c, expected, rtol=0, atol=tolerance(dtype, shape[2]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [1, 2, 3, 4, 17, 33, 49, 50, 51, 52, 53, 65, 100, 196])
@pytest.mark.parametrize(("rows", "depth"), [(5, 7), (14, 16), (31, 401), (40, 800)])
def test_few_columns_at_the_end(columns, rows, depth, dtype):
    """Columns beyond whole vectors are summed in another way where they are few, and added to what is there."""
    a, b, c = operands(rows, columns, depth, dtype)
    expected = c + a.astype("d") @ b
    CPU.gemm(a, b, c, accumulate=True)
    np.testing.assert_allclose(c, expected, rtol=0, atol=tolerance(dtype, depth))


@settings(max_examples=60, deadline=None)
@given(
    sizes, sizes, sizes, st.sampled_from(DTYPES), st.booleans(), st.booleans(), st.booleans(),
    st.booleans(), st.sampled_from([None, 0.0, 0.25]),
)  # fmt: skip
def test_epilogue(m, n, k, dtype, trans_b, accumulate, has_bias, has_scale, slope):
    a, b, c = operands(m, n, k, dtype, trans_b=trans_b)
    bias, scale = operands(2, n, 1, dtype)[2] if n else np.zeros((2, 0), dtype)
    more = {
        "bias": bias.copy() if has_bias else None,
        "scale": scale.copy() if has_scale else None,
        "slope": slope,
    }
    expected = c.astype("d")
    REFERENCE.gemm(a.astype("d"), b.astype("d"), expected, False, trans_b, accumulate, **more)
    CPU.gemm(a, b, c, False, trans_b, accumulate, **more)
    np.testing.assert_allclose(c, expected, rtol=0, atol=3 * tolerance(dtype, k))


def test_threads_that_do_not_come_leave_nothing_undone():
    """OpenMP may give fewer threads than are asked for: those that are there do it all."""
    code = """
import numpy as np
from caffebn import ops
from caffebn.ops import threads
rng = np.random.default_rng(0)
for shape in ((300, 500, 400), (9, 2000, 900), (400, 500, 9), (20, 20, 5000)):
    a, b = (rng.normal(size=size).astype("f") for size in (shape[::2], shape[:0:-1]))
    results = []
    for n in (1, 2, 7, 40):
        threads.set(n)
        results.append(np.full(shape[:2], np.nan, "f"))
        ops.get("cpu").gemm(a, b, results[-1])
    assert all(np.array_equal(results[0], other) for other in results)
    np.testing.assert_allclose(results[0], a @ b, rtol=1e-4, atol=1e-3)
"""
    for limit in "1", "2", "3":
        subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"OMP_THREAD_LIMIT": limit})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(130, 70, 300), (3, 500, 400), (500, 3, 600), (300, 49, 800), (60, 1124, 90)]
)
def test_any_number_of_threads_gives_the_same_bits(dtype, shape):
    a, b, c = operands(*shape, dtype)
    results = []
    before = threads.get()
    try:
        for n in (1, 2, 3, 5):
            threads.set(n)
            out = c.copy()
            CPU.gemm(a, b, out, accumulate=True)
            results.append(out)
    finally:
        threads.set(before)
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


@pytest.mark.parametrize("name", level.available())
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_level(name, dtype):
    kernel = level.kernels("gemm", name)
    a, b, c = operands(37, 101, 300, dtype)
    scratch = np.empty(kernel.scratch_size(2, dtype == "float64"), dtype)
    strides = ((300, 1), (101, 1), (101, 1))
    by_dtype(kernel.gemm)[c.itemsize](
        a.ravel(), *strides[0], b.ravel(), *strides[1], c.reshape(-1), *strides[2], 37, 101, 300,
        None, None, False, False, 0.0, False, scratch, 2,
    )  # fmt: skip
    np.testing.assert_allclose(c, a.astype("d") @ b, rtol=0, atol=tolerance(dtype, 300))


def test_read_only_operands():
    a, b, c = operands(4, 5, 6, "float32")
    a.flags.writeable = b.flags.writeable = False
    CPU.gemm(a, b, c)
    np.testing.assert_allclose(c, a @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, b, c: (a[:, :-1].copy(), b, c), r"gemm: b must be .*shape \(5, 5\); found .*\(6, 5\)"),
        (lambda a, b, c: (a, b[::2], c), r"gemm: b must be .*\(6, 5\)"),
        (lambda a, b, c: (a.astype("d"), b, c), r"gemm: a must be .*float32"),
        (lambda a, b, c: (a, b, c[0]), "gemm: c must be .*2 axes"),
        (lambda a, b, c: (np.asfortranarray(a), b, c), "gemm: a must be .*not C-contiguous"),
        (lambda a, b, c: (a.tolist(), b, c), "gemm: a must be .*found list"),
    ],
)
def test_refusals(change, message):
    with pytest.raises(ArgumentError, match=message):
        CPU.gemm(*change(*operands(4, 5, 6, "float32")))
