"""Fold BatchNorm, Scale and Bias layers into the layers beside them, and prove it.

In TEST, BatchNorm with stored statistics is an affine function of each channel,
``y = a x + b`` with ``a = 1 / sqrt(var + eps)`` and ``b = -mean a``; so are Scale and Bias, and so is a row of
them.  A linear layer in front takes it in exactly::

    a (W * x + w) + b  =  (a W) * x + (a w + b)

and so does a linear layer behind, as long as every input of it has gone through the affine function:
``W * (a x + b) + w = (W a) * x + (w + W b)``.  With zero padding that fails: at the border the layer reads
zeros where ``b`` would have to be.  What stands between may let the function through: Concat gives each of
its bottoms a piece, a sum gives each the factor and one of them the shift, an average without padding
commutes with it, a maximum does where all factors are positive.

Where nothing takes it in, the row becomes one Scale layer with a bias.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from caffebn.bn.graph import Graph, Node, Value
from caffebn.bn.opening import (
    Definition,
    Weights,
    fill,
    make_net,
    open_plain,
    random_inputs,
    relative_error,
    runnable,
    same_random_numbers,
    source_name,
)
from caffebn.errors import CaffebnWarning, FileError
from caffebn.files import replacing, write_whole
from caffebn.net import Net
from caffebn.proto import Message, binary, make_blob, text

__all__ = ["Certificate", "Folded", "Verdict", "fold"]

_LINEAR = ("Convolution", "Deconvolution", "InnerProduct")

Edit = Callable[[], None]


@dataclass
class Verdict:
    """What became of one BatchNorm, Scale or Bias layer.

    Attributes
    ----------
    name, type : str
    action : {"folded", "merged", "kept"}
        Into other layers; into one Scale layer; nothing.
    into : list of str
        Names of the layers that took it in.
    row : list of str
        Names of all layers that were folded together.
    reason : str
        Why it was not folded.
    notes : list of str
        What deserves a look.
    """

    name: str
    type: str
    action: str
    into: list[str]
    row: list[str] = field(default_factory=list)
    reason: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass
class Certificate:
    """What `fold` did, and how far the outputs moved.

    Attributes
    ----------
    net : str
        Name of the net.
    layers : list of Verdict
        Every BatchNorm, Scale and Bias layer with one bottom, in net order.
    not_run : list of str
        Layers of types that caffebn does not have, and those behind them: carried over, and not part of the check.
    without_weights : list of str
        Layers for which there were no weights: what their fillers gave was taken.
    errors : list of dict
        For each input and each output, and each blob from which a softmax or sigmoid makes one: `input`,
        `output` (names), `shape`, `largest` (value of the output, None when no value is a number),
        and largest differences relative to it: `float64` (both nets in double precision; what is left is the
        rounding of the weights to single precision), `float32` (the folded net in single precision against the
        original in double) and `float32_before` (the original in single precision against itself in double).
    """

    net: str
    layers: list[Verdict] = field(default_factory=list)
    not_run: list[str] = field(default_factory=list)
    without_weights: list[str] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)

    @property
    def worst(self) -> float:
        """Largest relative error in either precision."""
        return max((max(e["float64"], e["float32"]) for e in self.errors), default=0.0)

    @property
    def unproved(self) -> list[str]:
        """Outputs without a single number, before folding as well: nothing can be said about them."""
        return list(dict.fromkeys(e["output"] for e in self.errors if e["largest"] is None))

    def count(self, action: str, type: str = "BatchNorm") -> int:
        """Return how many layers of a type had that action."""
        return sum(v.action == action and v.type == type for v in self.layers)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, fit for JSON."""
        totals = {action: self.count(action) for action in ("folded", "merged", "kept")}
        return asdict(self) | {"batch_norm": totals, "worst": self.worst}


