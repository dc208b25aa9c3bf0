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
    net.layers[0].unknown.extend([UnknownBinary(5, 0, b"\x2b"), kept])
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


# -- the V0 form


def v0(type, fields="", name="a", bottom="x", top="y"):
    return f'layers {{ layer {{ name: "{name}" type: "{type}" {fields} }} bottom: "{bottom}" top: "{top}" }}'


def test_v0_net():
    net = upgraded(
        """
        name: "old"
        layers { layer { name: "data" type: "data" source: "db" batchsize: 64 cropsize: 5 mirror: true
                         scale: 0.5 meanfile: "mean" rand_skip: 3 } top: "data" top: "label" }
        layers { layer { name: "pad1" type: "padding" pad: 2 } bottom: "data" top: "pad1" }
        layers { layer { name: "conv1" type: "conv" num_output: 6 kernelsize: 5 group: 2 stride: 3 biasterm: false
                         weight_filler { type: "gaussian" std: 0.1 } blobs_lr: 1 blobs_lr: 2
                         weight_decay: 1 weight_decay: 0 } bottom: "pad1" top: "conv1" }
        layers { layer { name: "relu1" type: "relu" } bottom: "conv1" top: "conv1" }
        layers { layer { name: "pool1" type: "pool" pool: AVE kernelsize: 3 stride: 2 pad: 1 }
                 bottom: "conv1" top: "pool1" }
        layers { layer { name: "norm1" type: "lrn" local_size: 3 alpha: 0.1 beta: 0.5 k: 2 }
                 bottom: "pool1" top: "norm1" }
        layers { layer { name: "drop" type: "dropout" dropout_ratio: 0.25 } bottom: "norm1" top: "norm1" }
        layers { layer { name: "fc" type: "innerproduct" num_output: 10 biasterm: true
                         bias_filler { value: 1 } } bottom: "norm1" top: "fc" }
        layers { layer { name: "loss" type: "softmax_loss" } bottom: "fc" bottom: "label" }
        """,
        [
            '1 padding layers are now the pad of what read them: "pad1"',
            "8 layers in the V0 form (layers { layer { ... } }) are now in the present form (layer)",
        ],
    )
    assert net == text.parse(
        """
        name: "old"
        layer { name: "data" type: "Data" top: "data" top: "label"
                transform_param { scale: 0.5 mirror: true crop_size: 5 mean_file: "mean" }
                data_param { source: "db" batch_size: 64 rand_skip: 3 } }
        layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
                param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
                convolution_param { num_output: 6 bias_term: false pad: 2 kernel_size: 5 group: 2 stride: 3
                                    weight_filler { type: "gaussian" std: 0.1 } } }
        layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
        layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
                pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
        layer { name: "norm1" type: "LRN" bottom: "pool1" top: "norm1"
                lrn_param { local_size: 3 alpha: 0.1 beta: 0.5 k: 2 } }
        layer { name: "drop" type: "Dropout" bottom: "norm1" top: "norm1" dropout_param { dropout_ratio: 0.25 } }
        layer { name: "fc" type: "InnerProduct" bottom: "norm1" top: "fc"
                inner_product_param { num_output: 10 bias_term: true bias_filler { value: 1 } } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" }
        """
    )


@pytest.mark.parametrize(("old", "now"), {
    "accuracy": "Accuracy", "bnll": "BNLL", "concat": "Concat", "conv": "Convolution", "data": "Data",
    "dropout": "Dropout", "euclidean_loss": "EuclideanLoss", "flatten": "Flatten", "hdf5_data": "HDF5Data",
    "hdf5_output": "HDF5Output", "im2col": "Im2col", "images": "ImageData", "infogain_loss": "InfogainLoss",
    "innerproduct": "InnerProduct", "lrn": "LRN", "multinomial_logistic_loss": "MultinomialLogisticLoss",
    "pool": "Pooling", "relu": "ReLU", "sigmoid": "Sigmoid", "softmax": "Softmax",
    "softmax_loss": "SoftmaxWithLoss", "split": "Split", "tanh": "TanH", "window_data": "WindowData",
}.items())  # fmt: skip
def test_v0_type_names(old, now):
    assert upgraded(v0(old)).layer[0].type == now


