"""Nets that promise only some blobs: the same numbers in less memory, and plain words about what is not there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import caffebn
from caffebn.blob import HiddenBlob
from caffebn.errors import ArgumentError
from caffebn.net.fuse import NormStep, ProductStep
from tests.net.test_fuse import check_equal, residual_net
from tests.net.test_fuse import make_net as make

INPUT = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 dim: 4 dim: 6 dim: 5 } } }\n'
LOSS = (
    'layer {{ name: "loss" type: "Reduction" bottom: "{}" top: "loss" reduction_param {{ operation: SUMSQ }} '
    "loss_weight: 0.5 }}\n"
)

MANY_TYPES = (
    INPUT
    + """
    layer { name: "a" type: "Convolution" bottom: "x" top: "a"
            convolution_param { num_output: 6 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
    layer { name: "a_bn" type: "BatchNorm" bottom: "a" top: "a_bn" }
    layer { name: "a_scale" type: "Scale" bottom: "a_bn" top: "a_scale"
            scale_param { bias_term: true filler { type: "uniform" min: 0.5 max: 2 }
                          bias_filler { type: "gaussian" } } }
    layer { name: "a_relu" type: "ReLU" bottom: "a_scale" top: "a_relu" }
    layer { name: "cut" type: "Slice" bottom: "a_relu" top: "left" top: "right" slice_param { slice_point: 2 } }
    layer { name: "lrn" type: "LRN" bottom: "left" top: "lrn" lrn_param { local_size: 3 } }
    layer { name: "drop" type: "Dropout" bottom: "right" top: "right" dropout_param { dropout_ratio: 0.5 } }
    layer { name: "elu" type: "ELU" bottom: "right" top: "elu" }
    layer { name: "together" type: "Concat" bottom: "lrn" bottom: "elu" bottom: "a_relu" top: "together" }
    layer { name: "max" type: "Pooling" bottom: "together" top: "max" pooling_param { kernel_size: 3 stride: 2 } }
    layer { name: "sigmoid" type: "Sigmoid" bottom: "max" top: "max" }
    layer { name: "times" type: "Eltwise" bottom: "max" bottom: "max" top: "times" eltwise_param { operation: PROD } }
    layer { name: "flat" type: "Flatten" bottom: "times" top: "flat" }
    layer { name: "flat_relu" type: "ReLU" bottom: "flat" top: "flat" }
    layer { name: "ip" type: "InnerProduct" bottom: "flat" top: "ip"
            inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
    layer { name: "again" type: "Reshape" bottom: "ip" top: "again" reshape_param { shape { dim: 0 dim: 5 dim: 1 } } }
    layer { name: "seen" type: "Silence" bottom: "lrn" }
    layer { name: "p" type: "Softmax" bottom: "again" top: "p" }
    """
    + LOSS.format("p")
)

TEXTS = {"residual": residual_net(), "many types": MANY_TYPES}


def run(net: caffebn.Net, seed: int = 0) -> dict[str, np.ndarray]:
    """Run a step as training does, or a forward pass, and collect what both kinds of nets let one see."""
    net.blobs["x"].data[...] = np.random.default_rng(seed).normal(size=net.blobs["x"].shape)
    net.clear_param_diffs()
    caffebn.set_random_seed(seed)
    found = {name: value.copy() for name, value in net.forward().items()}
    if net.phase == "TRAIN":
        net.backward()
        found |= {f"{p.layer.name}[{p.index}] diff": p.blob.diff.copy() for p in net.parameters}
        found["x diff"] = net.blobs["x"].diff.copy()
    return found | {f"{p.layer.name}[{p.index}]": p.blob.data.copy() for p in net.parameters}


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize(
    "options", [{}, {"fuse": False}, {"recompute": True}], ids=["joined", "one by one", "recomputed"]
)
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("text", TEXTS)
def test_the_numbers_are_those_of_a_net_that_keeps_all(text, phase, options, device):
    whole, lean = (
        make("force_backward: true\n" * (phase == "TRAIN") + TEXTS[text], phase, device=device, **more)
        for more in ({}, {"keep": [], **options})
    )
    for seed in range(3):
        check_equal(run(lean, seed), run(whole, seed))


@pytest.mark.parametrize("norm", ["use_global_stats: true", "use_global_stats: false"])
def test_either_kind_of_statistics_in_training(norm):
    text = "force_backward: true\n" + residual_net(norm)
    whole, lean, again = (
        make(text, "TRAIN", **more) for more in ({}, {"keep": []}, {"keep": [], "recompute": True})
    )
    for seed in range(2):
        expected = run(whole, seed)
        check_equal(run(lean, seed), expected)
        check_equal(run(again, seed), expected)


def test_single_precision_has_the_same_bits_in_training():
    text = "force_backward: true\n" + residual_net()
    whole, lean = (make(text, "TRAIN", "float32", keep=keep) for keep in (None, []))
    check_equal(run(lean), run(whole), rtol=0)


OPERATIONS = {
    "conv": 'type: "Convolution" bottom: "{0}" convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 '
    'weight_filler {{ type: "msra" }} }}',
    "bn": 'type: "BatchNorm" bottom: "{0}"',
    "scale": 'type: "Scale" bottom: "{0}" scale_param {{ bias_term: true }}',
    "relu": 'type: "ReLU" bottom: "{0}"',
    "sum": 'type: "Eltwise" bottom: "{0}" bottom: "{1}"',
    "concat": 'type: "Concat" bottom: "{0}" bottom: "{1}" concat_param {{ axis: 0 }}',
    "max": 'type: "Eltwise" bottom: "{0}" bottom: "{1}" eltwise_param {{ operation: MAX }}',
    "power": 'type: "Power" bottom: "{0}" power_param {{ scale: 0.5 shift: 1 }}',
}


@st.composite
def texts(draw) -> str:
    """A net of layers that keep the shape: each reads blobs that there are, some work in place."""
    blobs, lines, read = ["x"], [INPUT], {"x"}
    for i in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(list(OPERATIONS)))
        # mostly what was made last, so that chains arise
        first = blobs[-1] if draw(st.integers(0, 3)) else draw(st.sampled_from(blobs))
        second = draw(st.sampled_from(blobs))
        in_place = kind in ("bn", "scale", "relu") and first not in read and draw(st.booleans())
        top = first if in_place else f"b{i}"
        if not in_place:
            read |= {first, second} if kind in ("sum", "max", "concat") else {first}
        if kind == "concat":  # and apart again
            cut = f'{{ name: "s{i}" type: "Slice" bottom: "b{i}" top: "b{i}a" top: "b{i}b" slice_param {{ axis: 0 }} }}'
            lines.append(
                f'layer {{ name: "l{i}" top: "b{i}" {OPERATIONS[kind].format(first, second)} }}\nlayer {cut}\n'
            )
            blobs += [f"b{i}a", f"b{i}b"]
            continue
        lines.append(f'layer {{ name: "l{i}" top: "{top}" {OPERATIONS[kind].format(first, second)} }}\n')
        if not in_place:
            blobs.append(top)
    return "".join(lines) + LOSS.format(blobs[-1])


@settings(max_examples=60, deadline=None)
@given(texts(), st.sampled_from(["TRAIN", "TEST"]), st.booleans(), st.booleans())
def test_any_net_gives_the_same_numbers(text, phase, recompute, fuse):
    text = "force_backward: true\n" * (phase == "TRAIN") + text
    whole, lean = make(text, phase), make(text, phase, keep=[], recompute=recompute, fuse=fuse)
    for seed in range(2):
        check_equal(run(lean, seed), run(whole, seed), 1e-8)


def test_sums_join_what_comes_before():
    net = make(residual_net(), "TEST", keep=[])
    assert [step.what for step in net.steps if isinstance(step, ProductStep)] == [
        "Convolution + BatchNorm + Scale + ReLU",
        "Convolution + BatchNorm + Scale + Eltwise + ReLU",
        "InnerProduct + BatchNorm + ReLU",
    ]
    net = make(residual_net(), "TRAIN", keep=[])
    assert [step.what for step in net.steps if isinstance(step, NormStep)] == [
        "BatchNorm + Scale + ReLU",
        "BatchNorm + Scale + Eltwise + ReLU",
        "BatchNorm + ReLU",
    ]


def test_layers_that_are_not_in_place_join_as_well():
    net = make(MANY_TYPES, "TEST", keep=[])
    assert net.steps[1].what == "Convolution + BatchNorm + Scale + ReLU"
    assert make(MANY_TYPES, "TEST", keep=["a_scale"]).steps[1].what == "Convolution + BatchNorm + Scale"


def test_named_blobs_are_as_in_a_net_that_keeps_all():
    names = ["a", "lrn", "together", "flat"]
    for phase in ("TRAIN", "TEST"):
        whole, lean = (make("force_backward: true\n" + MANY_TYPES, phase, keep=k) for k in (None, names))
        run(whole), run(lean)
        for name in names:
            np.testing.assert_allclose(
                lean.blobs[name].data, whole.blobs[name].data, rtol=1e-10, err_msg=name
            )
            if phase == "TRAIN":
                np.testing.assert_allclose(
                    lean.blobs[name].diff, whole.blobs[name].diff, rtol=1e-10, atol=1e-12, err_msg=name
                )
        found = lean.forward(blobs=["lrn"])
        assert set(found) == {"lrn", "loss"}


def test_less_memory():
    text = "force_backward: true\n" + residual_net()
    whole, lean, again = (
        make(text, "TRAIN", keep=keep, recompute=recompute).plan_memory().bytes
        for keep, recompute in ((None, False), ([], False), ([], True))
    )
    assert again < lean < whole
    whole, lean = (make(residual_net(), "TEST", keep=keep).plan_memory(False).bytes for keep in (None, []))
    assert lean < whole


def test_a_chain_needs_two_places():
    layers = "".join(
        f'layer {{ name: "p{i}" type: "Power" bottom: "{"x" if i == 0 else f"b{i - 1}"}" top: "b{i}" }}\n'
        for i in range(9)
    )
    net = make(INPUT + layers, "TEST", keep=[])
    made = {id(net._wiring.blobs[k].memories[0]) for k in range(1, 9)}
    assert len(made) == 2
    size = net.blobs["x"].count * 8
    assert net.plan_memory().bytes == 4 * size  # the input, the output, and these two


def unit(shortcut: str, before: str = "", after: str = "") -> str:
    """A residual unit whose sum adds `shortcut`, and layers before its convolution and after its sum."""
    return INPUT + (
        'layer { name: "s" type: "Power" bottom: "x" top: "s" power_param { scale: 2 } }\n'
        f'{before}layer {{ name: "c" type: "Convolution" bottom: "s" top: "c" convolution_param {{ num_output: 4 '
        'kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }\n'
        f'layer {{ name: "y" type: "Eltwise" bottom: "c" bottom: "{shortcut}" top: "y" }}\n'
        f'layer {{ name: "r" type: "ReLU" bottom: "y" top: "y" }}\n{after}'
        'layer { name: "z" type: "Power" bottom: "y" top: "z" power_param { shift: 1 } }\n'
    )


PROJECTION = (
    'layer { name: "p" type: "Convolution" bottom: "s" top: "p" convolution_param { num_output: 4 kernel_size: 1 '
    'weight_filler { type: "msra" } } }\n'
)
READER = 'layer { name: "w" type: "Power" bottom: "p" top: "w" }\n'


@pytest.mark.parametrize(
    "text, keep, replaces",
    [
        (unit("p", PROJECTION), [], True),
        (unit("p", PROJECTION), ["p"], False),
        (unit("p", PROJECTION, READER), [], False),
        (unit("s"), [], False),  # the convolution reads it
        (unit("x"), [], False),  # the user fills it
    ],
    ids=["nobody else reads it", "kept", "read later", "read by the convolution", "an input"],
)
def test_a_sum_takes_the_place_of_the_residual(text, keep, replaces):
    whole, lean = make(text, "TEST"), make(text, "TEST", keep=keep)
    for seed in range(2):
        check_equal(run(lean, seed), run(whole, seed))
    (step,) = (step for step in lean.steps if step.what.endswith("Eltwise + ReLU"))
    assert (step.residual.blob.memories[0] is step.top.memories[0]) == replaces


def test_a_sum_takes_the_place_of_one_of_two():
    text = (
        INPUT
        + "".join(
            f'layer {{ name: "{top}" type: "Power" bottom: "x" top: "{top}" power_param {{ scale: {k} }} }}\n'
            for k, top in ((1, "a"), (-2, "b"))
        )
        + (
            'layer { name: "y" type: "Eltwise" bottom: "a" bottom: "b" top: "y" eltwise_param { coeff: 3 coeff: 1 } }\n'
            'layer { name: "r" type: "ReLU" bottom: "y" top: "y" }\n'
            'layer { name: "z" type: "Power" bottom: "y" top: "z" power_param { shift: 1 } }\n'
        )
    )
    whole, lean = make(text, "TEST"), make(text, "TEST", keep=[])
    check_equal(run(lean), run(whole))
    (step,) = (step for step in lean.steps if step.what == "Eltwise + ReLU")
    assert any(blob.memories[0] is step.top.memories[0] for blob in (step.a, step.b))


DENSE = INPUT + "".join(
    f"""
    layer {{ name: "c{i}" type: "Convolution" bottom: "{below}" top: "c{i}"
            convolution_param {{ num_output: 3 kernel_size: 3 pad: 1 weight_filler {{ type: "msra" }} }} }}
    layer {{ name: "r{i}" type: "ReLU" bottom: "c{i}" top: "c{i}" }}
    layer {{ name: "d{i}" type: "Concat" bottom: "{below}" bottom: "c{i}" top: "d{i}" }}
    """
    for i, below in enumerate(["x", "d0", "d1", "d2"])
)


def lies_within(inner: caffebn.blob.Blob, outer: caffebn.blob.Blob) -> bool:
    return np.shares_memory(inner.data, outer.data)


def test_what_a_concat_puts_together_is_written_there():
    whole, lean = make(DENSE, "TEST"), make(DENSE, "TEST", keep=[])
    for shape in ((3, 4, 6, 5), (1, 4, 6, 5), (1, 4, 9, 7), (2, 4, 6, 5), (1, 4, 6, 5)):
        for net in (whole, lean):
            net.blobs["x"].reshape(*shape)
        for seed in range(3):
            check_equal(run(lean, seed), run(whole, seed))
        tops = dict(zip(lean._wiring.names, lean._wiring.blobs, strict=True))
        assert lies_within(tops["c1"], tops["d3"]) == (shape[0] == 1)
        assert lies_within(tops["d2"], tops["d3"]) == (shape[0] == 1)
        assert not lies_within(tops["x"], tops["d3"])  # the user fills it


def test_a_concat_along_the_first_axis_of_several():
    text = INPUT + (
        'layer { name: "a" type: "Power" bottom: "x" top: "a" power_param { scale: 2 } }\n'
        'layer { name: "b" type: "Power" bottom: "x" top: "b" power_param { shift: 2 } }\n'
        'layer { name: "y" type: "Concat" bottom: "b" bottom: "a" top: "y" concat_param { axis: 0 } }\n'
    )
    net = make(text, "TEST", keep=[])
    x = np.random.default_rng(0).normal(size=(3, 4, 6, 5))
    np.testing.assert_array_equal(net.forward(x=x)["y"], np.concatenate([x + 2, x * 2]))
    assert [joint.fits for joint in net.plan_memory().joints] == [True, True]


@pytest.mark.parametrize(
    "after, joined",
    [
        ('layer { name: "r" type: "ReLU" bottom: "y" top: "y" }', 2),
        # who reads "a" later must not see what ReLU has made of it
        ('layer { name: "r" type: "ReLU" bottom: "y" top: "y" }\n'
         'layer { name: "z" type: "Power" bottom: "a" top: "z" }', 1),
        ('layer { name: "z" type: "Power" bottom: "a" top: "z" }', 2),
    ],
)  # fmt: skip
def test_values_that_are_read_elsewhere_stay(after, joined):
    text = INPUT.replace("dim: 3 ", "dim: 1 ") + (
        'layer { name: "a" type: "Power" bottom: "x" top: "a" power_param { scale: -2 } }\n'
        'layer { name: "b" type: "Power" bottom: "x" top: "b" power_param { shift: -1 } }\n'
        f'layer {{ name: "y" type: "Concat" bottom: "b" bottom: "a" top: "y" }}\n{after}\n'
    )
    whole, lean = make(text, "TEST"), make(text, "TEST", keep=[])
    for seed in range(2):
        check_equal(run(lean, seed), run(whole, seed))
    assert len(lean.plan_memory().joints) == joined


def test_new_shapes_are_followed():
    whole, lean = (make("force_backward: true\n" + residual_net(), "TRAIN", keep=k) for k in (None, []))
    for shape in ((2, 4, 5, 6), (5, 4, 5, 6), (3, 4, 5, 6)):
        for net in (whole, lean):
            net.blobs["x"].reshape(*shape)
        check_equal(run(lean), run(whole))


def test_shapes_of_hidden_blobs_can_be_read():
    net = make(residual_net(), "TEST", keep=[])
    assert isinstance(net.blobs["b"], HiddenBlob)
    assert net.blobs["b"].shape == (3, 6, 5, 6) and net.blobs["b"].count == 540


@pytest.mark.parametrize("what", ["data", "diff", "gpu_data", "gpu_diff"])
def test_hidden_values_are_refused(what):
    net = make(residual_net(), "TRAIN", keep=[])
    with pytest.raises(ArgumentError) as e:
        getattr(net.blobs["b"], what)
    assert str(e.value) == (
        'blob "b": its values are not kept, as the net was made with keep=[...], and memory serves several blobs in '
        'turn: make it with "b" among the names in keep, or without keep'
    )


def test_hidden_values_are_refused_before_a_pass():
    net = make(residual_net(), "TRAIN", keep=[])
    with pytest.raises(ArgumentError, match='blob "b": its values are not kept'):
        net.forward(blobs=["b"])
    with pytest.raises(ArgumentError, match='blob "b": its values are not kept'):
        net.backward(diffs=["b"])


def test_wrong_arguments():
    with pytest.raises(ArgumentError, match=r'^keep: there is no blob "los"; did you mean "loss"\?$'):
        make(residual_net(), "TEST", keep=["los"])
    with pytest.raises(
        ArgumentError,
        match=r'^keep: expected a sequence of names of blobs, found the text "d": write \["d"\]$',
    ):
        make(residual_net(), "TEST", keep="d")
    with pytest.raises(ArgumentError, match=r"^recompute needs keep=\[\.\.\.\]"):
        make(residual_net(), "TRAIN", recompute=True)


def test_nothing_goes_backward_in_testing_unless_the_text_says_so():
    net = make(residual_net(), "TEST", keep=[])
    net.forward()
    with pytest.raises(
        ArgumentError, match=r'^backward: .* keep=\[...\] in the TEST phase.*"force_backward: true"'
    ):
        net.backward()
    whole, lean = (make("force_backward: true\n" + residual_net(), "TEST", keep=k) for k in (None, []))
    run(whole), run(lean)
    whole.backward(), lean.backward()
    np.testing.assert_allclose(lean.blobs["x"].diff, whole.blobs["x"].diff, rtol=1e-10)


def test_no_gradients_are_made_before_a_pass_backward():
    net = make(residual_net(), "TRAIN")
    net.forward()
    assert [name for name, blob in net.blobs.items() if blob.has_diff] == ["loss"]  # its weight
    net = make(residual_net(), "TEST", keep=[])
    net.forward()
    assert [name for name, blob in net.blobs.items() if blob.has_diff] == ["loss"]


def test_a_part_of_a_pass():
    whole, lean = make(residual_net(), "TRAIN"), make(residual_net(), "TRAIN", keep=["a"])
    with pytest.raises(ArgumentError, match="^backward: run the whole net forward first"):
        lean.backward()
    run(whole), run(lean)
    with pytest.raises(ArgumentError, match="^backward: with start or end it needs values"):
        lean.backward(end="d")
    with pytest.raises(
        ArgumentError, match='^forward: start: layer "c" .Eltwise. reads blob ".*", whose values are not kept'
    ):
        lean.forward(start="c")
    lean.run_forward(start="b"), whole.run_forward(start="b")  # which reads "a" alone
    for name in ("b", "c", "loss"):
        np.testing.assert_allclose(lean.blobs[name].data, whole.blobs[name].data, rtol=1e-10)


def test_a_part_from_the_start():
    whole, lean = make(residual_net(), "TRAIN"), make(residual_net(), "TRAIN", keep=[])
    run(whole), run(lean)
    found, expected = lean.forward(end="c"), whole.forward(end="c")
    np.testing.assert_allclose(found["c"], expected["c"], rtol=1e-10)
    check_equal(run(lean, 4), run(whole, 4))


def test_someone_who_looks_inside_sees_each_layer(capsys):
    text = "force_backward: true\n" + residual_net()
    whole, lean = make(text, "TRAIN"), make(text, "TRAIN", keep=[])
    check_equal(run(lean), run(whole))
    printed = []
    for net in (whole, lean):
        net.debug_info = True
        run(net, 1)
        printed.append(capsys.readouterr().err)
    assert printed[0] == printed[1] and "[Backward] Layer b_scale, bottom blob b diff" in printed[0]
    assert not any(isinstance(blob, HiddenBlob) for blob in lean.blobs.values())
    lean.debug_info = False
    check_equal(run(lean, 2), run(whole, 2))


def test_weights_can_be_shared():
    train = make(residual_net(), "TRAIN", keep=[])
    test, whole = make(residual_net(), "TEST", keep=[]), make(residual_net(), "TEST")
    for net in (test, whole):
        net.share_with(train)
    check_equal(run(test), run(whole))