@dataclass
class Folded:
    """A folded net.

    Attributes
    ----------
    net : Message
        The text: a plain NetParameter, for the phase TEST.
    weights : dict of list of ndarray of float32
        Blobs by layer name.
    certificate : Certificate
    """

    net: Message
    weights: dict[str, list[np.ndarray]]
    certificate: Certificate

    def to_net(self) -> Net:
        """Return it as a net in the phase TEST, with its weights.

        Raises
        ------
        NetError
            It has layers of types that caffebn does not have.
        """
        return make_net(self.net, self.weights)

    def save(self, prototxt: str | os.PathLike[str], caffemodel: str | os.PathLike[str]) -> None:
        """Write both files, each whole or not at all; the weights first.

        Raises
        ------
        FileError
            A file cannot be written.
        """
        if os.path.abspath(prototxt) == os.path.abspath(caffemodel):
            raise FileError(f"{prototxt}: the net and its weights need two files")
        c = self.certificate
        head = (
            f"# {c.net or 'net'}, folded: of {sum(v.type == 'BatchNorm' for v in c.layers)} BatchNorm layers "
            f"{c.count('folded')} are in others, {c.count('merged')} in Scale layers, {c.count('kept')} as before\n"
        )
        stored = self.net.copy()
        for layer in stored.layer:
            layer.blobs = [make_blob(array) for array in self.weights.get(layer.name, ())]
        with replacing(caffemodel) as temporary:
            binary.write(temporary, stored)
            with write_whole(prototxt) as f:
                f.write((head + text.dump(self.net)).encode("utf-8", "surrogateescape"))


def fold(
    net: Definition,
    weights: Weights,
    inputs: Sequence[Mapping[str, np.ndarray]] = (),
    *,
    check: bool = True,
    seed: int = 1,
) -> Folded:
    """Fold the BatchNorm, Scale and Bias layers of a net, in its TEST phase.

    A row of such layers goes into the layer before it (Convolution, Deconvolution, InnerProduct; also through
    Concat, Eltwise SUM, Dropout, Pooling), else into all layers that read it, else it becomes one Scale layer
    with a bias.  Weights are computed in double precision and rounded once.

    Parameters
    ----------
    net : path-like or Message
    weights : path-like or mapping
        A .caffemodel or .caffemodel.h5, or arrays by layer name.
    inputs : sequence of mappings
        Inputs to check with, arrays by input name, beside a random one.
    check : bool
        Run the net before and after in both precisions.
    seed : int
        Of the random input.

    Returns
    -------
    Folded
        The net, its weights and the certificate.

    Raises
    ------
    FileError, ParseError, FormatError, NetError, WeightsError
        The net or its weights cannot be read, or do not go together.

    Examples
    --------
    >>> done = caffebn.bn.fold("deploy.prototxt", "weights.caffemodel")     # doctest: +SKIP
    >>> done.certificate.worst                                             # doctest: +SKIP
    3.1e-07
    >>> done.save("folded.prototxt", "folded.caffemodel")                  # doctest: +SKIP
    """
    opened = open_plain(net, weights)
    definition, arrays = opened.definition, opened.arrays
    part, left_out = runnable(definition)
    before = make_net(part, arrays, "float64", source=source_name(weights))
    graph = Graph(definition, before, arrays)
    verdicts = _Folding(graph, before).run()
    certificate = Certificate(definition.name, verdicts, left_out)
    if before.weights_report:
        certificate.without_weights = list(before.weights_report.missing)
    folded = Folded(graph.to_net(), graph.weights(), certificate)
    if check:
        loaded = {name: [blob.data for blob in blobs] for name, blobs in before.params.items()}
        certificate.errors = _errors(part, loaded, folded, inputs, seed)
    return folded


# -- affine functions ----------------------------------------------------------------------------------


class _CannotFoldError(Exception):
    """A reason, in words."""


@dataclass
class _Affine:
    """``y = scale x + shift`` for each channel, both of shape (channels)."""

    scale: np.ndarray
    shift: np.ndarray

    def then(self, other: _Affine) -> _Affine:
        return _Affine(other.scale * self.scale, other.scale * self.shift + other.shift)

    def piece(self, begin: int, end: int) -> _Affine:
        return _Affine(self.scale[begin:end], self.shift[begin:end])

    def repeated(self, times: int) -> _Affine:
        return _Affine(self.scale.repeat(times), self.shift.repeat(times))


