"""Accuracy."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import ArgumentError, NetError
from tests.layers.nets import make, refusal, values

ACCURACY = 'layer {{ name: "acc" type: "Accuracy" bottom: "x" bottom: "label" top: "acc" {} }}'
PER_CLASS = ACCURACY.replace('top: "acc"', 'top: "acc" top: "classes"')


def accuracy(text: str, x, label, device: str, phase: str = "TEST", dtype: str = "float32"):
    net = make(text, {"x": x, "label": label}, phase, device, dtype, force_backward=False)
    net.forward()
    return net


SCORES = np.array([[0.1, 0.5, 0.4], [0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.2, 0.1, 0.7]])


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("param", "labels", "expected"),
    [
        ("", [1, 0, 2, 0], 0.75),
        ("accuracy_param { top_k: 2 }", [2, 1, 0, 1], 0.5),
        ("accuracy_param { top_k: 3 }", [2, 1, 0, 1], 1),
        ("accuracy_param { ignore_label: 0 }", [1, 0, 2, 0], 1),
        ("accuracy_param { ignore_label: -1 }", [-1, 0, 0, -1], 0.5),
        ("accuracy_param { ignore_label: 1 }", [1, 1, 1, 1], 0),
    ],
)
def test_by_hand(param, labels, expected, dtype, phase, device):
    net = accuracy(ACCURACY.format(param), SCORES, labels, device, phase, dtype)
    assert net.blobs["acc"].shape == ()
    assert net.blobs["acc"].data == expected


@pytest.mark.parametrize(("top_k", "expected"), [(1, 0), (2, 0), (3, 1)])
def test_ties_count_against_the_label(top_k, expected, device):
    text = ACCURACY.format(f"accuracy_param {{ top_k: {top_k} }}")
    assert accuracy(text, [[1.0, 1.0, 1.0]], [0], device).blobs["acc"].data == expected


def test_per_class(device):
    net = accuracy(PER_CLASS.format(""), SCORES, [1, 0, 0, 1], device)
    assert net.blobs["classes"].data.tolist() == [0.5, 0.5, 0], "no item of class 2"
    net.blobs["label"].data[...] = [2, 2, 2, 2]
    net.forward()
    assert net.blobs["classes"].data.tolist() == [0, 0, 0.5], "nothing is left of the pass before"


@pytest.mark.parametrize(
    ("axis", "shape"), [(1, (2, 3, 4, 5)), (0, (3, 4)), (-1, (2, 4, 3)), (2, (2, 2, 3, 2))]
)
def test_axes(axis, shape, device):
    x = values(*shape)
    classes = shape[axis]
    places = tuple(np.delete(shape, axis))
    label = np.random.default_rng(0).integers(0, classes, places)
    right = x.argmax(axis) == label
    net = accuracy(PER_CLASS.format(f"accuracy_param {{ axis: {axis} }}"), x, label, device)
    assert net.blobs["acc"].data == pytest.approx(right.mean(), rel=1e-6)
    np.testing.assert_allclose(
        net.blobs["classes"].data, [right[label == c].mean() for c in range(classes)], rtol=1e-6
    )


def test_empty_batch(device):
    assert accuracy(ACCURACY.format(""), np.zeros((0, 3)), np.zeros(0), device).blobs["acc"].data == 0


@pytest.mark.parametrize("label", [3, -1, np.nan])
def test_a_label_that_is_no_class_is_refused(label, device):
    with pytest.raises(ArgumentError, match=f"classes from 0 to 2; found {label:g} at index 2"):
        accuracy(ACCURACY.format(""), SCORES, [0, 1, label, 0], device)


@pytest.mark.parametrize(
    ("param", "x", "label", "said"),
    [
        ("top_k: 4", (2, 3), (2,), 'top_k must be from 1 to 3, the number of classes of "x" (2x3), found 4'),
        ("top_k: 0", (2, 3), (2,), 'top_k must be from 1 to 3, the number of classes of "x" (2x3), found 0'),
        ("axis: 2", (2, 3), (2,), "axis 2 does not exist: the bottom has 2 axes"),
        (
            "",
            (2, 3),
            (3,),
            'expected 2 labels, one for each place outside axis 1 of "x" (2x3), found 3 in "label" (3)',
        ),
    ],
)
def test_refusals(param, x, label, said):
    message = refusal(ACCURACY.format(f"accuracy_param {{ {param} }}"), x=x, label=label)
    assert message == f'layer "acc" (Accuracy): {said}'


def test_it_has_no_gradient(device):
    net = make(ACCURACY.format(""), {"x": SCORES, "label": [0, 0, 0, 0]}, device=device)
    net.forward()
    with pytest.raises(NetError, match=r'layer "acc" \(Accuracy\): has no gradient'):
        net.backward()
