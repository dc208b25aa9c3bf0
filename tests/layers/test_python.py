"""Python: layers that a user writes for pycaffe."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import caffebn
from caffebn.errors import NetError
from caffebn.gradient import check_gradients
from caffebn.net import Net
from tests.layers.nets import make, outcome, refusal, values

MODULE = """
import numpy as np

import caffebn as caffe


class EuclideanLossLayer(caffe.Layer):
    def setup(self, bottom, top):
        if len(bottom) != 2:
            raise Exception("Need two inputs to compute distance.")

    def reshape(self, bottom, top):
        if bottom[0].count != bottom[1].count:
            raise Exception("Inputs must have the same dimension.")
        self.diff = np.zeros_like(bottom[0].data, dtype=np.float64)
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.diff[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = np.sum(self.diff ** 2) / bottom[0].num / 2.

    def backward(self, top, propagate_down, bottom):
        for i in range(2):
            if not propagate_down[i]:
                continue
            sign = 1 if i == 0 else -1
            bottom[i].diff[...] = sign * top[0].diff[0] * self.diff / bottom[i].num


class Linear(caffe.Layer):
    def setup(self, bottom, top):
        self.factor = float(self.param_str)
        self.blobs.add_blob(bottom[0].channels)
        self.blobs.add_blob()
        self.blobs[0].data[...] = 2

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.factor * bottom[0].data * self.blobs[0].data + self.blobs[1].data

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[...] += (self.factor * top[0].diff * bottom[0].data).sum(0)
        self.blobs[1].diff[...] += top[0].diff.sum()
        if propagate_down[0]:
            bottom[0].diff[...] = self.factor * top[0].diff * self.blobs[0].data


class Square(caffe.Layer):
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data ** 2

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = 2 * bottom[0].data * top[0].diff


class Batches(caffe.Layer):
    calls = []

    def setup(self, bottom, top):
        self.calls.append("setup")
        self.k = 0

    def reshape(self, bottom, top):
        self.calls.append("reshape")
        top[0].reshape(self.k + 1, 2)

    def forward(self, bottom, top):
        self.calls.append("forward")
        top[0].data[...] = self.k
        self.k += 1

    def get_state(self):
        return {"k": self.k}

    def set_state(self, state):
        self.k = state["k"]


class Facts(caffe.Layer):
    def reshape(self, bottom, top):
        top[0].reshape(3)

    def forward(self, bottom, top):
        top[0].data[...] = self.phase, len(self.param_str), isinstance(self, caffe.Layer)


class NoForward(caffe.Layer):
    def reshape(self, bottom, top):
        pass


class Fails(caffe.Layer):
    def reshape(self, bottom, top):
        raise KeyError("of the user")

    def forward(self, bottom, top):
        pass


class Stranger:
    pass
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    """A module with layers on Python's path, its own for each test."""
    (tmp_path / "user_layers.py").write_text(MODULE)
    (tmp_path / "old_layers.py").write_text("import caffe")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "user_layers", raising=False)
    return tmp_path


def layer(
    name: str, more: str = 'bottom: "x" top: "y"', param_str: str = "", module: str = "user_layers"
) -> str:
    return (
        f'layer {{ name: "py" type: "Python" {more} python_param {{ module: "{module}" layer: "{name}" '
        f'param_str: "{param_str}" }} }}'
    )


LOSS = layer("EuclideanLossLayer", 'bottom: "a" bottom: "b" top: "loss" loss_weight: 3')


def test_a_loss_written_for_pycaffe(device):
    inputs = {"a": values(4, 3), "b": values(4, 3, seed=1)}
    net = make(LOSS, inputs, device=device)
    builtin = make(LOSS.replace("Python", "EuclideanLoss"), inputs, device=device)
    assert net.forward()["loss"][0] == pytest.approx(float(builtin.forward()["loss"]), rel=1e-14)
    assert net.blobs["loss"].shape == (1,) and net.loss == pytest.approx(builtin.loss)
    for _ in range(2):
        net.backward()
        builtin.backward()
        for name in "ab":
            np.testing.assert_allclose(net.blobs[name].diff, builtin.blobs[name].diff, rtol=1e-14)
        net.forward()


def test_parameters(device):
    net = make(layer("Linear", param_str="1.5"), {"x": values(4, 3)}, device=device)
    weights, bias = net.params["py"]
    assert (weights.shape, bias.shape) == ((3,), ())
    assert weights.data.tolist() == [2, 2, 2]
    bias.data[...] = 7
    np.testing.assert_allclose(net.forward()["y"], 3 * values(4, 3) + 7, rtol=1e-14)
    assert check_gradients(net).names == ["x", "py[0]", "py[1]"]


def test_parameters_lie_in_the_flat_buffer_and_are_saved(tmp_path):
    net = make(layer("Linear", param_str="1"), {"x": values(4, 3)}, dtype="float32")
    assert net.parameters.data.size == 4
    net.params["py"][0].data[...] = [1, 2, 3]
    net.save(tmp_path / "net.caffemodel")
    other = make(layer("Linear", param_str="1"), {"x": values(4, 3)}, dtype="float32")
    other.copy_from(tmp_path / "net.caffemodel")
    assert other.params["py"][0].data.tolist() == [1, 2, 3]


