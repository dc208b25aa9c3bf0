"""Each layer type in ONNX operators.

A converter takes the builder and a node and adds operators that make the node's tops.  The operators are
those of opset 13 to the present; where they changed in between, the builder writes the form of its opset.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from caffebn.errors import NetError
from caffebn.export.graph import DYNAMIC, OPEN, Node, Value, statistics
from caffebn.layers.pooling import pooled_sizes

__all__ = ["CONVERTERS", "Builder", "check_open", "refusal"]

INT64_MAX = 2**63 - 1


class Builder(Protocol):
    """What converters need of the model under construction."""

    opset: int

    def op(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str] | None = None, **attributes: Any
    ) -> str:
        """Add an operator; return the name of its first output."""

    def constant(self, name: str, values: Any, dtype: type = np.float32) -> str:
        """Add a constant; return its name."""


Converter = Callable[[Builder, Node], None]

CONVERTERS: dict[str, Converter] = {}
"""Converter by layer type."""

_NO_PLACE = "has no place in a net that only predicts: export the deploy net"
_WHY: dict[str, str] = {
    "Accuracy": _NO_PLACE,
    "Filter": "how many items it passes on depends on the data: leave it out and choose items behind the model",
    "HDF5Output": _NO_PLACE,
    "Python": "runs Python code, which cannot be translated: replace it, or end the net before it (--output)",
    "DummyData": "makes its values itself: give the net an Input layer in its place",
}


def refusal(node: Node) -> NetError:
    """The error for a layer without a converter: which, and what to do."""
    kind = node.type
    why = _WHY.get(kind)
    if why is None and kind.endswith("Loss"):
        why = _NO_PLACE
    if why is None and not node.bottoms:
        why = "reads data: export the deploy net, whose inputs are Input layers"
    return node.layer.error(
        why or "there is no export of this type: end the net before it (--output), or replace it"
    )


_ANY_SIZE = set(
    "Convolution Deconvolution BatchNorm Scale Bias PReLU ReLU Sigmoid TanH AbsVal BNLL ELU Swish Clip Threshold Power "
    "Exp Log Eltwise Concat Slice Softmax Dropout LRN MVN Pooling Crop ArgMax".split()
)
"""Types that read no size of their bottoms when they are converted, or say themselves what they cannot."""


def check_open(nodes: Sequence[Node]) -> None:
    """Refuse layers that are written for one height and width where these are open.

    Raises
    ------
    NetError
    """
    for node in nodes:
        values = [*node.bottoms, *node.tops]
        if any(OPEN in value.sizes for value in values) and (
            node.type not in _ANY_SIZE or any(len(value.sizes) != 4 for value in values)
        ):
            raise node.layer.error(
                "is written for one height and width: export without --open-size, or end the net before it (--output)"
            )


def _converts(*types: str) -> Callable[[Converter], Converter]:
    """Register the converter of layer types."""

    def register(function: Converter) -> Converter:
        CONVERTERS.update(dict.fromkeys(types, function))
        return function

    return register


# -- helpers


def _in(node: Node, i: int = 0) -> str:
    return node.bottoms[i].name


def _out(node: Node, i: int = 0) -> list[str]:
    return [node.tops[i].name]


def _reshape(
    b: Builder, x: str, sizes: Sequence[int], node: Node, outputs: Sequence[str] | None = None
) -> str:
    """Reshape; one size may be `DYNAMIC`, as ONNX's -1."""
    if OPEN in sizes:
        raise node.layer.error("is written for one height and width: export without --open-size")
    if list(sizes).count(DYNAMIC) > 1:
        raise node.layer.error(
            "more than one of its sizes follows the batch, which cannot be inferred: export with a fixed batch "
            "(--fixed-batch)"
        )
    # 0 stands for itself and not, as by default, for the size of the bottom
    allow = {"allowzero": 1} if b.opset >= 14 and 0 in sizes else {}
    return b.op("Reshape", [x, b.constant(f"{node.name}/shape", list(sizes), np.int64)], outputs, **allow)


def _product(sizes: Sequence[int]) -> int:
    return next((size for size in sizes if size < 0), None) or math.prod(sizes)


