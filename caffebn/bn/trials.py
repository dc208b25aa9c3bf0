"""Find out by trial why a layer's values differ: run it again with one usual mistake after the other.

What is run is the piece of the net between values that are known to agree and the value that does not, in
double precision, as a net of its own in which every value has its own name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from caffebn.bn.graph import Node, Value
from caffebn.bn.opening import make_net, relative_error
from caffebn.errors import CaffebnError
from caffebn.layers import find_type
from caffebn.proto import Message

__all__ = ["Trial", "rerun", "search"]

Array = np.ndarray
Blobs = list[Array]
Change = Callable[[Message, Blobs], "Blobs | None"]

EPS = (1e-2, 1e-3, 1e-4, 2e-5, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 0.0)
MEANS = ((104.0, 117.0, 123.0), (103.939, 116.779, 123.68), (127.5,), (128.0,), (0.485, 0.456, 0.406))
SCALES = (1 / 255, 255.0, 0.017, 1 / 0.017, 1 / 127.5, 127.5, 1 / 128, 128.0, 1 / 256, 256.0)
_MOST_LAYERS = 6
"""Pieces of more layers are tried with changes to all layers of a type at once only."""
_MOST_INPUT_LAYERS = 12


@dataclass
class Trial:
    """One mistake that was tried.

    Attributes
    ----------
    what : str
        The mistake, as something the other side does.
    layer : str
        The layer that it was tried at, or that all of a type were changed.
    relative_error : float
        What is left of the difference.
    removes : bool
        Whether that is within the tolerance.
    """

    what: str
    layer: str
    relative_error: float
    removes: bool


def search(
    side: Any,
    targets: Sequence[Value],
    wanted: Array,
    known: Mapping[Value, Array],
    tolerance: float,
    means: Sequence[Any] = (),
) -> list[Trial]:
    """Try the usual mistakes.

    Parameters
    ----------
    side : NetSide
        The net whose layers are run again.
    targets : sequence of Value
        The value that differs, and others that the one of the other side may stand for.
    wanted : ndarray
        The value of the other side.
    known : mapping
        Values of the other side that agree, in the shapes of the net.
    tolerance : float
    means : sequence
        More means of pictures.

    Returns
    -------
    list of Trial
        Those that remove the difference, and the best of the others, the best first.
    """
    found: list[Trial] = []
    for target in targets:
        piece = _Piece(side, target, known)
        for what, layer, made in piece.variants(means):
            array = _fitted(wanted, made)
            if array is None:
                continue
            error = relative_error(made, array)[2]
            found.append(Trial(what, layer, error, bool(error <= tolerance)))
    # of the trials that remove the difference, the one that needs the fewest mistakes
    found.sort(key=lambda t: (not t.removes, t.what.count(", and ") * t.removes, t.relative_error))
    return found[:10]


def rerun(side: Any, target: Value, known: Mapping[Value, Array]) -> Array | None:
    """Return what the layers of a net make of a value's inputs on the other side."""
    return _Piece(side, target, {value: array for value, array in known.items() if value is not target}).run()


def _fitted(wanted: Array, made: Array) -> Array | None:
    if wanted.shape == made.shape:
        return wanted
    if [n for n in wanted.shape if n != 1] == [n for n in made.shape if n != 1]:
        return wanted.reshape(made.shape)
    if wanted.ndim == 4 and wanted.transpose(0, 3, 1, 2).shape == made.shape:
        return wanted.transpose(0, 3, 1, 2)
    return None


