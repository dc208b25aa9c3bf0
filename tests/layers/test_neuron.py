"""The activations without parameters to learn."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import NetError
from tests.layers.nets import check_in_place, check_layer, make, outcome, refusal, values

RELU = 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" relu_param { negative_slope: %g } }'
SIGMOID = 'layer { name: "s" type: "Sigmoid" bottom: "x" top: "y" }'
TANH = 'layer { name: "t" type: "TanH" bottom: "x" top: "y" }'
ABSVAL = 'layer { name: "a" type: "AbsVal" bottom: "x" top: "y" }'
BNLL = 'layer { name: "b" type: "BNLL" bottom: "x" top: "y" }'
CLIP = 'layer { name: "c" type: "Clip" bottom: "x" top: "y" clip_param { min: %g max: %g } }'
ELU = 'layer { name: "e" type: "ELU" bottom: "x" top: "y" elu_param { alpha: %g } }'
EXP = 'layer { name: "e" type: "Exp" bottom: "x" top: "y" exp_param { %s } }'
LOG = 'layer { name: "l" type: "Log" bottom: "x" top: "y" log_param { %s } }'
POWER = 'layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { %s } }'
SWISH = 'layer { name: "s" type: "Swish" bottom: "x" top: "y" swish_param { beta: %g } }'
THRESHOLD = 'layer { name: "t" type: "Threshold" bottom: "x" top: "y" threshold_param { threshold: %g } }'

IN_PLACE = [
    RELU % 0, RELU % 0.25, RELU % -0.5, RELU % 2, SIGMOID, TANH, BNLL, CLIP % (-0.5, 1),
    ELU % 1, ELU % 0.3, ELU % 0, ELU % -0.5, EXP % "", EXP % "base: 2 scale: 0.5 shift: -1",
    LOG % "shift: 3", LOG % "base: 10 scale: -2 shift: 7.5",
    POWER % "", POWER % "scale: -2 shift: 0.5", POWER % "power: 2 scale: 0.5 shift: 1", POWER % "power: 3",
    POWER % "power: -0.75 scale: 0.3 shift: 3", POWER % "power: 0 scale: 3", POWER % "power: 3 scale: 0 shift: 2",
    SWISH % 1, SWISH % -1.7,
]  # fmt: skip
ALL = [*IN_PLACE, ABSVAL]


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("text", ALL)
def test_gradients_and_back_ends(text, phase, device):
    assert check_layer(text, device, phase, x=values(2, 3, 4, 5)).excluded == 0


@pytest.mark.parametrize("text", IN_PLACE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_in_place_equals_not_in_place(text, dtype, device):
    check_in_place(text, device, dtype=dtype, x=values(2, 3, 4, 5))


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("text", ALL)
@pytest.mark.parametrize("shape", [(1, 1), (7,), (), (2, 1, 3, 1, 2), (0, 3, 4)])
def test_shapes(text, shape, device):
    found = outcome(make(text, {"x": values(*shape)}, device=device))
    assert found["y 0"].shape == found["gradient of x"].shape == shape


def test_relu_by_hand(device):
    net = make(RELU % 0.25, {"x": [-2.0, -0.0, 0.0, 3.0]}, device=device)
    net.forward()
    assert net.blobs["y"].data.tolist() == [-0.5, 0.0, 0.0, 3.0]
    net.blobs["y"].diff[...] = [1, 2, 4, 8]
    net.backward()
    assert net.blobs["x"].diff.tolist() == [0.25, 0.5, 1.0, 8.0], "at 0 the gradient is the negative slope's"


def test_relu_default_slope_is_zero(device):
    net = make('layer { name: "r" type: "ReLU" bottom: "x" top: "y" }', {"x": [-2.0, 3.0]}, device=device)
    net.forward()
    assert net.blobs["y"].data.tolist() == [0, 3]


def test_sigmoid_by_hand(device):
    net = make(SIGMOID, {"x": [0.0, np.log(3), -np.log(3), 1000, -1000]}, device=device)
    net.forward()
    np.testing.assert_allclose(net.blobs["y"].data, [0.5, 0.75, 0.25, 1, 0], rtol=1e-14, atol=1e-300)
    net.blobs["y"].diff[...] = 1
    net.backward()
    np.testing.assert_allclose(net.blobs["x"].diff, [0.25, 0.1875, 0.1875, 0, 0], rtol=1e-14)


def test_tanh_by_hand(device):
    net = make(TANH, {"x": [0.0, np.log(3), -1000]}, device=device)
    net.forward()
    np.testing.assert_allclose(net.blobs["y"].data, [0, 0.8, -1], rtol=1e-14)
    net.blobs["y"].diff[...] = 2
    net.backward()
    np.testing.assert_allclose(net.blobs["x"].diff, [2, 0.72, 0], rtol=1e-14)


def run(text, x, dy, device):
    """Run one layer both ways; return y and dx."""
    net = make(text, {"x": x}, device=device)
    net.forward()
    net.blobs["y"].diff[...] = dy
    net.backward()
    return net.blobs["y"].data, net.blobs["x"].diff


def test_elu_by_hand(device):
    y, dx = run(ELU % 0.5, [-np.log(2), 0, 3], [4, 4, 4], device)
    np.testing.assert_allclose(y, [-0.25, 0, 3], rtol=1e-14)
    np.testing.assert_allclose(dx, [1, 2, 4], rtol=1e-14, err_msg="0 belongs to the negative side")
    default = 'layer { name: "e" type: "ELU" bottom: "x" top: "y" }'
    assert run(default, [-np.inf], [1], device)[0] == -1, "alpha is 1"


def test_absval_by_hand(device):
    y, dx = run(ABSVAL, [-2, 0, 3], [4, 4, 4], device)
    assert (y.tolist(), dx.tolist()) == ([2, 0, 3], [-4, 0, 4])


def test_absval_refuses_to_work_in_place():
    message = refusal(ABSVAL.replace('"y"', '"x"'), x=(2, 3))
    assert message == 'layer "a" (AbsVal): cannot work in place: give it a top other than "x"'


def test_bnll_by_hand(device):
    y, dx = run(BNLL, [-np.log(3), 0, 1000], [4, 4, 4], device)
    np.testing.assert_allclose(y, [np.log(4 / 3), np.log(2), 1000], rtol=1e-14)
    np.testing.assert_allclose(dx, [1, 2, 4], rtol=1e-14)


def test_swish_by_hand(device):
    y, dx = run('layer { name: "s" type: "Swish" bottom: "x" top: "y" }', [0, np.log(3)], [4, 4], device)
    np.testing.assert_allclose(y, [0, 0.75 * np.log(3)], rtol=1e-14, err_msg="beta is 1")
    np.testing.assert_allclose(dx, [2, 3 + 0.75 * np.log(3)], rtol=1e-14)


def test_clip_passes_the_gradient_on_its_bounds(device):
    y, dx = run(CLIP % (-1, 2), [-3, -1, 0, 2, 5], [4] * 5, device)
    assert (y.tolist(), dx.tolist()) == ([-1, -1, 0, 2, 2], [0, 4, 4, 4, 0])


@pytest.mark.parametrize(
    ("param", "said"),
    [
        ("clip_param { min: 2 max: 1 }", "min 2 is larger than max 1"),
        ("", "clip_param must give min"),
    ],
)
def test_clip_needs_its_bounds(param, said):
    text = f'layer {{ name: "c" type: "Clip" bottom: "x" top: "y" {param} }}'
    assert refusal(text, x=(2, 3)) == f'layer "c" (Clip): {said}'


def test_threshold_is_strict(device):
    net = make(THRESHOLD % 0.5, {"x": [-1, 0.5, 0.75]}, device=device, force_backward=False)
    net.forward()
    assert net.blobs["y"].data.tolist() == [0, 0, 1]
    default = make('layer { name: "t" type: "Threshold" bottom: "x" top: "x" }', {"x": [-1, 0, 0.25]})
    default.forward()
    assert default.blobs["x"].data.tolist() == [0, 0, 1], "the threshold is 0, and in place is allowed"


def test_threshold_has_no_gradient(device):
    net = make(THRESHOLD % 0, {"x": [1.0]}, device=device)
    net.forward()
    with pytest.raises(NetError, match=r'layer "t" \(Threshold\): has no gradient'):
        net.backward()


@pytest.mark.parametrize(
    ("param", "y", "dx"),
    [
        ("", [-2, 0, 3], [4, 4, 4]),
        ("scale: -2 shift: 1", [5, 1, -5], [-8, -8, -8]),
        ("power: 2", [4, 0, 9], [-16, 0, 24]),
        ("power: 3", [-8, 0, 27], [48, np.nan, 108]),
        ("power: 3 shift: 1", [-1, 1, 64], [12, 12, 192]),
        ("power: 0 scale: 5 shift: 7", [1, 1, 1], [0, 0, 0]),
        ("power: 3 scale: 0 shift: 2", [8, 8, 8], [0, 0, 0]),
        ("power: 1 scale: 0 shift: 2", [2, 2, 2], [0, 0, 0]),
    ],
)
def test_power_by_hand(param, y, dx, device):
    """The gradient of a power other than 0, 1 and 2 is not a number where the base is 0: Caffe's way."""
    found = run(POWER % param, [-2, 0, 3], [4, 4, 4], device)
    np.testing.assert_allclose(found[0], y, rtol=1e-14)
    np.testing.assert_allclose(found[1], dx, rtol=1e-14)