def _scalar(b: Builder, node: Node, what: str, value: float) -> str:
    return b.constant(f"{node.name}/{what}", np.float32(value))


def _spread(values: np.ndarray, axis: int, n_axes: int) -> np.ndarray:
    """Give an array that covers axes from `axis` on the trailing ones that broadcasting needs."""
    return values.reshape(values.shape + (1,) * (n_axes - axis - values.ndim))


def _reduce(
    b: Builder, kind: str, x: str, axes: Sequence[int], node: Node, keep: bool, out: list[str] | None = None
) -> str:
    if kind == "ReduceSum" or b.opset >= 18:
        return b.op(kind, [x, b.constant(f"{node.name}/axes", list(axes), np.int64)], out, keepdims=int(keep))
    return b.op(kind, [x], out, axes=list(axes), keepdims=int(keep))


def _slice(
    b: Builder,
    x: str,
    bounds: Sequence[tuple[int, int, int]],
    node: Node,
    out: list[str] | None = None,
    step: int = 1,
) -> str:
    """Cut ``[begin, end)`` out of axes: `bounds` are (axis, begin, end)."""
    axes, begins, ends = (list(part) for part in zip(*bounds, strict=True))
    inputs = [
        b.constant(f"{node.name}/{what}", part, np.int64)
        for what, part in (("begins", begins), ("ends", ends), ("axes", axes), ("steps", [step] * len(axes)))
    ]
    return b.op("Slice", [x, *inputs], out)


# -- layers with weights


def _items_first(b: Builder, x: str, value: Value, axis: int, n_spatial: int, node: Node) -> str:
    """Join the axes before the channels to one, and give a layer without spatial axes one of size 1."""
    if axis == 1 and n_spatial:
        return x
    return _reshape(b, x, [_product(value.sizes[:axis]), *value.sizes[axis:], *[1] * (not n_spatial)], node)


@_converts("Convolution", "Deconvolution")
def _convolution(b: Builder, node: Node) -> None:
    layer: Any = node.layer
    kernel, spatial = list(layer.kernel), len(layer.kernel)
    names = ("W", "b")
    weights = node.params[0].reshape(*node.params[0].shape[:2], *(kernel or [1]))
    params = [
        b.constant(f"{node.name}/{n}", p) for n, p in zip(names, [weights, *node.params[1:]], strict=False)
    ]
    pads = list(layer.pad)
    given = {
        "kernel_shape": kernel or [1],
        "strides": list(layer.stride) or [1],
        "dilations": list(layer.dilation) or [1],
        "pads": (pads + pads) or [0, 0],
        "group": layer.param.group,
    }
    kind = "Conv" if node.type == "Convolution" else "ConvTranspose"
    for bottom, top in zip(node.bottoms, node.tops, strict=True):
        plain = layer.channel_axis == 1 and spatial > 0
        x = _items_first(b, bottom.name, bottom, layer.channel_axis, spatial, node)
        y = b.op(kind, [x, *params], [top.name] if plain else None, **given)
        if not plain:
            _reshape(b, y, top.sizes, node, [top.name])


@_converts("InnerProduct")
def _inner_product(b: Builder, node: Node) -> None:
    layer: Any = node.layer
    bottom, top, axis = node.bottoms[0], node.tops[0], layer.split_axis
    flat = len(bottom.sizes) == 2 and axis == 1
    x = _in(node) if flat else _reshape(b, _in(node), [_product(bottom.sizes[:axis]), layer.k], node)
    params = [b.constant(f"{node.name}/{n}", p) for n, p in zip("Wb", node.params, strict=False)]
    plain = axis == 1
    y = b.op("Gemm", [x, *params], _out(node) if plain else None, transB=int(not layer.param.transpose))
    if not plain:
        _reshape(b, y, top.sizes, node, _out(node))


@_converts("Embed")
def _embed(b: Builder, node: Node) -> None:
    table, *bias = (b.constant(f"{node.name}/{n}", p) for n, p in zip("Wb", node.params, strict=False))
    index = b.op("Cast", [_in(node)], to=7)  # int64; a fraction is cut
    y = b.op("Gather", [table, index], None if bias else _out(node), axis=0)
    if bias:
        b.op("Add", [y, bias[0]], _out(node))