class _Piece:
    """The layers between values that agree and one that does not."""

    def __init__(self, side: Any, target: Value, known: Mapping[Value, Array]):
        self._target = target
        self._nodes: list[Node] = []
        self._inputs: dict[Value, Array] = {}
        self._names: dict[Value, str] = {}
        self._layers = side.net.layer_dict
        self._is_input = not target.maker.bottoms
        if self._is_input:
            self._inputs[target] = side.values[target]
            return
        seen: set[Node] = set()
        waiting = [target]
        while waiting:
            value = waiting.pop()
            if value is not target and (value in known or not value.maker.bottoms):
                self._inputs[value] = known.get(value, side.values[value])
            elif value.maker not in seen:
                seen.add(value.maker)
                waiting += value.maker.bottoms
        self._nodes = [node for node in side.graph.nodes if node in seen]
        for node in self._nodes:
            for value in (*node.bottoms, *node.tops):
                self._names.setdefault(value, f"value {len(self._names)}")

    def run(
        self,
        changes: Mapping[Node, Change] | None = None,
        inputs: Mapping[Value, Array] | None = None,
        without: Sequence[Node] = (),
    ) -> Array | None:
        """Run the piece with some layers changed or left out; None when that makes no net."""
        if self._is_input:
            return (inputs or self._inputs)[self._target]
        names = dict(self._names)
        net = Message("NetParameter")
        given = {names[value]: array for value, array in (inputs or self._inputs).items()}
        for name, array in given.items():
            spec = net.add("layer", name=name, type="Input", top=[name])
            spec.mutable("input_param").add("shape", dim=list(array.shape))
        weights: dict[str, Blobs] = {}
        for node in self._nodes:
            if node in without:
                names[node.tops[0]] = names[node.bottoms[0]]
                continue
            spec, blobs = node.spec.copy(), [blob.copy() for blob in node.blobs]
            if changes and node in changes:
                changed = changes[node](spec, blobs)
                if changed is None:
                    return None
                blobs = changed
            spec.bottom = [names[value] for value in node.bottoms]
            spec.top = [names[value] for value in node.tops]
            for field in ("param", "include", "exclude", "loss_weight", "propagate_down"):
                spec.clear(field)
            net.layer.append(spec)
            if blobs:
                weights[spec.name] = blobs
        if not net.layer or names[self._target] in given:
            return given[names[self._target]]
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                made = make_net(net, weights, "float64")
                for name, array in given.items():
                    made.blobs[name].data[...] = array
                made.forward()
                return made.blobs[names[self._target]].data.copy()
        except CaffebnError:
            return None

    # what may be wrong

    def variants(self, means: Sequence[Any]) -> Iterator[tuple[str, str, Array]]:
        """Yield words, a layer and the values that it would make, for each mistake that can be tried."""
        yield from self._of_layers()
        if len(self._nodes) <= _MOST_INPUT_LAYERS:
            yield from self._of_inputs(means)

    def _of_layers(self) -> Iterator[tuple[str, str, Array]]:
        by_type: dict[str, list[Node]] = {}
        for node in self._nodes:
            by_type.setdefault(node.type, []).append(node)
        for kind, nodes in by_type.items():
            groups = [nodes] if len(nodes) > 1 else []
            if len(self._nodes) <= _MOST_LAYERS or len(nodes) == 1:
                groups += [[node] for node in nodes]
            for group in groups:
                layer = group[0].name if len(group) == 1 else f"all {len(group)} {kind} layers"
                yield from self._of_group(kind, group, layer)

    def _of_group(self, kind: str, group: list[Node], layer: str) -> Iterator[tuple[str, str, Array]]:
        whats: dict[str, dict[Node, Change]] = {}
        for node in group:
            for what, change in _changes(node, self._layers.get(node.name)):
                whats.setdefault(what, {})[node] = change
        for what, changes in whats.items():
            if (made := self.run(changes)) is not None:
                yield what, layer, made
        if _can_go(group) and (made := self.run(without=group)) is not None:
            yield f"{kind} is left out", layer, made
        node = group[0]
        if kind == "Pooling" and len(group) == 1:
            yield from self._average_without_padding(node, layer)
        if kind == "Dropout":
            for what, factor in _dropout(node):
                yield from self._times(group, what, factor, layer)

    def _average_without_padding(self, node: Node, layer: str) -> Iterator[tuple[str, str, Array]]:
        """The sum divided by the number of places inside: what many others do."""
        if len(self._nodes) != 1 or node.spec.pooling_param.pool != "AVE":
            return
        ones = {value: np.ones_like(array) for value, array in self._inputs.items()}
        made, inside = self.run(), self.run(inputs=ones)
        if made is not None and inside is not None:
            yield "the average does not count padding", layer, made / inside

    def _times(
        self, group: list[Node], what: str, factor: float, layer: str
    ) -> Iterator[tuple[str, str, Array]]:
        def change(spec: Message, blobs: Blobs) -> Blobs:
            spec.type = "Power"
            spec.mutable("power_param").scale = factor
            return []

        made = self.run(dict.fromkeys(group, change))
        if made is not None:
            yield what, layer, made

    def _of_inputs(self, means: Sequence[Any]) -> Iterator[tuple[str, str, Array]]:
        for value, array in self._inputs.items():
            if value.maker.bottoms or array.ndim != 4:
                continue
            for what, changed in _pictures(array, means, pairs=len(self._nodes) <= 2):
                made = self.run(inputs=self._inputs | {value: changed})
                if made is not None:
                    yield what, value.name, made
        if len(self._nodes) == 1 and self._nodes[0].type in ("Convolution", "Pooling"):
            node = self._nodes[0]
            layer = self._layers[node.name]
            if any(layer.pad) and max(layer.stride) > 1 and len(layer.stride) == 2:
                (value,) = self._inputs
                x = np.zeros_like(self._inputs[value])
                x[:, :, :-1, :-1] = self._inputs[value][:, :, 1:, 1:]
                made = self.run(inputs={value: x})
                if made is not None:
                    yield 'padding lies at the end only (TensorFlow\'s "SAME" with a stride)', node.name, made


