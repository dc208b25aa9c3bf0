"""Each layer type in PyTorch: what the generated module declares and what its forward says.

A converter takes the writer and a node, declares modules with their tensors and adds lines that make the
node's tops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from caffebn.export.graph import DYNAMIC, Node, Value, statistics
from caffebn.layers.pooling import pooled_sizes

__all__ = ["CONVERTERS", "HELPERS", "Writer"]

HELPERS = {
    "Scale": '''
class Scale(nn.Module):
    """Multiply by a learned scale and add a learned bias; the shape of both says which axes they cover."""

    def __init__(self, *shape, bias=False):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape)) if bias else None

    def forward(self, x):
        y = x * self.weight
        return y if self.bias is None else y + self.bias
''',
    "Bias": '''
class Bias(nn.Module):
    """Add a learned bias; its shape says which axes it covers."""

    def __init__(self, *shape):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x):
        return x + self.bias
''',
    "arg_max": '''
def arg_max(x, dim, top_k):
    """The largest values along an axis and where they are; of equal ones the larger index comes first."""
    values, places = torch.sort(x.flip(dim), dim=dim, descending=True, stable=True)
    places = x.shape[dim] - 1 - places
    return values.narrow(dim, 0, top_k), places.narrow(dim, 0, top_k).to(x.dtype)
''',
}
"""Source of what a generated file may need beside torch, by name."""

for _dims in (1, 2, 3):
    HELPERS[f"FrozenBatchNorm{_dims}d"] = f'''
class FrozenBatchNorm{_dims}d(nn.BatchNorm{_dims}d):
    """Uses its stored statistics in training, too, as use_global_stats: true says."""

    def train(self, mode=True):
        return super().train(False)
'''


class Writer(Protocol):
    """What converters need of the source under construction."""

    batch_norm: str
    """What a BatchNorm does in training: "text", "train" or "frozen"."""
    batch_norms: list[tuple[float, float]]
    """Fraction and factor of each BatchNorm that goes on averaging."""
    frozen: int
    """How many BatchNorms use stored statistics in training, too."""
    notes: list[str]

    def var(self, value: Value) -> str:
        """The variable that holds a value."""

    def declare(self, name: str, expression: str, **tensors: np.ndarray) -> str:
        """Declare a module or parameter with its tensors; return ``self.<attribute>``."""

    def line(self, node: Node, expression: str) -> None:
        """Add the line that makes a node's tops."""

    def need(self, helper: str) -> str:
        """Put one of `HELPERS` into the source; return its name."""


Converter = Callable[[Writer, Node], None]

CONVERTERS: dict[str, Converter] = {}
"""Converter by layer type."""


def _converts(*types: str) -> Callable[[Converter], Converter]:
    """Register the converter of layer types."""

    def register(function: Converter) -> Converter:
        CONVERTERS.update(dict.fromkeys(types, function))
        return function

    return register


# -- helpers


def _args(*values: Any, **named: Any) -> str:
    """Arguments of a call; named ones that are None are left out."""
    given = [_word(v) for v in values]
    return ", ".join(given + [f"{k}={_word(v)}" for k, v in named.items() if v is not None])


def _word(value: Any) -> str:
    return f"float('{value}')" if isinstance(value, float) and not math.isfinite(value) else repr(value)


def _same(sizes: Sequence[int]) -> int | tuple[int, ...]:
    """One number when all are equal, as people write it."""
    return sizes[0] if len(set(sizes)) == 1 else tuple(sizes)


def _unless(value: Any, default: Any) -> Any:
    return None if value == default else value


def _reshaped(node: Node, x: str, sizes: Sequence[int]) -> str:
    if list(sizes).count(DYNAMIC) > 1:
        raise node.layer.error(
            "more than one of its sizes follows the batch: export with a fixed batch (--fixed-batch)"
        )
    return f"{x}.reshape({', '.join(map(str, sizes)) or '()'})"


def _product(sizes: Sequence[int]) -> int:
    return DYNAMIC if DYNAMIC in sizes else math.prod(sizes)


def _short(value: float) -> float:
    """The number that a float32 was written as: 0.017 and not 0.01700000092."""
    return float(np.format_float_positional(np.float32(value)))


