"""The family copy: blocks of columns, blocks of any number of axes, rows by their indices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import caffebn.ops
from caffebn.errors import ArgumentError

CPU = caffebn.ops.get("cpu")


def test_in_closed_form(ops, dtype):
    wide = np.arange(8, dtype=dtype).reshape(2, 4)
    block = np.array([[10, 20], [30, 40]], dtype)
    ops.add_from(wide, 1, block)
    np.testing.assert_array_equal(block, [[11, 22], [35, 46]])
    ops.copy_into(block, wide, 2)
    np.testing.assert_array_equal(wide, [[0, 1, 11, 22], [4, 5, 35, 46]])
    ops.copy_from(wide, 0, block)
    np.testing.assert_array_equal(block, [[0, 1], [4, 5]])


@settings(deadline=None, max_examples=15)
@given(
    outer=st.integers(0, 4),
    widths=st.lists(st.one_of(st.integers(0, 9), st.just(16384), st.just(16500)), min_size=1, max_size=4),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_joining_and_cutting(outer, widths, dtype):
    """Blocks that were joined are those that are cut out again, and adding them to zeros gives them too."""
    rng = np.random.default_rng(0)
    blocks = [rng.standard_normal((outer, n)).astype(dtype) for n in widths]
    offsets = np.cumsum([0, *widths])
    wide = np.full((outer, offsets[-1]), np.nan, dtype)
    for block, offset in zip(blocks, offsets, strict=False):
        CPU.copy_into(block, wide, int(offset))
    np.testing.assert_array_equal(wide, np.concatenate(blocks, axis=1))
    for block, offset in zip(blocks, offsets, strict=False):
        cut, added = np.full_like(block, np.nan), np.zeros_like(block)
        CPU.copy_from(wide, int(offset), cut)
        CPU.add_from(wide, int(offset), added)
        np.testing.assert_array_equal(cut, block)
        np.testing.assert_array_equal(added, block)


@pytest.mark.parametrize("offset", [-1, 3])
def test_a_block_must_lie_within_the_whole(offset):
    wide, block = np.zeros((2, 5), np.float32), np.zeros((2, 3), np.float32)
    text = rf": {{}} has 3 columns, which at offset {offset} do not lie within the 5 columns of {{}}$"
    with pytest.raises(ArgumentError, match="^copy_into" + text.format("src", "dst")):
        CPU.copy_into(block, wide, offset)
    with pytest.raises(ArgumentError, match="^copy_from" + text.format("dst", "src")):
        CPU.copy_from(wide, offset, block)
    with pytest.raises(ArgumentError, match="^add_from" + text.format("dst", "src")):
        CPU.add_from(wide, offset, block)


def test_messages():
    block = np.zeros((2, 3), np.float32)
    with pytest.raises(
        ArgumentError,
        match=r"^copy_into: dst must be a writable .* of shape \(2, 5\); found float32 array of shape \(3, 5\)$",
    ):
        CPU.copy_into(block, np.zeros((3, 5), np.float32), 0)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_blocks(data):
    """A block is what NumPy's slices say, and pasting it back changes nothing else."""
    shape = data.draw(st.lists(st.integers(0, 5), max_size=5), label="shape")
    offset = tuple(data.draw(st.integers(0, n)) for n in shape)
    size = tuple(data.draw(st.integers(0, n - o)) for n, o in zip(shape, offset, strict=True))
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    whole = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    where = tuple(slice(o, o + n) for o, n in zip(offset, size, strict=True))
    block = np.full(size, np.nan, dtype)
    CPU.copy_block(whole, offset, block)
    np.testing.assert_array_equal(block, whole[where])
    pasted, expected = whole.copy(), whole.copy()
    CPU.paste_block(np.asarray(-block), pasted, offset)
    expected[where] *= -1
    np.testing.assert_array_equal(pasted, expected)


def test_rows(ops, dtype):
    x = np.array([2, 0.9, -0.5, 2], dtype)
    index = np.full(4, -7, np.int32)
    ops.row_indices(x, 3, index)
    assert index.tolist() == [2, 0, 0, 2]
    table = np.array([[1, 2], [3, 4], [5, 6]], dtype)
    picked = np.empty((4, 2), dtype)
    ops.gather_rows(table, index, picked)
    assert picked.tolist() == [[5, 6], [1, 2], [1, 2], [5, 6]]
    ops.scatter_add_rows(picked, index, table)
    assert table.tolist() == [[3, 6], [3, 4], [15, 18]]


@settings(deadline=None, max_examples=20)
@given(rows=st.integers(1, 5), picks=st.integers(0, 9), columns=st.sampled_from([0, 1, 255, 256, 700]))
def test_adding_is_the_transposed_of_picking(rows, picks, columns):
    """<y, gather(x)> = <scatter(y), x>."""
    rng = np.random.default_rng(0)
    index = rng.integers(0, rows, picks).astype(np.int32)
    x, y = rng.integers(-9, 9, (rows, columns)) * 1.0, rng.integers(-9, 9, (picks, columns)) * 1.0
    picked, added = np.empty((picks, columns)), np.zeros((rows, columns))
    CPU.gather_rows(x, index, picked)
    CPU.scatter_add_rows(y, index, added)
    assert np.sum(picked * y) == np.sum(added * x)


@pytest.mark.parametrize(("bad", "said"), [(3, "3"), (-1, "-1"), (np.nan, "nan"), (1e30, "1e+30")])
def test_an_index_of_no_row(ops, dtype, bad, said):
    index = np.empty(3, np.int32)
    with pytest.raises(ArgumentError) as e:
        ops.row_indices(np.array([0, 2, bad], dtype), 3, index)
    assert str(e.value) == f"row_indices: expected indices from 0 to 2, found {said} at index 2"
    with pytest.raises(
        ArgumentError, match="row_indices: there is nothing to choose from, found the index 0"
    ):
        ops.row_indices(np.zeros(3, dtype), 0, index)


def test_messages_of_rows_and_blocks():
    x = np.ones((3, 4), np.float32)
    with pytest.raises(
        ArgumentError, match=r"^gather_rows: index must hold rows of src, from 0 to 2; found -1 to 1$"
    ):
        CPU.gather_rows(x, np.array([1, -1], np.int32), np.ones((2, 4), np.float32))
    with pytest.raises(
        ArgumentError, match=r"^scatter_add_rows: index must hold rows of dst, from 0 to 2; found 0 to 3$"
    ):
        CPU.scatter_add_rows(np.ones((2, 4), np.float32), np.array([0, 3], np.int32), x)
    for offset in ((2, 0), (0, -1), (0,)):
        with pytest.raises(ArgumentError) as e:
            CPU.copy_block(x, offset, np.ones((2, 4), np.float32))
        assert str(e.value) == (
            f"copy_block: dst, of shape (2, 4), does not lie at {offset} within src, of shape (3, 4)"
        )
