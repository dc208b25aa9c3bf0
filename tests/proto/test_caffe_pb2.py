from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caffebn.proto import Message, binary, schema, text

pytest.importorskip("google.protobuf")

from google.protobuf import text_format  # noqa: E402

from caffebn.proto import caffe_pb2  # noqa: E402

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def test_names_are_where_scripts_expect_them():
    assert (caffe_pb2.TRAIN, caffe_pb2.TEST) == (0, 1)
    assert caffe_pb2.Phase.Name(1) == "TEST"
    assert caffe_pb2.PoolingParameter.MAX == 0
    assert caffe_pb2.PoolingParameter.PoolMethod.Value("AVE") == 1
    assert caffe_pb2.V1LayerParameter.LayerType.Name(4) == "CONVOLUTION"
    assert caffe_pb2.NetParameter.DESCRIPTOR.full_name == "caffe.NetParameter"
    assert set(caffe_pb2.__all__) == {*schema.messages, "Phase", "TRAIN", "TEST", "DESCRIPTOR"}


def test_messages_work_as_in_pycaffe():
    net = caffe_pb2.NetParameter(name="n")
    net.layer.add(name="bn", type="BatchNorm").batch_norm_param.eps = 1e-3
    copy = caffe_pb2.NetParameter.FromString(net.SerializeToString())
    assert copy.layer[0].batch_norm_param.eps == np.float32(1e-3)
    assert copy.layer[0].batch_norm_param.moving_average_fraction == np.float32(0.999)


def test_defaults_and_labels_agree(every_type):
    ours, theirs = Message(every_type), getattr(caffe_pb2, every_type)()
    assert [f.name for f in theirs.DESCRIPTOR.fields] == list(ours.schema.fields)
    for field in ours.schema.fields.values():
        descriptor = theirs.DESCRIPTOR.fields_by_name[field.name]
        assert descriptor.number == field.number
        assert descriptor.has_default_value == field.has_default
        if field.kind == "enum" and not field.repeated:
            assert field.type.by_name[field.default] == getattr(theirs, field.name)
        elif field.kind != "message" and not field.repeated:
            assert field.default == getattr(theirs, field.name)


def test_packing_agrees():
    packed = caffe_pb2.BlobProto(data=[1, 2], shape={"dim": [2]}).SerializeToString()
    assert packed == binary.dump(Message("BlobProto", data=[1, 2], shape={"dim": [2]}))
    unpacked = caffe_pb2.LayerParameter(loss_weight=[1, 2], propagate_down=[True]).SerializeToString()
    assert unpacked == binary.dump(Message("LayerParameter", loss_weight=[1, 2], propagate_down=[True]))


@QUICK
@given(data=st.data())
def test_protobuf_reads_what_we_write(messages, data):
    ours = data.draw(messages(data.draw(st.sampled_from(sorted(schema.messages)))))
    theirs = getattr(caffe_pb2, ours.schema.name).FromString(binary.dump(ours))
    assert binary.parse(theirs.SerializeToString(), ours.schema.name) == ours


@QUICK
@given(data=st.data())
def test_protobuf_reads_what_we_print(messages, data):
    ours = data.draw(messages(data.draw(st.sampled_from(sorted(schema.messages)))))
    theirs = text_format.Parse(text.dump(ours), getattr(caffe_pb2, ours.schema.name)())
    assert binary.parse(theirs.SerializeToString(), ours.schema.name) == ours


@QUICK
@given(data=st.data(), as_utf8=st.booleans(), one_line=st.booleans(), brackets=st.booleans())
def test_we_read_what_protobuf_prints(messages, data, as_utf8, one_line, brackets):
    ours = data.draw(messages(data.draw(st.sampled_from(sorted(schema.messages)))))
    theirs = getattr(caffe_pb2, ours.schema.name).FromString(binary.dump(ours))
    printed = text_format.MessageToString(
        theirs,
        as_utf8=as_utf8,
        as_one_line=one_line,
        pointy_brackets=brackets,
        use_short_repeated_primitives=True,
    )
    assert text.parse(printed, ours.schema.name) == ours


@pytest.mark.parametrize("source", [
    'name: "a" "b"', "name: 'a\\n\\x41\\101'", 'layer { loss_weight: [1.f, .5, -inf, 1e3] }',
    "input_dim: [0x10, 010, -5]", "layer < phase: 1 >; layer { include [{}, {}] }", "force_backward: t",
    'layer: { top: "a", top: "b"; }',
])  # fmt: skip
def test_we_accept_what_protobuf_accepts(source):
    theirs = text_format.Parse(source, caffe_pb2.NetParameter())
    assert text.parse(source) == binary.parse(theirs.SerializeToString())


@pytest.mark.parametrize("source", [
    'name: "a" name: "b"', "name: a", "layer {", "layer { > ", "input_dim: 1.5", "input_dim: 2147483648",
    "input_dim: 08", "force_backward: 2", "layer { phase: TRAINING }", 'name "a"', "input_dim: [1, ]",
    'name: "a', "layer { type: [\"a\"] }", "}", "input_dim: 1a",
])  # fmt: skip
def test_we_refuse_what_protobuf_refuses(source):
    with pytest.raises(text_format.ParseError):
        text_format.Parse(source, caffe_pb2.NetParameter())
    with pytest.raises(ValueError, match="<text>:"):
        text.parse(source)


def test_without_protobuf_the_error_says_what_to_install():
    code = "import sys; sys.modules['google.protobuf'] = None; import caffebn.proto.caffe_pb2"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'needs the package "protobuf": pip install "caffebn[proto]"' in result.stderr