def _number(value: float) -> str:
    return repr(_short(value)) if math.isfinite(value) else f"float('{value}')"


def _linear(x: str, scale: float, shift: float) -> str:
    y = x if scale == 1 else f"{_number(scale)} * {x}"
    return y if shift == 0 else f"{y} + {_number(shift)}"


# -- layers with weights


@_converts("Convolution", "Deconvolution")
def _convolution(w: Writer, node: Node) -> None:
    layer: Any = node.layer
    p, spatial, axis = layer.param, len(layer.kernel), layer.channel_axis
    if spatial > 3:
        raise layer.error(f"PyTorch convolves up to 3 spatial axes, found {spatial}")
    weights, *bias = node.params
    if not spatial:
        weights = weights[..., None]
    arguments = _args(
        layer.channels,
        p.num_output,
        _same(layer.kernel) if spatial else 1,
        stride=_unless(_same(layer.stride or [1]), 1),
        padding=_unless(_same(layer.pad or [0]), 0),
        dilation=_unless(_same(layer.dilation or [1]), 1),
        groups=_unless(p.group, 1),
        bias=None if bias else False,
    )
    kind = "Conv" if node.type == "Convolution" else "ConvTranspose"
    tensors = {"weight": weights, **({"bias": bias[0]} if bias else {})}
    module = w.declare(node.name, f"nn.{kind}{spatial or 1}d({arguments})", **tensors)
    results = []
    for bottom, top in zip(node.bottoms, node.tops, strict=True):
        x = w.var(bottom)
        if axis == 1 and spatial:
            results.append(f"{module}({x})")
            continue
        items = [_product(bottom.sizes[:axis]), *bottom.sizes[axis:], *[1] * (not spatial)]
        results.append(_reshaped(node, f"{module}({_reshaped(node, x, items)})", top.sizes))
    w.line(node, ", ".join(results))


@_converts("InnerProduct")
def _inner_product(w: Writer, node: Node) -> None:
    layer: Any = node.layer
    weights, *bias = node.params
    if layer.param.transpose:
        weights = weights.T
    arguments = _args(layer.k, layer.num_output, bias=None if bias else False)
    tensors = {"weight": weights, **({"bias": bias[0]} if bias else {})}
    module = w.declare(node.name, f"nn.Linear({arguments})", **tensors)
    x, axis = w.var(node.bottoms[0]), layer.split_axis
    if axis + 1 != len(node.bottoms[0].shape):
        x = f"torch.flatten({x}, {axis})" if axis else f"torch.flatten({x})"
    w.line(node, f"{module}({x})")


@_converts("Embed")
def _embed(w: Writer, node: Node) -> None:
    p = node.layer.param
    table, *bias = node.params
    module = w.declare(node.name, f"nn.Embedding({p.input_dim}, {p.num_output})", weight=table)
    y = f"{module}({w.var(node.bottoms[0])}.long())"
    if bias:
        shift = w.declare(f"{node.name}_bias", f"{w.need('Bias')}({p.num_output})", bias=bias[0])
        y = f"{shift}({y})"
    w.line(node, y)


