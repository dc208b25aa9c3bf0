"""Layers in place cannot spoil gradients: what they overwrite is kept for whoever reads it going backward."""

import numpy as np
import pytest

import caffebn
from caffebn.errors import NetError

LAYERS = {
    "BNLL": "",
    "Clip": "clip_param { min: -0.4 max: 1.5 }",
    "ELU": "",
    "NegativeELU": "elu_param { alpha: -0.5 }",
    "Exp": "",
    "Log": "log_param { shift: 2 scale: 0.3 }",
    "MVN": "",
    "Power": "power_param { power: 3 shift: 1 scale: 0.1 }",
    "PReLU": "prelu_param { channel_shared: true }",
    "Swish": "",
    "Sigmoid": "",
    "TanH": "",
    "ReLU": "",
    "LeakyReLU": "relu_param { negative_slope: 0.2 }",
    "NegativeReLU": "relu_param { negative_slope: -0.5 }",
    "BatchNorm": "",
    "Scale": "scale_param { bias_term: true filler { type: 'uniform' min: 0.5 max: 2 } }",
    "Bias": "bias_param { filler { type: 'gaussian' } }",
    "Softmax": "",
}


def net(types: list[str], in_place: bool) -> caffebn.Net:
    lines = [
        "force_backward: true",
        'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 3 dim: 2 dim: 4 dim: 1 } } }',
    ]
    lines.append('layer { name: "first" type: "TanH" bottom: "x" top: "b0" }')
    for i, name in enumerate(types):
        kind = name.removeprefix("Negative").removeprefix("Leaky")
        top = "b0" if in_place else f"b{i + 1}"
        bottom = "b0" if in_place else f"b{i}"
        lines.append(
            f'layer {{ name: "l{i}" type: "{kind}" bottom: "{bottom}" top: "{top}" {LAYERS[name]} }}'
        )
    caffebn.set_random_seed(5)
    return caffebn.Net.from_text("\n".join(lines), caffebn.TRAIN, dtype="float64", device="reference")


def run(made: caffebn.Net) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(3)
    made.blobs["x"].data[...] = rng.normal(size=made.blobs["x"].shape)
    made.forward()
    top = made.outputs[0]
    made.blobs[top].diff[...] = rng.normal(size=made.blobs[top].shape)
    made.clear_param_diffs()
    made.backward()
    diffs = [made.blobs["x"].diff.copy()] + [b.diff.copy() for blobs in made.params.values() for b in blobs]
    return made.blobs[top].data.copy(), diffs


@pytest.mark.parametrize("second", LAYERS)
@pytest.mark.parametrize("first", LAYERS)
def test_chains_in_place_have_the_gradients_of_chains_with_tops_of_their_own(first, second):
    out, diffs = run(net([first, second, "Scale"], in_place=True))
    expected_out, expected = run(net([first, second, "Scale"], in_place=False))
    np.testing.assert_array_equal(out, expected_out)
    for found, right in zip(diffs, expected, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-12, atol=1e-14)
    assert np.abs(expected[0]).max() > 0


def copies(made: caffebn.Net) -> int:
    return sum(len(pairs) for pairs in made._wiring._kept_before.values())


def test_nothing_is_kept_that_nobody_reads():
    chain = ["BatchNorm", "Scale", "ReLU"]
    # the normalised values: read by BatchNorm and Scale, overwritten by Scale; and the TanH's top
    assert copies(net(chain, in_place=True)) == 2
    assert copies(net(chain, in_place=False)) == 0
    assert copies(net(["ReLU", "Bias"], in_place=True)) == 2  # the TanH's top, the ReLU's top


def test_a_net_that_never_goes_backward_keeps_nothing():
    made = caffebn.Net.from_text(
        'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 3 dim: 2 } } }'
        'layer { name: "b" type: "BatchNorm" bottom: "x" top: "x" }'
        'layer { name: "s" type: "Scale" bottom: "x" top: "x" }',
        caffebn.TEST,
    )
    assert copies(made) == 0


def test_kept_values_follow_a_reshape():
    made = net(["Sigmoid", "Scale"], in_place=True)
    made.blobs["x"].reshape(5, 2, 3)
    other = net(["Sigmoid", "Scale"], in_place=False)
    other.blobs["x"].reshape(5, 2, 3)
    for found, right in zip(run(made)[1], run(other)[1], strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-12)


SIGMOID = 'layer { name: "s" type: "Sigmoid" bottom: "d" top: "x" }'
TANH = 'layer { name: "t" type: "TanH" bottom: "%s" top: "t" }'
RELU = 'layer { name: "to_%s" type: "ReLU" bottom: "%s" top: "%s" }'


