"""The registry, and what all layers share."""

from __future__ import annotations

import numpy as np
import pytest

from caffebn.errors import NetError
from caffebn.layers import LAYERS, Context, Layer, Workspace, create, layer_type_list, register
from caffebn.layers.base import ncs, times
from caffebn.proto import Message, text


def context(dtype: str = "float32") -> Context:
    return Context(
        "reference", "TRAIN", np.dtype(dtype), np.random.default_rng(0), Workspace(np.dtype(dtype))
    )


def spec(definition: str) -> Message:
    return text.parse(definition, "LayerParameter")


def test_every_type_is_listed_in_order():
    assert layer_type_list() == sorted(LAYERS)
    assert {"BatchNorm", "Convolution", "Input", "Scale"} <= LAYERS.keys()


@pytest.mark.parametrize("name", layer_type_list())
def test_every_type_says_what_it_does(name):
    cls = LAYERS[name]
    assert cls.type == name
    assert len(cls.__doc__) > 100
    if cls.param_field:
        assert cls.param_field in Message("LayerParameter").schema.fields


def test_a_type_is_registered_once():
    said = r'layer type "BatchNorm" is registered already, by caffebn\.layers\.batch_norm\.BatchNorm'
    with pytest.raises(NetError, match=said):
        register("BatchNorm")(type("Other", (Layer,), {}))
    assert LAYERS["BatchNorm"].__name__ == "BatchNorm"


def test_an_unknown_type_is_refused_with_the_nearest_one():
    with pytest.raises(NetError) as caught:
        create(spec('name: "b" type: "BatchNormalization"'), context())
    message = caught.value.message
    assert message.startswith('layer "b": unknown layer type "BatchNormalization"; did you mean "BatchNorm"?')
    assert "(known: AbsVal, Accuracy, ArgMax, BNLL, BatchNorm, " in message
    assert caught.value.where.column == 11


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ('type: "ReLU" top: "y"', "needs 1 bottom, found 0"),
        ('type: "ReLU" bottom: "x"', "needs 1 top, found 0"),
        ('type: "Eltwise" bottom: "x" top: "y"', "needs at least 2 bottoms, found 1"),
        ('type: "Split" bottom: "x"', "needs at least 1 top, found 0"),
        ('type: "Scale" bottom: "x" bottom: "s" bottom: "t" top: "y"', "needs 1 to 2 bottoms, found 3"),
        (
            'type: "Convolution" bottom: "x" bottom: "z" top: "y"',
            "needs as many tops as bottoms, found 2 bottoms and 1 tops",
        ),
    ],
)
def test_wrong_counts_are_refused(definition, said):
    with pytest.raises(NetError) as caught:
        create(spec(f'name: "l" {definition}'), context())
    assert caught.value.message.endswith(f": {said}")
    assert caught.value.message.startswith('layer "l" (')


def test_a_loss_may_have_no_top():
    assert (
        create(spec('name: "l" type: "SoftmaxWithLoss" bottom: "x" bottom: "y"'), context()).type
        == "SoftmaxWithLoss"
    )


def test_an_error_points_at_the_field():
    definition = (
        'name: "p" type: "Pooling" bottom: "x"\ntop: "y"\npooling_param {\n  kernel_size: 2\n pad: 3 }'
    )
    made = create(spec(definition), context())
    assert made.error("no", "pad").where[1:] == (5, 2)
    assert made.error("no", "top").where[1:] == (2, 1)
    assert made.error("no", "stride").where == made.error("no").where == made.spec.where
    assert str(made.error("no", "pad")).endswith(':5:2: layer "p" (Pooling): no')


def test_an_error_of_a_message_without_a_text_has_no_place():
    made = create(Message("LayerParameter", name="p", type="Pooling", bottom=["x"], top=["y"]), context())
    for field in ("pad", "top", "pooling_param", None):
        assert made.error("no", field).where is None


@pytest.mark.parametrize(
    ("axis", "n_axes", "expected"),
    [(0, 1, (1, 2, 12)), (1, 1, (2, 3, 4)), (1, 2, (2, 12, 1)), (3, 0, (24, 1, 1))],
)
def test_ncs(axis, n_axes, expected):
    assert ncs((2, 3, 4), axis, n_axes) == expected


def test_times():
    assert times((2, 3, 4)) == "2x3x4"
    assert times(()) == "no axes"


def test_the_workspace_grows():
    workspace = Workspace(np.dtype("float64"))
    workspace.reserve(5)
    workspace.reserve(3)
    assert workspace.flat.shape == (5,)
    assert workspace.flat.dtype == np.float64
