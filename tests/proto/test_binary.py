from __future__ import annotations

import gc
import os
import struct
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caffebn.errors import ArgumentError, CaffebnWarning, FileError, FormatError
from caffebn.proto import Message, UnknownBinary, UnknownText, binary, binary_reader, schema, text, wire


def field(number, wire_type, payload=b""):
    counted = wire.varint(len(payload)) if wire_type == wire.BYTES else b""
    return wire.tag(number, wire_type) + counted + payload


def floats(*values):
    return struct.pack(f"<{len(values)}f", *values)


@pytest.fixture(scope="module")
def snapshots(golden):
    """A caffemodel and a solverstate that Caffe wrote."""
    with np.load(golden / "solvers" / "Adam__default.npz") as file:
        return {
            "NetParameter": file["file_snap_iter_5.caffemodel"].tobytes(),
            "SolverState": file["file_snap_iter_5.solverstate"].tobytes(),
        }


# -- files of Caffe


def test_a_caffemodel_of_caffe(snapshots):
    net = binary.parse(snapshots["NetParameter"])
    blobs = {layer.name: [list(blob.shape.dim) for blob in layer.blobs] for layer in net.layer if layer.blobs}
    assert blobs == {"conv": [[3, 2, 3, 3]], "bn": [[3], [3], [1]], "scale": [[3], [3]], "ip": [[3, 60], [3]]}
    bn = next(layer for layer in net.layer if layer.name == "bn")
    assert (bn.type, bn.phase) == ("BatchNorm", "TRAIN")
    assert [param.lr_mult for param in bn.param] == [0, 0, 0]
    assert not bn.unknown


def test_a_solverstate_of_caffe(snapshots):
    state = binary.parse(snapshots["SolverState"], "SolverState")
    assert (state.iter, state.current_step, len(state.history)) == (5, 0, 16)
    assert state.learned_net.endswith("_iter_5.caffemodel")


@pytest.mark.parametrize("type", ["NetParameter", "SolverState"])
def test_what_caffe_wrote_is_written_back_to_the_byte(snapshots, type):
    message = binary.parse(snapshots[type], type)
    assert binary.dump(message) == snapshots[type]
    assert text.parse(text.dump(message), type) == message


# -- values


@pytest.mark.parametrize(("payload", "value"), [
    (b"\x00", 0), (b"\x05", 5), (b"\xff\xff\xff\xff\x07", 2**31 - 1), (b"\xff" * 9 + b"\x01", -1),
    (b"\x80\x80\x80\x80\xf8\xff\xff\xff\xff\x01", -(2**31)), (b"\x85\x80\x00", 5),
    (b"\x85\x80\x80\x80\x10", 5),  # bits beyond the 32nd are dropped
])  # fmt: skip
def test_int32(payload, value):
    assert binary.parse(b"\x08" + payload, "BlobProto").num == value


def test_other_scalars():
    solver = binary.parse(
        field(20, 0, b"\xff" * 9 + b"\x01")
        + field(5, 5, floats(0.5))
        + field(17, 0, b"\x00")
        + field(24, 2, b"\xc3\xa9")
        + field(13, 0, b"\x07")
        + field(16, 0, b"\x02"),
        "SolverParameter",
    )
    assert (solver.random_seed, solver.base_lr, solver.solver_mode) == (-1, 0.5, "CPU")
    assert (solver.net, solver.stepsize, solver.snapshot_diff) == ("é", 7, True)
    assert binary.parse(b"\x08\xff\xff\xff\xff\x0f", "ConvolutionParameter").num_output == 2**32 - 1
    assert binary.parse(field(4, 2, b"\x00\xff"), "Datum").data == b"\x00\xff"


def test_the_last_scalar_wins_and_messages_are_merged():
    first = field(104, 2, field(1, 0, b"\x03"))
    second = field(104, 2, field(2, 0, b"\x05"))
    layer = binary.parse(field(1, 2, b"a") + first + field(1, 2, b"b") + second, "LayerParameter")
    assert layer.name == "b"
    assert layer.concat_param == Message("ConcatParameter", concat_dim=3, axis=5)


@pytest.mark.parametrize("payload", [
    field(4, 0, b"\x01") + field(4, 0, b"\x02") + field(4, 0, b"\x03"),
    field(4, 2, b"\x01\x02\x03"),
    field(4, 2, b"\x01\x02") + field(4, 0, b"\x03"),
    field(4, 2) + field(4, 2, b"\x01\x02\x03"),
])  # fmt: skip
def test_packed_and_unpacked_numbers(payload):
    assert binary.parse(payload, "NetParameter").input_dim == [1, 2, 3]