def _affine(node: Node, loaded: bool, notes: list[str]) -> _Affine:
    """Return the affine function of a BatchNorm, Scale or Bias layer in TEST."""
    bottom = node.bottoms[0]
    if len(bottom.shape) < 2:
        raise _CannotFoldError("its bottom has no axis of channels")
    if node.type == "BatchNorm":
        return _batch_norm(node, loaded, notes)
    param = node.spec.scale_param if node.type == "Scale" else node.spec.bias_param
    axis = param.axis + len(bottom.shape) if param.axis < 0 else param.axis
    shape = node.blobs[0].shape
    if shape and (axis, shape) != (1, (bottom.channels,)):
        raise _CannotFoldError(f"it covers {len(shape)} axes from axis {axis} on, not the channels alone")
    if not all(np.isfinite(blob).all() for blob in node.blobs):
        raise _CannotFoldError("its weights are not finite")
    values = [np.broadcast_to(blob.reshape(-1), bottom.channels).copy() for blob in node.blobs]
    if node.type == "Bias":
        return _Affine(np.ones(bottom.channels), values[0])
    return _Affine(values[0], values[1] if param.bias_term else np.zeros(bottom.channels))


def _batch_norm(node: Node, loaded: bool, notes: list[str]) -> _Affine:
    param = node.spec.batch_norm_param
    if param.has("use_global_stats") and not param.use_global_stats:
        raise _CannotFoldError(
            "use_global_stats: false: it normalises with the statistics of each batch, which are known only "
            "when it runs"
        )
    mean_sum, var_sum, (factor,) = node.blobs
    if not loaded:
        notes.append("no weights were loaded into it: factor 0")
    elif factor == 0:
        notes.append("its factor is 0: mean and variance count as 0, as in Caffe")
    share = 1 / factor if factor else 0.0
    mean, var = mean_sum * share, var_sum * share + param.eps
    bad = int((~(var > 0) | ~np.isfinite(var) | ~np.isfinite(mean)).sum())
    if bad:
        raise _CannotFoldError(
            f"mean or variance + eps is not a number, or the latter not positive, in {bad} of {var.size} channels"
        )
    scale = 1 / np.sqrt(var)
    return _Affine(scale, -mean * scale)


# -- folding ---------------------------------------------------------------------------------------------


