from __future__ import annotations

import warnings

import numpy as np
import pytest

from caffebn.errors import CaffebnWarning, NetError
from caffebn.proto import Message, UnknownBinary, binary, schema, text, upgrade


def upgraded(source, expected_changes=None):
    net = text.parse(source)
    changes = upgrade.net(net)
    if expected_changes is not None:
        assert changes == expected_changes
    assert upgrade.net(net) == []  # a second time there is nothing to do
    return net


def test_a_present_net_stays_as_it_is():
    source = 'name: "n" layer { name: "a" type: "ReLU" bottom: "x" top: "y" param { lr_mult: 3 } }'
    assert upgraded(source, []) == text.parse(source)


# -- V1 layers


def test_v1_layers():
    net = upgraded(
        """
        layers {
          name: "conv" type: CONVOLUTION bottom: "x" top: "y"
          blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
          param: "w" param: "b" blob_share_mode: PERMISSIVE
          convolution_param { num_output: 3 }
          include { phase: TRAIN } exclude { min_level: 2 }
        }
        layers { name: "loss" type: 21 bottom: "y" top: "l" loss_weight: 0.5 softmax_param { axis: 2 } }
        """,
        ["2 layers in the V1 form (layers) are now in the present form (layer)"],
    )
    assert net == text.parse(
        """
        layer {
          name: "conv" type: "Convolution" bottom: "x" top: "y"
          param { name: "w" share_mode: PERMISSIVE lr_mult: 1 decay_mult: 1 }
          param { name: "b" lr_mult: 2 decay_mult: 0 }
          convolution_param { num_output: 3 }
          include { phase: TRAIN } exclude { min_level: 2 }
        }
        layer {
          name: "loss" type: "SoftmaxWithLoss" bottom: "y" top: "l" loss_weight: 0.5
          softmax_param { axis: 2 }
        }
        """
    )


@pytest.mark.parametrize(("number", "name"), {
    0: "", 1: "Accuracy", 2: "BNLL", 3: "Concat", 4: "Convolution", 5: "Data", 6: "Dropout",
    7: "EuclideanLoss", 8: "Flatten", 9: "HDF5Data", 10: "HDF5Output", 11: "Im2col", 12: "ImageData",
    13: "InfogainLoss", 14: "InnerProduct", 15: "LRN", 16: "MultinomialLogisticLoss", 17: "Pooling",
    18: "ReLU", 19: "Sigmoid", 20: "Softmax", 21: "SoftmaxWithLoss", 22: "Split", 23: "TanH",
    24: "WindowData", 25: "Eltwise", 26: "Power", 27: "SigmoidCrossEntropyLoss", 28: "HingeLoss",
    29: "MemoryData", 30: "ArgMax", 31: "Threshold", 32: "DummyData", 33: "Slice", 34: "MVN",
    35: "AbsVal", 36: "Silence", 37: "ContrastiveLoss", 38: "Exp", 39: "Deconvolution",
}.items())  # fmt: skip
def test_type_names(number, name):
    net = Message("NetParameter", layers=[{"name": "a", "type": number}])
    upgrade.net(net)
    assert net.layer[0].type == name


def test_every_parameter_message_of_v1_has_its_place_in_the_present_form():
    old, now = schema.messages["V1LayerParameter"].fields, schema.messages["LayerParameter"].fields
    special = {"layer", "type", "blobs_lr", "weight_decay", "param", "blob_share_mode"}
    for name in old.keys() - special:
        assert (now[name].kind, now[name].type, now[name].label) == (
            old[name].kind,
            old[name].type,
            old[name].label,
        )


def test_weights_are_carried_over_without_a_copy():
    old = Message("NetParameter", layers=[{"name": "a", "type": "INNER_PRODUCT"}])
    old.layers[0].add("blobs", num=1, channels=1, height=1, width=3, data=np.arange(3, dtype=np.float32))
    raw = binary.dump(old)
    net = binary.parse(raw)
    assert upgrade.net(net) == ["1 layers in the V1 form (layers) are now in the present form (layer)"]
    data = net.layer[0].blobs[0].data
    assert list(data) == [0, 1, 2]
    assert np.shares_memory(data, np.frombuffer(raw, np.uint8))


