"""Batches that are sent to a GPU ahead."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn import ops
from caffebn.data.sending import SendingMaker

pytestmark = pytest.mark.gpu

DATA = (
    'name: "d" type: "Data" top: "x" top: "label" '
    'data_param { source: "db" backend: LMDB batch_size: 3 prefetch: %d } %s'
)


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_the_batches_are_those_of_the_cpu(lmdb, net, prefetch):
    lmdb(7)
    cpu, gpu = (net(DATA % (prefetch, ""), device=device) for device in ("cpu", "gpu"))
    for _ in range(6):
        expected, found = cpu.forward(), gpu.forward()
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)


def test_values_of_the_host_are_those_of_the_device(lmdb, net):
    values = lmdb(7)
    made = net(DATA % (2, ""), device="gpu")
    made.run_forward()
    np.testing.assert_array_equal(ops.arrays("gpu").to_host(made.blobs["x"].gpu_data), values[:3])
    made.blobs["x"].data[...] = 7  # the user may change a batch
    assert (ops.arrays("gpu").to_host(made.blobs["x"].gpu_data) == 7).all()
    made.run_forward()
    np.testing.assert_array_equal(made.blobs["x"].data, values[3:6])
    made.layers[0].seek(1)
    np.testing.assert_array_equal(made.forward()["x"], values[1:4])


def test_memory_is_used_again():
    made: list[int] = []

    def make(position, old):
        made.append(len(old))
        shape = (2, 3) if position < 3 else (4, 3)
        return [
            old[0] if old and old[0].shape == shape else np.zeros(shape),
            np.full(2, position, np.float32),
        ]

    maker = SendingMaker(make)
    first = maker(0, [])
    second = maker(1, first)
    third = maker(3, second)
    assert made == [0, 2, 2] and second[0] is first[0]
    assert second.sendings[0] is first.sendings[0] and second.sendings[1] is first.sendings[1]
    assert third.sendings[0] is not first.sendings[0] and third.sendings[1] is first.sendings[1]


def test_the_device_is_that_of_the_thread_that_made_it():
    arrays = ops.arrays("gpu")
    if arrays.count() < 2:
        pytest.skip("there is one GPU")
    arrays.select(1)
    try:
        maker = SendingMaker(lambda position, old: [np.zeros(2)])
        arrays.select(0)
        maker(0, [])
        assert arrays.selected() == 1
    finally:
        arrays.select(0)


def test_an_error_names_the_layer(lmdb, net):
    lmdb(7)
    made = net(DATA % (1, "transform_param { crop_size: 3 }"), device="gpu")
    made.layers[0].source.batch = None
    with pytest.raises(Exception, match=r'layer "d" \(Data\): reading data failed'):
        made.forward()