@_converts("BatchNorm")
def _batch_norm(b: Builder, node: Node) -> None:
    layer: Any = node.layer
    eps, shape = layer.param.eps, node.bottoms[0].shape
    params = [np.asarray(p, np.float64).reshape(-1) for p in node.scale_params]
    gamma = params[0] if params else np.ones(shape[1])
    beta = params[1] if len(params) > 1 else np.zeros(shape[1])
    if layer.use_global_stats:
        arrays = {"scale": gamma, "bias": beta}
        arrays["mean"], arrays["var"] = statistics(node)
        inputs = [b.constant(f"{node.name}/{n}", a) for n, a in arrays.items()]
        b.op("BatchNormalization", [_in(node), *inputs], _out(node), epsilon=eps)
        return
    # batch statistics, as the text asks for with use_global_stats: false
    axes = [i for i in range(len(shape)) if i != 1]
    centred = b.op("Sub", [_in(node), _reduce(b, "ReduceMean", _in(node), axes, node, keep=True)])
    var = _reduce(b, "ReduceMean", b.op("Mul", [centred, centred]), axes, node, keep=True)
    root = b.op("Sqrt", [b.op("Add", [var, _scalar(b, node, "eps", eps)])])
    if node.scale is None:
        b.op("Div", [centred, root], _out(node))
        return
    y = b.op("Div", [centred, root])
    y = b.op("Mul", [y, b.constant(f"{node.name}/scale", _spread(gamma, 1, len(shape)))])
    b.op("Add", [y, b.constant(f"{node.name}/bias", _spread(beta, 1, len(shape)))], _out(node))


@_converts("Scale", "Bias")
def _scale_bias(b: Builder, node: Node) -> None:
    bottom, p = node.bottoms[0], node.layer.param
    n_axes = len(bottom.shape)
    learned = len(node.bottoms) == 1
    covers = node.params[0].ndim if learned else len(node.bottoms[1].shape)
    axis = (p.axis % n_axes) if covers else n_axes
    given: list[str] = []
    if not learned:
        other = node.bottoms[1]
        given.append(_reshape(b, other.name, [*other.sizes, *[1] * (n_axes - axis - covers)], node))
    given += [
        b.constant(f"{node.name}/{i}", _spread(a, axis, n_axes) if covers else a.reshape(()))
        for i, a in enumerate(node.params)
    ]
    kinds = ["Mul", "Add"][: len(given)] if node.type == "Scale" else ["Add"]
    x = _in(node)
    for i, (kind, factor) in enumerate(zip(kinds, given, strict=True)):
        x = b.op(kind, [x, factor], _out(node) if i == len(kinds) - 1 else None)


@_converts("PReLU")
def _prelu(b: Builder, node: Node) -> None:
    slope = node.params[0]
    n_axes = len(node.bottoms[0].shape)
    slope = _spread(slope, 1, n_axes) if slope.ndim else slope.reshape((1,) * n_axes)
    b.op("PRelu", [_in(node), b.constant(f"{node.name}/slope", slope)], _out(node))


@_converts("Parameter")
def _parameter(b: Builder, node: Node) -> None:
    b.op("Identity", [b.constant(f"{node.name}/0", node.params[0])], _out(node))


# -- activations


@_converts("ReLU")
def _relu(b: Builder, node: Node) -> None:
    slope = node.layer.param.negative_slope
    if slope:
        b.op("LeakyRelu", [_in(node)], _out(node), alpha=slope)
    else:
        b.op("Relu", [_in(node)], _out(node))


def _plain(kind: str) -> Converter:
    def convert(b: Builder, node: Node) -> None:
        b.op(kind, [_in(node)], _out(node))

    return convert


for _type, _kind in {"Sigmoid": "Sigmoid", "TanH": "Tanh", "AbsVal": "Abs", "BNLL": "Softplus"}.items():
    CONVERTERS[_type] = _plain(_kind)


@_converts("ELU")
def _elu(b: Builder, node: Node) -> None:
    b.op("Elu", [_in(node)], _out(node), alpha=node.layer.param.alpha)


