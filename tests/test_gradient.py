"""The gradient checker finds wrong gradients, and says where they are."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import ArgumentError, GradientError
from caffebn.gradient import check_gradients
from caffebn.layers.neuron import Sigmoid
from caffebn.layers.scale import Scale
from tests.layers.nets import make, randomise, values

SIGMOID = 'layer { name: "sg" type: "Sigmoid" bottom: "x" top: "y" }'
SCALE = 'layer { name: "sc" type: "Scale" bottom: "x" top: "y" scale_param { bias_term: true } }'
RELU = 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" }'


def test_a_right_gradient_passes():
    net = make(SCALE, {"x": values(2, 3, 4)})
    randomise(net)
    report = check_gradients(net, directions=3)
    assert report.names == ["x", "sc[0]", "sc[1]"]
    assert (report.compared, report.excluded) == (24 + 3 + 3 + 9, 0)
    assert 0 < report.worst < 1


def test_a_wrong_gradient_of_an_input_is_found_and_named(monkeypatch):
    right = Sigmoid.backward

    def wrong(self, top, propagate_down, bottom):
        right(self, top, propagate_down, bottom)
        bottom[0].diff[1, 2] *= 1.001

    monkeypatch.setattr(Sigmoid, "backward", wrong)
    net = make(SIGMOID, {"x": values(2, 3)})
    with pytest.raises(
        GradientError, match=r"gradient of x at \[1, 2\]: expected .* from differences, found"
    ):
        check_gradients(net)
    with pytest.raises(GradientError, match="gradient of x along random direction 0"):
        check_gradients(net, elements=0, directions=1)


def test_a_wrong_gradient_of_a_parameter_is_found_and_named(monkeypatch):
    right = Scale.backward

    def wrong(self, top, propagate_down, bottom):
        right(self, top, propagate_down, bottom)
        self.blobs[1].diff[...] *= 2

    monkeypatch.setattr(Scale, "backward", wrong)
    net = make(SCALE, {"x": values(2, 3)})
    with pytest.raises(GradientError, match=r"gradient of sc\[1\] at \[0\]"):
        check_gradients(net)
    assert check_gradients(net, params=[("sc", 0)]).names == ["x", "sc[0]"]


def test_kinks_are_excluded_and_counted():
    x = values(4, 5)
    x[1, 1] = 0
    report = check_gradients(make(RELU, {"x": x}))
    assert (report.compared, report.excluded) == (19, 1)


def test_a_kink_does_not_hide_a_wrong_gradient_beside_it(monkeypatch):
    right = Sigmoid.backward

    def wrong(self, top, propagate_down, bottom):
        right(self, top, propagate_down, bottom)
        bottom[0].diff[...] += 0.01

    monkeypatch.setattr(Sigmoid, "backward", wrong)
    with pytest.raises(GradientError, match="gradient of x"):
        check_gradients(make(SIGMOID, {"x": np.zeros((2, 3))}))


def test_too_many_kinks_are_an_error():
    with pytest.raises(GradientError, match="20 of 20 derivatives lie at kinks, at most 10% may"):
        check_gradients(make(RELU, {"x": np.zeros((4, 5))}))


def test_values_and_random_numbers_are_put_back():
    text = """
    layer { name: "bn" type: "BatchNorm" bottom: "x" top: "x" }
    layer { name: "drop" type: "Dropout" bottom: "x" top: "x" }
    """
    net = make(text, {"x": values(4, 3)})
    statistics = [blob.data.copy() for blob in net.params["bn"]]
    generator = net.layers[0].rng
    state = generator.bit_generator.state
    check_gradients(net)
    np.testing.assert_array_equal(net.blobs["x"].data, values(4, 3))
    for blob, before in zip(net.params["bn"], statistics, strict=True):
        np.testing.assert_array_equal(blob.data, before)
    assert generator.bit_generator.state == state


def test_elements_and_names_may_be_chosen():
    net = make(SCALE, {"x": values(2, 3, 4)})
    report = check_gradients(net, ["x"], [], elements=5)
    assert (report.names, report.compared) == (["x"], 5)


def test_what_cannot_be_compared_is_an_error():
    without = make(SIGMOID, {"x": values(2, 3)}, force_backward=False)
    with pytest.raises(GradientError, match="nothing to compare"):
        check_gradients(without)
    with pytest.raises(GradientError, match='gradient of "x" is missing or NaN'):
        check_gradients(without, ["x"])
    with pytest.raises(GradientError, match="not finite"):
        check_gradients(make(SIGMOID, {"x": np.full((2, 3), np.nan)}))
    with pytest.raises(ArgumentError, match="found a net in float32"):
        check_gradients(make(SIGMOID, {"x": values(2, 3)}, dtype="float32"))
    with pytest.raises(ArgumentError, match='"y" is no input'):
        check_gradients(make(SIGMOID, {"x": values(2, 3)}), ["y"])
    with pytest.raises(ArgumentError, match='no parameter 2 of layer "sc"'):
        check_gradients(make(SCALE, {"x": values(2, 3)}), params=[("sc", 2)])