@pytest.mark.parametrize(("power", "shift"), [(-1, 0), (0.5, -2)])
def test_power_without_a_value_is_refused(power, shift):
    message = refusal(POWER % f"power: {power} scale: 0 shift: {shift}", x=(2, 3))
    assert message == (
        'layer "p" (Power): with scale 0 the top is shift to the power, but there is no number that is '
        f"{shift} to the power {power}"
    )


def test_exp_and_log_by_hand(device):
    y, dx = run(EXP % "base: 3 scale: 2 shift: -1", [0, 1], [2, 2], device)
    np.testing.assert_allclose(y, [1 / 3, 3], rtol=1e-14)
    np.testing.assert_allclose(dx, 4 * np.log(3) * np.array([1 / 3, 3]), rtol=1e-14)
    y, dx = run(LOG % "base: 3 scale: 2 shift: 1", [1, 4], [6, 6], device)
    np.testing.assert_allclose(y, [1, 2], rtol=1e-14)
    np.testing.assert_allclose(dx, np.array([4, 4 / 3]) / np.log(3), rtol=1e-14)
    np.testing.assert_allclose(
        run(EXP % "", [1], [1], device)[0], np.exp(1), rtol=1e-15, err_msg="the base is e"
    )
    assert run(LOG % "", [np.exp(1)], [1], device)[0] == 1