@_converts("BatchNorm")
def _batch_norm(w: Writer, node: Node) -> None:
    layer: Any = node.layer
    p, shape = layer.param, node.bottoms[0].shape
    dims = max(len(shape) - 2, 1)
    if dims > 3:
        raise layer.error(f"PyTorch normalises up to 5 axes, found {len(shape)}")
    given = p.use_global_stats if p.has("use_global_stats") else None
    if w.batch_norm != "text" and given is not False:
        given = True if w.batch_norm == "frozen" else None
    fraction = _short(p.moving_average_fraction)
    mean, var = statistics(node)
    tensors: dict[str, Any] = {}
    if node.scale is not None:
        gamma, *beta = node.scale_params
        tensors["weight"] = gamma.reshape(-1)
        tensors["bias"] = beta[0].reshape(-1) if beta else np.zeros_like(gamma)
    if given is not False:
        tensors["running_mean"], tensors["running_var"] = mean, var
        factor = float(node.params[2].reshape(-1)[0])
        # with momentum None PyTorch averages over all batches so far, which is what a fraction of 1 does
        tensors["num_batches_tracked"] = np.array(round(factor) if fraction == 1 else 0, np.int64)
    arguments = _args(
        shape[1],
        eps=_unless(_short(p.eps), 1e-5),
        affine=None if node.scale is not None else False,
        track_running_stats=False if given is False else None,
    )
    if given is None:
        arguments += ", momentum=None" if fraction == 1 else f", momentum={round(1 - fraction, 9)!r}"
    kind = w.need(f"FrozenBatchNorm{dims}d") if given else f"nn.BatchNorm{dims}d"
    module = w.declare(node.name, f"{kind}({arguments})", **tensors)
    w.frozen += bool(given)
    if given is None:
        w.batch_norms.append((fraction, float(node.params[2].reshape(-1)[0])))
    if node.scale is not None and not node.scale.param.bias_term:
        w.notes.append(
            f"{module.removeprefix('self.')}: Caffe's Scale has no bias; here it starts at 0 and is learned, too: "
            f"freeze it with {module}.bias.requires_grad_(False)"
        )
    w.line(node, f"{module}({w.var(node.bottoms[0])})")


@_converts("Scale", "Bias")
def _scale_bias(w: Writer, node: Node) -> None:
    bottom, p = node.bottoms[0], node.layer.param
    x, n_axes = w.var(bottom), len(bottom.shape)
    learned = len(node.bottoms) == 1
    covers = node.params[0].ndim if learned else len(node.bottoms[1].shape)
    axis = (p.axis % n_axes) if covers else n_axes
    trailing = (1,) * (n_axes - axis - covers)

    def spread(a: np.ndarray) -> np.ndarray:
        return a.reshape(a.shape + trailing)

    params = [spread(a) for a in node.params]
    sizes = ", ".join(map(str, params[0].shape)) if params else ""
    if learned and node.type == "Scale":
        bias = ("" if not sizes else ", ") + "bias=True" if len(params) > 1 else ""
        tensors = dict(zip(("weight", "bias"), params, strict=False))
        module = w.declare(node.name, f"{w.need('Scale')}({sizes}{bias})", **tensors)
        w.line(node, f"{module}({x})")
        return
    if learned:
        module = w.declare(node.name, f"{w.need('Bias')}({sizes})", bias=params[0])
        w.line(node, f"{module}({x})")
        return
    other = node.bottoms[1]
    factor = _reshaped(node, w.var(other), [*other.sizes, *trailing]) if trailing else w.var(other)
    y = f"{x} {'*' if node.type == 'Scale' else '+'} {factor}"
    if params:
        module = w.declare(node.name, f"{w.need('Bias')}({sizes})", bias=params[0])
        y = f"{module}({y})"
    w.line(node, y)


@_converts("PReLU")
def _prelu(w: Writer, node: Node) -> None:
    slope = node.params[0].reshape(-1)
    module = w.declare(node.name, f"nn.PReLU({slope.size})", weight=slope)
    w.line(node, f"{module}({w.var(node.bottoms[0])})")


@_converts("Parameter")
def _parameter(w: Writer, node: Node) -> None:
    shape = ", ".join(map(str, node.params[0].shape))
    name = w.declare(node.name, f"nn.Parameter(torch.zeros({shape or '()'}))", **{"": node.params[0]})
    w.line(node, name)


# -- activations


def _formula(text: str) -> Converter:
    def convert(w: Writer, node: Node) -> None:
        w.line(node, text.format(x=w.var(node.bottoms[0])))

    return convert


for _type, _text in {
    "Sigmoid": "torch.sigmoid({x})",
    "TanH": "torch.tanh({x})",
    "AbsVal": "torch.abs({x})",
    "BNLL": "F.softplus({x})",
}.items():
    CONVERTERS[_type] = _formula(_text)


@_converts("ReLU")
def _relu(w: Writer, node: Node) -> None:
    slope, x = node.layer.param.negative_slope, w.var(node.bottoms[0])
    w.line(node, f"F.leaky_relu({x}, {_number(slope)})" if slope else f"F.relu({x})")