@_converts("Swish")
def _swish(b: Builder, node: Node) -> None:
    x, beta = _in(node), node.layer.param.beta
    inner = x if beta == 1 else b.op("Mul", [x, _scalar(b, node, "beta", beta)])
    b.op("Mul", [x, b.op("Sigmoid", [inner])], _out(node))


@_converts("Clip")
def _clip(b: Builder, node: Node) -> None:
    p = node.layer.param
    b.op("Clip", [_in(node), _scalar(b, node, "min", p.min), _scalar(b, node, "max", p.max)], _out(node))


@_converts("Threshold")
def _threshold(b: Builder, node: Node) -> None:
    above = b.op("Greater", [_in(node), _scalar(b, node, "threshold", node.layer.param.threshold)])
    b.op("Cast", [above], _out(node), to=1)


def _linear(b: Builder, node: Node, scale: float, shift: float) -> str:
    x = _in(node)
    if scale != 1:
        x = b.op("Mul", [x, _scalar(b, node, "scale", scale)])
    if shift != 0:
        x = b.op("Add", [x, _scalar(b, node, "shift", shift)])
    return x


@_converts("Power")
def _power(b: Builder, node: Node) -> None:
    p, constant = node.layer.param, node.layer.constant  # type: ignore[attr-defined]
    if constant is not None:
        shape = b.op("Shape", [_in(node)])
        b.op("Expand", [_scalar(b, node, "constant", constant), shape], _out(node))
        return
    x = _linear(b, node, p.scale, p.shift)
    if p.power == 1:
        b.op("Identity", [x], _out(node))
    else:
        b.op("Pow", [x, _scalar(b, node, "power", p.power)], _out(node))


@_converts("Exp")
def _exp(b: Builder, node: Node) -> None:
    layer: Any = node.layer
    x = _in(node) if layer.inner == 1 else b.op("Mul", [_in(node), _scalar(b, node, "inner", layer.inner)])
    if layer.outer == 1:
        b.op("Exp", [x], _out(node))
    else:
        b.op("Mul", [b.op("Exp", [x]), _scalar(b, node, "outer", layer.outer)], _out(node))


@_converts("Log")
def _log(b: Builder, node: Node) -> None:
    layer: Any = node.layer
    x = _linear(b, node, layer.param.scale, layer.param.shift)
    if layer.factor == 1:
        b.op("Log", [x], _out(node))
    else:
        b.op("Mul", [b.op("Log", [x]), _scalar(b, node, "factor", layer.factor)], _out(node))


@_converts("Softmax")
def _softmax(b: Builder, node: Node) -> None:
    b.op("Softmax", [_in(node)], _out(node), axis=node.layer.param.axis)


@_converts("Dropout")
def _identity(b: Builder, node: Node) -> None:
    b.op("Identity", [_in(node)], _out(node))


# -- normalisation


@_converts("LRN")
def _lrn(b: Builder, node: Node) -> None:
    p, layer = node.layer.param, node.layer
    n = p.local_size
    if layer.across:  # type: ignore[attr-defined]
        b.op("LRN", [_in(node)], _out(node), size=n, alpha=p.alpha, beta=p.beta, bias=p.k)
        return
    square = b.op("Mul", [_in(node), _in(node)])
    half = n // 2
    mean = b.op("AveragePool", [square], kernel_shape=[n, n], pads=[half] * 4, count_include_pad=1)
    scale = b.op("Mul", [mean, _scalar(b, node, "alpha", p.alpha)])
    scale = b.op("Add", [scale, _scalar(b, node, "one", 1.0)])
    b.op("Mul", [_in(node), b.op("Pow", [scale, _scalar(b, node, "power", -p.beta)])], _out(node))


@_converts("MVN")
def _mvn(b: Builder, node: Node) -> None:
    p, bottom, top = node.layer.param, node.bottoms[0], node.tops[0]
    x = _in(node) if len(bottom.sizes) == 4 else _reshape(b, _in(node), top.sizes, node)
    axes = [1, 2, 3] if p.across_channels else [2, 3]
    mean = _reduce(b, "ReduceMean", x, axes, node, keep=True)
    centred = b.op("Sub", [x, mean], None if p.normalize_variance else _out(node))
    if p.normalize_variance:
        var = _reduce(b, "ReduceMean", b.op("Mul", [centred, centred]), axes, node, keep=True)
        b.op("Div", [centred, b.op("Add", [b.op("Sqrt", [var]), _scalar(b, node, "eps", p.eps)])], _out(node))


