"""Run two nets layer by layer, find the first layer that differs, and find out why by trial.

What is compared is the value that each layer makes, before a layer in place overwrites it.  Layers are matched
by name.  When the other side lacks a BatchNorm, Scale or Bias layer, it may have been folded: the layer before
it is then right when it equals its own counterpart or the value behind what is missing, and layers through
which a fold may have gone (Pooling, Concat, sums) are not compared.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from caffebn.bn.graph import Node, Value
from caffebn.bn.opening import random_inputs, relative_error
from caffebn.bn.sides import Activations, Arrays, NetSide, Side, dump, open_side, plain_name
from caffebn.bn.trials import Trial, rerun, search
from caffebn.errors import ArgumentError, did_you_mean, some

__all__ = ["Comparison", "Row", "compare"]

_PASSES = ("Concat", "Dropout", "Eltwise", "Flatten", "Pooling")
_EXACT, _SINGLE = 1e-5, 1e-4


@dataclass
class Row:
    """One compared value.

    Attributes
    ----------
    layer, type, blob : str
        Of the first net.
    other : str
        Name on the other side.
    shape, other_shape : tuple of int
    max_error, mean_error, relative_error : float
        Largest and mean difference, and the largest relative to the largest value of the first net.
    verdict : {"equal", "differs", "shape", "fold"}
        "fold": it differs as a fold through it may have made it differ, and says nothing.
    behind : str
        Name of the missing layer whose value the other side's equals, if it is not the layer's own.
    """

    layer: str
    type: str
    blob: str
    other: str
    shape: tuple[int, ...]
    other_shape: tuple[int, ...]
    max_error: float = 0.0
    mean_error: float = 0.0
    relative_error: float = 0.0
    verdict: str = "equal"
    behind: str = ""


@dataclass
class Comparison:
    """What `compare` found.

    Attributes
    ----------
    a, b : str
        The two sides; exchanged where only the first net is folded.
    tolerance : float
        Of the relative error.
    rows : list of Row
        In the order of the first net.
    missing : list of str
        Layers of the first net without a counterpart.
    left_out : list of str
        Layers of the first net that were not run: of types that caffebn does not have, and those behind them.
    without_weights : list of str
        Layers of either net for which there were no weights: they are as their fillers made them.
    first : Row or None
        The first value that differs.
    crossed : str
        Name of the layer at which the difference exceeds the tolerance, when `first` is one before it, where it
        begins.
    trials : list of Trial
        What was tried at that layer, the best first.
    differences : list of str
        What the texts and the weights of that layer differ in, when both sides are nets.
    """

    a: str
    b: str
    tolerance: float
    rows: list[Row] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    without_weights: list[str] = field(default_factory=list)
    first: Row | None = None
    crossed: str = ""
    trials: list[Trial] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return self.first is None

    @property
    def causes(self) -> list[Trial]:
        """The trials that remove the difference."""
        return [trial for trial in self.trials if trial.removes]

    @property
    def cause(self) -> str:
        """The likely cause in words; empty when nothing differs or nothing was found."""
        return self.causes[0].what if self.causes else ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, fit for JSON."""
        return asdict(self) | {"equal": self.equal, "cause": self.cause}


