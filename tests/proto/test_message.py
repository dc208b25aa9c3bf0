from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caffebn.errors import ArgumentError
from caffebn.proto import Message, UnknownBinary, UnknownText, schema, text


def test_absent_fields_read_as_their_defaults():
    layer = Message("LayerParameter")
    assert layer.name == ""
    assert layer.phase == "TRAIN"
    assert layer.top == []
    assert layer.batch_norm_param.eps == np.float32(1e-5)
    assert layer.pooling_param.pool == "MAX"
    assert not layer.has("name")
    assert not layer.has("top")
    assert not layer.has("batch_norm_param")


def test_assigned_fields_are_present():
    layer = Message("LayerParameter", name="bn", top=["a"])
    layer.mutable("batch_norm_param").eps = 1e-3
    layer.phase = "TEST"
    assert layer.has("batch_norm_param")
    assert layer.batch_norm_param.has("eps")
    assert not layer.batch_norm_param.has("use_global_stats")
    assert [field.name for field, _ in layer.set_fields()] == ["name", "top", "phase", "batch_norm_param"]


def test_a_field_set_to_its_default_is_present():
    param = Message("BatchNormParameter", use_global_stats=False)
    assert param.has("use_global_stats")
    assert param != Message("BatchNormParameter")


def test_clear_makes_absent():
    layer = Message("LayerParameter", name="a", top=["b"])
    layer.clear("name")
    del layer.top
    layer.clear("bottom")
    assert layer == Message("LayerParameter")


def test_repeated_fields_change_in_place():
    layer = Message("LayerParameter")
    layer.bottom.append("a")
    layer.bottom += ["b"]
    layer.bottom.extend(["d"])
    layer.bottom.insert(2, "c")
    layer.bottom[0] = "z"
    layer.bottom[1:2] = ["x", "y"]
    assert layer.bottom == ["z", "x", "y", "c", "d"]
    assert layer.has("bottom")


def test_add_appends_a_message():
    net = Message("NetParameter")
    added = net.add("layer", name="a")
    assert net.layer == [added]
    assert net.layer[0] is added
    assert isinstance(net.add("layer"), Message)


def test_lists_of_messages_append_new_ones():
    net = Message("NetParameter")
    added = net.input_shape.add()
    added.dim.extend([1, 2])
    assert net.input_shape.add(dim=[3]) is net.input_shape[1]
    assert net == Message("NetParameter", input_shape=[{"dim": [1, 2]}, {"dim": [3]}])
    with pytest.raises(
        ArgumentError, match=r"NetParameter\.input does not hold messages: use append\(value\)"
    ):
        net.input.add()


def test_messages_may_be_given_as_dicts():
    layer = Message("LayerParameter", convolution_param={"num_output": 3, "pad": [1]}, param=[{"lr_mult": 2}])
    assert layer.convolution_param.num_output == 3
    assert layer.param[0].lr_mult == 2
    layer.param.append({"lr_mult": 0})
    assert layer.param[1].lr_mult == 0


def test_floats_are_rounded_to_float32():
    param = Message("BatchNormParameter", eps=0.1, moving_average_fraction=np.float64(1e300))
    assert param.eps == float(np.float32(0.1))
    assert param.moving_average_fraction == np.inf


def test_enums_take_names_and_numbers():
    pool = Message("PoolingParameter", pool=1)
    assert pool.pool == "AVE"
    pool.pool = "STOCHASTIC"
    assert pool.pool == "STOCHASTIC"


def test_numpy_numbers_are_taken_as_plain_ones():
    param = Message("ConvolutionParameter", num_output=np.int64(3), kernel_size=np.array([3, 3], np.uint8))
    assert type(param.num_output) is int
    assert param.kernel_size == [3, 3]
    assert type(Message("BatchNormParameter", use_global_stats=np.bool_(True)).use_global_stats) is bool


def test_array_fields_are_arrays_of_the_right_dtype():
    blob = Message("BlobProto", data=[1, 2], double_data=np.arange(3))
    assert blob.data.dtype == np.float32
    assert blob.double_data.dtype == np.float64
    assert blob.diff.shape == (0,)
    values = np.ones(4, np.float32)
    blob.data = values
    assert blob.data is values