class _Folding:
    """One run over the net, from its first layer to its last."""

    def __init__(self, graph: Graph, net: Net):
        self._graph = graph
        self._layers = net.layer_dict
        self._loaded = set(net.weights_report.matched) if net.weights_report else set()
        self._verdicts: dict[str, Verdict] = {}
        self._functions: dict[str, _Affine | str] = {}

    def run(self) -> list[Verdict]:
        order = [node for node in self._graph.nodes if node.is_affine]
        for node in order:
            self._verdicts[node.name] = Verdict(node.name, node.type, "kept", [])
            if node.name not in self._layers:
                self._functions[node.name] = "it reads what layers of unknown types make"
                continue
            try:
                self._functions[node.name] = _affine(
                    node, node.name in self._loaded, self._verdicts[node.name].notes
                )
            except _CannotFoldError as e:
                self._functions[node.name] = str(e)
        done: set[str] = set()
        for node in order:
            if node.name not in done:
                done.update(self._chain(node))
        return list(self._verdicts.values())

    def _chain(self, head: Node) -> list[str]:
        """Fold the row of affine layers that begins here; return their names."""
        function = self._functions[head.name]
        if isinstance(function, str):
            self._say([head.name], "kept", [], function)
            return [head.name]
        chain = [head]
        while len(chain[-1].tops[0].readers) == 1:
            ((node, _),) = chain[-1].tops[0].readers
            more = self._functions.get(node.name) if node.is_affine else None
            if not isinstance(more, _Affine):
                break
            function = function.then(more)
            chain.append(node)
        names = [node.name for node in chain]
        reasons = []
        for attempt, start, keep_name in (
            (self._before, head.bottoms[0], True),
            (self._after, chain[-1].tops[0], False),
        ):
            try:
                edits: list[tuple[str, Edit]] = attempt(start, function)
            except _CannotFoldError as e:
                reasons.append(str(e))
                continue
            for _, edit in edits:
                edit()
            for node in chain:
                self._graph.remove(node, keep_name)
            self._say(names, "folded", list(dict.fromkeys(name for name, _ in edits)))
            return names
        reason = f"before it: {reasons[0]}; behind it: {reasons[1]}"
        if names == [head.name] and head.type != "BatchNorm":
            self._say(names, "kept", [], reason)
        else:
            self._merge(chain, function)
            self._say(names, "merged", [names[-1]], reason)
        return names

    def _say(self, names: list[str], action: str, into: list[str], reason: str = "") -> None:
        for name in names:
            verdict = self._verdicts[name]
            verdict.row = names
            verdict.action, verdict.into, verdict.reason = action, into, reason

    def _merge(self, chain: list[Node], function: _Affine) -> None:
        tail = chain[-1].spec
        spec = Message("LayerParameter", name=tail.name, type="Scale")
        for rule in ("include", "exclude"):
            setattr(spec, rule, [r.copy() for r in getattr(tail, rule)])
        spec.mutable("scale_param").bias_term = True
        self._graph.replace(chain, spec, [function.scale, function.shift])

    # into what makes a value

    def _before(self, value: Value, a: _Affine) -> list[tuple[str, Edit]]:
        """Return the edits by which what makes `value` makes ``a(value)``."""
        if len(value.readers) > 1:
            readers = _listed(node for node, _ in value.readers)
            raise _CannotFoldError(
                f'"{value.name}" is read by {readers}, and only one of them would see the change'
            )
        node = value.maker
        if node.type in _LINEAR or (
            node.type == "Scale" and isinstance(self._functions.get(node.name), _Affine)
        ):
            return [(node.name, self._scaled_outputs(node, a))]
        if node.type == "Dropout":
            return self._before(node.bottoms[0], a)
        if node.type == "Pooling":
            self._check_pooling(node, a)
            return self._before(node.bottoms[0], a)
        if node.type == "Flatten" and self._layers[node.name].param.axis > 1:
            return self._before(node.bottoms[0], a)
        if node.type == "Concat":
            return self._before_concat(node, a)
        if node.type == "Eltwise":
            return self._before_sum(node, a)
        if not node.bottoms:
            raise _CannotFoldError(f'"{value.name}" is made by {node}, which has no weights')
        raise _CannotFoldError(f"{node} is not linear, or has no weights to take it in")

    def _before_concat(self, node: Node, a: _Affine) -> list[tuple[str, Edit]]:
        _check_concat(node)
        edits, begin = [], 0
        for bottom in node.bottoms:
            edits += self._before(bottom, a.piece(begin, begin + bottom.channels))
            begin += bottom.channels
        return edits

    def _before_sum(self, node: Node, a: _Affine) -> list[tuple[str, Edit]]:
        param = node.spec.eltwise_param
        if param.operation != "SUM":
            raise _CannotFoldError(f"{node} is a {param.operation}, not a SUM")
        coeff = list(param.coeff) or [1.0] * len(node.bottoms)
        if not any(coeff):
            raise _CannotFoldError(f"all coeff of {node} are 0")
        takes_shift = max(range(len(coeff)), key=lambda i: abs(coeff[i]))
        edits = []
        for i, bottom in enumerate(node.bottoms):
            shift = a.shift / coeff[i] if i == takes_shift else np.zeros_like(a.shift)
            edits += self._before(bottom, _Affine(a.scale, shift))
        return edits

    def _scaled_outputs(self, node: Node, a: _Affine) -> Edit:
        if len(node.tops) != 1:
            raise _CannotFoldError(f"{node} makes {len(node.tops)} blobs with the same weights")
        _check_shared(node)
        if node.type != "Scale":
            self._check_axis(node)

        def edit() -> None:
            node.blobs[0] = _times_outputs(node, a.scale)
            _set_bias(node, a.scale * _bias(node, a.scale.size) + a.shift)

        return edit

    # into what reads a value

    def _after(self, value: Value, a: _Affine) -> list[tuple[str, Edit]]:
        """Return the edits by which all that reads ``a(value)`` may read `value`."""
        if not value.readers:
            raise _CannotFoldError(f'"{value.name}" is an output of the net')
        return [edit for node, i in value.readers for edit in self._into_reader(node, i, a)]

    def _into_reader(self, node: Node, index: int, a: _Affine) -> list[tuple[str, Edit]]:
        if node.type in _LINEAR:
            return [(node.name, self._scaled_inputs(node, a))]
        if node.type == "Dropout":
            return self._after(node.tops[0], a)
        if node.type == "Pooling":
            self._check_pooling(node, a)
            return self._after(node.tops[0], a)
        if node.type == "Flatten" and self._layers[node.name].param.axis >= 1:
            axis = self._layers[node.name].param.axis
            times = node.tops[0].channels // node.bottoms[0].channels if axis == 1 else 1
            return self._after(node.tops[0], a.repeated(times))
        if node.type == "Concat":
            _check_concat(node)
            sizes = [bottom.channels for bottom in node.bottoms]
            begin = sum(sizes[:index])
            whole = _Affine(np.ones(sum(sizes)), np.zeros(sum(sizes)))
            whole.scale[begin : begin + sizes[index]] = a.scale
            whole.shift[begin : begin + sizes[index]] = a.shift
            return self._after(node.tops[0], whole)
        raise _CannotFoldError(f"{node} reads it, and is not linear or has no weights to take it in")

    def _scaled_inputs(self, node: Node, a: _Affine) -> Edit:
        if len(node.bottoms) != 1:
            raise _CannotFoldError(f"{node} reads {len(node.bottoms)} blobs with the same weights")
        _check_shared(node)
        self._check_axis(node)
        layer: Any = self._layers[node.name]
        if a.shift.any() and node.type == "Convolution" and any(layer.pad):
            raise _CannotFoldError(
                f"{node} pads with zeros (pad {'x'.join(map(str, layer.pad))}): at the border it would read 0 "
                "where it reads the shift of this layer now"
            )
        if a.shift.any() and node.type == "Deconvolution":
            sizes = zip(layer.kernel, layer.stride, layer.pad, strict=True)
            if any(size != (1, 1, 0) for size in sizes):
                raise _CannotFoldError(
                    f"the number of inputs that meet in an output of {node} differs from place to place, and with it "
                    "what the shift adds"
                )

        def edit() -> None:
            bias = _bias(
                node, node.spec.inner_product_param.num_output or node.spec.convolution_param.num_output
            )
            _set_bias(node, bias + _response(node, a.shift))
            node.blobs[0] = _times_inputs(node, a.scale)

        return edit

    # what stands in between

    def _check_axis(self, node: Node) -> None:
        layer: Any = self._layers[node.name]
        axis = layer.split_axis if node.type == "InnerProduct" else layer.channel_axis
        if axis != 1:
            raise _CannotFoldError(f"{node} works on axis {axis}, not on the channels")

    def _check_pooling(self, node: Node, a: _Affine) -> None:
        layer: Any = self._layers[node.name]
        if len(node.tops) > 1:
            raise _CannotFoldError(f"{node} also gives the places of its maxima")
        outside = any(
            (out - 1) * stride >= size + pad
            for out, stride, size, pad in zip(
                node.tops[0].shape[2:], layer.stride, node.bottoms[0].shape[2:], layer.pad, strict=True
            )
        )
        if outside:
            raise _CannotFoldError(f"{node} has windows outside of its bottom")
        if layer.param.pool == "MAX":
            if (negative := int((a.scale < 0).sum())) > 0:
                raise _CannotFoldError(
                    f"{node} takes maxima, which the negative factors of {negative} channels would turn into minima"
                )
        elif any(layer.pad) and a.shift.any():
            raise _CannotFoldError(
                f"{node} averages over padding as well: zeros, where the shift of this layer would have to be"
            )


