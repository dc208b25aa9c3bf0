"""Nets written in Python: names, order, parameters, refusals."""

from __future__ import annotations

import copy
import doctest
import pickle

import numpy as np
import pytest

import caffebn as caffe
from caffebn import layers as L
from caffebn import net_spec, to_proto
from caffebn import params as P
from caffebn.errors import ArgumentError
from caffebn.proto import Message, schema, text


def net(source):
    return text.parse(source)


@pytest.fixture
def n():
    """A spec with two named blobs."""
    n = caffe.NetSpec()
    n.data, n.label = L.DummyData(shape=[dict(dim=[2, 1, 6, 5]), dict(dim=[2])], ntop=2)
    return n


# -- names and order


def test_names_are_those_that_were_assigned(n):
    n.conv1 = L.Convolution(n.data, num_output=3, kernel_size=3)
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n["score"] = L.InnerProduct(n.relu1, num_output=2)
    n.loss = L.SoftmaxWithLoss(n.score, n.label)
    assert n.to_proto() == net(
        """
        layer { name: "data" type: "DummyData" top: "data" top: "label"
                dummy_data_param { shape { dim: [2, 1, 6, 5] } shape { dim: 2 } } }
        layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
                convolution_param { num_output: 3 kernel_size: 3 } }
        layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
        layer { name: "score" type: "InnerProduct" bottom: "conv1" top: "score"
                inner_product_param { num_output: 2 } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
        """
    )


def test_the_text_of_a_spec_makes_the_same_net(n, tmp_path):
    n.conv1 = L.Convolution(n.data, num_output=3, kernel_size=3, weight_filler=dict(type="xavier"))
    proto = n.to_proto()
    assert text.parse(str(proto)) == proto == text.parse(f"{proto}")
    assert proto.SerializeToString() == text.parse(str(proto)).SerializeToString()


def test_made_up_names_count_by_type(n):
    a = L.ReLU(n.data)
    b = L.ReLU(L.TanH(a), in_place=True)
    loss = L.SoftmaxWithLoss(b, n.label)
    made = loss.to_proto()
    assert made == to_proto(loss)
    assert [(layer.name, list(layer.bottom), list(layer.top)) for layer in made.layer] == [
        ("DummyData1", [], ["DummyData1", "DummyData2"]),
        ("ReLU1", ["DummyData1"], ["ReLU1"]),
        ("TanH1", ["ReLU1"], ["TanH1"]),
        ("ReLU2", ["TanH1"], ["TanH1"]),
        ("SoftmaxWithLoss1", ["TanH1", "DummyData2"], ["SoftmaxWithLoss1"]),
    ]


def test_made_up_names_keep_off_given_ones(n):
    n.ReLU1 = L.ReLU(L.ReLU(n.data))
    assert [layer.name for layer in n.to_proto().layer] == ["data", "ReLU2", "ReLU1"]


def test_a_name_assigned_again_goes_to_the_last(n):
    n.x = L.TanH(n.data)
    n.x = L.ReLU(n.x, in_place=True)
    assert [(layer.name, list(layer.top)) for layer in n.to_proto().layer] == [
        ("data", ["data", "label"]),
        ("TanH1", ["TanH1"]),
        ("x", ["TanH1"]),
    ]


def test_a_layer_may_have_another_name_than_its_top(n):
    n.fc = L.InnerProduct(n.data, num_output=2, name="classifier")
    layer = n.to_proto().layer[1]
    assert (layer.name, list(layer.top)) == ("classifier", ["fc"])


def test_layers_without_tops(n):
    n.quiet = L.Silence(n.label, ntop=0)
    L.Silence(n.data, ntop=0)  # nobody names it: not in the net
    assert [(layer.name, list(layer.bottom), list(layer.top)) for layer in n.to_proto().layer] == [
        ("data", [], ["data", "label"]),
        ("quiet", ["label"], []),
    ]
    assert to_proto(L.Silence(n.data, ntop=0)).layer[1].name == "Silence1"


def test_only_what_is_needed_is_in_the_net(n):
    L.ReLU(n.data)
    assert len(n.to_proto().layer) == 1


def test_inputs_come_before_what_reads_them(n):
    last = L.Eltwise(L.ReLU(n.data), L.TanH(n.label))
    n.last = last
    assert [layer.type for layer in n.to_proto().layer] == ["DummyData", "ReLU", "TanH", "Eltwise"]