REFUSALS = [
    ("ConvolutionParameter", "num_output", -1,
     "ConvolutionParameter.num_output: expected an integer from 0 to 4294967295, found -1 (int)"),
    ("ConvolutionParameter", "num_output", 2**32,
     "ConvolutionParameter.num_output: expected an integer from 0 to 4294967295, found 4294967296 (int)"),
    ("ConvolutionParameter", "num_output", 3.0,
     "ConvolutionParameter.num_output: expected an integer from 0 to 4294967295, found 3.0 (float)"),
    ("ConvolutionParameter", "num_output", True,
     "ConvolutionParameter.num_output: expected an integer from 0 to 4294967295, found True (bool)"),
    ("ConvolutionParameter", "bias_term", "yes",
     "ConvolutionParameter.bias_term: expected True or False, found 'yes' (str)"),
    ("ConvolutionParameter", "bias_term", 2,
     "ConvolutionParameter.bias_term: expected True or False, found 2 (int)"),
    ("ConvolutionParameter", "pad", 3,
     "ConvolutionParameter.pad is repeated: expected a list of uint32, found 3"),
    ("LayerParameter", "top", "data",
     "LayerParameter.top is repeated: expected a list of string, found 'data'"),
    ("LayerParameter", "name", b"x", "LayerParameter.name: expected a str, found b'x' (bytes)"),
    ("LayerParameter", "name", "\ud800",
     r"LayerParameter.name: expected a str that UTF-8 can hold, found '\ud800' (str)"),
    ("LayerParameter", "name", None, "LayerParameter.name: expected a str, found None (NoneType)"),
    ("LayerParameter", "phase", "TRIAN",
     "LayerParameter.phase: expected one of TRAIN, TEST, found 'TRIAN' (str); did you mean \"TRAIN\"?"),
    ("LayerParameter", "phase", 7, "LayerParameter.phase: expected one of TRAIN, TEST, found 7 (int)"),
    ("LayerParameter", "loss_weight", ["1"],
     "LayerParameter.loss_weight: expected a number, found '1' (str)"),
    ("LayerParameter", "scale_param", 1,
     "LayerParameter.scale_param: expected a ScaleParameter message, found 1 (int)"),
    ("BlobProto", "data", np.zeros((2, 2)),
     "BlobProto.data: expected a one-dimensional array of numbers, found shape (2, 2) and dtype float64"),
    ("BlobProto", "data", ["a"],
     "BlobProto.data: expected a one-dimensional array of numbers, found shape (1,) and dtype <U1"),
    ("Datum", "data", "text", "Datum.data: expected bytes, found 'text' (str)"),
]  # fmt: skip


@pytest.mark.parametrize(("type", "name", "value", "words"), REFUSALS)
def test_wrong_values_are_refused(type, name, value, words):
    message = Message(type)
    with pytest.raises(ArgumentError) as error:
        setattr(message, name, value)
    assert str(error.value) == words
    assert not message.has(name)


@pytest.mark.parametrize("change", [
    lambda pads: pads.append(-1),
    lambda pads: pads.extend([1, -1]),
    lambda pads: pads.insert(0, -1),
    lambda pads: pads.__iadd__([-1]),
    lambda pads: pads.__setitem__(0, -1),
    lambda pads: pads.__setitem__(slice(0, 1), [-1]),
])  # fmt: skip
def test_wrong_elements_are_refused(change):
    param = Message("ConvolutionParameter", pad=[5])
    with pytest.raises(ArgumentError, match="expected an integer from 0"):
        change(param.pad)
    assert param.pad == [5]


def test_a_long_value_is_shown_in_part():
    with pytest.raises(ArgumentError) as error:
        Message("LayerParameter", phase="x" * 1000)
    assert len(str(error.value)) < 200


def test_messages_of_another_type_are_refused():
    with pytest.raises(ArgumentError, match="expected a ScaleParameter message"):
        Message("LayerParameter", scale_param=Message("BiasParameter"))
    with pytest.raises(ArgumentError, match="expected a LayerParameter message"):
        Message("NetParameter").layer.append(Message("V1LayerParameter"))


@pytest.mark.parametrize("use", [
    lambda m: m.epsilon,
    lambda m: setattr(m, "epsilon", 1),
    lambda m: m.has("epsilon"),
    lambda m: m.clear("epsilon"),
    lambda m: m.where_of("epsilon"),
    lambda m: m.add("epsilon"),
    lambda m: m.mutable("epsilon"),
    lambda m: Message("BatchNormParameter", epsilon=1),
])  # fmt: skip
def test_unknown_attribute_names_the_nearest(use):
    with pytest.raises(
        AttributeError, match='BatchNormParameter has no field "epsilon"; did you mean "eps"?'
    ):
        use(Message("BatchNormParameter"))


