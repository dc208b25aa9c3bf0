"""Messages of the protobuf package where ours are expected."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import ArgumentError
from caffebn.proto import Message, as_message, binary

pytest.importorskip("google.protobuf")


def test_as_message():
    from caffebn.proto import caffe_pb2

    blob = Message("BlobProto", data=np.arange(3, dtype=np.float32))
    assert as_message(blob, "BlobProto", "f") is blob
    theirs = caffe_pb2.BlobProto.FromString(blob.SerializeToString())
    assert as_message(theirs, "BlobProto", "f") == blob


@pytest.mark.parametrize(("value", "found"), [
    (Message("Datum"), "Datum"), (None, "NoneType"), ("data: 1", "str"), (np.zeros(2), "ndarray"),
])  # fmt: skip
def test_something_else(value, found):
    with pytest.raises(ArgumentError, match=f"^my_function: expected a BlobProto message, found {found}$"):
        as_message(value, "BlobProto", "my_function")


def test_fields_take_messages_of_the_protobuf_package():
    from caffebn.proto import caffe_pb2

    net = Message("NetParameter")
    net.layer.append(caffe_pb2.LayerParameter(name="a", top=["x"]))
    net.layer[0].convolution_param = caffe_pb2.ConvolutionParameter(num_output=3)
    assert net == Message(
        "NetParameter", layer=[{"name": "a", "top": ["x"], "convolution_param": {"num_output": 3}}]
    )
    with pytest.raises(
        ArgumentError, match=r"LayerParameter\.pooling_param: expected a PoolingParameter message"
    ):
        net.layer[0].pooling_param = caffe_pb2.ConvolutionParameter()


def test_serialize_to_string_is_the_binary_form():
    net = Message("NetParameter", name="n", layer=[{"name": "a"}])
    assert net.SerializeToString() == binary.dump(net)


def test_caffe_pb2_is_there_without_being_imported(python):
    code = "import caffebn; print(caffebn.proto.caffe_pb2.Datum is caffebn.io.caffe_pb2.Datum)"
    assert python(code).stdout == "True\n"


@pytest.mark.parametrize("module", ["caffebn.proto", "caffebn.io"])
def test_names_that_are_not_there(python, module):
    code = f"import caffebn; {module}.caffe_pb"
    assert f"AttributeError: module '{module}' has no attribute 'caffe_pb'" in python(code).stderr