def test_exp_undoes_log(device):
    text = (LOG % "base: 7 shift: 3").replace('"y"', '"z"') + (EXP % "base: 7").replace('"x"', '"z"')
    net = make(text, {"x": values(3, 4)}, device=device)
    np.testing.assert_allclose(net.forward()["y"], values(3, 4) + 3, rtol=1e-13)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (EXP % "base: 0", 'layer "e" (Exp): base must be positive, or -1 for e, found 0'),
        (EXP % "base: -2", 'layer "e" (Exp): base must be positive, or -1 for e, found -2'),
        (EXP % "shift: 1000", 'layer "e" (Exp): base to the power 1000 is too large'),
        (LOG % "base: -0.5", 'layer "l" (Log): base must be positive, or -1 for e, found -0.5'),
        (LOG % "base: 1", 'layer "l" (Log): there is no logarithm to the base 1'),
    ],
)
def test_refusals(text, said):
    assert refusal(text, x=(2, 3)) == said


def test_in_place_layers_after_each_other_do_not_spoil_a_gradient(device):
    """Each reads its own output going backward, which the next one overwrites."""
    names = ["a", "b", "c", "d"]
    kinds = ["ReLU", "Sigmoid", "TanH", "ReLU"]
    chain = "".join(
        f'layer {{ name: "l{i}" type: "{kind}" bottom: "{names[i]}" top: "{names[i + 1]}" }}'
        for i, kind in enumerate(kinds[:3])
    )
    in_place = "".join(
        f'layer {{ name: "l{i}" type: "{k}" bottom: "a" top: "a" }}' for i, k in enumerate(kinds[:3])
    )
    apart, together = (outcome(make(text, {"a": values(3, 4)}, device=device)) for text in (chain, in_place))
    np.testing.assert_array_equal(together["a 0"], apart["d 0"])
    np.testing.assert_array_equal(together["gradient of a"], apart["gradient of a"])


def test_one_bottom_and_one_top():
    message = refusal('layer { name: "r" type: "ReLU" bottom: "x" bottom: "z" top: "y" }', x=(2, 3), z=(2, 3))
    assert message == 'layer "r" (ReLU): needs 1 bottom, found 2'
    message = refusal('layer { name: "r" type: "ReLU" bottom: "x" top: "y" top: "z" }', x=(2, 3))
    assert message == 'layer "r" (ReLU): needs 1 top, found 2'
