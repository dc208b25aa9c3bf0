"""Files made to do harm: every one ends in an error of ours, in bounded time and memory."""

from __future__ import annotations

import time
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from caffebn.errors import CaffebnWarning, FormatError, ParseError
from caffebn.proto import (
    Message,
    binary,
    binary_reader,
    blob_array,
    make_blob,
    schema,
    text,
    text_reader,
    wire,
)

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

NET = Message("NetParameter", name="net", state={"phase": "TRAIN", "stage": ["é"]}, input_dim=[1, -1])
CONV = NET.add("layer", name="conv1", type="Convolution", bottom=["x"], top=["y"], loss_weight=[0.5])
CONV.mutable("convolution_param").num_output = 2**32 - 1
CONV.blobs.append(make_blob(np.arange(6, dtype=np.float32).reshape(2, 3)))
CONV.add("blobs", num=1, channels=1, height=1, width=1, double_data=[0.1])
NET.add("layer", name="clip", clip_param={"min": -1, "max": 1})
RAW = binary.dump(NET)
TEXT = text.dump(NET)


def read_binary(raw, type="NetParameter"):
    """Read and use a message from bytes that may be anything; None when they are refused."""
    try:
        message = binary.parse(raw, type)
        for layer in message.layer if type == "NetParameter" else ():
            for blob in layer.blobs:
                blob_array(blob)
        return message
    except FormatError as e:
        assert len(str(e)) < 1000
        return None