@_converts("ELU")
def _elu(w: Writer, node: Node) -> None:
    w.line(node, f"F.elu({w.var(node.bottoms[0])}, alpha={_number(node.layer.param.alpha)})")


@_converts("Swish")
def _swish(w: Writer, node: Node) -> None:
    x, beta = w.var(node.bottoms[0]), node.layer.param.beta
    w.line(node, f"{x} * torch.sigmoid({_linear(x, beta, 0)})")


@_converts("Clip")
def _clip(w: Writer, node: Node) -> None:
    p = node.layer.param
    w.line(node, f"torch.clamp({w.var(node.bottoms[0])}, {_number(p.min)}, {_number(p.max)})")


@_converts("Threshold")
def _threshold(w: Writer, node: Node) -> None:
    x = w.var(node.bottoms[0])
    w.line(node, f"({x} > {_number(node.layer.param.threshold)}).to({x}.dtype)")


@_converts("Power")
def _power(w: Writer, node: Node) -> None:
    p, x = node.layer.param, w.var(node.bottoms[0])
    constant = node.layer.constant  # type: ignore[attr-defined]
    if constant is not None:
        w.line(node, f"torch.full_like({x}, {_number(constant)})")
        return
    y = _linear(x, p.scale, p.shift)
    w.line(node, y if p.power == 1 else f"({y}) ** {_number(p.power)}")


@_converts("Exp")
def _exp(w: Writer, node: Node) -> None:
    layer: Any = node.layer
    y = f"torch.exp({_linear(w.var(node.bottoms[0]), layer.inner, 0)})"
    w.line(node, y if layer.outer == 1 else f"{_number(layer.outer)} * {y}")


@_converts("Log")
def _log(w: Writer, node: Node) -> None:
    layer: Any = node.layer
    y = f"torch.log({_linear(w.var(node.bottoms[0]), layer.param.scale, layer.param.shift)})"
    w.line(node, y if layer.factor == 1 else f"{_number(layer.factor)} * {y}")


@_converts("Softmax")
def _softmax(w: Writer, node: Node) -> None:
    w.line(node, f"F.softmax({w.var(node.bottoms[0])}, dim={node.layer.param.axis})")


@_converts("Dropout")
def _dropout(w: Writer, node: Node) -> None:
    module = w.declare(node.name, f"nn.Dropout({_number(node.layer.ratio)})")  # type: ignore[attr-defined]
    w.line(node, f"{module}({w.var(node.bottoms[0])})")


# -- normalisation


@_converts("LRN")
def _lrn(w: Writer, node: Node) -> None:
    p, x = node.layer.param, w.var(node.bottoms[0])
    n, alpha, beta = p.local_size, _number(p.alpha), _number(p.beta)
    if node.layer.across:  # type: ignore[attr-defined]
        w.line(node, f"F.local_response_norm({x}, {n}, alpha={alpha}, beta={beta}, k={_number(p.k)})")
    else:
        w.line(
            node, f"{x} * (1 + {alpha} * F.avg_pool2d({x} * {x}, {n}, stride=1, padding={n // 2})) ** -{beta}"
        )


@_converts("MVN")
def _mvn(w: Writer, node: Node) -> None:
    p, bottom, top = node.layer.param, node.bottoms[0], node.tops[0]
    x = w.var(bottom)
    if len(bottom.shape) < 4:
        w.line(node, _reshaped(node, x, top.sizes))
        x = w.var(top)
    dims = (1, 2, 3) if p.across_channels else (2, 3)
    w.line(node, f"{x} - {x}.mean({dims}, keepdim=True)")
    if p.normalize_variance:
        y = w.var(top)
        w.line(node, f"{y} / ({y}.square().mean({dims}, keepdim=True).sqrt() + {_number(p.eps)})")


# -- pooling


