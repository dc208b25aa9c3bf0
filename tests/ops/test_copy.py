"""The family copy: blocks of columns."""

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