def read_text(source, type="NetParameter"):
    """Read a message from a text that may be anything; None when it is refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaffebnWarning)
        try:
            return text.parse(source, type)
        except ParseError as e:
            assert len(str(e)) < 1000
            assert e.where is not None
            return None


# -- binary


def test_the_small_net_is_well():
    assert read_binary(RAW) == NET
    assert read_text(TEXT) == NET


def test_every_prefix():
    whole = {0, len(RAW)}
    for end in range(len(RAW)):
        net = read_binary(RAW[:end])
        if net is not None:
            whole.add(end)
            assert binary.dump(net) == RAW[:end]
    # cut between two fields of the net it is still a net
    assert len(whole) == 1 + sum(len(v) if f.repeated else 1 for f, v in NET.set_fields())


@pytest.mark.parametrize("value", [0x00, 0x01, 0x7F, 0x80, 0xFF])
def test_every_byte_replaced(value):
    for at in range(len(RAW)):
        net = read_binary(RAW[:at] + bytes((value,)) + RAW[at + 1 :])
        if net is not None:
            assert read_binary(binary.dump(net)) == net


@pytest.mark.parametrize("length", [2**31 - 1, 2**31, 2**32, 2**63, 2**64 - 1])
@pytest.mark.parametrize("number", [1, 2, 4, 6, 8, 100, 152])
def test_lying_lengths(length, number):
    raw = wire.tag(number, wire.BYTES) + wire.varint(length) + bytes(100)
    with pytest.raises(FormatError, match=f"claims {length} bytes, but only 100 are left"):
        binary.parse(raw)


@pytest.mark.parametrize(
    "dims", [[2**63 - 1] * 3, [2**63 - 1, 0], [-(2**63)], [2**32] * 2, [0] * 40, [1] * 1000]
)
def test_huge_shapes(dims):
    net = Message("NetParameter")
    net.add("layer").add("blobs", shape={"dim": dims}, data=[1])
    assert binary.parse(binary.dump(net)) == net
    assert read_binary(binary.dump(net)) is None


def test_nesting_beyond_the_schema():
    # what the schema does not know is not descended into, however deep it is
    raw = b""
    for _ in range(3000):
        raw = wire.tag(152, wire.BYTES) + wire.varint(len(raw)) + raw
    assert binary.dump(read_binary(raw)) == raw


@QUICK
@given(raw=st.binary(max_size=200), type=st.sampled_from(sorted(schema.messages)))
@example(raw=b"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x7f", type="NetParameter")
def test_random_bytes(raw, type):
    message = read_binary(raw, type)
    if message is not None:
        assert read_binary(binary.dump(message), type) == message


@QUICK
@given(data=st.data())
def test_random_damage(messages, data):
    raw = bytearray(binary.dump(data.draw(messages())))
    for _ in range(data.draw(st.integers(1, 3))):
        if raw:
            at = data.draw(st.integers(0, len(raw) - 1))
            raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    message = read_binary(bytes(raw))
    if message is not None:
        assert read_binary(binary.dump(message)) == message
        assert read_text(text.dump(message)) == message


def _agree(raw):
    """Hold what we make of some bytes against what protobuf makes of them."""
    caffe_pb2 = pytest.importorskip("caffebn.proto.caffe_pb2")
    from google.protobuf.message import DecodeError

    try:
        theirs = caffe_pb2.NetParameter.FromString(raw)
    except DecodeError:
        theirs = None
    except UnicodeDecodeError:  # only the implementation in pure Python refuses such strings
        return
    try:
        ours = binary.parse(raw)
    except FormatError as e:
        # protobuf lets groups and missing required fields pass
        assert theirs is None or "a group" in str(e) or "needs the field" in str(e)
    else:
        assert theirs is not None
        again = binary.parse(theirs.SerializeToString())
        assert without_unknown(again) == without_unknown(ours)


def without_unknown(message):
    copy = message.copy()
    copy.unknown.clear()
    for field, value in copy.set_fields():
        if field.kind == "message":
            bare = [without_unknown(m) for m in (value if field.repeated else [value])]
            setattr(copy, field.name, bare if field.repeated else bare[0])
    return copy


@QUICK
@given(data=st.data())
def test_damage_means_the_same_to_protobuf(data):
    raw = bytearray(RAW)
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    _agree(bytes(raw))


@pytest.mark.parametrize("piece", [
    wire.tag(100, 2) + b"\x00",  # empty layers
    wire.tag(3, 2) + b"\x00",  # empty strings
    wire.tag(152, 0) + b"\x01",  # unknown numbers
    wire.tag(4, 2) + b"\x04\x01\x01\x01\x01",  # packed numbers
    wire.tag(8, 2) + b"\x02\x0a\x00",  # shapes
    wire.tag(6, 2) + b"\x00",  # the same message merged again and again
])  # fmt: skip
def test_small_things_in_great_number(piece, monkeypatch):
    monkeypatch.setattr(binary_reader, "MAX_FIELDS", 20_000)
    raw = piece * (4_000_000 // len(piece))
    start = time.process_time()
    tracemalloc.start()
    with pytest.raises(FormatError, match="more than 20000 values in one file"):
        binary.parse(raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - start < 5
    assert peak < 20_000 * 500


def test_arrays_in_small_pieces():
    pieces = b"\x2d1234\x355678" * 20_000  # data and diff by turns
    start = time.process_time()
    blob = binary.parse(pieces, "BlobProto")
    assert time.process_time() - start < 5
    assert len(blob.data) == len(blob.diff) == 20_000


# -- text


def test_every_prefix_of_a_text():
    for end in range(len(TEXT)):
        net = read_text(TEXT[:end])
        if net is not None:
            assert read_text(text.dump(net)) == net


@QUICK
@given(source=st.text(st.sampled_from("layer{}<>[]:;,- \n\"'\\#x0129.eEfinf_@é"), max_size=80))
def test_random_texts(source):
    net = read_text(source)
    if net is not None:
        assert read_text(text.dump(net)) == net


@QUICK
@given(data=st.data())
def test_random_damage_of_texts(data):
    source = TEXT
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(source) - 1))
        put = data.draw(st.text(st.sampled_from('{}<>[]:;,- \n"\\#xa09.'), max_size=2))
        source = source[:at] + put + source[at + data.draw(st.integers(0, 3)) :]
    net = read_text(source)
    if net is not None:
        assert read_text(text.dump(net)) == net


@pytest.mark.parametrize("source", [
    'name: "' + "a" * 2_000_000,
    'name: "' + "\\" * 2_000_001,
    'name: "' + "\\n" * 1_000_000,
    '"' * 2_000_000,
    "{" * 2_000_000,
    "layer " * 400_000,
    "a" * 2_000_000,
    "9" * 2_000_000,
    "x: " + "9" * 2_000_000,
    "x: -" + "0x" + "f" * 2_000_000,
    "layer { loss_weight: " + "1" * 2_000_000 + " }",
    "layer { phase: " + "T" * 2_000_000 + " }",
    "[" * 2_000_000,
    "x: [" * 500_000,
    "x: [{" * 400_000,
    "-" * 2_000_000,
    "\0" * 2_000_000,
    "." * 2_000_000,
])  # fmt: skip
def test_long_senseless_texts(source):
    start = time.process_time()
    with pytest.raises(ParseError) as error:
        text.parse(source)
    assert time.process_time() - start < 5
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("source", [
    " " * 2_000_000,
    "#" * 2_000_000,
    "#\n" * 50_000,
    'name: "' + "\\n" * 50_000 + '"',
    "name: " + '"" ' * 50_000,
])  # fmt: skip
def test_long_texts_without_much_sense(source):
    start = time.process_time()
    tracemalloc.start()
    text.parse(source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - start < 5
    assert peak < 100 * len(source)


def test_small_things_in_great_number_in_a_text(monkeypatch):
    monkeypatch.setattr(text_reader, "MAX_FIELDS", 20_000)
    for piece in ("layer{}", "input:''", "input_dim:1 ", "x{}", "x:1 ", "x:[1,1]", "layer[{},{}]"):
        start = time.process_time()
        assert read_text(piece * 200_000) is None
        assert time.process_time() - start < 5