@pytest.mark.parametrize("end", ["r", "b"])
def test_a_view_that_was_read_before_may_be_overwritten(end):
    """Sigmoid and TanH read x going backward, each with the gradient of its own blob, after ReLU has overwritten it."""
    split = 'layer { name: "split" type: "Split" bottom: "x" top: "a" top: "b" }'
    text = SIGMOID + split + TANH % "a" + RELU % (end, "b", end)
    head = 'layer { name: "in" type: "Input" top: "d" input_param { shape { dim: 3 dim: 4 } } }'
    made = caffebn.Net.from_text(f"force_backward: true {head} {text}", caffebn.TRAIN, dtype="float64")
    rng = np.random.default_rng(0)
    made.blobs["d"].data[...], t, r = rng.normal(size=(3, 3, 4))
    for shape in ((3, 4), (2, 6)):
        made.blobs["d"].reshape(*shape)
        made.forward()
        made.backward(**{"t": t.reshape(shape), end: r.reshape(shape)})
        x = 1 / (1 + np.exp(-made.blobs["d"].data))
        expected = (t.reshape(shape) * (1 - np.tanh(x) ** 2) + r.reshape(shape)) * x * (1 - x)
        np.testing.assert_allclose(made.blobs["d"].diff, expected, rtol=1e-12)


def test_a_parameter_cannot_be_overwritten():
    """Parameter's top looks at its blob: ReLU in place would clip the weights themselves."""
    for text, name in (
        (RELU % ("p", "p", "p"), "p"),
        ('layer { name: "f" type: "Flatten" bottom: "p" top: "v" }' + RELU % ("v", "v", "v"), "v"),
    ):
        with pytest.raises(
            NetError,
            match=rf'layer "to_{name}" \(ReLU\): works in place on "{name}", which is a parameter of layer "par" '
            r"\(Parameter\): give it a top of its own",
        ):
            caffebn.Net.from_text(
                'layer { name: "par" type: "Parameter" top: "p" parameter_param { shape { dim: 2 dim: 3 } } }'
                + text,
                caffebn.TRAIN,
            )


@pytest.mark.parametrize("top", ["x", "y"])
def test_a_loss_weight_on_a_layer_in_place_counts_in_every_pass(top):
    """Going backward in place, the layer overwrites the weight."""
    made = caffebn.Net.from_text(
        "force_backward: true "
        'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 4 } } }'
        f'layer {{ name: "r" type: "ReLU" bottom: "x" top: "{top}" loss_weight: 3 }}',
        caffebn.TRAIN,
    )
    for _ in range(3):
        made.forward(x=[-1, 2, 0, 4])
        assert made.loss == 18
        made.backward()
        assert made.blobs["x"].diff.tolist() == [0, 3, 0, 3]


def test_a_weight_that_the_user_changes_stays():
    """pycaffe's way to scale a loss for one pass, or for all that follow."""
    made = caffebn.Net.from_text(
        "force_backward: true "
        'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 } } }'
        'layer { name: "sum" type: "Reduction" bottom: "x" top: "sum" loss_weight: 3 }',
        caffebn.TRAIN,
    )
    made.blobs["sum"].diff[...] = 5
    for shape in ((2,), (7,)):
        made.blobs["x"].reshape(*shape)
        made.forward()
        made.backward()
        assert (made.blobs["x"].diff == 5).all()


def test_a_view_that_is_read_after_it_was_overwritten_is_refused():
    with pytest.raises(
        NetError,
        match=r'layer "r" \(ReLU\) works in place on "s0", which shares its memory with "s1", and layer "t" \(TanH\) '
        r'reads that afterwards: give "r" a top of its own',
    ):
        caffebn.Net.from_text(
            'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 3 } } }'
            'layer { name: "s" type: "Split" bottom: "x" top: "s0" top: "s1" }'
            'layer { name: "r" type: "ReLU" bottom: "s0" top: "s0" }'
            'layer { name: "t" type: "TanH" bottom: "s1" top: "t" }',
            caffebn.TEST,
        )


def test_a_view_that_the_user_would_read_spoilt_is_refused():
    with pytest.raises(
        NetError, match='"r".*shares its memory with "s1", and the user of the net reads that'
    ):
        caffebn.Net.from_text(
            'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 3 } } }'
            'layer { name: "s" type: "Split" bottom: "x" top: "s0" top: "s1" }'
            'layer { name: "r" type: "ReLU" bottom: "s0" top: "s0" }',
            caffebn.TEST,
        )