def test_places_are_carried_over():
    net = upgraded(
        'input: "x"\ninput_dim: [1, 1, 1, 1]\nlayers {\n  type: RELU\n  blobs_lr: 1\n  blobs_lr: 2 }\n'
    )
    first, relu = net.layer
    assert (first.name, first.where) == ("input", ("<text>", 1, 1))
    assert relu.where == ("<text>", 3, 1)
    assert relu.where_of("type") == ("<text>", 4, 3)
    assert relu.param[1].where == relu.param[1].where_of("lr_mult") == ("<text>", 6, 3)


def test_unknown_fields_of_v1_layers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaffebnWarning)
        net = text.parse('layers { name: "a" type: RELU bn_param { x: 1 } }')
    upgrade.net(net)
    assert net.layer[0].unknown[0].name == "bn_param"

    net = Message("NetParameter", layers=[{"name": "a"}, {"name": "b", "type": "RELU"}])
    kept = UnknownBinary(41, 2, b"\x08\x01")
    net.layers[0].unknown.extend([UnknownBinary(5, 0, b"\x2a"), kept])
    assert upgrade.net(net) == [
        "2 layers in the V1 form (layers) are now in the present form (layer)",
        'the type of 1 layers is not in the V1 form and is now empty: "a"',
    ]
    # 5 was the number of the type; in the present form it is that of loss_weight
    assert net.layer[0].unknown == [kept]


def test_both_forms_together_are_refused():
    with pytest.raises(
        NetError, match=r"^<text>:2:1: the net has layers in the present form \(layer\) and in t"
    ):
        upgraded("layer {}\nlayers {}")


def test_v0_is_refused_by_name():
    with pytest.raises(NetError, match=r"^<text>:2:1: the net is in Caffe's V0 form \(layers { layer {"):
        upgraded('name: "a"\nlayers { layer { name: "c" type: "conv" } bottom: "x" top: "y" }')
    net = binary.parse(binary.dump(Message("NetParameter", layers=[{"layer": {}}])))
    with pytest.raises(NetError, match=r"^old.caffemodel: the net is in Caffe's V0 form"):
        upgrade.net(net, "old.caffemodel")


@pytest.mark.parametrize(("type", "param"), [
    ("DATA", "data_param"), ("IMAGE_DATA", "image_data_param"), ("WINDOW_DATA", "window_data_param"),
])  # fmt: skip
def test_old_transformations_move(type, param):
    net = upgraded(
        f'layers {{ type: {type} {param} {{ source: "s" scale: 0.5 mean_file: "m" crop_size: 3 '
        "mirror: true } transform_param { mean_value: 4 scale: 9 } }"
    )
    layer = net.layer[0]
    expected = {"scale": 0.5, "mean_file": "m", "crop_size": 3, "mirror": True, "mean_value": [4]}
    assert layer.transform_param == Message("TransformationParameter", **expected)
    assert [field.name for field, _ in getattr(layer, param).set_fields()] == ["source"]


def test_old_transformations_of_present_layers_have_no_effect_and_are_named():
    net = text.parse('layer {\n name: "d" type: "Data"\n data_param { scale: 0.5 mirror: true } }')
    with pytest.warns(CaffebnWarning) as caught:
        assert upgrade.net(net) == []
    assert str(caught[0].message) == (
        '<text>:3:2: layer "d": scale, mirror in data_param has no effect, as in Caffe; '
        "write it in transform_param"
    )
    assert caught[0].filename == __file__
    assert not net.layer[0].has("transform_param")


# -- input fields


def test_inputs_with_dims():
    net = upgraded(
        'input: "a" input: "b" input_dim: [1, 2, 3, 4, 5, 6, 7, 8] layer { name: "r" type: "ReLU" }',
        ['input fields are now an Input layer "input" with the tops "a", "b"'],
    )
    assert net == text.parse(
        'layer { name: "input" type: "Input" top: "a" top: "b" input_param { '
        'shape { dim: [1, 2, 3, 4] } shape { dim: [5, 6, 7, 8] } } } layer { name: "r" type: "ReLU" }'
    )