def test_properties_cannot_be_assigned():
    with pytest.raises(AttributeError, match='has no field "where"'):
        Message("NetParameter").where = None


@pytest.mark.parametrize("change", [
    lambda m: setattr(m, "num_output", 1),
    lambda m: m.pad.append(1),
    lambda m: m.mutable("weight_filler"),
    lambda m: m.clear("num_output"),
])  # fmt: skip
def test_the_message_that_stands_for_an_absent_one_cannot_change(change):
    layer = Message("LayerParameter")
    with pytest.raises(
        ArgumentError, match="this ConvolutionParameter is absent and only stands for the def"
    ):
        change(layer.convolution_param)
    assert not layer.has("convolution_param")
    assert layer.convolution_param.unknown == []
    assert Message("LayerParameter").convolution_param.pad == []


def test_mutable_and_add_are_for_messages_only():
    with pytest.raises(ArgumentError, match="LayerParameter.name is not a single message: assign to it"):
        Message("LayerParameter").mutable("name")
    with pytest.raises(ArgumentError, match="LayerParameter.param is not a single message"):
        Message("LayerParameter").mutable("param")
    with pytest.raises(ArgumentError, match="LayerParameter.top is not a list of messages"):
        Message("LayerParameter").add("top")


def test_copy_is_deep():
    net = Message("NetParameter", name="a")
    layer = net.add("layer", name="b", top=["t"])
    layer.add("blobs").data = np.ones(3)
    layer.unknown.append(UnknownText("x", [Message("BlobShape", dim=[1])]))
    for twin in (net.copy(), copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin == net
        twin.layer[0].top.append("u")
        twin.layer[0].blobs[0].data[:] = 2
        twin.layer[0].unknown[0].value[0].dim.append(2)
        assert layer.top == ["t"]
        assert list(layer.blobs[0].data) == [1, 1, 1]
        assert layer.unknown[0].value[0].dim == [1]


def test_copy_shares_arrays_that_cannot_change():
    blob = Message("BlobProto", data=np.ones(3, np.float32))
    blob.data.flags.writeable = False
    assert blob.copy().data is blob.data


def test_copy_keeps_places():
    net = text.parse('layer { name: "a" }')
    assert net.copy().layer[0].where == net.layer[0].where
    assert net.copy().layer[0].where_of("name") == net.layer[0].where_of("name")


def test_equality_is_of_presence_values_and_unknown_fields():
    a, b = Message("NetParameter", name="x"), Message("NetParameter", name="x")
    assert a == b
    assert b.layer == []  # reading a repeated field does not make it present
    assert a == b
    b.unknown.append(UnknownBinary(99, 0, b"\x01"))
    assert a != b
    assert Message("BlobProto", data=[np.nan]) == Message("BlobProto", data=[np.nan])
    assert Message("BatchNormParameter", eps=np.nan) == Message("BatchNormParameter", eps=np.nan)
    assert Message("BlobProto") != Message("BlobShape")
    assert Message("BlobProto") != 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(a)


def test_repr_is_short():
    net = Message("NetParameter", name="n", layer=[{"name": "a"}], state={"level": 1})
    assert repr(net) == "<NetParameter name='n' state={...} layer=[1 x LayerParameter]>"
    blob = Message("BlobProto", data=np.zeros(1000))
    blob.unknown.append(UnknownBinary(99, 0, b"\x01"))
    assert repr(blob) == "<BlobProto data=<1000 x float32> +1 unknown>"
    assert len(repr(Message("NetParameter", name="x" * 1000))) < 100


def test_str_is_the_text_form():
    assert str(Message("NetParameter", name="n")) == 'name: "n"\n'


def test_dir_lists_fields():
    assert {"name", "layer", "has", "copy"} <= set(dir(Message("NetParameter")))


def test_messages_made_in_code_have_no_place():
    net = Message("NetParameter", name="n")
    assert net.where is None
    assert net.where_of("name") is None


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_copies_and_pickles_are_equal(messages, data):
    message = data.draw(messages(data.draw(st.sampled_from(sorted(schema.messages)))))
    assert message.copy() == message
    assert pickle.loads(pickle.dumps(message)) == message


def test_no_field_hides_what_a_message_can_do():
    """Values are attributes; a field called ``copy`` would stand before the method."""
    taken = set(dir(object)) | {name for kind in Message.__mro__ for name in vars(kind)}
    assert not [str(f) for t in schema.messages.values() for f in t.fields.values() if f.name in taken]