def test_packed_loss_weights():
    assert binary.parse(field(5, 2, floats(1, 2)), "LayerParameter").loss_weight == [1, 2]


def test_strings_that_are_not_utf8_are_kept():
    raw = field(1, 2, b"\xffx")
    net = binary.parse(raw)
    assert net.name == "\udcffx"
    assert binary.dump(net) == raw


# -- arrays

PACKED = field(5, 2, floats(1, 2, 3))
UNPACKED = b"".join(field(5, 5, floats(x)) for x in (1, 2, 3))


@pytest.mark.parametrize("payload", [
    PACKED,
    UNPACKED,
    field(5, 2, floats(1)) + field(5, 2) + field(5, 2, floats(2, 3)),
    field(5, 2, floats(1)) + field(1, 0, b"\x09") + field(5, 5, floats(2)) + field(5, 5, floats(3)),
    field(5, 5, floats(1)) + field(5, 5, floats(2)) + field(1, 0, b"\x09") + field(5, 2, floats(3)),
    field(5, 5, floats(1)) + field(6, 5, floats(9)) + field(5, 5, floats(2)) + field(5, 5, floats(3)),
])  # fmt: skip
def test_arrays_packed_unpacked_and_in_pieces(payload):
    blob = binary.parse(payload, "BlobProto")
    assert blob.data.dtype == np.float32
    assert list(blob.data) == [1, 2, 3]
    assert list(binary.parse(binary.dump(blob), "BlobProto").data) == [1, 2, 3]


@pytest.mark.parametrize("count", [1, 2, 5, 6, 100, 21_000, 100_000])
def test_long_unpacked_runs(count):
    items = np.zeros(count, [("tag", "u1"), ("value", "<f4")])
    items["tag"] = wire.tag(5, wire.FIXED32)[0]
    items["value"] = np.arange(count)
    blob = binary.parse(items.tobytes() + b"\x08\x07", "BlobProto")
    assert np.array_equal(blob.data, np.arange(count))
    assert blob.num == 7


def test_double_arrays():
    blob = binary.parse(
        field(8, 2, struct.pack("<2d", 0.1, 2)) + field(9, 1, struct.pack("<d", 3)), "BlobProto"
    )
    assert list(blob.double_data) == [0.1, 2]
    assert list(blob.double_diff) == [3]
    assert blob.double_data.dtype == np.float64


def test_arrays_of_a_schema_without_packing_are_written_unpacked():
    datum = Message("Datum", float_data=[1, 2])
    assert binary.dump(datum) == b"\x35" + floats(1) + b"\x35" + floats(2)
    assert binary.parse(binary.dump(datum), "Datum") == datum


def test_packed_arrays_are_read_only_views():
    raw = bytearray(PACKED)
    blob = binary.parse(raw, "BlobProto")
    assert not blob.data.flags.writeable
    raw[2:6] = floats(7)
    assert blob.data[0] == 7


def test_reading_and_writing_copy_no_weights(tmp_path):
    net = Message("NetParameter")
    net.add("layer", name="a").add("blobs", data=np.ones(2_000_000, np.float32))
    path, copy = tmp_path / "a.caffemodel", tmp_path / "b.caffemodel"
    tracemalloc.start()
    binary.write(path, net)
    read = binary.read(path)
    binary.write(copy, read)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000  # of 8 MB of weights
    assert path.read_bytes() == copy.read_bytes()
    assert read == net


@pytest.mark.skipif(os.name != "posix", reason="needs files with holes")
def test_a_file_beyond_2_gb(tmp_path):
    path = tmp_path / "large.caffemodel"
    count = 2**29 + 10_000
    blob = field(1, 0, b"\x01") + wire.tag(5, wire.BYTES) + wire.varint(4 * count)
    size = len(blob) + 4 * count
    layer = field(1, 2, b"big") + wire.tag(7, wire.BYTES) + wire.varint(size)
    head = wire.tag(100, wire.BYTES) + wire.varint(len(layer) + size) + layer + blob
    with open(path, "wb") as f:  # a hole: takes no room on the disk
        f.write(head)
        f.seek(len(head) + 4 * (count - 1))
        f.write(floats(5))
    net = binary.read(path)
    assert net.layer[0].name == "big"
    assert net.layer[0].blobs[0].data.shape == (count,)
    assert net.layer[0].blobs[0].data[-1] == 5
    path.unlink()


