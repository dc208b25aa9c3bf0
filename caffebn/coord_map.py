"""Where a place in one blob of a net lies in another: maps of spatial coordinates between tops.

A map is ``(axis, scale, shift)``: along the spatial axes, which follow `axis`, the centre of place ``i`` of
the input lies at ``scale * i + shift`` of the output.  `scale` and `shift` are numbers, or arrays with one
value or one for each spatial axis.  `axis` is None where coordinates stay as they are, along all axes.

With these, `crop` cuts one top so that it lies exactly on another, as nets that put out an image need (Long,
Shelhamer, Darrell, Fully Convolutional Networks for Semantic Segmentation, 2015).

Examples
--------
>>> from caffebn import layers as L
>>> data = L.Input(shape=dict(dim=[1, 3, 64, 64]))
>>> conv = L.Convolution(data, num_output=8, kernel_size=3, pad=50)
>>> half = L.Pooling(conv, kernel_size=2, stride=2)
>>> up = L.Deconvolution(half, convolution_param=dict(num_output=8, kernel_size=4, stride=2))
>>> crop(up, data).fn.params["crop_param"]
{'axis': 2, 'offset': [50]}
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from caffebn.errors import NetError
from caffebn.net_spec import Function, Top
from caffebn.proto import Message

__all__ = ["compose", "coord_map", "coord_map_from_to", "crop", "inverse"]

Map = tuple[int | None, Any, Any]

IDENTITY: Map = (None, 1, 0)
"""The map of layers whose every output value belongs to the same place of the input."""

_SAME_PLACE = frozenset(
    "AbsVal BNLL BatchNorm Bias Clip Dropout ELU Eltwise Exp LRN Log MVN PReLU Power ReLU Scale Sigmoid Split "
    "Swish TanH Threshold".split()
)

_ROUNDING = 1e-6  # strides of 3 and the like have no exact inverse


def coord_map(fn: Function) -> Map:
    """Return the map from the inputs of a layer to its tops.

    Parameters
    ----------
    fn : Function
        The layer, ``top.fn``.

    Returns
    -------
    (axis, scale, shift)
        With kernel ``k' = dilation (k - 1) + 1``: Convolution, Pooling and Im2col ``1 / stride`` and
        ``(pad - (k' - 1) / 2) / stride``; Deconvolution ``stride`` and ``(k' - 1) / 2 - pad``; Crop 1 and
        ``-offset``; element-wise layers ``(None, 1, 0)``.

    Raises
    ------
    NetError
        For a type without such a map, such as InnerProduct, and for global pooling.
    """
    layer = fn.layer()
    if fn.type_name in _SAME_PLACE:
        return IDENTITY
    if fn.type_name == "Crop":
        # the channel axis, behind which coordinates begin, stands before the first axis that is cut
        return layer.crop_param.axis - 1, 1, -np.array(list(layer.crop_param.offset) or [0])
    if fn.type_name == "Pooling":
        if layer.pooling_param.global_pooling:
            raise NetError(
                "Pooling: a global pooling has one place for the whole image, no coordinates to map"
            )
        return _forward_map(*_windows(fn, layer.pooling_param))
    if fn.type_name in ("Convolution", "Im2col"):
        return _forward_map(*_windows(fn, layer.convolution_param))
    if fn.type_name == "Deconvolution":
        return inverse(_forward_map(*_windows(fn, layer.convolution_param)))
    raise NetError(f"{fn.type_name}: no place of its tops belongs to one place of its inputs")


def _forward_map(axis: int, kernel: np.ndarray, stride: np.ndarray, pad: np.ndarray) -> Map:
    return axis, 1 / stride, (pad - (kernel - 1) / 2) / stride


def _windows(fn: Function, param: Message) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    kernel = _sizes(param, "kernel_size", "kernel", 0)
    stride = _sizes(param, "stride", "stride", 1)
    if not kernel.all() or not stride.all():
        raise NetError(f"{fn.type_name}: its coordinates need a kernel_size and a stride of 1 or more")
    if fn.type_name == "Pooling":
        return 1, kernel, stride, _sizes(param, "pad", "pad", 0)
    dilation = np.array(list(param.dilation) or [1])
    return param.axis, (kernel - 1) * dilation + 1, stride, _sizes(param, "pad", "pad", 0)


def _sizes(param: Message, field: str, prefix: str, default: int) -> np.ndarray:
    """Read sizes: one for all spatial axes, one for each, or the pair for height and width."""
    pair = [f"{prefix}_h", f"{prefix}_w"]
    if any(param.has(name) for name in pair):
        return np.array([getattr(param, name) for name in pair])
    return np.atleast_1d(getattr(param, field) if param.has(field) else default)


def compose(base_map: Map, next_map: Map) -> Map:
    """Return the map that applies `next_map` first and `base_map` to its result.

    Raises
    ------
    NetError
        When the two map coordinates behind different axes.
    """
    base_axis, base_scale, base_shift = base_map
    next_axis, next_scale, next_shift = next_map
    if base_axis is not None and next_axis is not None and base_axis != next_axis:
        raise NetError(f"maps of coordinates behind axis {base_axis} and axis {next_axis} cannot be joined")
    axis = next_axis if base_axis is None else base_axis
    return axis, base_scale * next_scale, base_scale * next_shift + base_shift


def inverse(coord_map: Map) -> Map:
    """Return the map from output to input."""
    axis, scale, shift = coord_map
    return axis, 1 / scale, -shift / scale


def coord_map_from_to(top_from: Top, top_to: Top) -> Map:
    """Return the map from the coordinates of `top_from` to those of `top_to`.

    Both are followed back, by the inputs that share their coordinates, to a blob from which both are made.

    Raises
    ------
    NetError
        When there is no such blob; the message names the layers that end the way.
    """
    ends: dict[str, None] = {}
    from_maps = _maps_from_ancestors(top_from, ends)
    to_maps = _maps_from_ancestors(top_to, ends)
    for top, to_map in to_maps.items():
        if top in from_maps:
            return compose(to_map, inverse(from_maps[top]))
    raise NetError(
        f"{top_from.fn.type_name} and {top_to.fn.type_name} are not made from one blob by layers that keep "
        f"coordinates; the ways back end at {', '.join(ends)}"
    )


def _maps_from_ancestors(top: Top, ends: dict[str, None]) -> dict[Top, Map]:
    """Return the blobs from which a top is made, nearest first, each with the map from it to the top."""
    maps = {top: IDENTITY}
    waiting = deque([top])
    while waiting:
        ancestor = waiting.popleft()
        fn = ancestor.fn
        # of a Crop only the first bottom is cut, the second just says how large it gets
        inputs = fn.inputs[:1] if fn.type_name == "Crop" else fn.inputs
        try:
            through = coord_map(fn) if inputs else None
        except NetError:
            through = None
        if through is None:
            ends[fn.type_name] = None
            continue
        for below in inputs:
            if below not in maps:
                maps[below] = compose(maps[ancestor], through)
                waiting.append(below)
    return maps


def crop(top_from: Top, top_to: Top) -> Top:
    """Make a Crop layer that cuts `top_from` to the size of `top_to`, so that it lies exactly on it.

    Raises
    ------
    NetError
        When the two are not made from one blob, when a place of one is larger than a place of the other,
        or when the cut would begin between two places or outside of `top_from`.
    """
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    between = f"crop of {top_from.fn.type_name} to {top_to.fn.type_name}"
    if not np.allclose(scale, 1, atol=_ROUNDING):
        raise NetError(
            f"{between}: a step in the first is {_listed(scale)} steps in the second; "
            "bring both to one resolution before"
        )
    offset = -np.atleast_1d(np.asarray(shift, dtype=float))
    whole = np.round(offset)
    if not np.allclose(offset, whole, atol=_ROUNDING, rtol=0):
        raise NetError(
            f"{between}: it would begin between two places, at {_listed(offset)}; change a pad or kernel"
        )
    if (whole < 0).any():
        raise NetError(
            f"{between}: it would begin outside, at {_listed(offset)}; the first needs more padding"
        )
    first = 2 if axis is None else axis + 1
    return Function(
        "Crop", [top_from, top_to], {"crop_param": {"axis": first, "offset": [int(n) for n in whole]}}
    ).tops[0]


def _listed(numbers: Any) -> str:
    return " x ".join(f"{n:g}" for n in np.atleast_1d(numbers))