def test_inputs_with_shapes():
    net = upgraded('input: "a" input_shape { dim: [1, 2] } input_dim: [9, 9, 9, 9] layer { type: "ReLU" }')
    assert [layer.type for layer in net.layer] == ["Input", "ReLU"]
    assert net.layer[0].input_param.shape[0].dim == [1, 2]
    assert not any(net.has(name) for name in ("input", "input_dim", "input_shape"))


def test_inputs_stand_in_front_of_v1_layers():
    net = upgraded('input: "a" input_dim: [1, 1, 2, 2] layers { name: "r" type: RELU bottom: "a" top: "a" }')
    assert [layer.type for layer in net.layer] == ["Input", "ReLU"]


def test_an_input_without_shape_is_dropped():
    net = upgraded('input: "a" layer { type: "ReLU" }', ['input without a shape was dropped: "a"'])
    assert net == text.parse('layer { type: "ReLU" }')


@pytest.mark.parametrize(("source", "words"), [
    ('input: "a" input: "b"\ninput_shape { dim: 1 }', "<text>:2:1: 2 input need 2 input_shape, found 1"),
    ('input: "a"\ninput_dim: 1', "<text>:2:1: 1 input need 4 input_dim (four each), found 1"),
])  # fmt: skip
def test_inputs_that_do_not_belong_together(source, words):
    with pytest.raises(NetError) as error:
        upgraded(source)
    assert str(error.value) == words


# -- BatchNorm


def test_three_params_of_a_batch_norm_are_set_to_zero():
    net = upgraded(
        'layer { name: "a" type: "BatchNorm" param { lr_mult: 1 decay_mult: 1 } param {} param {} }'
        'layer { name: "b" type: "BatchNorm" param { lr_mult: 0 } param { lr_mult: 0 } }'
        'layer { name: "c" type: "Scale" param { lr_mult: 1 } param {} param {} }',
        [
            "lr_mult and decay_mult are now 0 in the three param of 1 BatchNorm layers, whose blobs are "
            'statistics and not learned: "a"'
        ],
    )
    assert [(p.lr_mult, p.decay_mult) for p in net.layer[0].param] == [(0, 0)] * 3
    assert all(p.has("lr_mult") and p.has("decay_mult") for p in net.layer[0].param)
    assert [(p.lr_mult, p.decay_mult) for p in net.layer[1].param] == [(0, 1)] * 2
    assert [p.lr_mult for p in net.layer[2].param] == [1, 1, 1]


def test_long_lists_of_names_are_cut():
    layer = 'layer { name: "bn" type: "BatchNorm" param {} param {} param {} }'
    changes = upgrade.net(text.parse(layer * 8))
    assert changes[0].endswith('"bn", "bn", "bn", "bn", "bn" and 3 more')


# -- solvers


@pytest.mark.parametrize(("old", "now"), [
    ("SGD", "SGD"), ("NESTEROV", "Nesterov"), ("ADAGRAD", "AdaGrad"), ("RMSPROP", "RMSProp"),
    ("ADADELTA", "AdaDelta"), ("5", "Adam"),
])  # fmt: skip
def test_solver_types(old, now):
    solver = text.parse(f"\nsolver_type: {old}", "SolverParameter")
    (words,) = upgrade.solver(solver)
    assert words.endswith(f'is now type: "{now}"')
    assert solver == Message("SolverParameter", type=now)
    assert solver.where_of("type") == ("<text>", 2, 1)
    assert upgrade.solver(solver) == []


def test_both_solver_types_are_refused():
    with pytest.raises(NetError) as error:
        upgrade.solver(text.parse('type: "SGD"\nsolver_type: ADAM', "SolverParameter"))
    assert str(error.value) == (
        '<text>:2:1: type: "SGD" and the old solver_type: ADAM are both given; remove solver_type'
    )