# -- unknown fields


@pytest.mark.parametrize(("number", "wire_type", "data"), [
    (152, 0, b"\x96\x01"), (152, 1, b"12345678"), (152, 2, b"\x08\x01"), (152, 5, b"1234"),
    (139, 0, b"\x01"),  # known, but with another wire type
    (1, 0, b"\x01"),
    (10, 0, b"\x09"),  # an enum value that the schema does not have
    (10, 2, b"\x00"),  # a singular field, packed
])  # fmt: skip
def test_unknown_fields_are_kept(number, wire_type, data):
    raw = field(number, wire_type, data)
    layer = binary.parse(field(1, 2, b"a") + raw, "LayerParameter")
    assert layer.unknown == [UnknownBinary(number, wire_type, data)]
    assert binary.dump(layer) == field(1, 2, b"a") + raw
    assert not layer.has("phase")


def test_unknown_numbers_are_kept_in_their_shortest_form():
    net = binary.parse(field(152, 0, b"\x85\x80\x00"))
    assert net.unknown == [UnknownBinary(152, 0, b"\x05")]


def test_fields_of_a_text_without_number_are_left_out_with_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaffebnWarning)
        net = text.parse('name: "a" zz: 1' + " yy: 2" * 6, filename="net.prototxt")
    with pytest.warns(CaffebnWarning) as caught:
        assert binary.dump(net) == field(1, 2, b"a")
    assert str(caught[0].message) == (
        'left out of the binary form, for the schema has no number for them: "zz" (net.prototxt:1:11), '
        '"yy" (net.prototxt:1:17), "yy" (net.prototxt:1:23), "yy" (net.prototxt:1:29), '
        '"yy" (net.prototxt:1:35) and 2 more'
    )
    assert caught[0].filename == __file__
    assert isinstance(net.unknown[0], UnknownText)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_what_is_written_reads_back_equal(messages, data):
    message = data.draw(messages(data.draw(st.sampled_from(sorted(schema.messages)))))
    raw = binary.dump(message)
    read = binary.parse(raw, message.schema.name)
    assert read == message
    assert binary.dump(read) == raw


# -- errors

CUT = "the file is cut off or damaged, fetch it again"
CONV1 = field(1, 2, b"conv1") + field(7, 2, field(5, 2, b"123"))


@pytest.mark.parametrize(("payload", "words"), [
    (b"\x0a\x05ab", f"byte 0: name claims 5 bytes, but only 2 are left; {CUT}"),
    (b"\x8a\x06\x05ab", f"byte 0: field 97 claims 5 bytes, but only 2 are left; {CUT}"),
    (b"\x0a" + b"\xff" * 9 + b"\x01", f"byte 0: name claims {2**64 - 1} bytes, but only 0 are left; {CUT}"),
    (b"\x28", "byte 1: the file or the message ends within a number"),
    (b"\x28\x80", "byte 1: the file or the message ends within a number"),
    (b"\x28" + b"\xff" * 11, "byte 1: a number of more than ten bytes"),
    (b"\xa3\x06", "byte 0: a group, an old form of protocol buffers that Caffe never used"),
    (b"\xa4\x06", "byte 0: a group, an old form of protocol buffers that Caffe never used"),
    (b"\xa6\x06", "byte 0: wire type 6 does not exist"),
    (b"\x02\x00", "byte 0: 0 is no number of a field"),
    (b"\x8d\x06123", "byte 0: the file or the message ends within a number"),
    (b"\x89\x061234567", "byte 0: the file or the message ends within a number"),
    (field(100, 2) * 3 + field(100, 2, CONV1),
     'byte 23: layer[3] "conv1".blobs[0]: data: 3 bytes are no whole number of float values'),
    (field(6, 2, field(1, 5, b"12")[:3]), "byte 2: state: the file or the message ends within a number"),
    (field(100, 2, field(5, 5, b"123")), "byte 4: layer[0]: loss_weight: the file or the m"),
    (field(100, 2, field(7, 2, field(5, 5, b"123"))), "byte 6: layer[0].blobs[0]: data: the file or the mes"),
    (field(100, 2, field(148, 2, field(1, 5, b"1234"))),
     "layer[0].clip_param: ClipParameter needs the field max"),
])  # fmt: skip
def test_damage_is_named_with_its_place(payload, words):
    with pytest.raises(FormatError) as error:
        binary.parse(payload, filename="net.caffemodel")
    assert str(error.value).startswith("net.caffemodel: byte ")
    assert words in str(error.value)


