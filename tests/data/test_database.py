"""LMDB: reading around and around, writing whole or not at all; Datum."""

from __future__ import annotations

import os

import numpy as np
import pytest

from caffebn.data import datum_bytes, datum_values, read_database, write_database
from caffebn.data.database import Database
from caffebn.data.datum import Decoder, encoded_datum_bytes
from caffebn.errors import ArgumentError, FileError, FormatError
from caffebn.proto import Message, binary


def keyed(values):
    return ((b"%04d" % i, v) for i, v in enumerate(values))


def test_records_come_around_in_the_order_of_keys(here):
    records = [b"%d" % i for i in range(7)]
    assert write_database("db", reversed(list(keyed(records)))) == 7
    assert list(read_database("db")) == list(keyed(records))
    database = Database("db")
    assert database.records == 7
    for start, count in [(0, 3), (3, 3), (6, 3), (2, 20), (1, 2), (70, 1), (0, 7), (7, 7), (13, 1)]:
        assert database.read(start, count) == [records[i % 7] for i in range(start, start + count)]


def test_two_readers_of_one_database(here):
    write_database("db", keyed([b"a", b"b", b"c"]))
    one, two = Database("db"), Database(here / "db")
    assert one.read(0, 2) == [b"a", b"b"]
    assert two.read(2, 2) == [b"c", b"a"]
    assert one.read(2, 1) == [b"c"]


def test_the_map_grows(here, monkeypatch):
    monkeypatch.setattr("caffebn.data.database._FIRST_SIZE", 1 << 16)
    monkeypatch.setattr("caffebn.data.database._TRANSACTION", 7)
    records = [bytes([i]) * 5000 for i in range(100)]
    write_database("db", keyed(records))
    assert [value for _, value in read_database("db")] == records


def test_a_database_is_a_folder_that_others_may_read(here):
    write_database("db", keyed([b"x"]))
    assert sorted(os.listdir("db")) == ["data.mdb"]
    (here / "other").mkdir()
    assert os.stat("db").st_mode == os.stat("other").st_mode
    (here / "other").rmdir()
    assert os.listdir() == ["db"]


def test_nothing_is_left_when_writing_fails(here):
    def records():
        yield b"a", b"1"
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_database("db", records())
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([b"a", b"a"], "db: not written: the key b'a' comes twice"),
        ([b""], "a key of LMDB has 1 to 511 bytes, found keys of 0 to 0"),
        ([b"a" * 600], "found keys of 600 to 600"),
    ],
)
def test_wrong_keys(here, keys, said):
    with pytest.raises(FormatError, match=said):
        write_database("db", [(key, b"1") for key in keys])
    assert os.listdir() == []


def test_writing_refuses_what_exists(here):
    (here / "db").mkdir()
    with pytest.raises(FileError, match="db: exists already; choose another name, or delete it first"):
        write_database("db", keyed([b"1"]))
    with pytest.raises(FileError, match="no/db: cannot write here"):
        write_database("no/db", keyed([b"1"]))


def test_what_is_no_database(here):
    with pytest.raises(FileError, match="db: there is no such database"):
        Database("db")
    (here / "db").mkdir()
    with pytest.raises(FileError, match="db: no LMDB in this folder: it has no file data.mdb"):
        Database("db")
    (here / "db" / "CURRENT").write_text("MANIFEST-000001\n")
    with pytest.raises(
        FileError, match=r'db: this is a LevelDB.*write_database\("new_lmdb", plyvel.DB\("db"\)\)'
    ):
        Database("db")
    (here / "db" / "data.mdb").write_bytes(b"no" * 5000)
    with pytest.raises(FormatError, match="db: not an LMDB, or a damaged one"):
        Database("db")


def test_an_empty_database(here):
    write_database("db", [])
    with pytest.raises(FormatError, match="db: the database is empty"):
        Database("db")


def test_a_database_that_was_replaced(here):
    write_database("db", keyed([b"old"]))
    kept = Database("db")
    os.rename("db", "old")
    write_database("db", keyed([b"new"]))
    with pytest.raises(FileError, match="db: the database was replaced.*delete that net first"):
        Database("db")
    assert kept.read(0, 1) == [b"old"]
    del kept
    assert Database("db").read(0, 1) == [b"new"]


# -- Datum -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_datum_there_and_back(dtype):
    values = np.arange(12, dtype=dtype).reshape(3, 2, 2)
    found, label = datum_values(datum_bytes(values, 300))
    assert found.dtype == dtype and label == 300
    np.testing.assert_array_equal(found, values)


def test_a_datum_has_three_axes():
    with pytest.raises(
        ArgumentError, match=r"an array \(channels, height, width\), found one of shape \(2, 2\)"
    ):
        datum_bytes(np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize(
    ("datum", "said"),
    [
        (Message("Datum", channels=1, height=2, width=2, data=b"123"), "says 1 x 2 x 2 .* and holds 3 bytes"),
        (Message("Datum", channels=1, height=2, width=2, float_data=[1.0]), "holds 1 numbers"),
        (Message("Datum", label=3), "says 0 x 0 x 0 .* and holds 0 numbers"),
        (Message("Datum", data=b"\x89PNG..."), "is it a compressed picture without the mark encoded: true"),
        (Message("Datum", data=b"nothing", encoded=True), "not a picture that Pillow can read"),
    ],
)
def test_what_is_no_datum(datum, said):
    with pytest.raises(FormatError, match=f"the record: .*{said}"):
        datum_values(binary.dump(datum))


def test_bytes_that_are_no_message():
    with pytest.raises(FormatError, match="the record: byte"):
        datum_values(b"\xff\xff\xff\xff")


def name(i: int) -> str:
    return f"record {i}"


@pytest.mark.parametrize("kind", ["alike", "labels", "shapes", "floats", "order", "encoded", "first other"])
def test_the_decoder_gives_what_reading_each_gives(kind):
    from caffebn.data.picture import encode

    rng = np.random.default_rng(0)
    values = [rng.integers(0, 256, (3, 4, 5), np.uint8) for _ in range(8)]
    records = [datum_bytes(v, 7) for v in values]
    if kind == "labels":
        records = [datum_bytes(v, i * 100 - 300) for i, v in enumerate(values)]
    elif kind == "shapes":
        records[5] = datum_bytes(values[5][:, :, :4], 1)
    elif kind == "floats":
        records[2] = datum_bytes(values[2].astype(np.float32), 2)
    elif kind == "order":  # label and sizes behind the values
        records = [
            b"\x22" + bytes([60]) + v.tobytes() + b"\x28" + bytes([i]) + b"\x08\x03\x10\x04\x18\x05"
            for i, v in enumerate(values)
        ]
    elif kind == "encoded":
        records = [encoded_datum_bytes(encode(v, "png"), i) for i, v in enumerate(values)]
    elif kind == "first other":
        records[0] = datum_bytes(np.zeros((1, 2, 2), np.uint8), 4)
    decode = Decoder()
    for _ in range(2):
        for batch in (records, records[3:], records[::-1]):
            items, labels = decode(batch, name)
            expected = [datum_values(record) for record in batch]
            assert labels == [label for _, label in expected]
            assert [item.dtype for item in items] == [v.dtype for v, _ in expected]
            for item, (v, _) in zip(items, expected, strict=True):
                np.testing.assert_array_equal(item, v)
    assert isinstance(decode(records, name)[0], np.ndarray) == (kind in ("alike", "labels", "order"))


def test_the_decoder_names_the_record():
    good = datum_bytes(np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(FormatError, match="record 2: not a Datum that can be used"):
        Decoder()([good, good, b"\x28\x01"], name)