def test_deeper_than_python_can_call():
    top = L.Input(shape=dict(dim=1))
    for _ in range(5000):
        top = L.ReLU(top)
    assert len(top.to_proto().layer) == 5001


def test_strings_for_bottoms_and_tops_that_are_made_elsewhere(n):
    n.loss = L.SoftmaxWithLoss(n.data, bottom="truth")
    n.out = L.Python(bottom=["a", "b"], top=["c"], ntop=0, module="m", layer="Mine")
    made = n.to_proto()
    assert list(made.layer[1].bottom) == ["data", "truth"]
    assert (list(made.layer[2].bottom), list(made.layer[2].top)) == (["a", "b"], ["c"])


# -- parameters


@pytest.mark.parametrize(("params", "source"), [
    (dict(kernel_size=3), "convolution_param { kernel_size: 3 }"),
    (dict(kernel_size=[3, 5]), "convolution_param { kernel_size: 3 kernel_size: 5 }"),
    (dict(kernel_size=(3, 5)), "convolution_param { kernel_size: 3 kernel_size: 5 }"),
    (dict(pad=np.array([1, 2])), "convolution_param { pad: 1 pad: 2 }"),
    (dict(num_output=np.int64(4), bias_term=False), "convolution_param { num_output: 4 bias_term: false }"),
    (dict(convolution_param=dict(num_output=4), stride=2), "convolution_param { num_output: 4 stride: 2 }"),
    (dict(weight_filler=dict(type="gaussian", std=0.5)),
     'convolution_param { weight_filler { type: "gaussian" std: 0.5 } }'),
    (dict(weight_filler=Message("FillerParameter", type="msra")),
     'convolution_param { weight_filler { type: "msra" } }'),
    (dict(engine=P.Convolution.CAFFE), "convolution_param { engine: CAFFE }"),
    (dict(param=[dict(lr_mult=1, decay_mult=1), dict(lr_mult=2)]),
     "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 }"),
    (dict(param=dict(name="shared")), 'param { name: "shared" }'),
    (dict(include=dict(phase=caffe.TRAIN)), "include { phase: TRAIN }"),
    (dict(exclude=[dict(stage="a"), dict(stage=["b", "c"])]),
     'exclude { stage: "a" } exclude { stage: "b" stage: "c" }'),
    (dict(loss_weight=0.5, propagate_down=[True, False], phase=1),
     "loss_weight: 0.5 propagate_down: true propagate_down: false phase: TEST"),
])  # fmt: skip
def test_parameters(params, source):
    assert L.Convolution(**params).to_proto() == net(
        f'layer {{ name: "Convolution1" type: "Convolution" top: "Convolution1" {source} }}'
    )


@pytest.mark.parametrize(
    "field",
    [f for f in schema.messages["LayerParameter"].fields.values() if f.name.endswith("_param")],
    ids=lambda f: f.name,
)
def test_every_parameter_message_is_found_by_its_type(field):
    """The fields of XParameter are parameters of layers of type X."""
    type_name = field.type.name.removesuffix("Parameter")
    assert schema.parameter_field(type_name) is field
    name, first = next(iter(field.type.fields.items()))
    value = {"message": {}, "string": "x", "bool": True, "enum": 1}.get(first.kind, 3)
    layer = getattr(L, type_name)(**{name: value}).to_proto().layer[0]
    assert layer.has(field.name) and getattr(layer, field.name).has(name)


def test_types_without_parameters_of_their_own():
    for name in ("Deconvolution", "SoftmaxWithLoss", "LSTM", "NotYetThought", "Layer", "Net"):
        assert schema.parameter_field(name) is None
    made = L.Deconvolution(convolution_param=dict(num_output=2, kernel_size=4)).to_proto()
    assert made.layer[0].convolution_param.kernel_size == [4]
    assert L.NotYetThought(name="x").to_proto().layer[0].type == "NotYetThought"