def test_a_net_that_learns_nothing_does_not_call_backward(device):
    text = layer("Square").replace('"py"', '"square"') + LOSS.replace('"a"', '"y"')
    net = make(text, {"x": values(4, 3), "b": values(4, 3)}, device=device, force_backward=False)
    net.forward()
    net.blobs["x"].diff[...] = 5
    net.backward()
    assert (net.blobs["x"].diff == 5).all(), "nothing learns: nothing goes backward"


def test_in_place_finds_the_values_it_was_given(device):
    apart, in_place = (
        outcome(make(layer("Square", f'bottom: "x" top: "{top}"'), {"x": values(4, 3)}, device=device))
        for top in "yx"
    )
    np.testing.assert_array_equal(in_place["gradient of x"], apart["gradient of x"])
    np.testing.assert_array_equal(in_place["x 0"], apart["y 0"])


def test_reshape_runs_before_each_forward_pass():
    """A layer may choose its next batch in reshape."""
    net = Net.from_text(layer("Batches", 'top: "y"'), "TEST")
    calls = sys.modules["user_layers"].Batches.calls
    assert calls == ["setup", "reshape"]
    for k in range(3):
        net.forward()
        np.testing.assert_array_equal(net.blobs["y"].data, np.full((k + 1, 2), k))
    assert calls == ["setup", "reshape"] + ["reshape", "forward"] * 3
    net.blobs["y"].reshape(9, 9)
    net.reshape()
    assert calls[-1] == "reshape" and net.blobs["y"].shape == (4, 2)


def test_its_state_is_part_of_a_snapshot():
    net, other = (Net.from_text(layer("Batches", 'top: "y"'), "TRAIN") for _ in range(2))
    net.forward()
    net.forward()
    state = net.layers[0].get_state()
    assert state == {"k": 2}
    other.layers[0].set_state(state)
    assert other.forward()["y"].tolist() == net.forward()["y"].tolist()
    plain = make(layer("Square"), {"x": values(2)}).layers[1]
    plain.set_state({})
    assert plain.get_state() == {}


def test_layers_behind_follow_its_shapes():
    text = layer("Batches", 'top: "x"') + 'layer { name: "sum" type: "Reduction" bottom: "x" top: "y" }'
    net = Net.from_text(text, "TEST")
    assert [float(net.forward()["y"]) for _ in range(3)] == [0, 4, 12]


@pytest.mark.parametrize("phase", [caffebn.TRAIN, caffebn.TEST])
def test_what_it_knows(phase):
    net = Net.from_text(layer("Facts", 'top: "y"', param_str="four"), phase)
    assert net.forward()["y"].tolist() == [phase, 4, 1]


def test_without_backward_it_has_no_gradient():
    net = make(layer("Facts"), {"x": values(2)})
    net.forward()
    with pytest.raises(NetError, match=r'layer "py" \(Python\): has no gradient'):
        net.backward()


def test_what_the_user_raises_comes_through():
    with pytest.raises(KeyError, match="of the user"):
        Net.from_text(layer("Fails", 'top: "y"'), "TEST")


def test_the_base_says_what_to_write():
    base = caffebn.Layer()
    base.setup([], [])
    for method, arguments in (("reshape", 2), ("forward", 2), ("backward", 3)):
        with pytest.raises(NotImplementedError):
            getattr(base, method)(*[[]] * arguments)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (layer("", 'top: "y"'), "python_param must give layer"),
        (layer("Square", 'top: "y"', module=""), "python_param must give module"),
        (
            layer("Square", 'top: "y"', module="no_such_module"),
            "the module \"no_such_module\" cannot be imported (No module named 'no_such_module'): its folder must be "
            "on Python's path, for example in the environment variable PYTHONPATH",
        ),
        (layer("NoForward", 'top: "y"'), "the class user_layers.NoForward has to write forward"),
        (layer("Stranger", 'top: "y"'), "user_layers.Stranger must be a class derived from caffebn.Layer"),
        (layer("np", 'top: "y"'), "user_layers.np must be a class derived from caffebn.Layer"),
    ],
)
def test_refusals(text, said):
    assert refusal(text) == f'layer "py" (Python): {said}'


def test_an_unknown_class(module):
    assert refusal(layer("Sqare", 'top: "y"')) == (
        f'layer "py" (Python): the module "user_layers" ({module / "user_layers.py"}) has no class "Sqare"; did you '
        'mean "Square"?'
    )


def test_a_script_that_imports_caffe():
    assert refusal(layer("Square", 'top: "y"', module="old_layers")) == (
        'layer "py" (Python): the module "old_layers" cannot be imported (No module named \'caffe\'): write '
        "`import caffebn as caffe` in it"
    )