#: For each V0 field a value, and where Caffe takes it for which types.
V0_FIELDS = [
    ("num_output: 3", "num_output: 3", "conv innerproduct"),
    ("biasterm: false", "bias_term: false", "conv innerproduct"),
    ('weight_filler { type: "x" }', 'weight_filler { type: "x" }', "conv innerproduct"),
    ('bias_filler { type: "x" }', 'bias_filler { type: "x" }', "conv innerproduct"),
    ("pad: 3", "pad: 3", "conv pool"),
    ("kernelsize: 3", "kernel_size: 3", "conv pool"),
    ("group: 3", "group: 3", "conv"),
    ("stride: 3", "stride: 3", "conv pool"),
    ("pool: STOCHASTIC", "pool: STOCHASTIC", "pool"),
    ("dropout_ratio: 3", "dropout_ratio: 3", "dropout"),
    ("local_size: 3", "local_size: 3", "lrn"),
    ("alpha: 3", "alpha: 3", "lrn"),
    ("beta: 3", "beta: 3", "lrn"),
    ("k: 3", "k: 3", "lrn"),
    ('source: "s"', 'source: "s"', "data hdf5_data images window_data infogain_loss"),
    ("batchsize: 3", "batch_size: 3", "data hdf5_data images window_data"),
    ("rand_skip: 3", "rand_skip: 3", "data images"),
    ("det_fg_threshold: 3", "fg_threshold: 3", "window_data"),
    ("det_bg_threshold: 3", "bg_threshold: 3", "window_data"),
    ("det_fg_fraction: 3", "fg_fraction: 3", "window_data"),
    ("det_context_pad: 3", "context_pad: 3", "window_data"),
    ('det_crop_mode: "x"', 'crop_mode: "x"', "window_data"),
    ("new_num: 3", "", ""),
    ("new_channels: 3", "", ""),
    ("new_height: 3", "new_height: 3", "images"),
    ("new_width: 3", "new_width: 3", "images"),
    ("shuffle_images: true", "shuffle: true", "images"),
    ("concat_dim: 3", "concat_dim: 3", "concat"),
    ('hdf5_output_param { file_name: "f" }', 'file_name: "f"', "hdf5_output"),
]
V0_PARAMS = {
    "conv": "convolution_param", "innerproduct": "inner_product_param", "pool": "pooling_param",
    "dropout": "dropout_param", "lrn": "lrn_param", "data": "data_param", "hdf5_data": "hdf5_data_param",
    "images": "image_data_param", "window_data": "window_data_param", "infogain_loss": "infogain_loss_param",
    "concat": "concat_param", "hdf5_output": "hdf5_output_param", "relu": "",
}  # fmt: skip


def test_every_field_of_v0_is_accounted_for():
    known = {field.split(":")[0].split()[0] for field, _, _ in V0_FIELDS}
    special = {"name", "type", "blobs", "blobs_lr", "weight_decay", "scale", "meanfile", "cropsize", "mirror"}
    assert known | special == schema.messages["V0LayerParameter"].fields.keys()


@pytest.mark.parametrize(("old", "now", "types"), V0_FIELDS, ids=lambda value: value.split(":")[0])
def test_v0_fields_go_where_caffe_takes_them(old, now, types):
    for type, param in V0_PARAMS.items():
        if type in types.split():
            expected = f"{param} {{ {now} }}"
            layer = upgraded(v0(type, old)).layer[0]
        else:
            expected = ""
            with pytest.warns(
                CaffebnWarning, match=f'has no effect in a layer of type "{type}", as in Caffe'
            ):
                layer = upgraded(v0(type, old)).layer[0]
        name = upgraded(v0(type)).layer[0].type
        assert layer == text.parse(
            f'name: "a" type: "{name}" bottom: "x" top: "y" {expected}', "LayerParameter"
        )


@pytest.mark.parametrize(("old", "now"), [
    ("scale: 3", "scale: 3"), ('meanfile: "m"', 'mean_file: "m"'), ("cropsize: 3", "crop_size: 3"),
    ("mirror: true", "mirror: true"),
])  # fmt: skip
@pytest.mark.parametrize("type", V0_PARAMS)
def test_v0_transformations(type, old, now):
    layer = upgraded(v0(type, old)).layer[0]
    assert layer.transform_param == text.parse(now, "TransformationParameter")
    assert sum(field.name.endswith("_param") for field, _ in layer.set_fields()) == 1


def test_v0_fields_without_effect_are_named_with_their_place():
    net = text.parse(f"name: 'n'\n{v0('relu', 'stride: 2 new_num: 3')}")
    with pytest.warns(CaffebnWarning) as caught:
        upgrade.net(net)
    assert str(caught[0].message) == (
        '<text>:2:41: layer "a": stride, new_num has no effect in a layer of type "relu", as in Caffe, '
        "and is left out"
    )
    assert len(caught) == 1 and caught[0].filename == __file__