def _listed(nodes: Any) -> str:
    names = list(dict.fromkeys(str(node) for node in nodes))
    return " and ".join(names) if len(names) > 1 else f"{names[0]} more than once"


def _check_shared(node: Node) -> None:
    if node.shared:
        others = ", ".join(dict.fromkeys(f'"{name}"' for names in node.shared.values() for name in names))
        raise _CannotFoldError(f"{node} shares its weights with {others}, which would change, too")


def _check_concat(node: Node) -> None:
    param = node.spec.concat_param
    axis = param.concat_dim if param.has("concat_dim") else param.axis
    if axis not in (1, 1 - len(node.tops[0].shape)):
        raise _CannotFoldError(f"{node} joins along axis {axis}, not along the channels")


# -- weights: outputs and inputs of the three linear layers (and of Scale) ------------------------------------


def _param(node: Node) -> Message:
    return node.spec.mutable(
        {"InnerProduct": "inner_product_param", "Scale": "scale_param"}.get(node.type, "convolution_param")
    )


def _bias(node: Node, outputs: int) -> np.ndarray:
    return node.blobs[1] if _param(node).bias_term else np.zeros(outputs)


def _set_bias(node: Node, bias: np.ndarray) -> None:
    if _param(node).bias_term:
        node.blobs[1] = bias
    elif bias.any():
        _param(node).bias_term = True
        node.blobs.append(bias)