# -- changes to one layer -------------------------------------------------------------------------------


def _can_go(group: list[Node]) -> bool:
    return all(
        len(node.bottoms) == len(node.tops) == 1 and node.bottoms[0].shape == node.tops[0].shape
        for node in group
    )


def _changes(node: Node, layer: Any) -> Iterator[tuple[str, Change]]:
    """Yield words and the change to text and blobs, for the mistakes that are usual with a type."""
    maker = _CHANGES.get(node.type)
    if maker is not None:
        yield from maker(node, layer)


def _set(parameter: str, **values: Any) -> Change:
    def change(spec: Message, blobs: Blobs) -> Blobs:
        for name, value in values.items():
            setattr(spec.mutable(parameter), name, value)
        return blobs

    return change


def _blob(index: int, function: Callable[[Blobs], Array | None]) -> Change:
    def change(spec: Message, blobs: Blobs) -> Blobs | None:
        if index >= len(blobs):
            return None
        with np.errstate(all="ignore"):
            value = function(blobs)
        if value is None or not np.isfinite(value).all():
            return None
        blobs[index] = np.ascontiguousarray(value)
        return blobs

    return change


def _batch_norm(node: Node, layer: Any) -> Iterator[tuple[str, Change]]:
    param = node.spec.batch_norm_param
    eps = param.eps
    for other in EPS:
        if abs(other - eps) > 1e-3 * max(other, eps):
            yield f"eps is {other:g} instead of {eps:g}", _set("batch_norm_param", eps=other)
    factor = float(node.blobs[2].reshape(-1)[0])

    def stored(function: Callable[[Array, Array], Array]) -> Change:
        """Change the variance; its function gets mean and variance, both divided by the factor."""

        def var(blobs: Blobs) -> Array | None:
            f = blobs[2].reshape(-1)[0]
            return function(blobs[0] / f, blobs[1] / f) * f if f else None

        return _blob(1, var)

    if factor not in (0, 1):
        yield "the statistics are not divided by the factor (blob 2)", _blob(2, lambda b: np.ones_like(b[2]))
        yield (
            "the statistics are multiplied by the factor (blob 2) instead of divided",
            _blob(2, lambda b: 1 / b[2]),
        )
    if factor != 0:
        yield "the factor (blob 2) is 0: no statistics", _blob(2, lambda b: np.zeros_like(b[2]))
    else:
        yield "a factor (blob 2) of 0 is taken for 1", _blob(2, lambda b: np.ones_like(b[2]))
    if not (param.has("use_global_stats") and not param.use_global_stats):
        yield (
            "the statistics are those of the batch, as in TRAIN (use_global_stats: false)",
            _set("batch_norm_param", use_global_stats=False),
        )
    else:
        yield (
            "the statistics are the stored ones (use_global_stats: true)",
            _set("batch_norm_param", use_global_stats=True),
        )
    yield "the mean is not subtracted", _blob(0, lambda b: np.zeros_like(b[0]))
    yield "eps is added to the root of the variance", stored(lambda m, v: (np.sqrt(v) + eps) ** 2 - eps)
    yield "blob 1 is taken for the standard deviation", stored(lambda m, v: v**2)
    yield "blob 1 is taken for the standard deviation, eps included", stored(lambda m, v: v**2 - eps)
    yield "blob 1 is taken for 1 / standard deviation", stored(lambda m, v: 1 / v**2)
    yield "blob 1 is taken for 1 / standard deviation, eps included", stored(lambda m, v: 1 / v**2 - eps)
    yield "blob 1 is taken for the mean of squares", stored(lambda m, v: v - m**2)


def _scale(node: Node, layer: Any) -> Iterator[tuple[str, Change]]:
    blobs = node.blobs
    learned = len(node.bottoms) == 1
    if learned:
        yield "the factors of the Scale layer are 1", _blob(0, lambda b: np.ones_like(b[0]))
    if node.spec.scale_param.bias_term:
        yield "the bias of the Scale layer is left out", _blob(len(blobs) - 1, lambda b: np.zeros_like(b[-1]))
        if learned:
            yield "the two blobs of the Scale layer are exchanged", lambda spec, b: b[::-1]


