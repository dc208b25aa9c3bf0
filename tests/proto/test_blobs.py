from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from caffebn.errors import ArgumentError, FormatError
from caffebn.proto import Message, UnknownBinary, binary, blob_array, make_blob


@given(
    hnp.arrays(
        st.sampled_from(["f4", "f8"]),
        hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4),
        elements=st.floats(width=32),
    )
)
def test_arrays_survive_a_blob(array):
    blob = binary.parse(binary.dump(make_blob(array)), "BlobProto")
    back = blob_array(blob)
    assert back.shape == array.shape
    if array.size:
        assert back.dtype == array.dtype
    assert np.array_equal(back, array, equal_nan=True)


def test_make_blob_chooses_the_field_by_dtype():
    single = make_blob(np.ones((2, 3), np.float32))
    assert list(single.shape.dim) == [2, 3]
    assert (single.has("data"), single.has("double_data")) == (True, False)
    double = make_blob(np.ones(2))
    assert (double.has("data"), double.has("double_data")) == (False, True)


def test_make_blob_does_not_copy():
    array = np.ones((2, 3), np.float32)
    assert np.shares_memory(make_blob(array).data, array)
    assert np.array_equal(blob_array(make_blob(array.T)), array.T)


@pytest.mark.parametrize("dtype", ["int32", "float16", "bool"])
def test_make_blob_refuses_other_dtypes(dtype):
    with pytest.raises(ArgumentError, match=f"a blob holds float32 or float64, found an array of {dtype}"):
        make_blob(np.zeros(3, dtype))


def test_legacy_numbers_are_the_shape():
    blob = Message("BlobProto", num=1, channels=2, height=1, width=3, data=np.arange(6))
    assert blob_array(blob).shape == (1, 2, 1, 3)


def test_legacy_numbers_win_over_the_shape():
    blob = Message("BlobProto", num=1, channels=1, height=1, width=6, data=np.arange(6), shape={"dim": [6]})
    assert blob_array(blob).shape == (1, 1, 1, 6)
    blob.clear("width")
    with pytest.raises(FormatError, match="the shape 1 x 1 x 1 x 0 needs 0 values, the file has 6"):
        blob_array(blob)


def test_double_data_wins_over_data():
    blob = Message("BlobProto", shape={"dim": [1]}, data=[1, 2, 3], double_data=[7])
    assert blob_array(blob) == [7]


def test_a_blob_without_axes_has_one_value():
    assert blob_array(Message("BlobProto", data=[3])).shape == ()


@pytest.mark.parametrize(("dims", "count", "words"), [
    ([2, 3], 5, "the shape 2 x 3 needs 6 values, the file has 5"),
    ([2], 0, "the shape 2 needs 2 values, the file has 0"),
    ([], 2, "the shape () (one value) needs 1 values, the file has 2"),
    ([-1, -6], 6, "the shape -1 x -6 has a negative size"),
    ([2**62, 4, 1], 0, f"the shape {2**62} x 4 x 1 needs {2**64} values, the file has 0"),
    ([2**32, 2**32], 0, f"needs {2**64} values, the file has 0"),
    ([2**63 - 1, 2**63 - 1, 0], 0, "x 0 is too large for an array"),
    ([1] * 33, 1, "the shape has 33 axes, at most 32 are allowed"),
])  # fmt: skip
def test_wrong_shapes_are_refused(dims, count, words):
    blob = Message("BlobProto", shape={"dim": dims}, data=np.zeros(count))
    with pytest.raises(FormatError) as error:
        blob_array(blob, 'layer "conv1" blob 0')
    assert str(error.value).startswith('layer "conv1" blob 0: ')
    assert words in str(error.value)


@pytest.mark.parametrize(("type", "dtype", "expected"), [
    (b"\x00", "<f8", "float64"), (b"\x01", "<f4", "float32"), (b"\x02", "<f2", "float32"),
])  # fmt: skip
def test_raw_values_of_nvcaffe(type, dtype, expected):
    blob = Message("BlobProto", shape={"dim": [2, 2]})
    blob.unknown.append(UnknownBinary(10, 0, type))
    blob.unknown.append(UnknownBinary(12, 2, np.array([1, 2, 0.5, -1], dtype).tobytes()))
    array = blob_array(blob)
    assert array.dtype == expected
    assert array.tolist() == [[1, 2], [0.5, -1]]


@pytest.mark.parametrize(("type", "data"), [(b"\x01", b"12345"), (b"\x03", b"1234")])
def test_raw_values_that_cannot_be_read(type, data):
    blob = Message("BlobProto", shape={"dim": [1]})
    blob.unknown.append(UnknownBinary(10, 0, type))
    blob.unknown.append(UnknownBinary(12, 2, data))
    with pytest.raises(FormatError, match=r"expected raw values of the types 0 \(double\), 1 \(float\) or 2"):
        blob_array(blob)
    blob.data = [3]
    assert blob_array(blob) == [3]