def _times_outputs(node: Node, scale: np.ndarray) -> np.ndarray:
    """Return the weights with each output channel multiplied."""
    weights = node.blobs[0]
    if node.type == "Deconvolution":  # (inputs, outputs / group, kernel...)
        group = node.spec.convolution_param.group
        parts = weights.reshape(group, -1, *weights.shape[1:])
        return (parts * _laid(scale.reshape(group, 1, -1), parts.ndim)).reshape(weights.shape)
    if node.type == "InnerProduct" and node.spec.inner_product_param.transpose:
        return weights * scale
    if not weights.shape:  # a Scale of one value
        return scale * weights
    return weights * _laid(scale, weights.ndim)


def _by_inputs(node: Node, factor: np.ndarray) -> np.ndarray:
    """Return the weights times a number for each input channel, shaped (group, outputs / group, inputs / group, ...).

    For Deconvolution (group, inputs / group, outputs / group, ...).
    """
    weights = node.blobs[0]
    if node.type == "InnerProduct":
        if node.spec.inner_product_param.transpose:
            weights = weights.T
        return (weights * factor.repeat(weights.shape[1] // factor.size))[None]
    group = node.spec.convolution_param.group
    parts = weights.reshape(group, -1, *weights.shape[1:])
    shape = (group, -1, 1) if node.type == "Deconvolution" else (group, 1, -1)
    return parts * _laid(factor.reshape(shape), parts.ndim)


def _times_inputs(node: Node, scale: np.ndarray) -> np.ndarray:
    product = _by_inputs(node, scale)
    if node.type == "InnerProduct" and node.spec.inner_product_param.transpose:
        product = product[0].T
    return product.reshape(node.blobs[0].shape)


def _response(node: Node, shift: np.ndarray) -> np.ndarray:
    """Return what the layer answers to an input that is `shift` everywhere, without its bias."""
    product = _by_inputs(node, shift)
    axes = (1 if node.type == "Deconvolution" else 2, *range(3, product.ndim))
    return product.sum(axis=axes).reshape(-1)


def _laid(values: np.ndarray, n_axes: int) -> np.ndarray:
    """Give values further axes of size 1 at the end."""
    return values.reshape(values.shape + (1,) * (n_axes - values.ndim))


# -- proof -------------------------------------------------------------------------------------------------


def _scores(definition: Message, net: Net) -> list[str]:
    """Return the blobs from which a softmax or a sigmoid makes outputs, which may hide any error near 0 and 1."""
    return [
        layer.bottom[0]
        for layer in definition.layer
        if layer.type in ("Softmax", "Sigmoid")
        and layer.top[0] in net.outputs
        and layer.bottom[0] != layer.top[0]
    ]


def _errors(
    definition: Message,
    weights: Weights,
    folded: Folded,
    inputs: Sequence[Mapping[str, np.ndarray]],
    seed: int,
) -> list[dict[str, Any]]:
    """Run the net before and after folding in both precisions, on random and on given inputs."""
    nets: dict[tuple[str, str], Net] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaffebnWarning)  # they came when the net was made first
        for dtype in ("float64", "float32"):
            with same_random_numbers(seed):
                nets["before", dtype] = make_net(definition, weights, dtype)
            with same_random_numbers(seed):
                nets["after", dtype] = make_net(runnable(folded.net)[0], folded.weights, dtype)
    first = nets["before", "float64"]
    watched = _scores(definition, first)
    sources = [("random" if first.inputs else "data", random_inputs(first, seed))]
    sources += [(f"given {i}", dict(given)) for i, given in enumerate(inputs, start=1)]
    rows = []
    for label, values in sources:
        outputs = {}
        for key, net in nets.items():
            fill(net, values)
            outputs[key] = {name: value.copy() for name, value in net.forward(watched).items()}
        for name, truth in outputs["before", "float64"].items():
            found = {
                "float64": outputs["after", "float64"][name],
                "float32": outputs["after", "float32"][name],
                "float32_before": outputs["before", "float32"][name],
            }
            finite = np.abs(truth[np.isfinite(truth)])
            rows.append(
                {
                    "input": label,
                    "output": name,
                    "shape": list(truth.shape),
                    "largest": float(finite.max()) if finite.size else None if truth.size else 0.0,
                    **{key: relative_error(value, truth)[2] for key, value in found.items()},
                }
            )
    return rows