# -- pooling


def _end_pads(
    sizes: Sequence[int],
    pooled: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
) -> list[int]:
    """How far the last window reaches beyond the image, so that rounding down gives Caffe's number of windows."""
    return [
        max(0, (out - 1) * s + k - size - p)
        for size, out, k, s, p in zip(sizes, pooled, kernel, stride, pad, strict=True)
    ]


def _pool(
    b: Builder,
    node: Node,
    kind: str,
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    pooled: Sequence[int],
    outputs: Sequence[str] | None,
) -> str:
    """Pool with Caffe's windows and divisors; the padding is written out, so that nothing is left to rounding."""
    sizes = node.bottoms[0].shape[2:]
    ends = _end_pads(sizes, pooled, kernel, stride, pad)
    if any((out - 1) * s >= size + p for out, s, size, p in zip(pooled, stride, sizes, pad, strict=True)):
        raise node.layer.error(
            "its last window lies wholly outside of the bottom (a stride larger than the kernel, rounded up), which "
            "no ONNX operator has: write round_mode: FLOOR"
        )
    given: dict[str, Any] = {"kernel_shape": list(kernel), "strides": list(stride), "pads": [*pad, *ends]}
    if kind == "MAX":
        return b.op("MaxPool", [_in(node)], outputs, **given)
    hangs_over = any(end > p for end, p in zip(ends, pad, strict=True))
    y = b.op("AveragePool", [_in(node)], None if hangs_over else outputs, count_include_pad=1, **given)
    if not hangs_over:
        return y
    # ONNX divides by the whole kernel; Caffe's windows end where the padding of the text ends
    spans = [
        np.minimum(np.arange(out) * s - p + k, size + p) - (np.arange(out) * s - p)
        for out, s, p, k, size in zip(pooled, stride, pad, kernel, sizes, strict=True)
    ]
    whole = float(math.prod(kernel))
    factor = whole / np.multiply.outer(spans[0], spans[1]).astype(np.float64)
    return b.op("Mul", [y, b.constant(f"{node.name}/whole_per_divisor", factor[None, None])], outputs)


def _pool_of_any_size(b: Builder, node: Node) -> None:
    """Pool with Caffe's windows and divisors whatever the size of the bottom is.

    Rounding up is rounding down behind ``stride - 1`` more of padding.  Caffe drops a last window that begins behind
    the bottom; there is none as long as pad + stride <= kernel.
    """
    layer: Any = node.layer
    kernel, stride, pad = list(layer.kernel), list(layer.stride), list(layer.pad)
    up = [0 if layer.param.round_mode == "FLOOR" else s - 1 for s in stride]
    if len(node.tops) > 1:
        raise node.layer.error(
            "gives the places of its maxima, which need one size: export without --open-size"
        )
    if any(p + u >= k for p, u, k in zip(pad, up, kernel, strict=True)):
        raise node.layer.error(
            "its last window may lie outside of the bottom for some sizes (pad + stride > kernel_size): export without "
            "--open-size"
        )
    x, given = _in(node), {"kernel_shape": kernel, "strides": stride}
    if layer.param.pool == "MAX":
        ends = [p + u for p, u in zip(pad, up, strict=True)]
        b.op("MaxPool", [x], _out(node), pads=[*pad, *ends], **given)
        return
    if any(pad):  # Caffe counts the padding of the text, and not what hangs over behind it
        x = b.op("Pad", [x, b.constant(f"{node.name}/pads", [0, 0, *pad, 0, 0, *pad], np.int64)])
    b.op("AveragePool", [x], _out(node), pads=[*[0] * len(up), *up], count_include_pad=0, **given)