@pytest.mark.parametrize(("content", "words"), [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "this is a Git LFS pointer, not the fi"),
    (b"\n <!DOCTYPE html><html></html>", "this is a web page, not the file itself"),
    (b"<html><body>404</body></html>", "this is a web page, not the file itself"),
    (b"\x89HDF\r\n\x1a\n", "this is an HDF5 file: its name should end in .h5"),
    (b"PK\x03\x04zip", "this is a compressed archive: unpack it first"),
    (b"\x1f\x8b\x08", "this is a compressed archive: unpack it first"),
    (bytes(1000), "the file begins with zeros only: it was not written or fetched to its end"),
    ('name: "é"\nlayer {\n}\n'.encode() * 100, "this is a text, as in a .prototxt, where a binary file"),
    (b"layer {}", "this is a text, as in a .prototxt, where a binary file"),
])  # fmt: skip
def test_other_files_are_recognised(tmp_path, content, words):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content)
    with pytest.raises(FormatError) as error:
        binary.read(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)


def test_damaged_files_are_not_taken_for_other_ones():
    with pytest.raises(FormatError) as error:
        binary.parse(b"\x0a\x7fabc\xff\x00")
    assert str(error.value).endswith(CUT)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileError, match="none.caffemodel: cannot be read: No such file"):
        binary.read(tmp_path / "none.caffemodel")
    with pytest.raises(FileError, match="cannot be read"):
        binary.read(tmp_path)
    (tmp_path / "empty").touch()
    with pytest.raises(FormatError, match="empty: the file is empty; it was not written or fetched"):
        binary.read(tmp_path / "empty")


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="needs /dev/null")
def test_devices_are_refused():
    with pytest.raises(FileError, match="/dev/null: is not a regular file"):
        binary.read("/dev/null")


def test_required_fields_are_checked_before_writing(tmp_path):
    net = Message("NetParameter", layer=[{"clip_param": {"min": 0}}])
    with pytest.raises(ArgumentError, match="ClipParameter needs the field max: set it before writing"):
        binary.write(tmp_path / "net.caffemodel", net)
    assert not list(tmp_path.iterdir())


def test_write_keeps_the_old_file_when_it_cannot_finish(tmp_path):
    with pytest.raises(FileError, match="cannot write here"):
        binary.write(tmp_path / "none" / "net.caffemodel", Message("NetParameter"))


@pytest.mark.parametrize("on", [True, False])
def test_the_garbage_collector_is_left_as_it_was(on):
    was = gc.isenabled()
    try:
        (gc.enable if on else gc.disable)()
        binary.parse(b"")
        assert gc.isenabled() == on
        with pytest.raises(FormatError):
            binary.parse(b"\xff")
        assert gc.isenabled() == on
    finally:
        (gc.enable if was else gc.disable)()


def test_number_of_values_is_bounded(monkeypatch):
    monkeypatch.setattr(binary_reader, "MAX_FIELDS", 100)
    for raw in (field(100, 2) * 101, field(4, 2, bytes(101)), field(152, 0, b"\x01") * 101):
        with pytest.raises(FormatError, match="more than 100 values in one file"):
            binary.parse(raw)
    assert len(binary.parse(field(5, 5, b"1234") * 1000, "BlobProto").data) == 1000


def test_parameters_of_a_fork_at_the_number_of_clip():
    """Several forks have messages of their own at 148, without the fields that Caffe's needs; they are kept."""
    theirs = field(148, 2, field(1, 0, b"\x03"))
    kept = binary.parse(field(100, 2, field(1, 2, b"a") + field(2, 2, b"PSROIPooling") + theirs))
    assert [u.number for u in kept.layer[0].unknown] == [148] and not kept.layer[0].has("clip_param")
    assert theirs in binary.dump(kept)
    own = field(2, 2, b"Clip") + field(148, 2, field(1, 5, b"\0\0\0\0") + field(2, 5, b"\0\0\x80\x3f"))
    assert binary.parse(field(100, 2, own)).layer[0].clip_param.max == 1
    with pytest.raises(FormatError, match="ClipParameter needs the field min"):
        binary.parse(field(100, 2, field(2, 2, b"Clip") + theirs))
