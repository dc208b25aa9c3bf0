"""Data: batches out of an LMDB; and what all data layers have in common."""

from __future__ import annotations

import gc
import json
import threading
import time
import weakref
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import caffebn
from caffebn.data import datum_bytes, write_database
from caffebn.data.datum import encoded_datum_bytes
from caffebn.errors import (
    ArgumentError,
    CaffebnError,
    CaffebnWarning,
    FileError,
    FormatError,
    MissingPackageError,
    NetError,
)
from caffebn.proto import binary, make_blob

DATA = (
    'name: "d" type: "Data" top: "data" top: "label" '
    'data_param {{ source: "db" batch_size: {} backend: LMDB {} }} {}'
)


def text(batch_size: int = 3, param: str = "", more: str = "") -> str:
    stated = DATA.replace('source: "db" ', "") if "source" in param else DATA
    return stated.format(batch_size, param, more)


def run(net, passes: int) -> tuple[np.ndarray, list[int]]:
    """Run forward and return all data and labels."""
    data, labels = [], []
    for _ in range(passes):
        net.forward()
        data.append(net.blobs["data"].data.copy())
        labels += net.blobs["label"].data.astype(int).tolist()
    return np.concatenate(data), labels


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 10, 20])
def test_batches_run_over_the_end(lmdb, net, batch_size, dtype):
    values = lmdb(7)
    made = net(text(batch_size), dtype=dtype)
    assert made.blobs["data"].shape == (batch_size, 3, 6, 5)
    assert made.blobs["label"].shape == (batch_size,)
    data, labels = run(made, 5)
    assert labels == [i % 7 for i in range(5 * batch_size)]
    np.testing.assert_array_equal(data, values[labels])
    assert made.layer_dict["d"].position == 5 * batch_size


def test_one_top_gives_no_labels(lmdb, net):
    lmdb()
    made = net(text().replace('top: "label"', ""))
    assert list(made.forward()) == ["data"]


def test_two_nets_read_one_database(lmdb, net):
    values = lmdb()
    one, two = net(text()), net(text(2), "TEST")
    run(one, 2)
    np.testing.assert_array_equal(run(two, 1)[0], values[:2])


def test_the_transform(lmdb, net):
    values = lmdb(4, (3, 6, 6))
    more = "transform_param { crop_size: 4 scale: 0.5 mean_value: 10 mean_value: 20 mean_value: 30 }"
    data, _ = run(net(text(4, more=more), "TEST"), 1)
    mean = np.array([10, 20, 30])[:, None, None]
    np.testing.assert_array_equal(data, (values[:, :, 1:5, 1:5] - mean) * 0.5)


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_a_seed_makes_it_repeatable(lmdb, net, prefetch):
    lmdb(5, (1, 8, 8))
    more = "transform_param { mirror: true crop_size: 5 }"
    results = []
    for seed in (1, 1, 2):
        caffebn.set_random_seed(seed)
        made = net(text(4, f"prefetch: {prefetch} rand_skip: 1000", more))
        results.append(run(made, 6))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    assert not np.array_equal(results[0][0], results[2][0])


def test_prefetching_changes_no_bit(lmdb, net):
    lmdb(5, (1, 8, 8))
    results = []
    for prefetch in (0, 3):
        caffebn.set_random_seed(5)
        made = net(text(4, f"prefetch: {prefetch}", "transform_param { mirror: true crop_size: 5 }"))
        results.append(run(made, 6)[0])
    np.testing.assert_array_equal(*results)


def test_rand_skip_starts_below_it(lmdb, net):
    lmdb(7)
    starts = set()
    for seed in range(60):
        caffebn.set_random_seed(seed)
        starts.add(net(text(1, "rand_skip: 4")).layer_dict["d"].position)
    assert starts == {0, 1, 2, 3}


# -- position and state ------------------------------------------------------------------------------


def test_it_goes_on_where_it_was(lmdb, net):
    lmdb(7, (1, 8, 8))
    more = "transform_param { mirror: true crop_size: 5 }"
    caffebn.set_random_seed(1)
    first = net(text(3, more=more))
    run(first, 4)
    state = json.loads(json.dumps(first.layer_dict["d"].get_state()))
    expected = run(first, 5)
    caffebn.set_random_seed(2)
    second = net(text(3, more=more))
    run(second, 1)
    second.layer_dict["d"].set_state(state)
    found = run(second, 5)
    np.testing.assert_array_equal(found[0], expected[0])
    assert found[1] == expected[1]


