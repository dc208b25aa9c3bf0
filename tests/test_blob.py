"""Blobs and their memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffebn import ops
from caffebn.blob import MAX_AXES, Blob, Memory
from caffebn.errors import ArgumentError


def test_a_new_blob_holds_one_zero():
    blob = Blob()
    assert (blob.shape, blob.count, blob.dtype) == ((), 1, np.float32)
    assert blob.data == blob.diff == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_memory_is_made_at_the_first_look(dtype):
    blob = Blob((2, 3), dtype)
    assert not blob.has_diff
    assert blob.data.dtype == blob.dtype == dtype
    assert not blob.has_diff
    assert blob.diff.shape == (2, 3)
    assert blob.has_diff
    assert not blob.data.any()
    assert not np.shares_memory(blob.data, blob.diff)


def test_views_are_the_memory():
    blob = Blob((2, 3))
    view = blob.data
    view[1, 2] = 5
    assert blob.data is view
    assert blob.data[1, 2] == 5
    assert view.flags.c_contiguous


@given(st.integers(1, 200))
def test_memory_is_aligned_to_a_cache_line(count):
    blob = Blob((count,))
    assert blob.data.ctypes.data % 64 == blob.diff.ctypes.data % 64 == 0


def test_large_memories_begin_at_different_places_in_their_pages():
    blobs = [Blob((1 << 14,), dtype) for dtype in ("float32", "float64") for _ in range(10)]
    places = [array.ctypes.data % 4096 for blob in blobs for array in (blob.data, blob.diff)]
    assert len(set(places)) == len(places) and not any(place % 64 for place in places)


def test_reshape_keeps_values_that_fit():
    blob = Blob((2, 3))
    blob.data[...] = np.arange(6).reshape(2, 3)
    blob.reshape(4)
    assert blob.data.tolist() == [0, 1, 2, 3]
    blob.reshape(3, 2)
    assert blob.data.tolist() == [[0, 1], [2, 3], [4, 5]]
    blob.reshape(2, 4)
    assert not blob.data.any(), "new memory is zero"
    assert blob.data.shape == blob.diff.shape == (2, 4)


@given(st.lists(st.lists(st.integers(0, 4), max_size=5), min_size=1, max_size=5))
def test_any_reshapes(shapes):
    blob = Blob()
    for shape in shapes:
        blob.reshape(*shape)
        assert blob.shape == blob.data.shape == blob.diff.shape == tuple(shape)
        assert blob.count == blob.data.size


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ([1] * (MAX_AXES + 1), "a blob has at most 32 axes, found 33"),
        ([2, -1], "a blob's sizes cannot be negative, found 2x-1"),
    ],
)
def test_bad_shapes_are_refused(shape, said):
    with pytest.raises(ArgumentError) as caught:
        Blob(shape)
    assert caught.value.message == said


def test_32_axes_will_do():
    assert Blob([1] * MAX_AXES).data.ndim == 32


def test_shared_data_and_diff():
    a, b = Blob((2, 3)), Blob((3, 2))
    assert not a.shares_data_with(b)
    b.share_data(a)
    assert a.shares_data_with(b)
    assert not a.shares_diff_with(b)
    a.data[0, 1] = 7
    assert b.data[0, 1] == 7
    b.diff[...] = 1
    assert not a.diff.any()
    b.share_diff(a)
    assert a.shares_diff_with(b)
    assert not b.diff.any()


def test_sharing_lasts_when_the_memory_grows():
    a, b = Blob((2,)), Blob((2,))
    b.share_data(a)
    before = b.data
    a.reshape(50)
    b.reshape(50)
    a.data[...] = 3
    assert (b.data == 3).all()
    assert not np.shares_memory(before, b.data)


def test_only_equal_counts_are_shared():
    for share in (Blob.share_data, Blob.share_diff):
        with pytest.raises(ArgumentError) as caught:
            share(Blob((2, 3)), Blob((5,)))
        assert caught.value.message == "blobs that share memory need the same count, found 2x3 and 5"


def test_moving_into_a_flat_buffer():
    flat = [Memory(np.dtype("float32"), 10) for _ in range(2)]
    blob = Blob((2, 3))
    blob.data[...] = np.arange(6).reshape(2, 3)
    blob.move_to(*(Memory(np.dtype("float32"), 6, parent, 2) for parent in flat))
    assert flat[0].flat.tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 0, 0]
    blob.diff[...] = 1
    assert flat[1].flat.tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 0, 0]
    blob.data[0, 0] = 9
    assert flat[0].flat[2] == 9
    blob.reshape(6)
    with pytest.raises(ArgumentError, match="a parameter that holds 6 values .* cannot grow to 8"):
        blob.reshape(2, 4)


def test_moving_makes_no_memory_that_nobody_looked_at():
    parents = [Memory(np.dtype("float32"), 4) for _ in range(2)]
    Blob((4,)).move_to(*(Memory(np.dtype("float32"), 4, parent, 0) for parent in parents))
    assert not any(parent.allocated for parent in parents)


def test_old_names_of_axes():
    blob = Blob((2, 3, 4, 5))
    assert (blob.num, blob.channels, blob.height, blob.width) == (2, 3, 4, 5)
    blob = Blob((2, 3))
    assert (blob.num, blob.channels, blob.height, blob.width) == (2, 3, 1, 1)
    with pytest.raises(ArgumentError, match="exist for at most 4 axes, this blob is 1x2x3x4x5: use shape"):
        _ = Blob((1, 2, 3, 4, 5)).channels


def test_repr():
    assert repr(Blob((2, 3))) == "<Blob 2x3 float32>"
    assert repr(Blob((), "float64")) == "<Blob scalar float64>"


# -- two sides -------------------------------------------------------------------------------------------------


@pytest.mark.gpu
class TestOnGpu:
    """Values are brought to the side that asks, when the other was asked since."""

    @pytest.fixture(autouse=True)
    def _arrays(self):
        self.arrays = ops.arrays("gpu")

    @pytest.fixture(params=[False, True])
    def blob(self, request):
        return Blob((2, 3), page_locked=request.param)

    def test_new_memory_is_zero_on_both_sides(self, blob):
        assert not self.arrays.to_host(blob.gpu_data).any() and not blob.data.any()
        other = Blob((2, 3))
        assert not other.data.any() and not self.arrays.to_host(other.gpu_diff).any()

    def test_what_is_written_on_one_side_is_read_on_the_other(self, blob):
        blob.data[...] = [[1, 2, 3], [4, 5, 6]]
        on_gpu = blob.gpu_data
        assert on_gpu.shape == (2, 3) and on_gpu.dtype == np.float32
        np.testing.assert_array_equal(self.arrays.to_host(on_gpu), [[1, 2, 3], [4, 5, 6]])
        on_gpu[...] = 7
        assert (blob.data == 7).all()
        blob.data[0] = 8
        np.testing.assert_array_equal(self.arrays.to_host(blob.gpu_data), [[8, 8, 8], [7, 7, 7]])
        assert blob.gpu_data is on_gpu

    def test_nothing_is_copied_before_it_is_asked_for(self, blob, monkeypatch):
        blob.data[...] = 1
        blob.gpu_data[...] = 2
        for name in ("put", "put_pinned", "to_host"):
            monkeypatch.setattr(self.arrays, name, lambda *_: pytest.fail("copied"))
        for _ in range(3):
            blob.gpu_data[...] = 3
        monkeypatch.undo()
        assert (blob.data == 3).all()
        monkeypatch.setattr(self.arrays, "to_host", lambda *_: pytest.fail("copied"))
        assert (blob.data == 3).all()

    def test_views_and_shares_see_the_same_values(self, blob):
        other = Blob((6,))
        other.share_data(blob)
        blob.on("gpu").data[...] = 5
        assert (other.data == 5).all() and other.on("gpu").shares_data_with(blob)
        other.data[...] = 6
        assert (self.arrays.to_host(blob.gpu_data) == 6).all()
        third = Blob((3, 2)).on("gpu")
        third.share_data(other.on("gpu"))
        assert third.shares_data_with(blob) and third.on("cpu").shares_data_with(blob)

    def test_pieces_of_a_memory(self):
        whole = [Memory(np.dtype("float32"), 5, page_locked=True) for _ in range(2)]
        blob = Blob((3,))
        blob.data[...] = [1, 2, 3]
        blob.move_to(*(Memory(np.dtype("float32"), 3, m, 2) for m in whole))
        np.testing.assert_array_equal(self.arrays.to_host(whole[0].flat_on_gpu), [0, 0, 1, 2, 3])
        blob.gpu_data[...] = 9
        np.testing.assert_array_equal(whole[0].flat, [0, 0, 9, 9, 9])
        whole[0].flat_on_gpu[...] = 1
        whole[0].clear()
        assert not blob.data.any() and not self.arrays.to_host(blob.gpu_data).any()

    def test_reshape(self, blob):
        blob.gpu_data[...] = 4
        seen = blob.on("gpu")
        seen.reshape(3, 2)
        assert blob.shape == seen.shape == (3, 2) and (blob.data == 4).all()
        blob.reshape(4, 4)
        assert seen.data.shape == (4, 4) and not blob.data.any()
        assert not self.arrays.to_host(seen.data).any()

    def test_other_packages_get_it_without_a_copy(self, blob):
        at = self.arrays.address(blob.gpu_data)
        assert blob.__cuda_array_interface__["data"][0] == at
        assert blob.__cuda_array_interface__["shape"] == (2, 3)
        assert blob.__dlpack_device__()[0] == 2  # CUDA
        assert blob.__dlpack__() is not None