def _pool(
    node: Node,
    x: str,
    kind: str,
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    pooled: Sequence[int],
    floor: bool,
    indices: bool = False,
) -> str:
    """A call that pools as Caffe does.

    PyTorch's ceil_mode drops a last window that begins in the padding and counts padding in averages, as
    Caffe does; but it takes no padding above half the kernel, which is put around the image before.
    """
    sizes = node.bottoms[0].shape[2:]
    if any((out - 1) * s >= size + p for out, s, size, p in zip(pooled, stride, sizes, pad, strict=True)):
        raise node.layer.error(
            "its last window lies wholly outside of the bottom (a stride larger than the kernel, rounded up), which "
            "PyTorch does not have: write round_mode: FLOOR"
        )
    cut = ""
    padding: Any = _unless(_same(pad), 0)
    if any(2 * p > k for p, k in zip(pad, kernel, strict=True)):
        if indices:
            raise node.layer.error(
                "places of maxima with a padding above half the kernel have no counterpart in PyTorch"
            )
        value = ", value=float('-inf')" if kind == "MAX" else ""
        x = f"F.pad({x}, {(pad[1], pad[1], pad[0], pad[0])}{value})"
        cut, padding = f"[..., :{pooled[0]}, :{pooled[1]}]", None
    arguments = _args(
        _same(kernel), stride=_same(stride), padding=padding, ceil_mode=None if floor else True,
        return_indices=True if indices else None,
    )  # fmt: skip
    return f"F.{'max' if kind == 'MAX' else 'avg'}_pool2d({x}, {arguments}){cut}"


@_converts("Pooling")
def _pooling(w: Writer, node: Node) -> None:
    layer: Any = node.layer
    x, kind, indices = w.var(node.bottoms[0]), layer.param.pool, len(node.tops) > 1
    if layer.param.global_pooling and not indices:
        w.line(node, f"F.adaptive_{'max' if kind == 'MAX' else 'avg'}_pool2d({x}, 1)")
        return
    pooled = node.tops[0].shape[2:]
    kernel = node.bottoms[0].shape[2:] if layer.param.global_pooling else layer.kernel
    floor = layer.param.round_mode == "FLOOR"
    w.line(node, _pool(node, x, kind, kernel, layer.stride, layer.pad, pooled, floor, indices))


@_converts("SPP")
def _spp(w: Writer, node: Node) -> None:
    layer: Any = node.layer
    x, sizes = w.var(node.bottoms[0]), node.bottoms[0].shape[2:]
    parts = []
    for level in layer.levels:
        pooled = pooled_sizes(sizes, level.kernel, level.kernel, level.pad)
        parts.append(
            _pool(node, x, layer.param.pool, level.kernel, level.kernel, level.pad, pooled, floor=False)
        )
    if len(parts) == 1:
        w.line(node, parts[0])
    else:
        w.line(node, f"torch.cat([{', '.join(f'torch.flatten({part}, 1)' for part in parts)}], dim=1)")


@_converts("Im2col")
def _im2col(w: Writer, node: Node) -> None:
    layer: Any = node.layer
    kernel, stride, pad, dilation = layer.sizes
    if len(kernel) != 2 or layer.channel_axis != 1:
        raise layer.error("PyTorch's unfold takes 2 spatial axes behind the channels")
    arguments = _args(
        kernel,
        dilation=_unless(dilation, (1, 1)),
        padding=_unless(pad, (0, 0)),
        stride=_unless(stride, (1, 1)),
    )
    w.line(node, _reshaped(node, f"F.unfold({w.var(node.bottoms[0])}, {arguments})", node.tops[0].sizes))


# -- several blobs


@_converts("Eltwise")
def _eltwise(w: Writer, node: Node) -> None:
    layer: Any = node.layer
    names = [w.var(bottom) for bottom in node.bottoms]
    if layer.operation == "MAX":
        y = names[0]
        for name in names[1:]:
            y = f"torch.maximum({y}, {name})"
    elif layer.operation == "PROD":
        y = " * ".join(names)
    else:
        y = _linear(names[0], layer.coeff[0], 0)
        for name, c in zip(names[1:], layer.coeff[1:], strict=True):
            y += f" {'-' if c < 0 else '+'} {_linear(name, abs(c), 0)}"
    w.line(node, y)