def test_messages_of_the_protobuf_package():
    pytest.importorskip("google.protobuf")
    from caffebn.proto import caffe_pb2

    shapes = [caffe_pb2.BlobShape(dim=[1, 2]), dict(dim=[3])]
    made = L.Input(shape=shapes, ntop=2, include=dict(phase=caffe_pb2.Phase.Value("TEST")))[0].to_proto()
    assert [list(shape.dim) for shape in made.layer[0].input_param.shape] == [[1, 2], [3]]
    made.input_shape.extend([caffe_pb2.BlobShape(dim=[4])])
    made.input_shape.add().dim.extend([5, 6])
    assert [list(shape.dim) for shape in made.input_shape] == [[4], [5, 6]]


def test_messages_stay_the_callers_own():
    filler = Message("FillerParameter", type="msra")
    first, second = (L.Convolution(weight_filler=filler) for _ in range(2))
    first.to_proto().layer[0].convolution_param.weight_filler.type = "xavier"
    assert filler.type == second.to_proto().layer[0].convolution_param.weight_filler.type == "msra"


def test_parameters_may_be_changed_later(n):
    n.conv = L.Convolution(n.data, num_output=3)
    n.quiet = L.Silence(n.conv, ntop=0)
    n.update("conv", dict(num_output=5, kernel_size=1))
    n.update("quiet", dict(name="hush"))
    n.conv.fn.params["pad"] = 1
    conv, quiet = n.to_proto().layer[1:]
    assert conv.convolution_param == Message("ConvolutionParameter", num_output=5, kernel_size=[1], pad=[1])
    assert quiet.name == "hush"
    with pytest.raises(ArgumentError, match='no parameter "num_outputs"'):
        n.update("conv", dict(num_outputs=1))
    assert n.to_proto().layer[1] == conv


# -- enums


def test_enum_values_are_their_names():
    assert (P.Pooling.MAX, P.Pooling.FLOOR, P.Data.LMDB, P.Loss.BATCH_SIZE, P.Filler.AVERAGE) == (
        "MAX", "FLOOR", "LMDB", "BATCH_SIZE", "AVERAGE",
    )  # fmt: skip
    assert L.Pooling(pool=P.Pooling.AVE).to_proto().layer[0].pooling_param.pool == P.Pooling.AVE


@pytest.mark.parametrize(("get", "words"), [
    (lambda: P.Poolling, 'there is no message "PoollingParameter"; did you mean "Pooling"?'),
    (lambda: P.Eltwise.ADD, 'EltwiseParameter has no value "ADD": it has PROD, SUM, MAX'),
    (lambda: P.Scale.X, 'ScaleParameter has no value "X"'),
    (lambda: L.conv, 'there is no layer type "conv"; types begin with a capital'),
])  # fmt: skip
def test_names_that_are_not_there(get, words):
    with pytest.raises(AttributeError) as error:
        get()
    assert str(error.value) == words


# -- the two faces of caffebn.layers


def test_layers_is_a_package_and_makes_layers():
    from caffebn.layers import Convolution, Layer, create
    from caffebn.layers.convolution import Convolution as Computing

    assert issubclass(Computing, Layer) and callable(create)
    assert isinstance(Convolution(num_output=1), caffe.net_spec.Top)
    assert "Convolution" in dir(L) and "create" in dir(L)
    assert not hasattr(L, "__no_such_thing__")


def test_a_layer_function_says_what_it_takes():
    assert L.Scale.__name__ == "Scale"
    assert "axis, num_axes, filler, bias_term, bias_filler" in L.Scale.__doc__
    assert "Parameters of its own: none." in L.AbsVal.__doc__


def test_first_import_of_layers_alone(python):
    done = python("from caffebn import layers as L; print(L.ReLU())")
    assert (done.stdout, done.stderr) == ("<top 0 of ReLU>\n", "")


# -- the spec as an object


def test_a_spec_is_like_a_dict(n):
    assert n.keys() == ["data", "label"] == list(n.tops)
    assert n["data"] is n.data is n.tops["data"]
    assert {"data", "label"} <= set(dir(n)) and hasattr(n, "label") and not hasattr(n, "nobody")
    del n["label"]
    assert n.keys() == ["data"]
    assert repr(n.data) == "<top 0 of DummyData>"
    assert repr(n.data.fn) == "<DummyData with 0 inputs and 2 tops>"


def test_copies(n):
    n.relu = L.ReLU(n.data, in_place=True)
    for twin in (copy.copy(n), copy.deepcopy(n), pickle.loads(pickle.dumps(n))):
        assert twin.to_proto() == n.to_proto()