def test_seek(lmdb, net):
    lmdb(7)
    made = net(text(3))
    run(made, 2)
    made.layer_dict["d"].seek(5)
    assert run(made, 2)[1] == [5, 6, 0, 1, 2, 3]
    assert made.layer_dict["d"].position == 11
    with pytest.raises(ArgumentError, match=r'layer "d" \(Data\): a position is 0 or more, found -1'):
        made.layer_dict["d"].seek(-1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"items": 9}, "cannot go on at item 0: there were 9 items then, and there are 7 now"),
        ({"position": -1}, "not a state of a data layer"),
        ({"seed": "x"}, "not a state of a data layer"),
        ({"seed": None}, "not a state of a data layer"),
    ],
)
def test_states_that_do_not_fit(lmdb, net, change, said):
    lmdb(7)
    layer = net(text()).layer_dict["d"]
    with pytest.raises(ArgumentError, match=rf'layer "d" \(Data\): {said}'):
        layer.set_state(layer.get_state() | change)


# -- threads -----------------------------------------------------------------------------------------


def data_threads() -> int:
    return sum(thread.name == "caffebn data" for thread in threading.enumerate())


def wait_for_data_threads_to_end() -> int:
    """Collect what nobody needs, those of other tests included, and say how many threads are left."""
    gc.collect()
    end = time.monotonic() + 5
    while data_threads() and time.monotonic() < end:
        time.sleep(0.01)
    return data_threads()


def test_a_net_can_be_forgotten(lmdb, net):
    lmdb()
    assert wait_for_data_threads_to_end() == 0
    made = net(text())
    assert data_threads() == 0
    made.forward()
    assert data_threads() == 1
    gone = weakref.ref(made)
    del made
    assert wait_for_data_threads_to_end() == 0
    assert gone() is None


def test_a_script_ends(lmdb, net, python):
    lmdb()
    code = f"""
import caffebn
net = caffebn.Net.from_text('layer {{ {text()} }}', caffebn.TRAIN)
net.forward()
print(net.blobs['label'].data)
"""
    done = python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0. 1. 2.]\n", "")


def test_many_nets_at_once(lmdb, net):
    values = lmdb(7)
    nets = [net(text(3)) for _ in range(8)]
    for _ in range(5):
        for made in nets:
            made.forward()
    for made in nets:
        labels = made.blobs["label"].data.astype(int)
        assert labels.tolist() == [5, 6, 0]
        np.testing.assert_array_equal(made.blobs["data"].data, values[labels])


# -- compressed pictures -----------------------------------------------------------------------------


def compressed(mode: str, n: int = 3) -> list[np.ndarray]:
    """Write a database of PNG pictures of that mode, return their pixels as Pillow gives them."""
    rng = np.random.default_rng(0)
    channels = len(mode)
    pixels = [rng.integers(0, 256, (4, 5, channels) if channels > 1 else (4, 5), np.uint8) for _ in range(n)]
    records = []
    for i, values in enumerate(pixels):
        file = BytesIO()
        Image.fromarray(values, mode).save(file, "PNG")
        records.append((b"%d" % i, encoded_datum_bytes(file.getvalue(), i)))
    write_database("db", records)
    return pixels


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("mode", "more", "channels"),
    [
        ("RGB", "", 3),
        ("L", "", 1),
        ("RGBA", "", 4),
        ("L", "transform_param { force_color: true }", 3),
        ("RGB", "transform_param { force_gray: true }", 1),
        ("RGBA", "transform_param { force_color: true }", 3),
    ],
)
def test_compressed_pictures(here, net, mode, more, channels):
    pixels = np.array(compressed(mode))
    data, labels = run(net(text(3, more=more)), 1)
    assert data.shape == (3, channels, 4, 5) and labels == [0, 1, 2]
    if channels == 1 and mode == "RGB":
        np.testing.assert_allclose(data[:, 0], pixels @ [0.299, 0.587, 0.114], atol=1)
    elif mode == "L":
        np.testing.assert_array_equal(data, np.repeat(pixels[:, None], channels, 1))
    else:
        np.testing.assert_array_equal(data[:, :3], pixels[..., 2::-1].transpose(0, 3, 1, 2))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_force_encoded_color(here, net):
    compressed("L")
    assert run(net(text(3, "force_encoded_color: true")), 1)[0].shape == (3, 3, 4, 5)