def test_v0_weights_are_carried_over_without_a_copy():
    old = Message("NetParameter", layers=[{"layer": {"name": "a", "type": "innerproduct"}, "top": ["y"]}])
    old.layers[0].layer.add(
        "blobs", num=1, channels=1, height=1, width=3, data=np.arange(3, dtype=np.float32)
    )
    raw = binary.dump(old)
    net = binary.parse(raw)
    upgrade.net(net)
    data = net.layer[0].blobs[0].data
    assert list(data) == [0, 1, 2] and (net.layer[0].name, list(net.layer[0].top)) == ("a", ["y"])
    assert np.shares_memory(data, np.frombuffer(raw, np.uint8))


def test_v0_beside_v1_layers():
    net = upgraded(
        v0("relu") + 'layers { name: "b" type: TANH bottom: "y" top: "z" }',
        [
            "1 layers in the V0 form (layers { layer { ... } }) are now in the present form (layer)",
            "1 layers in the V1 form (layers) are now in the present form (layer)",
        ],
    )
    assert [(layer.name, layer.type) for layer in net.layer] == [("a", "ReLU"), ("b", "TanH")]


def test_v0_connections_keep_what_they_say():
    net = upgraded(
        'layers { layer { name: "a" type: "relu" } bottom: "x" top: "y" include { phase: TRAIN } }'
    )
    assert net.layer[0].include[0].phase == "TRAIN"


def test_v0_with_input_fields():
    net = upgraded('input: "x" input_dim: [1, 2, 3, 4] ' + v0("relu"))
    assert [layer.type for layer in net.layer] == ["Input", "ReLU"]


def test_v0_places_are_carried_over():
    net = upgraded('layers {\n layer {\n  name: "a"\n  type: "relu" }\n bottom: "x" top: "y" }')
    layer = net.layer[0]
    assert (layer.where_of("name").line, layer.where_of("type").line, layer.where_of("top").line) == (3, 4, 5)


@pytest.mark.parametrize("reader", ["conv", "pool"])
def test_a_padding_layer_pads_all_that_read_it(reader):
    net = upgraded(
        v0("padding", "pad: 3", "pad", "x", "p")
        + v0(reader, "", "a", "p", "y")
        + v0("conv", "", "b", "p", "z")
    )
    first, second = net.layer
    assert (list(first.bottom), list(second.bottom)) == (["x"], ["x"])
    pads = [
        getattr(layer, {"Pooling": "pooling_param"}.get(layer.type, "convolution_param")).pad
        for layer in net.layer
    ]
    assert pads == [[3] if reader == "conv" else 3, [3]]


PADDING = v0("padding", "pad: 3", "pad", "x", "p") + "\n"


@pytest.mark.parametrize(("source", "words"), [
    (v0("convolution"), '<text>:1:28: layer "a": there is no type "convolution" in the V0 form'),
    (v0("pooll"), 'there is no type "pooll" in the V0 form; did you mean "pool"? (known: accuracy, bnll, '),
    (PADDING + v0("relu", "", "a", "p"),
     '<text>:2:10: padding layer "pad": layer "a" (type "relu") reads it, but only a conv or a pool with one '
     "bottom can"),
    (PADDING + 'layers { layer { name: "c" type: "conv" } bottom: "x" bottom: "p" }',
     'padding layer "pad": layer "c" (type "conv") reads it, but only a conv or a pool with one bottom can'),
    (PADDING + v0("padding", "pad: 1", "again", "p", "q") + v0("conv", "", "c", "q"),
     'padding layer "pad": layer "again" (type "padding") reads it, but only'),
    (PADDING + v0("conv", "pad: 1", "c", "p"), 'padding layer "pad": layer "c" behind it has a pad of its own'),
    (PADDING, '<text>:1:10: padding layer "pad": no layer reads what it makes'),
    ('layers { layer { name: "p" type: "padding" } bottom: "x" top: "y" top: "z" }' + v0("conv", "", "c", "z"),
     'padding layer "p": it needs one bottom and one top, found 1 and 2'),
])  # fmt: skip
def test_v0_refusals(source, words):
    with pytest.raises(NetError) as error:
        upgrade.net(text.parse(source))
    assert words in str(error.value)


def test_v0_refusals_of_binary_files_name_the_file():
    net = binary.parse(binary.dump(Message("NetParameter", layers=[{"layer": {"name": "a", "type": "x"}}])))
    with pytest.raises(NetError, match=r'^old\.caffemodel: layer "a": there is no type "x" in the V0 form'):
        upgrade.net(net, "old.caffemodel")


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


def test_nets_in_a_solver():
    source = 'net_param { layers { name: "a" type: RELU } } test_net_param {} test_net_param { input: "x" }'
    solver = text.parse(source, "SolverParameter")
    assert upgrade.solver(solver) == [
        'test_net_param: input without a shape was dropped: "x"',
        "net_param: 1 layers in the V1 form (layers) are now in the present form (layer)",
    ]
    assert solver.net_param.layer[0].type == "ReLU"
    assert upgrade.solver(solver) == []
