"""Eltwise."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import CaffebnWarning
from tests.layers.nets import check_layer, make, outcome, refusal, values


def eltwise(n: int, param: str = "") -> str:
    bottoms = " ".join(f'bottom: "{name}"' for name in "abcd"[:n])
    return f'layer {{ name: "e" type: "Eltwise" {bottoms} top: "y" eltwise_param {{ {param} }} }}'


def inputs(n: int, *shape: int) -> dict[str, np.ndarray]:
    return {name: values(*shape, seed=k) for k, name in enumerate("abcd"[:n])}


CASES = [
    (2, "", lambda x: x[0] + x[1]),
    (4, "operation: SUM", lambda x: x[0] + x[1] + x[2] + x[3]),
    (3, "coeff: 1 coeff: -0.5 coeff: 2.25", lambda x: x[0] - 0.5 * x[1] + 2.25 * x[2]),
    (2, "operation: PROD", lambda x: x[0] * x[1]),
    (4, "operation: PROD", lambda x: x[0] * x[1] * x[2] * x[3]),
    (2, "operation: PROD stable_prod_grad: false", lambda x: x[0] * x[1]),
    (3, "operation: PROD stable_prod_grad: false", lambda x: x[0] * x[1] * x[2]),
    (2, "operation: MAX", lambda x: np.maximum(x[0], x[1])),
    (4, "operation: MAX", lambda x: np.maximum.reduce(x)),
]


@pytest.mark.parametrize(("n", "param", "formula"), CASES)
@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 1), (), (0, 5)])
def test_forward(n, param, formula, shape, device):
    x = inputs(n, *shape)
    found = outcome(make(eltwise(n, param), x, device=device))
    np.testing.assert_allclose(found["y 0"], formula(list(x.values())), rtol=1e-14)


@pytest.mark.parametrize(("n", "param", "formula"), CASES)
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_gradients_and_back_ends(n, param, formula, phase, device):
    # 15 different values in each of them, so that maxima do not change within a step
    x = {name: value + 0.001 * k for k, (name, value) in enumerate(inputs(n, 3, 5).items())}
    assert check_layer(eltwise(n, param), device, phase, **x).excluded == 0


def test_max_gives_the_gradient_to_the_second_of_the_first_two_on_a_tie(device):
    net = make(
        eltwise(3, "operation: MAX"), {"a": [1, 1, 2, 1], "b": [1, 0, 2, 1], "c": [1, 1, 2, 3]}, device=device
    )
    net.forward()
    assert net.blobs["y"].data.tolist() == [1, 1, 2, 3]
    net.blobs["y"].diff[...] = [1, 2, 4, 8]
    net.backward()
    assert net.blobs["a"].diff.tolist() == [0, 2, 0, 0]
    assert net.blobs["b"].diff.tolist() == [1, 0, 4, 0]
    assert net.blobs["c"].diff.tolist() == [0, 0, 0, 8], "a later input has to be larger"


@pytest.mark.parametrize(("stable", "gradient"), [("true", 3.0), ("false", np.nan)])
def test_product_gradient_at_zero(stable, gradient, device):
    text = eltwise(2, f"operation: PROD stable_prod_grad: {stable}")
    net = make(text, {"a": [0.0], "b": [3.0]}, device=device)
    net.forward()
    net.blobs["y"].diff[...] = 1
    net.backward()
    np.testing.assert_array_equal(net.blobs["a"].diff, [gradient])
    assert net.blobs["b"].diff.tolist() == [0]


def test_one_blob_twice(device):
    text = 'layer { name: "e" type: "Eltwise" bottom: "a" bottom: "a" top: "y" eltwise_param { operation: PROD } }'
    check_layer(text, device, a=values(2, 3))


def test_a_product_that_reads_its_top_survives_a_layer_in_place_on_it(device):
    text = eltwise(2, "operation: PROD stable_prod_grad: false")
    tanh = 'layer {{ name: "t" type: "TanH" bottom: "y" top: "{}" }}'
    x = inputs(2, 2, 3)
    apart, in_place = (outcome(make(text + tanh.format(top), x, device=device)) for top in "zy")
    for name in ("gradient of a", "gradient of b"):
        np.testing.assert_array_equal(in_place[name], apart[name])


@pytest.mark.parametrize(
    ("param", "said"),
    [
        ("operation: PROD coeff: 1 coeff: 1", "coeff belongs to a sum: remove it, or write operation: SUM"),
        ("coeff: 1", "expected one coeff for each of the 2 bottoms, found 1"),
        ("coeff: 1 coeff: 1 coeff: 1", "expected one coeff for each of the 2 bottoms, found 3"),
    ],
)
def test_refusals(param, said):
    assert refusal(eltwise(2, param), a=(2, 3), b=(2, 3)) == f'layer "e" (Eltwise): {said}'


def test_shapes_must_be_equal():
    message = refusal(eltwise(3), a=(2, 3), b=(2, 3), c=(3, 2))
    assert message == 'layer "e" (Eltwise): the bottoms must have one shape, found "a" (2x3) and "c" (3x2)'
    assert refusal(eltwise(1), a=(2, 3)) == 'layer "e" (Eltwise): needs at least 2 bottoms, found 1'


def test_in_place_is_refused():
    text = eltwise(2).replace('top: "y"', 'top: "a"')
    assert "cannot work in place" in refusal(text, a=(2, 3), b=(2, 3))


def test_coeff_with_a_maximum_is_warned_about():
    with pytest.warns(
        CaffebnWarning, match=r'layer "e" \(Eltwise\): coeff has no effect with operation: MAX'
    ):
        make(eltwise(2, "operation: MAX coeff: 1 coeff: 5"), inputs(2, 2, 3))
