from __future__ import annotations

import pickle

import pytest

from caffebn.errors import ArgumentError
from caffebn.proto import Message, schema

# message, field, number, label, type, default: read off the format, not off the table
SPOT_VALUES = [
    ("NetParameter", "name", 1, "optional", "string", ""),
    ("NetParameter", "layers", 2, "repeated", "V1LayerParameter", None),
    ("NetParameter", "layer", 100, "repeated", "LayerParameter", None),
    ("LayerParameter", "blobs", 7, "repeated", "BlobProto", None),
    ("LayerParameter", "phase", 10, "optional", "Phase", "TRAIN"),
    ("LayerParameter", "batch_norm_param", 139, "optional", "BatchNormParameter", None),
    ("LayerParameter", "scale_param", 142, "optional", "ScaleParameter", None),
    ("LayerParameter", "clip_param", 148, "optional", "ClipParameter", None),
    ("BatchNormParameter", "use_global_stats", 1, "optional", "bool", False),
    ("BatchNormParameter", "moving_average_fraction", 2, "optional", "float", 0.9990000128746033),
    ("BatchNormParameter", "eps", 3, "optional", "float", 9.999999747378752e-06),
    ("ConvolutionParameter", "bias_term", 2, "optional", "bool", True),
    ("ConvolutionParameter", "dilation", 18, "repeated", "uint32", 0),
    ("PoolingParameter", "pool", 1, "optional", "PoolingParameter.PoolMethod", "MAX"),
    ("PoolingParameter", "stride", 3, "optional", "uint32", 1),
    ("LossParameter", "normalization", 3, "optional", "LossParameter.NormalizationMode", "VALID"),
    ("ReductionParameter", "operation", 1, "optional", "ReductionParameter.ReductionOp", "SUM"),
    ("NetStateRule", "phase", 1, "optional", "Phase", "TRAIN"),
    ("NetState", "phase", 1, "optional", "Phase", "TEST"),
    ("SolverParameter", "solver_mode", 17, "optional", "SolverParameter.SolverMode", "GPU"),
    ("SolverParameter", "random_seed", 20, "optional", "int64", -1),
    ("SolverParameter", "regularization_type", 29, "optional", "string", "L2"),
    ("SolverParameter", "type", 40, "optional", "string", "SGD"),
    ("FillerParameter", "variance_norm", 8, "optional", "FillerParameter.VarianceNorm", "FAN_IN"),
    ("ClipParameter", "min", 1, "required", "float", 0.0),
    ("MVNParameter", "eps", 3, "optional", "float", 9.999999717180685e-10),
    ("V1LayerParameter", "blob_share_mode", 1002, "repeated", "V1LayerParameter.DimCheckMode", "STRICT"),
    ("Datum", "data", 4, "optional", "bytes", b""),
    ("WindowDataParameter", "crop_mode", 11, "optional", "string", "warp"),
]


@pytest.mark.parametrize(("message", "name", "number", "label", "type_name", "default"), SPOT_VALUES)
def test_fields_are_those_of_caffe(message, name, number, label, type_name, default):
    field = schema.messages[message].fields[name]
    found = (field.number, field.label, field.type_name, field.default)
    assert found == (number, label, type_name, default)
    assert schema.messages[message].by_number[number] is field


def test_size_of_the_table():
    assert len(schema.messages) == 63
    assert len(schema.enums) == 26
    assert sum(len(message.fields) for message in schema.messages.values()) == 423


def test_packed_fields_are_those_of_blobs():
    packed = {
        f"{field.owner}.{field.name}"
        for message in schema.messages.values()
        for field in message.fields.values()
        if field.packed
    }
    assert packed == {
        "BlobShape.dim",
        "BlobProto.data",
        "BlobProto.diff",
        "BlobProto.double_data",
        "BlobProto.double_diff",
    }


def test_enum_values():
    types = schema.enums["V1LayerParameter.LayerType"]
    assert types.by_name["CONVOLUTION"] == 4
    assert types.by_number[39] == "DECONVOLUTION"
    assert len(types.by_name) == 40
    assert schema.enums["HingeLossParameter.Norm"].by_name == {"L1": 1, "L2": 2}
    assert schema.enums["Phase"].first == "TRAIN"


def test_numbers_and_names_are_unique_and_in_order(every_type):
    numbers = [field.number for field in schema.messages[every_type].fields.values()]
    assert numbers == sorted(set(numbers))
    assert len(schema.messages[every_type].by_number) == len(numbers)


def test_defaults_are_values_that_may_be_assigned(every_type):
    for field in schema.messages[every_type].fields.values():
        if field.kind != "message" and not field.array:
            assert field.check(field.default) == field.default


def test_no_message_contains_itself():
    # the binary reader relies on this: it bounds the depth of what it reads
    def walk(name, above):
        assert name not in above
        for field in schema.messages[name].fields.values():
            if field.kind == "message":
                walk(field.type.name, {*above, name})

    for name in schema.messages:
        walk(name, set())


def test_no_field_hides_a_method_of_message(every_type):
    assert not set(schema.messages[every_type].fields) & set(dir(Message))


def test_unknown_message_names_the_nearest():
    with pytest.raises(ArgumentError, match='no message "NetParam" in Caffe; did you mean "NetParameter"?'):
        schema.message_type("NetParam")


def test_types_survive_pickling_as_themselves():
    assert pickle.loads(pickle.dumps(schema.messages["Datum"])) is schema.messages["Datum"]
    assert pickle.loads(pickle.dumps(schema.UNKNOWN)) is schema.UNKNOWN


def test_types_print_their_names():
    net = schema.messages["NetParameter"]
    assert repr(net) == "<message NetParameter>"
    assert repr(net.fields["layer"]) == "<field NetParameter.layer: repeated LayerParameter>"
    assert repr(schema.enums["Phase"]) == "<enum Phase>"