def compare(
    a: Any,
    b: Any,
    inputs: Mapping[str, np.ndarray] | None = None,
    *,
    names: Mapping[str, str] | None = None,
    tolerance: float | None = None,
    trials: bool = True,
    means: Iterable[Any] = (),
    seed: int = 1,
    dump_to: str | os.PathLike[str] | None = None,
) -> Comparison:
    """Compare a net with another one, value by value.

    Parameters
    ----------
    a : tuple, str or NetSide
        The net: (net, weights), or ``"net.prototxt,weights.caffemodel"``.
    b : tuple, str, mapping, module or Side
        The other side: likewise; or a .caffemodel for the net of `a`; a .npz file, a folder or a mapping of
        activations by blob name; an .onnx file; a .py file of `caffebn.export.torch`;
        ``"module:function"`` or a PyTorch module.
    inputs : mapping, optional
        Arrays by input name.  By default those among the stored activations, else random ones.
    names : mapping, optional
        Name on the side of `b`, by layer or blob name of `a`, where they differ.
    tolerance : float, optional
        Largest relative error that counts as equal; by default 1e-5 between nets, which run in double precision,
        and 1e-4 otherwise.
    trials : bool
        Look for the cause of a difference.
    means : iterable of numbers or sequences
        More means of pictures to try, beside the usual ones.
    seed : int
        Of random inputs.
    dump_to : path-like, optional
        A .npz file for all values of `a`.

    Returns
    -------
    Comparison

    Raises
    ------
    ArgumentError
        A side is not what can be compared, inputs do not fit, or nothing has the same name on both sides.
    """
    first = open_side(a)
    if not isinstance(first, NetSide):
        raise ArgumentError(
            f"compare: the first side must be a net with weights (NET.prototxt,WEIGHTS.caffemodel), found {first.label}"
        )
    second = open_side(b, first)
    if dump_to is None and _only_first_is_folded(first, second):
        # folds are understood where the second net lacks layers
        assert isinstance(second, NetSide)
        first, second = second, first
        names = {there: here for here, there in (names or {}).items()}
    net = first.net
    stored = second.arrays if isinstance(second, Activations) else {}
    if inputs is None:
        inputs = {name: stored[name] for name in net.inputs if name in stored}
        if isinstance(second, Activations) and len(inputs) < len(net.inputs):
            missing = [name for name in net.inputs if name not in stored]
            raise ArgumentError(
                f"{second.label}: the net's input {', '.join(missing)} is not among the stored activations: give the "
                "input that they were made with"
            )
        inputs = inputs or random_inputs(net, seed)
    arrays = first.run(inputs)
    if dump_to is not None:
        dump(dump_to, arrays)
    given = {name: net.blobs[name].data for name in net.inputs} or {
        value.name: array for value, array in first.values.items() if not value.maker.bottoms
    }
    found = second.run(given, net.inputs)
    exact = first.exact and second.exact
    result = Comparison(
        first.label, second.label, tolerance if tolerance is not None else _EXACT if exact else _SINGLE
    )
    result.left_out = first.left_out
    reports = [side.net.weights_report for side in (first, second) if isinstance(side, NetSide)]
    result.without_weights = list(dict.fromkeys(n for report in reports if report for n in report.missing))
    _Matching(first, second, found, dict(names or {}), result).run(trials, means)
    return result


def _only_first_is_folded(first: NetSide, second: Side) -> bool:
    """Whether the second net has BatchNorm, Scale or Bias layers that the first lacks, and not the other way round."""
    if not isinstance(second, NetSide):
        return False
    names = [{node.name for node in side.graph.nodes} for side in (first, second)]
    affine = [{node.name for node in side.graph.nodes if node.is_affine} for side in (first, second)]
    return bool(affine[1] - names[0]) and not affine[0] - names[1]


