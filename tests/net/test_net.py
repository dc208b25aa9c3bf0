"""Net: pycaffe's interface, run, reshaped, shared, called back and refused."""

import numpy as np
import pytest

import caffebn
from caffebn import errors
from caffebn.proto import binary, text

MLP = """
name: "mlp"
layer { name: "in" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 4 dim: 3 } shape { dim: 4 } } }
layer { name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "score"
        inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
layer { name: "acc" type: "Accuracy" bottom: "score" bottom: "label" top: "acc" include { phase: TEST } }
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "mlp.prototxt"
    file.write_text(MLP)
    caffebn.set_random_seed(1)
    return file


def values():
    rng = np.random.default_rng(0)
    return {"data": rng.normal(size=(4, 3)).astype("f"), "label": np.array([0, 1, 1, 0], "f")}


def test_names_and_order(path):
    net = caffebn.Net(str(path), caffebn.TRAIN)
    assert net.name == "mlp"
    assert list(net.blobs) == ["data", "label", "ip1", "score", "loss"]
    assert list(net.params) == ["ip1", "ip2"]
    assert [layer.type for layer in net.layers] == [
        "Input",
        "InnerProduct",
        "ReLU",
        "InnerProduct",
        "SoftmaxWithLoss",
    ]
    assert list(net.layer_dict) == net._layer_names == ["in", "ip1", "relu", "ip2", "loss"]
    assert net.layer_dict["ip1"] is net.layers[1]
    assert (net.inputs, net.outputs) == (["data", "label"], ["loss"])
    assert net.top_names["relu"] == net.bottom_names["relu"] == ["ip1"]
    assert net.bottom_names["loss"] == ["score", "label"]
    assert net.blob_loss_weights["loss"] == 1
    assert net.blob_loss_weights["score"] == 0


def test_the_test_phase_splits_what_two_layers_read(path):
    net = caffebn.Net(str(path), caffebn.TEST)
    assert net.outputs == ["acc", "loss"]
    assert net.layer_dict["label_in_1_split"].type == "Split"
    assert net.bottom_names["acc"] == ["score_ip2_0_split_1", "label_in_1_split_1"]


@pytest.mark.parametrize(
    "arguments",
    [
        lambda p, w: ((p, caffebn.TRAIN), {"weights": w}),
        lambda p, w: ((p, w, caffebn.TRAIN), {}),
        lambda p, w: ((p, caffebn.TRAIN, 0, None, w), {}),
        lambda p, w: ((p,), {"phase": "TRAIN", "weights": w}),
    ],
)
def test_ways_of_calling(path, tmp_path, arguments):
    first = caffebn.Net(str(path), caffebn.TRAIN)
    first.save(tmp_path / "w.caffemodel")
    args, kwargs = arguments(str(path), str(tmp_path / "w.caffemodel"))
    net = caffebn.Net(*args, **kwargs)
    assert net.phase == "TRAIN"
    np.testing.assert_array_equal(net.params["ip2"][0].data, first.params["ip2"][0].data)


def test_forward_is_the_arithmetic(path):
    net = caffebn.Net(str(path), caffebn.TEST)
    feed = values()
    out = net.forward(blobs=["score"], **feed)
    w1, b1, w2, b2 = (b.data.astype("d") for name in ("ip1", "ip2") for b in net.params[name])
    score = np.maximum(feed["data"] @ w1.T + b1, 0) @ w2.T + b2
    p = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    label = feed["label"].astype(int)
    assert set(out) == {"score", "loss", "acc"}
    np.testing.assert_allclose(out["score"], score, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out["loss"], -np.log(p[range(4), label]).mean(), rtol=1e-5)
    assert out["acc"] == np.mean(score.argmax(axis=1) == label)
    np.testing.assert_allclose(net.loss, out["loss"], rtol=1e-6)


def test_forward_of_a_part(path):
    net = caffebn.Net(str(path), caffebn.TRAIN)
    whole = net.forward(**values())["loss"].copy()
    score = net.blobs["score"].data.copy()
    net.blobs["score"].data[...] = 0
    np.testing.assert_allclose(net.forward(start="loss")["loss"], np.log(2), rtol=1e-6)
    assert list(net.forward(start="ip2", end="ip2")) == ["score"]
    np.testing.assert_array_equal(net.blobs["score"].data, score)
    np.testing.assert_array_equal(net.forward(start="loss")["loss"], whole)


def test_backward_returns_what_is_asked_for(path):
    net = caffebn.Net.from_text("force_backward: true\n" + MLP, caffebn.TRAIN)
    net.forward(**values())
    out = net.backward(diffs=["ip1"])
    assert set(out) == {"data", "label", "ip1"}
    assert np.abs(out["data"]).max() > 0
    half = net.backward(start="loss", end="ip2")
    assert set(half) == {"ip1"}
    doubled = net.params["ip2"][0].diff.copy()
    net.clear_param_diffs()
    net.backward()
    np.testing.assert_allclose(doubled, 2 * net.params["ip2"][0].diff, rtol=1e-5)
    assert list(net.backward(loss=np.array(1.0))) == ["data", "label"]


def test_forward_backward_is_both_and_the_loss_between(path):
    one, other = (caffebn.Net(str(path), caffebn.TRAIN) for _ in range(2))
    other.share_with(one)
    for net in (one, other):
        net.forward(**values())
    one.backward()
    loss = other.forward_backward()
    assert loss == one.loss > 0
    np.testing.assert_array_equal(one.parameters.diff.flat, other.parameters.diff.flat)
    assert other.parameters.diff.flat.any()


def test_gradients_stop_where_nothing_learns(path):
    frozen = MLP.replace(
        "inner_product_param { num_output: 5",
        "param { lr_mult: 0 } param { lr_mult: 0 } inner_product_param { num_output: 5",
    )
    net = caffebn.Net.from_text(frozen, caffebn.TRAIN)
    net.forward(**values())
    net.backward()
    assert np.abs(net.params["ip2"][0].diff).max() > 0
    assert np.abs(net.params["ip1"][0].diff).max() == 0
    assert not net.blobs["ip1"].has_diff


def test_a_net_without_loss_has_nothing_to_do_backward():
    net = caffebn.Net.from_text(MLP.replace("SoftmaxWithLoss", "Accuracy"), caffebn.TRAIN)
    net.forward(**values())
    net.backward()
    assert np.abs(net.params["ip2"][0].diff).max() == 0


def test_new_shapes_go_through(path):
    net = caffebn.Net(str(path), caffebn.TRAIN)
    net.blobs["data"].reshape(7, 3)
    net.blobs["label"].reshape(7)
    net.forward()
    assert net.blobs["score"].shape == (7, 2)
    net.blobs["data"].reshape(2, 3)
    net.blobs["label"].reshape(2)
    net.reshape()
    assert net.blobs["score"].shape == (2, 2)
    assert net.blobs["loss"].diff == 1


def test_forward_all_pads_the_last_batch(path):
    net = caffebn.Net(str(path), caffebn.TEST)
    rng = np.random.default_rng(1)
    data, label = rng.normal(size=(10, 3)).astype("f"), np.zeros(10, "f")
    out = net.forward_all(blobs=["score"], data=data, label=label)
    assert out["score"].shape == (10, 2)
    for i in range(10):
        net.blobs["data"].data[...] = data[i]
        np.testing.assert_allclose(net.forward(blobs=["score"])["score"][0], out["score"][i], rtol=1e-6)


def test_forward_backward_all():
    net = caffebn.Net.from_text(
        'force_backward: true layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'
        'layer { name: "t" type: "TanH" bottom: "x" top: "y" }',
        caffebn.TRAIN,
        dtype="float64",
    )
    rng = np.random.default_rng(2)
    x, dy = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    outputs, diffs = net.forward_backward_all(x=x, y=dy)
    np.testing.assert_allclose(outputs["y"], np.tanh(x), rtol=1e-12)
    np.testing.assert_allclose(diffs["x"], dy * (1 - np.tanh(x) ** 2), rtol=1e-10)


def test_callbacks_see_each_layer(path):
    net = caffebn.Net(str(path), caffebn.TRAIN)
    seen = []
    net.before_forward(lambda i: seen.append(("bf", i)))
    net.after_forward(lambda i: seen.append(("af", i)))
    net.before_backward(lambda i: seen.append(("bb", i)))
    net.after_backward(lambda i: seen.append(("ab", i)))
    net.forward(**values())
    assert seen == [(w, i) for i in range(5) for w in ("bf", "af")]
    seen.clear()
    net.backward()
    assert seen == [(w, i) for i in reversed(range(5)) for w in ("bb", "ab")]


SIAMESE = """
layer {{ name: "in" type: "Input" top: "a" top: "b" input_param {{ shape {{ dim: 2 dim: 3 }} }} }}
layer {{ name: "left" type: "InnerProduct" bottom: "a" top: "l" param {{ name: "w" {first} }} param {{ name: "v" }}
        inner_product_param {{ num_output: 4 weight_filler {{ type: "gaussian" }} }} }}