def _convolution(node: Node, layer: Any) -> Iterator[tuple[str, Change]]:
    if layer is None:
        return
    weights, param = node.blobs[0], node.spec.convolution_param
    space = tuple(range(2, weights.ndim))
    if any(size > 1 for size in weights.shape[2:]):
        yield "the kernel is flipped (a true convolution)", _blob(0, lambda b: np.flip(b[0], space))
    if weights.ndim == 4 and weights.shape[2] == weights.shape[3] > 1:
        yield "height and width of the kernel are exchanged", _blob(0, lambda b: b[0].swapaxes(2, 3))
    inputs = weights.shape[0 if node.type == "Deconvolution" else 1]
    if inputs == 3 and param.group == 1:
        axis = 0 if node.type == "Deconvolution" else 1
        yield (
            "the order of the input channels is reversed (RGB and BGR)",
            _blob(0, lambda b: np.flip(b[0], axis)),
        )
    if weights.shape[0] == weights.shape[1] and weights.ndim == 4:
        yield "inputs and outputs of the weights are exchanged", _blob(0, lambda b: b[0].swapaxes(0, 1))
    if param.bias_term:
        yield "the bias is left out", _blob(1, lambda b: np.zeros_like(b[1]))
    if any(kernel > 1 for kernel in layer.kernel):
        for dilation in (1, 2, 4, 8):
            pad = [
                (p + (dilation - d) * (k - 1) / 2)
                for p, d, k in zip(layer.pad, layer.dilation, layer.kernel, strict=True)
            ]
            if all(d == dilation for d in layer.dilation):
                continue
            words = f"dilation is {dilation} instead of {layer.dilation[0]}"
            yield f"{words}, with the same pad", _dilated(dilation, layer.pad)
            if all(p >= 0 and p == int(p) for p in pad):
                yield words, _dilated(dilation, pad)
    if param.group > 1 and param.group == weights.shape[0]:
        return
    if param.group > 1:
        group = param.group
        yield (
            "the groups are interleaved",
            _blob(0, lambda b: b[0].reshape(group, -1, *b[0].shape[1:]).swapaxes(0, 1).reshape(b[0].shape)),
        )


def _dilated(dilation: int, pad: Sequence[float]) -> Change:
    def change(spec: Message, blobs: Blobs) -> Blobs:
        param = spec.mutable("convolution_param")
        for field in ("pad_h", "pad_w"):
            param.clear(field)
        param.dilation = [dilation] * len(pad)
        param.pad = [int(p) for p in pad]
        return blobs

    return change


def _inner_product(node: Node, layer: Any) -> Iterator[tuple[str, Change]]:
    param, shape = node.spec.inner_product_param, node.bottoms[0].shape
    if param.bias_term:
        yield "the bias is left out", _blob(1, lambda b: np.zeros_like(b[1]))
    outputs, k = node.blobs[0].shape
    if outputs == k:
        yield "the weights are transposed", _blob(0, lambda b: b[0].T)
    maker = node.bottoms[0].maker
    if len(shape) == 2 and maker.type == "Flatten":
        shape = maker.bottoms[0].shape
    if len(shape) == 4 and shape[2] * shape[3] > 1 and not param.transpose:
        _, c, h, w = shape
        yield (
            "the input is flattened as height, width, channels",
            _blob(0, lambda b: b[0].reshape(-1, h, w, c).transpose(0, 3, 1, 2).reshape(b[0].shape)),
        )


def _pooling(node: Node, layer: Any) -> Iterator[tuple[str, Change]]:
    param = node.spec.pooling_param
    other = "CEIL" if param.round_mode == "FLOOR" else "FLOOR"
    words = {"CEIL": "up", "FLOOR": "down"}
    yield (
        f"the output size is rounded {words[other]} instead of {words['CEIL' if other == 'FLOOR' else 'FLOOR']}",
        _set("pooling_param", round_mode=other),
    )
    pool = "AVE" if param.pool == "MAX" else "MAX"
    if len(node.tops) == 1:
        yield f"pool is {pool} instead of {param.pool}", _set("pooling_param", pool=pool)