class _Matching:
    """Which values belong together, and how far they are apart."""

    def __init__(self, a: NetSide, b: Side, found: Arrays, names: dict[str, str], result: Comparison):
        self._a, self._b, self._found, self._names, self._result = a, b, found, names, result
        self._values: dict[Value, str] = {}  # what the other side calls a value
        self._arrays: dict[Value, np.ndarray] = {}  # its value there, in the shape that it has here
        self._match()
        self._behind, self._free = self._folds()

    # names

    def _match(self) -> None:
        known = {value.name for value in self._a.values} | {node.name for node in self._a.graph.nodes}
        for name in self._names:
            if name not in known:
                raise ArgumentError(f'there is no layer or blob "{name}"{did_you_mean(name, known)}')
        if isinstance(self._b, NetSide):
            self._match_nets(self._b)
        else:
            self._match_names()
            self._match_outputs()
        if not any(value.maker.bottoms for value in self._values):
            raise ArgumentError(
                f"no layer or blob of {self._a.label} has a counterpart in {self._b.label}, which has "
                f"{some(self._found)}: say which belong together (--map, or names)"
            )

    def _match_nets(self, b: NetSide) -> None:
        others = {node.name: node for node in b.graph.nodes}
        self._other_values: dict[Value, Value] = {}
        for node in self._a.graph.nodes:
            other = others.get(self._names.get(node.name, node.name))
            if other is None or len(other.tops) != len(node.tops):
                continue
            for own, value in zip(node.tops, other.tops, strict=True):
                self._values[own] = f"{value.name}@{other.name}"
                self._other_values[own] = value

    def _match_names(self) -> None:
        plain = {plain_name(name): name for name in self._found}
        last = {value.name: value for value in self._a.values}
        layers = {node.name for node in self._a.graph.nodes}
        # names of layers in place, which no blob has, say that the side speaks of layers
        by_layers = self._b.by_layer or any(plain_name(name) in plain for name in layers - last.keys())
        for value in self._a.values:
            layer, is_last = value.maker.name, last[value.name] is value
            first_top = value.maker.tops[0] is value
            by_layer = [self._names.get(layer, layer)] if first_top else []
            by_blob = [self._names.get(value.name, value.name)] if is_last else []
            # where the name of a layer is that of a blob, too, it means one of them
            if by_layers and value.name in layers:
                by_blob = []
            elif not by_layers and layer in last and layer not in self._names:
                by_layer = []
            # caffebn's export to ONNX calls the versions of a blob blob/layer
            tries = [f"{value.name}@{layer}", f"{value.name}/{layer}", *by_layer, *by_blob]
            for name in tries:
                there = plain.get(plain_name(name))
                if there is not None and (name in self._names.values() or self._alike(value, there)):
                    self._values[value] = there
                    break

    def _alike(self, value: Value, name: str) -> bool:
        """Whether the same name means the same thing: the shapes may differ as rounding makes them differ."""
        own, other = self._a.values[value].shape, self._found[name].shape
        same_axes = len(own) == len(other) and own[:2] == other[:2]
        return same_axes or fit(self._found[name], own) is not None

    def _match_outputs(self) -> None:
        own, other = self._a.outputs(), self._b.outputs()
        last = {value.name: value for value in self._a.values}
        if len(own) == len(other) and not any(last[name] in self._values for name in own):
            self._values |= {last[name]: there for name, there in zip(own, other, strict=True)}

    def _other(self, value: Value) -> np.ndarray:
        if isinstance(self._b, NetSide):
            return self._b.values[self._other_values[value]]
        return self._found[self._values[value]]

    # folds

    def _folds(self) -> tuple[dict[Value, list[Value]], set[Value]]:
        """Return for values before missing affine layers those behind them, and values of which nothing is known."""
        if isinstance(self._b, Activations):
            return {}, set()  # what is missing there was not stored
        has = {value.maker for value in self._values}
        behind: dict[Value, list[Value]] = {}
        free: set[Value] = set()
        for node in self._a.graph.nodes:
            if not node.is_affine or node in has:
                continue
            start, tail = node.bottoms[0], node.tops[0]
            before = behind.setdefault(start, [])
            if start.maker.is_affine and start.maker not in has:
                # the row began before
                before = next((b for b in behind.values() if start in b), before)
            before.append(tail)
            self._free_above(start, free)
            self._free_below(tail, free)
        return behind, free

    def _free_above(self, value: Value, free: set[Value]) -> None:
        if value.maker.type in _PASSES:
            for bottom in value.maker.bottoms:
                free.add(bottom)
                self._free_above(bottom, free)

    def _free_below(self, value: Value, free: set[Value]) -> None:
        for node, _ in value.readers:
            if node.type in _PASSES:
                free.update(node.tops)
                for top in node.tops:
                    self._free_below(top, free)

    # values

    def run(self, trials: bool, means: Iterable[Any]) -> None:
        result, order = self._result, [v for node in self._a.graph.nodes for v in node.tops]
        guilty: Value | None = None
        for value in order:
            if value not in self._values:
                continue
            row = self._row(value)
            result.rows.append(row)
            if row.verdict in ("differs", "shape") and guilty is None:
                guilty, result.first = value, row
        matched = {value.maker for value in self._values}
        result.missing = [
            node.name for node in self._a.graph.nodes if node.tops and node.bottoms and node not in matched
        ]
        if guilty is None or not trials:
            return
        if self._own_error(guilty) <= result.tolerance and (source := self._source(guilty)) is not None:
            # the layer does right by its inputs: what it is given has drifted already
            result.crossed = guilty.maker.name
            guilty, result.first = source, next(row for row in result.rows if row.layer == source.maker.name)
        if isinstance(self._b, NetSide) and not self._behind.get(guilty):
            result.differences = _differences(guilty.maker, self._other_values[guilty].maker)
        targets = [guilty, *self._behind.get(guilty, ())]
        result.trials = search(
            self._a, targets, self._other(guilty), self._arrays, result.tolerance, list(means)
        )

    def _own_error(self, value: Value) -> float:
        """Return how far a value is from what the layers of the first net make of the other side's inputs."""
        there = fit(self._other(value), value.shape)
        made = None if there is None else rerun(self._a, value, self._arrays)
        if there is None or made is None or there.shape != made.shape:
            return float("inf")
        return relative_error(made, there)[2]

    def _source(self, guilty: Value) -> Value | None:
        """Return the value before a guilty one that itself is the furthest off, all of them within the tolerance."""
        best, most = None, 0.0
        for value in self._values:
            if value is guilty:
                break
            if value in self._arrays and value.maker.bottoms and (error := self._own_error(value)) > most:
                best, most = value, error
        return best

    def _row(self, value: Value) -> Row:
        there = self._other(value)
        own = self._a.values[value]
        row = Row(
            value.maker.name,
            value.maker.type,
            value.name,
            self._values[value].split("@")[0],
            own.shape,
            there.shape,
        )
        fitted = fit(there, own.shape)
        if fitted is None:
            row.verdict = "fold" if value in self._free else "shape"
            row.max_error = row.mean_error = row.relative_error = float("inf")
            return row
        candidates = [(value, own), *((v, self._a.values[v]) for v in self._behind.get(value, ()))]
        errors = [(relative_error(fitted, mine), v) for v, mine in candidates]
        (row.max_error, row.mean_error, row.relative_error), match = min(errors, key=lambda e: e[0][2])
        if match is not value:
            row.behind = match.maker.name
        if row.relative_error > self._result.tolerance:
            row.verdict = "fold" if value in self._free else "differs"
        else:
            self._arrays[match] = fitted
        return row