layer {{ name: "right" type: "InnerProduct" bottom: "b" top: "r" param {{ name: "w" {second} }} param {{ name: "v" }}
        inner_product_param {{ num_output: {outputs} }} }}
layer {{ name: "sum" type: "Eltwise" bottom: "l" bottom: "r" top: "s" loss_weight: 1 }}
"""


def test_parameters_shared_by_name():
    net = caffebn.Net.from_text(SIAMESE.format(first="", second="", outputs=4), caffebn.TRAIN)
    left, right = net.params["left"], net.params["right"]
    assert np.shares_memory(left[0].data, right[0].data)
    assert np.shares_memory(left[1].diff, right[1].diff)
    net.blobs["a"].data[...] = net.blobs["b"].data[...] = np.arange(6).reshape(2, 3)
    net.forward()
    np.testing.assert_array_equal(net.blobs["l"].data, net.blobs["r"].data)
    net.backward()
    np.testing.assert_allclose(left[0].diff, 2 * np.tile([3.0, 5.0, 7.0], (4, 1)))
    assert [p.owner is None for p in net.parameters] == [True, True, False, False]


@pytest.mark.parametrize(
    ("first", "second", "rates"),
    [("lr_mult: 2", "", [2, 2]), ("", "lr_mult: 3", [3, 3]), ("lr_mult: 2", "lr_mult: 2", [2, 2])],
)
def test_shared_multipliers_come_from_whoever_states_them(first, second, rates):
    net = caffebn.Net.from_text(SIAMESE.format(first=first, second=second, outputs=4), caffebn.TRAIN)
    assert [p.lr_mult for p in net.parameters if p.name == "w"] == rates


def test_shared_parameters_that_do_not_agree():
    body = SIAMESE.format(first="", second="", outputs=5).replace('type: "Eltwise"', 'type: "Concat"')
    with pytest.raises(
        errors.NetError,
        match=r'<text>:\d+:\d+: layer "right" \(InnerProduct\): parameter "w" is shared with layer "left": '
        "expected 4x3, found 5x3",
    ):
        caffebn.Net.from_text(body, caffebn.TRAIN)
    with pytest.raises(errors.NetError, match="which states lr_mult 2, here it is 1: state it once"):
        caffebn.Net.from_text(
            SIAMESE.format(first="lr_mult: 2", second="lr_mult: 1", outputs=4), caffebn.TRAIN
        )


def test_permissive_sharing_asks_for_the_count_only():
    body = (
        'layer {{ name: "in" type: "Input" top: "a" input_param {{ shape {{ dim: 2 dim: 4 }} }} }}'
        'layer {{ name: "one" type: "Bias" bottom: "a" top: "b" param {{ name: "w" }} }}'
        'layer {{ name: "two" type: "InnerProduct" bottom: "b" top: "c" param {{ name: "w" {mode} }} '
        "inner_product_param {{ num_output: 1 bias_term: false }} }}"
    )
    net = caffebn.Net.from_text(body.format(mode="share_mode: PERMISSIVE"), caffebn.TRAIN)
    assert np.shares_memory(net.params["one"][0].data, net.params["two"][0].data)
    with pytest.raises(errors.NetError, match=r"expected 4, found 1x4 \(share_mode: PERMISSIVE"):
        caffebn.Net.from_text(body.format(mode=""), caffebn.TRAIN)


def test_all_parameters_lie_in_one_flat_buffer(path):
    net = caffebn.Net(str(path), caffebn.TRAIN)
    flat = np.concatenate([b.data.ravel() for blobs in net.params.values() for b in blobs])
    np.testing.assert_array_equal(net.parameters.data.flat, flat)
    net.parameters.diff.flat[...] = 1
    assert all((b.diff == 1).all() for blobs in net.params.values() for b in blobs)


def test_share_with(path):
    one, two = caffebn.Net(str(path), caffebn.TRAIN), caffebn.Net(str(path), caffebn.TEST)
    two.share_with(one)
    one.params["ip1"][0].data[...] = 7
    assert (two.params["ip1"][0].data == 7).all()
    other = caffebn.Net.from_text(MLP.replace("num_output: 5", "num_output: 6"), caffebn.TEST)
    with pytest.raises(
        errors.WeightsError,
        match=r'share_with: layer "ip1" \(InnerProduct\): expected parameters .*6x3.*found .*5x3',
    ):
        other.share_with(one)


def test_memory_data(path):
    net = caffebn.Net.from_text(
        'layer { name: "m" type: "MemoryData" top: "data" top: "label" '
        "memory_data_param { batch_size: 2 channels: 1 height: 1 width: 3 } }",
        caffebn.TRAIN,
    )
    data = np.arange(12, dtype="f").reshape(4, 1, 1, 3)
    net.set_input_arrays(data, np.arange(4, dtype="f"))
    np.testing.assert_array_equal(net.forward()["data"], data[:2])
    np.testing.assert_array_equal(net.forward()["data"], data[2:])
    with pytest.raises(
        errors.ArgumentError, match=r'the first layer has to be MemoryData, it is "in" \(Input\)'
    ):
        caffebn.Net(str(path), caffebn.TRAIN).set_input_arrays(data, np.arange(4, dtype="f"))


def test_stages_and_levels(tmp_path):
    body = INPUT.replace('top: "x"', 'top: "x" include { stage: "deploy" min_level: 2 }')
    assert caffebn.Net.from_text(body, caffebn.TEST, stages=["deploy"], level=2).inputs == ["x"]
    assert caffebn.Net.from_text(body, caffebn.TEST, stages=["deploy"]).inputs == []


def test_weighted_losses_add_up():
    net = caffebn.Net.from_text(
        'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 2 } } }'
        'layer { name: "t" type: "ReLU" bottom: "x" top: "y" loss_weight: 0.5 }'
        'layer { name: "u" type: "ReLU" bottom: "y" top: "z" loss_weight: 2 }',
        caffebn.TRAIN,
    )
    net.forward(x=np.ones((2, 2)))
    assert net.loss == 0.5 * 4 + 2 * 4


def test_a_loss_layer_makes_its_own_top():
    net = caffebn.Net.from_text(MLP.replace(' top: "loss"', ""), caffebn.TRAIN)
    net.forward(**values())
    assert net.outputs == []
    assert net.loss > 0


def test_same_seed_same_weights(path):
    nets = []
    for _ in range(2):
        caffebn.set_random_seed(11)
        nets.append(caffebn.Net(str(path), caffebn.TRAIN))
    np.testing.assert_array_equal(nets[0].params["ip1"][0].data, nets[1].params["ip1"][0].data)


def test_a_duplicate_layer_name_is_worth_a_word():
    with pytest.warns(errors.CaffebnWarning, match=r'<text>:1:\d+: layer name "a" is used twice'):
        net = caffebn.Net.from_text(
            'layer { name: "a" type: "Input" top: "x" input_param { shape { dim: 1 } } } '
            'layer { name: "a" type: "ReLU" bottom: "x" top: "y" }',
            caffebn.TEST,
        )
    assert net._layer_names == ["a", "a"]
    assert net.layer_dict["a"].type == "ReLU"


INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }\n'


def layer(kind: str, body: str, name: str = "a") -> str:
    return f'layer {{ name: "{name}" type: "{kind}" {body} }}\n'


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            layer("Convolutoin", 'bottom: "x" top: "y"'),
            r'<text>:2:\d+: layer "a": unknown layer type "Convolutoin"; did you mean "Convolution"\?',
        ),
        (layer("ReLU", 'bottom: "x" bottom: "x" top: "y"'), r'layer "a" \(ReLU\): needs 1 bottom, found 2'),
        (layer("ReLU", 'bottom: "x"'), r'layer "a" \(ReLU\): needs 1 top, found 0'),
        (layer("Eltwise", 'bottom: "x" top: "y"'), "needs at least 2 bottoms, found 1"),
        (
            layer("InnerProduct", 'bottom: "x" top: "x" inner_product_param { num_output: 1 }'),
            r'layer "a" \(InnerProduct\): cannot work in place: give it a top other than "x"',
        ),
        (
            layer("ReLU", 'bottom: "x" top: "y"') + layer("ReLU", 'bottom: "y" top: "x"', "b"),
            r'top "x" is made by layer "in" already',
        ),
        (
            layer("ReLU", 'bottom: "x" top: "y" propagate_down: true propagate_down: true'),
            "propagate_down: expected one value for each of its 1 bottoms, found 2",
        ),
        (
            layer("ReLU", 'bottom: "x" top: "y" loss_weight: 1 loss_weight: 1'),
            "loss_weight: expected one for each of its 1 tops or none, found 2",
        ),
        (
            layer("Bias", 'bottom: "x" top: "y" bias_param { filler { type: "xaver" } }'),
            r'layer "a" \(Bias\): unknown filler type "xaver"; did you mean "xavier"\?',
        ),
    ],
)
def test_nets_that_cannot_be_made(body, message):
    with pytest.raises(errors.NetError, match=message):
        caffebn.Net.from_text(INPUT + body, caffebn.TEST)


def test_no_gradient_where_one_is_asked_for():
    net = caffebn.Net.from_text("force_backward: true\n" + MLP, caffebn.TEST)
    net.forward(**values())
    with pytest.raises(
        errors.NetError,
        match=r'layer "acc" \(Accuracy\): has no gradient, but one of its bottoms asks for it',
    ):
        net.backward()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n: n.forward(start="ip3"), r'there is no layer "ip3"; did you mean "ip[12]"\?'),
        (lambda n: n.forward(blobs=["scor"]), r'there is no blob "scor"; did you mean "score"\?'),
        (lambda n: n.forward(data=np.zeros((4, 3))), "input blobs: expected data, label, found data"),
        (
            lambda n: n.forward(data=np.zeros((4, 2)), label=np.zeros(4)),
            r'input blob "data": expected shape 4x3, found 4x2',
        ),
        (lambda n: n.backward(loss=np.zeros(3)), r'output blob "loss": expected shape no axes, found 3'),
        (lambda n: n.backward(score=np.zeros(3)), "output blobs: expected loss, found score"),
        (lambda n: n.forward_all(data=np.zeros((4, 3)), label=np.zeros(5)), "same number of items"),
    ],
)
def test_calls_that_are_refused(path, call, message):
    with pytest.raises(errors.ArgumentError, match=message):
        call(caffebn.Net(str(path), caffebn.TRAIN))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: caffebn.Net(p), errors.ArgumentError, "Net needs a phase: caffebn.TRAIN or caffebn.TEST"),
        (
            lambda p: caffebn.Net(p, 3),
            errors.ArgumentError,
            "phase: expected caffebn.TRAIN or caffebn.TEST, found 3",
        ),
        (lambda p: caffebn.Net(p, 0, 0, None, None, 1), errors.ArgumentError, "Net takes"),
        (
            lambda p: caffebn.Net(p, caffebn.TEST, dtype="float16"),
            errors.ArgumentError,
            "expected float32 or float64",
        ),
        (lambda p: caffebn.Net(p + "x", caffebn.TEST), errors.FileError, "there is no such file"),
        (lambda p: caffebn.Net(p, caffebn.TEST, device="tpu"), errors.ArgumentError, "tpu"),
    ],
)
def test_wrong_ways_of_making(path, call, error, message):
    with pytest.raises(error, match=message):
        call(str(path))


def test_a_message_makes_a_net_too():
    definition = text.parse(MLP, "NetParameter")
    before = definition.copy()
    assert caffebn.Net(definition, caffebn.TRAIN).outputs == ["loss"]
    assert definition == before


def test_strict_refuses_what_is_unknown(tmp_path):
    file = tmp_path / "odd.prototxt"
    file.write_text(INPUT + "fork_field: 3")
    with pytest.warns(errors.CaffebnWarning, match="fork_field"):
        caffebn.Net(file, caffebn.TEST)
    with pytest.raises(errors.ParseError, match="fork_field"):
        caffebn.Net(file, caffebn.TEST, strict=True)


def test_mode(no_gpu):
    caffebn.set_mode_cpu()
    assert caffebn.Net.from_text(INPUT, caffebn.TEST).device == "cpu"
    words = r'^the GPU back end needs the package "cupy": pip install "caffebn\[gpu\]"$'
    for call in (caffebn.set_mode_gpu, lambda: caffebn.set_device(1)):
        with pytest.raises(errors.MissingPackageError, match=words):
            call()
    assert caffebn.Net.from_text(INPUT, caffebn.TEST).device == "cpu"


@pytest.mark.gpu
def test_mode_gpu():
    caffebn.set_device(0)
    caffebn.set_mode_gpu()
    try:
        assert caffebn.Net.from_text(INPUT, caffebn.TEST).device == "gpu"
    finally:
        caffebn.set_mode_cpu()
    with pytest.raises(
        errors.DeviceError, match=r"^there is no GPU 99: found \d+, numbered from 0; `caffebn device`"
    ):
        caffebn.set_device(99)


def test_a_net_of_the_v0_form_runs_with_weights_of_that_form(tmp_path):
    old = """
        input: "x" input_dim: [2, 3, 5, 5]
        layers { layer { name: "pad" type: "padding" pad: 1 } bottom: "x" top: "p" }
        layers { layer { name: "conv" type: "conv" num_output: 4 kernelsize: 3 stride: 2 } bottom: "p" top: "c" }
        layers { layer { name: "relu" type: "relu" } bottom: "c" top: "c" }
        layers { layer { name: "fc" type: "innerproduct" num_output: 2 } bottom: "c" top: "fc" }
        """
    now = """
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [2, 3, 5, 5] } } }
        layer { name: "conv" type: "Convolution" bottom: "x" top: "c"
                convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 1 weight_filler { type: "msra" } } }
        layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
        layer { name: "fc" type: "InnerProduct" bottom: "c" top: "fc"
                inner_product_param { num_output: 2 weight_filler { type: "msra" } } }
        """
    net = caffebn.Net.from_text(now, caffebn.TEST)
    weights = text.parse(old)
    for connection in weights.layers:
        for blob in net.params.get(connection.layer.name, ()):
            shape = (1,) * (4 - len(blob.shape)) + blob.shape
            four = dict(zip(("num", "channels", "height", "width"), shape, strict=True))
            connection.layer.add("blobs", **four, data=blob.data.ravel())
    binary.write(tmp_path / "old.caffemodel", weights)
    again = caffebn.Net.from_text(old, caffebn.TEST, weights=tmp_path / "old.caffemodel")
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 5))
    found = again.forward(x=x)["fc"]
    assert found.std() > 0
    np.testing.assert_array_equal(found, net.forward(x=x)["fc"])