def _relu(node: Node, layer: Any) -> Iterator[tuple[str, Change]]:
    slope = node.spec.relu_param.negative_slope
    for other in (0.0, 0.01, 0.1, 0.2, 0.25):
        if abs(other - slope) > 1e-6:
            yield (
                f"negative_slope is {other:g} instead of {slope:g}",
                _set("relu_param", negative_slope=other),
            )


def _lrn(node: Node, layer: Any) -> Iterator[tuple[str, Change]]:
    param = node.spec.lrn_param
    size = param.local_size
    yield "alpha is not divided by local_size", _set("lrn_param", alpha=param.alpha * size)
    yield "alpha is divided by local_size twice", _set("lrn_param", alpha=param.alpha / size)
    for k in (1.0, 2.0):
        if k != param.k:
            yield f"k is {k:g} instead of {param.k:g}", _set("lrn_param", k=k)


def _softmax(node: Node, layer: Any) -> Iterator[tuple[str, Change]]:
    for axis in range(1, len(node.bottoms[0].shape)):
        if axis != node.spec.softmax_param.axis:
            yield f"the softmax runs along axis {axis}", _set("softmax_param", axis=axis)


def _eltwise(node: Node, layer: Any) -> Iterator[tuple[str, Change]]:
    param = node.spec.eltwise_param
    if param.coeff:
        yield "coeff is ignored", _set("eltwise_param", coeff=[])
    for other in ("SUM", "PROD", "MAX"):
        if other != param.operation:
            yield (
                f"operation is {other} instead of {param.operation}",
                _set("eltwise_param", operation=other, coeff=[]),
            )


def _dropout(node: Node) -> Iterator[tuple[str, float]]:
    ratio = node.spec.dropout_param.dropout_ratio
    yield f"Dropout multiplies by {1 - ratio:g} in TEST", 1 - ratio
    if ratio < 1:
        yield f"Dropout multiplies by {1 / (1 - ratio):g} in TEST", 1 / (1 - ratio)


_CHANGES: dict[str, Callable[[Node, Any], Iterator[tuple[str, Change]]]] = {
    "BatchNorm": _batch_norm,
    "Convolution": _convolution,
    "Deconvolution": _convolution,
    "Eltwise": _eltwise,
    "InnerProduct": _inner_product,
    "LRN": _lrn,
    "Pooling": _pooling,
    "ReLU": _relu,
    "Scale": _scale,
    "Softmax": _softmax,
}
assert all(find_type(name) for name in _CHANGES)


# -- changes to pictures ------------------------------------------------------------------------------------


def _pictures(x: Array, means: Sequence[Any], pairs: bool) -> Iterator[tuple[str, Array]]:
    """Yield what pictures may have gone through otherwise: order of channels, mean, range, sides."""
    three = x.shape[1] == 3
    usual = [np.asarray(mean, np.float64).reshape(-1) for mean in [*means, *MEANS]]
    fitting = [mean for mean in usual if mean.size in (1, x.shape[1])]
    for mean in fitting:
        if three and mean.size == 3:
            laid = mean.reshape(1, -1, 1, 1)
            yield (
                f"the order of the channels is reversed (RGB and BGR) and that of the mean {_listed(mean)} is not",
                np.ascontiguousarray((x + laid)[:, ::-1] - laid),
            )
    shifts: list[tuple[str, Any]] = [("", 0.0)]
    for mean in fitting:
        laid = mean.reshape(1, -1, 1, 1)
        shifts.append((f"the mean {_listed(mean)} is not subtracted", laid))
        shifts.append((f"the mean {_listed(mean)} is subtracted", -laid))
    scales = [("", 1.0)] + [(f"the values are {_times_words(s)}", s) for s in SCALES]
    for swap, (shift_words, shift), (scale_words, scale) in product(
        (False, True)[: 1 + three], shifts, scales
    ):
        words = ["the order of the channels is reversed (RGB and BGR)"] if swap else []
        words += [w for w in (shift_words, scale_words) if w]
        if words and (len(words) == 1 or pairs):
            y = x[:, ::-1] if swap else x
            yield ", and ".join(words), np.ascontiguousarray((y + shift) * scale)
    yield "the picture is mirrored", np.ascontiguousarray(x[..., ::-1])
    yield "the picture is upside down", np.ascontiguousarray(x[..., ::-1, :])
    if x.shape[2] == x.shape[3]:
        yield "height and width are exchanged", np.ascontiguousarray(x.swapaxes(2, 3))


def _listed(values: Array) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _times_words(factor: float) -> str:
    return f"multiplied by {factor:g}" if factor > 1 or factor == 0.017 else f"divided by {1 / factor:g}"