def test_forcing_plain_records_is_warned_about(lmdb, net):
    lmdb()
    with pytest.warns(CaffebnWarning, match=r'layer "d" \(Data\): the records of "db" are not compressed'):
        net(text(more="transform_param { force_gray: true }"))


def test_records_of_floats(here, net):
    values = np.random.default_rng(0).normal(size=(2, 1, 3, 3)).astype(np.float32)
    write_database("db", ((b"%d" % i, datum_bytes(v, -i)) for i, v in enumerate(values)))
    data, labels = run(net(text(2)), 1)
    np.testing.assert_array_equal(data, values)
    assert labels == [0, -1]


def test_sizes_may_change_from_batch_to_batch(here, net):
    values = [np.full((1, n, n), n, np.uint8) for n in (2, 3, 4)]
    write_database("db", ((b"%d" % i, datum_bytes(v, i)) for i, v in enumerate(values)))
    made = net(text(1))
    for v in values:
        made.forward()
        np.testing.assert_array_equal(made.blobs["data"].data, v[None])


# -- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch_size", "param", "more", "error", "said"),
    [
        (0, "", "", NetError, "data_param must give batch_size, a positive number"),
        (3, 'source: ""', "", NetError, "data_param must give source, the folder of an LMDB"),
        (3, 'source: "no"', "", FileError, "no: there is no such database"),
        (3, "LEVELDB", "", NetError, '"db" is an LMDB: write backend: LMDB'),
        (3, "", "transform_param { crop_size: 6 }", NetError, "crop_size 6 is larger than the record, 6 x 5"),
        (
            3,
            "",
            "transform_param { mean_value: 1 mean_value: 2 }",
            NetError,
            "once for each of the 3 channels",
        ),
        (3, "", 'transform_param { mean_file: "no" }', FileError, "no: cannot be read"),
        (
            3,
            "",
            'transform_param { mean_file: "m" }',
            NetError,
            'the mean in "m" is 3x2x2, the record is 3x6x5',
        ),
        (
            3,
            "",
            'transform_param { mean_file: "m" mean_value: 1 }',
            NetError,
            "either mean_file or mean_value",
        ),
    ],
)
def test_refusals(lmdb, net, batch_size, param, more, error, said):
    lmdb()
    binary.write("m", make_blob(np.zeros((1, 3, 2, 2), np.float32)))
    definition = text(batch_size, param, more)
    if param == "LEVELDB":
        definition = text(batch_size).replace("backend: LMDB", "")
    with pytest.raises(error) as caught:
        net(definition)
    assert caught.value.message.startswith('layer "d" (Data): ')
    assert said in caught.value.message
    assert caught.value.where is not None


def test_an_empty_database(here, net):
    write_database("db", [])
    with pytest.raises(FormatError, match=r'layer "d" \(Data\): db: the database is empty'):
        net(text())


def test_a_wrong_record_is_named_in_its_pass(here, net):
    good = datum_bytes(np.zeros((1, 2, 2), np.uint8))
    write_database("db", [(b"0", good), (b"1", good), (b"2", b"\x28\x01"), (b"3", good)])
    made = net(text(1))
    made.forward()
    made.forward()
    for _ in range(2):
        with pytest.raises(FormatError, match=r'layer "d" \(Data\): db, record 2 of 4: not a Datum'):
            made.forward()
    made.layer_dict["d"].seek(3)
    made.forward()


def test_mixed_sizes_in_a_batch(here, net):
    records = [datum_bytes(np.zeros((1, n, 2), np.uint8)) for n in (2, 2, 3)]
    write_database("db", ((b"%d" % i, r) for i, r in enumerate(records)))
    made = net(text(2))
    made.forward()
    with pytest.raises(NetError, match=r'layer "d" \(Data\): the records of one batch must have one shape'):
        made.forward()


def test_other_errors_in_the_thread_name_the_layer(lmdb, net, monkeypatch):
    lmdb()
    made = net(text())
    monkeypatch.setattr(made.layer_dict["d"].source, "batch", lambda *_: 1 / 0)
    made.layer_dict["d"].seek(0)
    with pytest.raises(CaffebnError, match=r'layer "d" \(Data\): reading data failed: ZeroDivisionError'):
        made.forward()


@pytest.mark.parametrize("package", ["lmdb", "PIL"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_missing_packages(here, net, monkeypatch, package):
    compressed("RGB")
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingPackageError, match=r'layer "d" \(Data\): .*pip install "caffebn\[data\]"'):
        net(text())