@_converts("Pooling")
def _pooling(b: Builder, node: Node) -> None:
    layer: Any = node.layer
    kind = layer.param.pool
    if layer.param.global_pooling and len(node.tops) == 1:
        b.op("GlobalMaxPool" if kind == "MAX" else "GlobalAveragePool", [_in(node)], _out(node))
        return
    if OPEN in node.bottoms[0].sizes:
        _pool_of_any_size(b, node)
        return
    pooled = node.tops[0].shape[2:]
    kernel = node.bottoms[0].shape[2:] if layer.param.global_pooling else layer.kernel
    if len(node.tops) == 1:
        _pool(b, node, kind, kernel, layer.stride, layer.pad, pooled, _out(node))
        return
    # the second output numbers places over the whole tensor, planes before it included
    places = f"{node.tops[1].name}/place"
    _pool(b, node, kind, kernel, layer.stride, layer.pad, pooled, [node.tops[0].name, places])
    plane = b.constant(f"{node.name}/plane", math.prod(node.bottoms[0].shape[2:]), np.int64)
    b.op("Cast", [b.op("Mod", [places, plane])], _out(node, 1), to=1)


@_converts("SPP")
def _spp(b: Builder, node: Node) -> None:
    layer: Any = node.layer
    n, c, h, w = node.bottoms[0].sizes
    parts = []
    for level in layer.levels:
        single = len(layer.levels) == 1
        pooled = pooled_sizes((h, w), level.kernel, level.kernel, level.pad)
        out = _out(node) if single else None
        y = _pool(b, node, layer.param.pool, level.kernel, level.kernel, level.pad, pooled, out)
        if single:
            return
        parts.append(_reshape(b, y, [n, c * math.prod(pooled)], node))
    b.op("Concat", parts, _out(node), axis=1)


@_converts("Im2col")
def _im2col(b: Builder, node: Node) -> None:
    """A convolution of each channel with kernels that pick one place each."""
    layer: Any = node.layer
    bottom, top, axis = node.bottoms[0], node.tops[0], layer.channel_axis
    kernel, stride, pad, dilation = (list(sizes) for sizes in layer.sizes)
    if not kernel:
        b.op("Identity", [_in(node)], _out(node))
        return
    channels, k = bottom.shape[axis], math.prod(kernel)
    picks = np.tile(np.eye(k, dtype=np.float32).reshape(k, 1, *kernel), (channels, *[1] * (len(kernel) + 1)))
    x = _items_first(b, _in(node), bottom, axis, len(kernel), node)
    y = b.op("Conv", [x, b.constant(f"{node.name}/picks", picks)], _out(node) if axis == 1 else None,
             kernel_shape=kernel, strides=stride, pads=pad + pad, dilations=dilation, group=channels)  # fmt: skip
    if axis != 1:
        _reshape(b, y, top.sizes, node, _out(node))


# -- several blobs


@_converts("Eltwise")
def _eltwise(b: Builder, node: Node) -> None:
    layer: Any = node.layer
    inputs = [bottom.name for bottom in node.bottoms]
    if layer.operation == "MAX":
        b.op("Max", inputs, _out(node))
        return
    if layer.operation == "SUM":
        inputs = [
            x if c == 1 else b.op("Mul", [x, _scalar(b, node, f"coeff{i}", c)])
            for i, (x, c) in enumerate(zip(inputs, layer.coeff, strict=True))
        ]
    kind = "Add" if layer.operation == "SUM" else "Mul"
    y = inputs[0]
    for i, x in enumerate(inputs[1:], start=2):
        y = b.op(kind, [y, x], _out(node) if i == len(inputs) else None)


@_converts("Concat")
def _concat(b: Builder, node: Node) -> None:
    p = node.layer.param
    axis = p.concat_dim if p.has("concat_dim") else p.axis
    b.op("Concat", [bottom.name for bottom in node.bottoms], _out(node), axis=axis)


@_converts("Slice")
def _slice_layer(b: Builder, node: Node) -> None:
    p, shape = node.layer.param, node.bottoms[0].shape
    axis = (p.slice_dim if p.has("slice_dim") else p.axis) % len(shape)
    if any(top.sizes[axis] == DYNAMIC for top in node.tops):
        raise node.layer.error("cuts the axis of the batch: export with a fixed batch (--fixed-batch)")
    sizes = [top.shape[axis] for top in node.tops]
    inputs = [_in(node), b.constant(f"{node.name}/sizes", sizes, np.int64)]
    b.op("Split", inputs, [top.name for top in node.tops], axis=axis)


