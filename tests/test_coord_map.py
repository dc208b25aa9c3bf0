"""Maps of coordinates: by hand, against a net that shows where values go, and the crops they make."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import caffebn.coord_map
from caffebn import layers as L
from caffebn.coord_map import compose, coord_map, coord_map_from_to, crop, inverse
from caffebn.errors import NetError


@pytest.fixture
def data():
    return L.Input(shape=dict(dim=[1, 1, 64, 64]))


def close(found, expected):
    assert found[0] == expected[0]
    np.testing.assert_allclose(np.atleast_1d(found[1]), np.atleast_1d(expected[1]))
    np.testing.assert_allclose(np.atleast_1d(found[2]), np.atleast_1d(expected[2]))


# -- one layer


@pytest.mark.parametrize(("make", "expected"), [
    (lambda x: L.Convolution(x, kernel_size=3), (1, 1, -1)),
    (lambda x: L.Convolution(x, kernel_size=3, pad=1), (1, 1, 0)),
    (lambda x: L.Convolution(x, kernel_size=5, stride=2, pad=3), (1, 1 / 2, 1 / 2)),
    (lambda x: L.Convolution(x, kernel_size=3, dilation=4, pad=4), (1, 1, 0)),
    (lambda x: L.Convolution(x, convolution_param=dict(kernel_size=3, axis=2)), (2, 1, -1)),
    (lambda x: L.Convolution(x, kernel_size=[3, 5], stride=[1, 2]), (1, [1, 1 / 2], [-1, -1])),
    (lambda x: L.Convolution(x, kernel_h=3, kernel_w=5, stride_h=1, stride_w=2, pad_w=2),
     (1, [1, 1 / 2], [-1, 0])),
    (lambda x: L.Im2col(x, convolution_param=dict(kernel_size=3)), (1, 1, -1)),
    (lambda x: L.Pooling(x, kernel_size=2, stride=2), (1, 1 / 2, -1 / 4)),
    (lambda x: L.Pooling(x, kernel_h=3, kernel_w=2, stride_h=1, stride_w=2, pad_h=1, pad_w=0),
     (1, [1, 1 / 2], [0, -1 / 4])),
    (lambda x: L.Deconvolution(x, convolution_param=dict(kernel_size=4, stride=2, pad=1)), (1, 2, 0.5)),
    (lambda x: L.Crop(x, x, offset=[3, 4]), (1, 1, [-3, -4])),
    (lambda x: L.Crop(x, x, axis=3), (2, 1, 0)),
    (lambda x: L.ReLU(x), (None, 1, 0)),
    (lambda x: L.BatchNorm(x, in_place=True), (None, 1, 0)),
    (lambda x: L.Eltwise(x, x), (None, 1, 0)),
])  # fmt: skip
def test_layers(data, make, expected):
    close(coord_map(make(data).fn), expected)


@pytest.mark.parametrize(("make", "words"), [
    (lambda x: L.InnerProduct(x, num_output=1),
     "InnerProduct: no place of its tops belongs to one place of its inputs"),
    (lambda x: L.Pooling(x, global_pooling=True),
     "Pooling: a global pooling has one place for the whole image, no coordinates to map"),
    (lambda x: L.Convolution(x, num_output=1),
     "Convolution: its coordinates need a kernel_size and a stride of 1 or more"),
    (lambda x: L.Convolution(x, kernel_size=1, stride=0),
     "Convolution: its coordinates need a kernel_size and a stride of 1 or more"),
])  # fmt: skip
def test_layers_without_a_map(data, make, words):
    with pytest.raises(NetError) as error:
        coord_map(make(data).fn)
    assert str(error.value) == words


@pytest.mark.parametrize("make", [
    lambda x: L.Pooling(x, pool="AVE", kernel_size=3, stride=1),
    lambda x: L.Pooling(x, pool="AVE", kernel_size=3, stride=2, pad=1),
    lambda x: L.Convolution(x, num_output=1, kernel_size=5, pad=1, weight_filler=dict(value=1)),
    lambda x: L.Convolution(x, num_output=1, kernel_size=3, dilation=2, stride=3, weight_filler=dict(value=1)),
])  # fmt: skip
def test_maps_say_where_values_go(make):
    """The centre of what a layer makes of one bright pixel lies where the map says."""
    n = caffebn.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 1, 31, 31]))
    n.out = make(n.data)
    _, scale, shift = coord_map(n.out.fn)
    net = caffebn.Net(n.to_proto(), caffebn.TEST)
    # many pixels, one a time: the place where each output sees the middle of its window
    out = net.blobs["out"].shape[2:]
    seen = np.zeros((31, *out))
    for i in range(31):
        net.blobs["data"].data[...] = 0
        net.blobs["data"].data[0, 0, i, :] = 1
        seen[i] = net.forward()["out"][0, 0]
    middle = slice(2, -2)  # windows within the image
    column = seen[:, middle, 0] / seen[:, middle, 0].sum(0)
    centre = (np.arange(31)[:, None] * column).sum(0)  # in the input, for each output
    np.testing.assert_allclose(scale * centre + shift, np.arange(out[0])[middle], atol=1e-6)


# -- the algebra


maps = st.tuples(st.sampled_from([None, 1]), st.floats(0.25, 8), st.floats(-50, 50))


@given(maps, maps, maps)
def test_laws(f, g, h):
    identity = (None, 1, 0)
    close(compose(f, identity), f)
    close(compose(identity, f), f)
    close(compose(compose(f, g), h), compose(f, compose(g, h)))
    axis, scale, shift = compose(f, inverse(f))
    assert axis == f[0] and scale == pytest.approx(1) and shift == pytest.approx(0, abs=1e-9)


def test_compose_is_one_after_the_other():
    f, g = (1, 2.0, 3.0), (1, 0.5, 7.0)
    _, scale, shift = compose(f, g)
    assert scale * 11 + shift == 2 * (0.5 * 11 + 7) + 3


def test_maps_behind_different_axes_cannot_be_joined():
    with pytest.raises(NetError) as error:
        compose((1, 1, 0), (2, 1, 0))
    assert str(error.value) == "maps of coordinates behind axis 1 and axis 2 cannot be joined"


# -- from one top to another


def test_no_layer_between(data):
    relu = L.ReLU(data)
    assert coord_map_from_to(data, data) == (None, 1, 0)
    close(coord_map_from_to(relu, data), (None, 1, 0))


def test_down_and_up(data):
    conv = L.Convolution(data, kernel_size=3, pad=1, num_output=2)
    half = L.Pooling(conv, kernel_size=2, stride=2)
    quarter = L.Pooling(L.ReLU(half, in_place=True), kernel_size=2, stride=2)
    close(coord_map_from_to(quarter, data), (1, 4, 1.5))
    close(coord_map_from_to(data, quarter), (1, 1 / 4, -3 / 8))
    close(coord_map_from_to(quarter, half), (1, 2, 0.5))


def test_a_crops_second_bottom_does_not_count(data):
    other = L.Convolution(data, kernel_size=1, pad=7)
    cut = L.Crop(L.Convolution(data, kernel_size=1, pad=3), other, offset=2)
    close(coord_map_from_to(cut, data), (1, 1, -1))


def test_tops_without_a_common_blob(data):
    other = L.Input(shape=dict(dim=[1, 1, 64, 64]))
    with pytest.raises(NetError) as error:
        coord_map_from_to(L.ReLU(L.InnerProduct(data, num_output=3)), L.TanH(other))
    assert str(error.value) == (
        "ReLU and TanH are not made from one blob by layers that keep coordinates; the ways back end at "
        "InnerProduct, Input"
    )


# -- crops


def test_crop_lies_on_its_target(data):
    conv = L.Convolution(data, num_output=2, kernel_size=3, pad=50)
    half = L.Pooling(conv, kernel_size=2, stride=2)
    up = L.Deconvolution(half, convolution_param=dict(num_output=1, kernel_size=4, stride=2))
    cut = crop(up, data)
    assert cut.fn.type_name == "Crop" and cut.fn.inputs == (up, data)
    assert cut.fn.params == {"crop_param": {"axis": 2, "offset": [50]}}
    close(coord_map_from_to(cut, data), (1, 1, 0))
    assert all(type(n) is int for n in cut.fn.params["crop_param"]["offset"])


def test_crop_with_a_stride_that_has_no_exact_inverse(data):
    third = L.Convolution(data, kernel_size=3, stride=3, pad=30)
    up = L.Deconvolution(third, convolution_param=dict(kernel_size=5, stride=3))
    assert crop(up, data).fn.params["crop_param"]["offset"] == [31]


def test_crop_with_its_own_offset_for_each_axis(data):
    wide = L.Convolution(data, kernel_size=[1, 1], pad=[2, 3])
    assert crop(wide, data).fn.params == {"crop_param": {"axis": 2, "offset": [2, 3]}}


def test_crop_of_what_has_the_same_coordinates(data):
    assert crop(L.ReLU(data), data).fn.params == {"crop_param": {"axis": 2, "offset": [0]}}


@pytest.mark.parametrize(("make", "words"), [
    (lambda x: L.Pooling(x, kernel_size=2, stride=2),
     "crop of Pooling to Input: a step in the first is 2 steps in the second; bring both to one resolution before"),
    (lambda x: L.Convolution(x, kernel_size=2, pad=4),
     "crop of Convolution to Input: it would begin between two places, at 3.5; change a pad or kernel"),
    (lambda x: L.Convolution(x, kernel_size=3),
     "crop of Convolution to Input: it would begin outside, at -1; the first needs more padding"),
])  # fmt: skip
def test_crops_that_do_not_lie_on_their_target(data, make, words):
    with pytest.raises(NetError) as error:
        crop(make(data), data)
    assert str(error.value) == words


def test_examples():
    assert doctest.testmod(caffebn.coord_map).failed == 0