@_converts("Concat")
def _concat(w: Writer, node: Node) -> None:
    p = node.layer.param
    axis = p.concat_dim if p.has("concat_dim") else p.axis
    w.line(node, f"torch.cat([{', '.join(w.var(b) for b in node.bottoms)}], dim={axis})")


@_converts("Slice")
def _slice(w: Writer, node: Node) -> None:
    p, n_axes = node.layer.param, len(node.bottoms[0].shape)
    axis = (p.slice_dim if p.has("slice_dim") else p.axis) % n_axes
    if any(top.sizes[axis] == DYNAMIC for top in node.tops):
        raise node.layer.error("cuts the axis of the batch: export with a fixed batch (--fixed-batch)")
    sizes = [top.shape[axis] for top in node.tops]
    pieces = f"torch.split({w.var(node.bottoms[0])}, {sizes}, dim={axis})"
    w.line(node, pieces if len(sizes) > 1 else f"{pieces}[0]")


@_converts("Crop")
def _crop(w: Writer, node: Node) -> None:
    x, top, offset = node.bottoms[0], node.tops[0], node.layer.offset  # type: ignore[attr-defined]
    cuts = []
    for i, (begin, size) in enumerate(zip(offset, top.sizes, strict=True)):
        if size == DYNAMIC and (begin or top.shape[i] != x.shape[i]):
            raise node.layer.error("crops the axis of the batch: export with a fixed batch (--fixed-batch)")
        # sizes are taken from the other blob when the module runs, so that pictures may be of another size
        whole = size == DYNAMIC or i < node.layer.param.axis % len(x.shape)
        end = f"{w.var(node.bottoms[1])}.shape[{i}]"
        cuts.append(":" if whole else f"{begin}:{begin} + {end}" if begin else f":{end}")
    w.line(node, f"{w.var(x)}[{', '.join(cuts)}]")


@_converts("Tile")
def _tile(w: Writer, node: Node) -> None:
    p, n_axes = node.layer.param, len(node.bottoms[0].shape)
    repeats = [1] * n_axes
    repeats[p.axis % n_axes] = p.tiles
    w.line(node, f"{w.var(node.bottoms[0])}.repeat({', '.join(map(str, repeats))})")


@_converts("Flatten")
def _flatten(w: Writer, node: Node) -> None:
    p = node.layer.param
    end = "" if p.end_axis == -1 else f", {p.end_axis}"
    w.line(node, f"torch.flatten({w.var(node.bottoms[0])}, {p.axis}{end})")


@_converts("Reshape")
def _reshape(w: Writer, node: Node) -> None:
    w.line(node, _reshaped(node, w.var(node.bottoms[0]), node.tops[0].sizes))


@_converts("BatchReindex")
def _batch_reindex(w: Writer, node: Node) -> None:
    x, index = (w.var(bottom) for bottom in node.bottoms)
    w.line(node, f"{x}[{index}.long()]")


@_converts("Reduction")
def _reduction(w: Writer, node: Node) -> None:
    p, x, n_axes = node.layer.param, w.var(node.bottoms[0]), len(node.bottoms[0].shape)
    if not n_axes:
        raise node.layer.error("reduces a blob without axes: leave it out")
    dims = tuple(range(p.axis % n_axes, n_axes))
    inner = {"ASUM": f"{x}.abs()", "SUMSQ": f"{x}.square()"}.get(p.operation, x)
    y = f"{inner}.{'mean' if p.operation == 'MEAN' else 'sum'}({dims})"
    w.line(node, _linear(y, p.coeff, 0))


@_converts("ArgMax")
def _arg_max(w: Writer, node: Node) -> None:
    p, top, x = node.layer.param, node.tops[0], w.var(node.bottoms[0])
    call = w.need("arg_max")
    if p.has("axis"):
        dim = p.axis % len(node.bottoms[0].shape)
        w.line(node, f"{call}({x}, {dim}, {p.top_k})[{0 if p.out_max_val else 1}]")
        return
    found = f"{call}(torch.flatten({x}, 1), 1, {p.top_k})"
    found = f"torch.cat({found}[::-1], dim=1)" if p.out_max_val else f"{found}[1]"
    w.line(node, _reshaped(node, found, top.sizes))