@_converts("Crop")
def _crop(b: Builder, node: Node) -> None:
    x, top, offset = node.bottoms[0], node.tops[0], node.layer.offset  # type: ignore[attr-defined]
    if OPEN in top.sizes or OPEN in x.sizes:
        axes = list(range(node.layer.param.axis % 4, 4))
        begins = b.constant(f"{node.name}/begins", [offset[i] for i in axes], np.int64)
        chosen = b.constant(f"{node.name}/axes", axes, np.int64)
        sizes = b.op("Gather", [b.op("Shape", [_in(node, 1)]), chosen])
        b.op("Slice", [_in(node), begins, b.op("Add", [sizes, begins]), chosen], _out(node))
        return
    bounds = []
    for i, (begin, size) in enumerate(zip(offset, top.sizes, strict=True)):
        if size == DYNAMIC and (begin or top.shape[i] != x.shape[i]):
            raise node.layer.error("crops the axis of the batch: export with a fixed batch (--fixed-batch)")
        if size != DYNAMIC and (begin or size != x.shape[i]):
            bounds.append((i, begin, begin + size))
    if bounds:
        _slice(b, _in(node), bounds, node, _out(node))
    else:
        b.op("Identity", [_in(node)], _out(node))


@_converts("Tile")
def _tile(b: Builder, node: Node) -> None:
    p, n_axes = node.layer.param, len(node.bottoms[0].shape)
    repeats = [1] * n_axes
    repeats[p.axis % n_axes] = p.tiles
    b.op("Tile", [_in(node), b.constant(f"{node.name}/repeats", repeats, np.int64)], _out(node))


@_converts("Flatten", "Reshape")
def _view(b: Builder, node: Node) -> None:
    _reshape(b, _in(node), node.tops[0].sizes, node, _out(node))


@_converts("BatchReindex")
def _batch_reindex(b: Builder, node: Node) -> None:
    b.op("Gather", [_in(node), b.op("Cast", [_in(node, 1)], to=7)], _out(node), axis=0)


@_converts("Reduction")
def _reduction(b: Builder, node: Node) -> None:
    p, shape = node.layer.param, node.bottoms[0].shape
    if not shape:
        raise node.layer.error("reduces a blob without axes, which the export does not know: leave it out")
    axes = list(range(p.axis % len(shape), len(shape)))
    kind = {"SUM": "ReduceSum", "MEAN": "ReduceMean", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare"}[
        p.operation
    ]
    y = _reduce(b, kind, _in(node), axes, node, keep=False, out=_out(node) if p.coeff == 1 else None)
    if p.coeff != 1:
        b.op("Mul", [y, _scalar(b, node, "coeff", p.coeff)], _out(node))


@_converts("ArgMax")
def _arg_max(b: Builder, node: Node) -> None:
    """The largest values; among equal ones the larger index, so the axis is looked at from its end."""
    p, bottom, top = node.layer.param, node.bottoms[0], node.tops[0]
    if p.has("axis"):
        x, axis = _in(node), p.axis % len(bottom.shape)
    else:
        x, axis = _reshape(b, _in(node), [bottom.sizes[0], _product(bottom.sizes[1:])], node), 1
    length = bottom.shape[axis] if p.has("axis") else math.prod(bottom.shape[1:])
    turned = _slice(b, x, [(axis, -1, -INT64_MAX)], node, step=-1)
    k = b.constant(f"{node.name}/top_k", [p.top_k], np.int64)
    values, places = f"{top.name}/values", f"{top.name}/places"
    b.op("TopK", [turned, k], [values, places], axis=axis)
    index = b.op("Sub", [b.constant(f"{node.name}/last", length - 1, np.int64), places])
    if p.has("axis"):
        if p.out_max_val:
            b.op("Identity", [values], _out(node))
        else:
            b.op("Cast", [index], _out(node), to=1)
        return
    found = b.op("Cast", [index], to=1)
    if p.out_max_val:
        found = b.op("Concat", [found, values], axis=1)
    _reshape(b, found, top.sizes, node, _out(node))