def fit(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Bring an array into a shape: axes of size 1 are left out, channels move to axis 1; None if it does not fit."""
    if array.shape == shape:
        return array
    if [n for n in array.shape if n != 1] == [n for n in shape if n != 1]:
        return array.reshape(shape)
    if array.ndim == 4 and array.transpose(0, 3, 1, 2).shape == shape:
        return array.transpose(0, 3, 1, 2)
    return None


def _differences(own: Node, other: Node) -> list[str]:
    """Say what texts and weights of two layers differ in."""
    found = []
    if own.type != other.type:
        return [f"type: {own.type} against {other.type}"]
    given = dict.fromkeys(item.name for spec in (own.spec, other.spec) for item, _ in spec.set_fields())
    for name in given:
        if not name.endswith("_param"):
            continue
        mine, theirs = getattr(own.spec, name), getattr(other.spec, name)
        for item in mine.schema.fields.values():
            x, y = getattr(mine, item.name), getattr(theirs, item.name)
            if item.kind != "message" and x != y:
                found.append(f"{item.name}: {_shown(x)} against {_shown(y)}")
    for i, (x, y) in enumerate(zip(own.blobs, other.blobs, strict=False)):
        if x.shape != y.shape:
            found.append(f"blob {i}: shape {x.shape} against {y.shape}")
        elif (error := relative_error(y, x)[2]) > 0:
            found.append(f"blob {i}: differs by up to {error:.2g} of its largest value")
    if len(own.blobs) != len(other.blobs):
        found.append(f"{len(own.blobs)} blobs against {len(other.blobs)}")
    return found


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value or "none")
