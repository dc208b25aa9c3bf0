"""SoftmaxWithLoss."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import ArgumentError, NetError
from caffebn.layers.loss import divisor
from tests.layers.nets import check_layer, make, outcome, refusal, values

LOSS = 'layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "x" bottom: "label" top: "loss" {} }}'

X = values(2, 4, 3)
LABEL = np.array([[0, 3, 1], [2, 2, 0]])


def expected(x: np.ndarray, label: np.ndarray, z: float, ignore: int | None = None) -> float:
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    at_label = np.take_along_axis(p, label[:, None], 1)[:, 0]
    return -np.log(at_label)[label != (-1 if ignore is None else ignore)].sum() / z


CASES = [
    ("", 6, None),
    ("loss_param { normalization: FULL }", 6, None),
    ("loss_param { normalization: BATCH_SIZE }", 2, None),
    ("loss_param { normalization: NONE }", 1, None),
    ("loss_param { ignore_label: 2 }", 4, 2),
    ("loss_param { ignore_label: 2 normalization: FULL }", 6, 2),
    ("loss_param { ignore_label: 2 normalization: BATCH_SIZE }", 2, 2),
    ("loss_param { ignore_label: 2 normalization: NONE }", 1, 2),
    ("loss_param { ignore_label: 0 normalize: true }", 4, 0),
    ("loss_param { ignore_label: 0 normalize: false }", 2, 0),
    ("loss_param { normalize: false normalization: FULL }", 6, None),
    ("loss_param { normalize: true normalization: NONE }", 1, None),
    ("loss_param { ignore_label: 255 }", 6, None),
]


@pytest.mark.parametrize(("param", "z", "ignore"), CASES)
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_normalization(param, z, ignore, phase, device):
    text = LOSS.format(param)
    net = make(text, {"x": X, "label": LABEL}, phase, device)
    assert net.forward()["loss"] == pytest.approx(expected(X, LABEL, z, ignore), rel=1e-13)
    assert net.blobs["loss"].shape == ()
    check_layer(text, device, phase, x=X, label=LABEL)


def test_all_ignored_is_zero(device):
    found = outcome(
        make(
            LOSS.format("loss_param { ignore_label: 2 }"),
            {"x": X, "label": np.full((2, 3), 2)},
            device=device,
        )
    )
    assert found["loss 0"] == 0
    assert not found["gradient of x"].any()


def test_another_axis(device):
    text = LOSS.format("softmax_param { axis: 2 } loss_param { normalization: BATCH_SIZE }")
    x, label = values(2, 3, 5), np.array([[0, 4, 2], [1, 1, 3]])
    check_layer(text, device, x=x, label=label)
    p = np.exp(x) / np.exp(x).sum(2, keepdims=True)
    loss = -np.log(np.take_along_axis(p, label[..., None], 2)).sum() / 6
    assert make(text, {"x": x, "label": label}, device=device).forward()["loss"] == pytest.approx(
        loss, rel=1e-13
    )


def test_labels_may_keep_the_class_axis_as_one(device):
    net = make(LOSS.format(""), {"x": X, "label": LABEL[:, None]}, device=device)
    assert net.forward()["loss"] == pytest.approx(expected(X, LABEL, 6), rel=1e-13)


def test_fractions_of_labels_are_cut(device):
    net = make(LOSS.format(""), {"x": X, "label": LABEL + 0.75}, device=device)
    assert net.forward()["loss"] == pytest.approx(expected(X, LABEL, 6), rel=1e-13)


def test_the_weight_is_in_the_gradient_not_in_the_value(device):
    plain, weighted = (
        outcome(make(LOSS.format(param), {"x": X, "label": LABEL}, device=device))
        for param in ("", "loss_weight: 0.25")
    )
    assert weighted["loss 0"] == plain["loss 0"]
    np.testing.assert_allclose(weighted["gradient of x"], plain["gradient of x"] / 4, rtol=1e-13)


def test_a_loss_needs_no_top(device):
    net = make(LOSS.format("").replace('top: "loss"', ""), {"x": X, "label": LABEL}, device=device)
    net.forward()
    assert net.loss == pytest.approx(expected(X, LABEL, 6), rel=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_floor_of_the_logarithm(dtype, device):
    net = make(LOSS.format(""), {"x": [[0, -1000.0]], "label": [1]}, device=device, dtype=dtype)
    assert net.forward()["loss"] == pytest.approx(87.33654475055310, rel=1e-7)
    net.backward()
    assert net.blobs["x"].diff.tolist() == [[1, -1]], "the gradient does not know the floor"


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 3, 1, 1)])
def test_small_shapes(shape, device):
    check_layer(LOSS.format(""), device, x=values(*shape), label=np.zeros(shape[:1] + shape[2:]))


def test_empty_batch(device):
    found = outcome(make(LOSS.format(""), {"x": np.zeros((0, 3)), "label": np.zeros(0)}, device=device))
    assert found["loss 0"] == 0


@pytest.mark.parametrize("label", [4, -1, np.nan, np.inf])
def test_a_label_that_is_no_class_is_refused(label, device):
    labels = LABEL.astype(float)
    labels[1, 0] = label
    net = make(LOSS.format(""), {"x": X, "label": labels}, device=device)
    with pytest.raises(ArgumentError, match=f"classes from 0 to 3; found {label:g} at index 3"):
        net.forward()


@pytest.mark.parametrize(
    ("param", "x", "label", "said"),
    [
        (
            "",
            (2, 4, 3),
            (2, 4),
            'expected 6 labels, one for each place outside axis 1 of "x" (2x4x3), found 8 in "label" (2x4)',
        ),
        (
            "softmax_param { axis: 2 }",
            (2, 4, 3),
            (2, 3),
            'outside axis 2 of "x" (2x4x3), found 6 in "label" (2x3)',
        ),
        ("softmax_param { axis: 3 }", (2, 4, 3), (2, 3), "axis 3 does not exist: the bottom has 3 axes"),
        ("", (2, 4), (1, 2), 'the bottoms must have the same first axis, found "x" (2x4) and "label" (1x2)'),
        ("", (), (), 'the bottoms must have the same first axis, found "x" (no axes) and "label" (no axes)'),
    ],
)
def test_refusals(param, x, label, said):
    message = refusal(LOSS.format(param), x=x, label=label)
    assert message.startswith('layer "loss" (SoftmaxWithLoss): ')
    assert said in message


def test_a_second_top_is_refused():
    text = LOSS.format("").replace('top: "loss"', 'top: "loss" top: "prob"')
    assert refusal(text, x=(2, 4), label=(2,)) == 'layer "loss" (SoftmaxWithLoss): needs 1 top, found 2'


def test_a_gradient_of_labels_is_refused():
    text = (
        'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "l" inner_product_param { num_output: 1 } }'
    )
    net = make(text + LOSS.format("").replace('"label"', '"l"'), {"x": values(2, 4)}, force_backward=False)
    net.forward()
    with pytest.raises(
        NetError, match=r'layer "loss" \(SoftmaxWithLoss\): the labels, "l", have no gradient'
    ):
        net.backward()


@pytest.mark.parametrize(("mode", "z"), [("FULL", 6), ("VALID", None), ("BATCH_SIZE", 2), ("NONE", 1)])
def test_divisor(mode, z):
    assert divisor(mode, 2, 3) == z
    assert divisor(mode, 0, 0) == (1 if z else None)
