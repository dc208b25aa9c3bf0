"""MemoryData."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import ArgumentError, CaffebnWarning
from caffebn.net import Net
from tests.layers.nets import refusal

MEMORY = """
layer { name: "mem" type: "MemoryData" top: "data" top: "label"
        memory_data_param { batch_size: 2 channels: 3 height: 2 width: 1 } %s }
"""


def net(more: str = "", **options) -> Net:
    return Net.from_text(MEMORY % more, "TRAIN", **options)


def items(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(n * 6, dtype=np.float32).reshape(n, 3, 2, 1), np.arange(n, dtype=np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("label_axes", [1, 4])
def test_batches_wrap_around(dtype, label_axes, device):
    made = net(device=device, dtype=dtype)
    data, labels = items(4)
    made.set_input_arrays(data, labels if label_axes == 1 else labels[:, None, None, None])
    for begin in (0, 2, 0):
        made.forward()
        np.testing.assert_array_equal(made.blobs["data"].data, data[begin : begin + 2])
        assert made.blobs["label"].data.ravel().tolist() == [begin, begin + 1]
    made.set_input_arrays(-data, labels)
    made.forward()
    np.testing.assert_array_equal(
        made.blobs["data"].data, -data[:2], err_msg="other data starts at its beginning"
    )


def test_the_label_gets_four_axes_at_the_first_pass():
    made = net()
    assert made.blobs["data"].shape == (2, 3, 2, 1)
    assert made.blobs["label"].shape == (2,)
    made.set_input_arrays(*items(2))
    made.forward()
    assert made.blobs["label"].shape == (2, 1, 1, 1)


def test_read_only_arrays_will_do():
    data, labels = items(2)
    data.flags.writeable = labels.flags.writeable = False
    made = net()
    made.set_input_arrays(data, labels)
    made.forward()
    np.testing.assert_array_equal(made.blobs["data"].data, data)


def test_forward_without_data_is_refused():
    with pytest.raises(
        ArgumentError, match=r'layer "mem" \(MemoryData\): has no data yet: call net.set_input_arrays'
    ):
        net().forward()


@pytest.mark.parametrize(
    ("data", "labels", "said"),
    [
        (
            items(2)[0].astype(np.float64),
            items(2)[1],
            "data must be float32, n x 3x2x1, found float64, 2x3x2x1",
        ),
        (items(2)[0][:, :2], items(2)[1], "data must be float32, n x 3x2x1, found float32, 2x2x2x1"),
        (items(2)[0].reshape(2, 6), items(2)[1], "found float32, 2x6"),
        (items(3)[0], items(3)[1], "the number of items must be a multiple of the batch size 2, found 3"),
        (items(0)[0], items(0)[1], "a multiple of the batch size 2, found 0"),
        (items(4)[0], items(2)[1], "labels must be 4 or 4x1x1x1, one for each item, found 2"),
        (items(4)[0], items(4)[1][None], "one for each item, found 1x4"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(data, labels, said):
    with pytest.raises(ArgumentError) as caught:
        net().set_input_arrays(data, labels)
    assert caught.value.message.startswith('layer "mem" (MemoryData): ')
    assert said in caught.value.message


def test_a_transform_param_is_warned_about():
    made = net("transform_param { scale: 2 }")
    with pytest.warns(CaffebnWarning, match=r'layer "mem" \(MemoryData\): transform_param has no effect'):
        made.set_input_arrays(*items(2))
    made.forward()
    np.testing.assert_array_equal(made.blobs["data"].data, items(2)[0])


@pytest.mark.parametrize("field", ["batch_size", "channels", "height", "width"])
def test_missing_sizes_are_refused(field):
    text = MEMORY % ""
    start = text.index(field)
    text = text[:start] + text[start + len(field) + 3 :]
    assert (
        refusal(text) == f'layer "mem" (MemoryData): memory_data_param must give {field}, a positive number'
    )


def test_counts_are_refused():
    text = 'layer { name: "mem" type: "MemoryData" top: "data" }'
    assert refusal(text) == 'layer "mem" (MemoryData): needs 2 tops, found 1'


def test_its_place_can_be_kept():
    made = net()
    made.set_input_arrays(*items(6))
    made.forward()
    layer = made.layers[0]
    assert layer.get_state() == {"position": 2}
    twin = net()
    twin.set_input_arrays(*items(6))
    twin.layers[0].set_state({"position": 4})
    twin.forward()
    assert twin.blobs["label"].data.ravel().tolist() == [4, 5]
    assert twin.layers[0].get_state() == {"position": 0}
    net().layers[0].set_state({"position": 0})


@pytest.mark.parametrize("state", [{}, {"position": 6}, {"position": -2}, {"position": 3}, {"position": "2"}])
def test_a_place_that_is_not_there(state):
    made = net()
    made.set_input_arrays(*items(6))
    with pytest.raises(
        ArgumentError, match=r'"mem" \(MemoryData\): cannot go on at item .* of 6: give it the same arrays'
    ):
        made.layers[0].set_state(state)
    assert made.layers[0].get_state() == {"position": 0}