# -- refusals


@pytest.mark.parametrize(("make", "words"), [
    (lambda n: L.Convolution(n.data, kernal_size=3),
     'Convolution: there is no parameter "kernal_size" in ConvolutionParameter nor in LayerParameter; '
     'did you mean "kernel_size"?'),
    (lambda n: L.Deconvolution(n.data, group=3),
     'Deconvolution: there is no parameter "group" in LayerParameter; a type without parameters of its own '
     "needs convolution_param=dict(group=...)"),
    (lambda n: L.SoftmaxWithLoss(n.data, los_weight=3),
     'SoftmaxWithLoss: there is no parameter "los_weight" in LayerParameter; did you mean "loss_weight"?'),
    (lambda n: L.Convolution(n.data, num_output="three"),
     "Convolution: ConvolutionParameter.num_output: expected an integer from 0 to 4294967295, found 'three' (str)"),
    (lambda n: L.Convolution(n.data, weight_filler="msra"),
     "Convolution: ConvolutionParameter.weight_filler: expected a FillerParameter message, found 'msra' (str)"),
    (lambda n: L.Convolution(n.data, weight_filler=dict(typ="msra")),
     'Convolution: FillerParameter has no field "typ"; did you mean "type"?'),
    (lambda n: L.Convolution(n.data, param=[1]),
     "Convolution: LayerParameter.param: expected a ParamSpec message, found 1 (int)"),
    (lambda n: L.Pooling(n.data, pool=P.Eltwise.SUM),
     "Pooling: PoolingParameter.pool: expected one of MAX, AVE, STOCHASTIC, found 'SUM' (str)"),
    (lambda n: L.ReLU("data"), "ReLU: input 0: expected a top, such as n.data, found 'data' (str)"),
    (lambda n: L.Concat(n.data, [n.data, n.label]),
     "Concat: input 1: expected a top, such as n.data, found a list of 2 tops: give them one by one, as in "
     "L.Concat(*tops)"),
    (lambda n: L.ReLU(L.Silence(n.data, ntop=0)),
     "ReLU: input 0: expected a top, such as n.data, found a Silence layer without tops"),
    (lambda n: L.ReLU(n.data, ntop="2"), "ReLU: ntop: expected the number of tops, 0 or more, found '2'"),
    (lambda n: L.ReLU(n.data, ntop=-1), "ReLU: ntop: expected the number of tops, 0 or more, found -1"),
    (lambda n: L.ReLU(in_place=True), "ReLU: in_place: 1 tops need as many inputs, found 0"),
    (lambda n: setattr(n, "both", L.DummyData(ntop=2)),
     'NetSpec: "both" was given 2 tops; name each of them, as in n.data, n.label = L.Data(..., ntop=2)'),
    (lambda n: setattr(n, "x", 3), 'NetSpec: "x": expected a top, found 3 (int)'),
    (lambda n: n["dat"], 'NetSpec has no top "dat"; did you mean "data"?'),
    (lambda n: n.__delitem__("dat"), 'NetSpec has no top "dat"; did you mean "data"?'),
    (lambda n: n.update("dat", {}), 'NetSpec has no top "dat"; did you mean "data"?'),
])  # fmt: skip
def test_refusals(n, make, words):
    with pytest.raises(ArgumentError) as error:
        make(n)
    assert str(error.value) == words


def test_a_top_that_was_not_assigned(n):
    with pytest.raises(AttributeError) as error:
        L.ReLU(n.dta)
    assert str(error.value) == 'NetSpec has no top "dta"; did you mean "data"?'


def test_in_place_with_more_inputs_than_tops():
    a, b = L.DummyData(ntop=2)
    made = L.Scale(a, b, in_place=True).to_proto()
    assert (list(made.layer[1].bottom), list(made.layer[1].top)) == (
        ["DummyData1", "DummyData2"],
        ["DummyData1"],
    )


def test_pycaffes_names_are_in_the_module():
    assert net_spec.layers.ReLU().to_proto() == L.ReLU().to_proto()
    assert net_spec.params is P and net_spec.NetSpec is caffe.NetSpec


def test_examples():
    assert doctest.testmod(net_spec).failed == 0
