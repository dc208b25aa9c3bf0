"""Population statistics: mean and variance of each channel over all data, in place of moving averages.

This is Algorithm 2 of Ioffe and Szegedy (2015), with the exact variance of all values together: that of M values
in batches of ``m_b`` values with mean ``u_b`` and variance ``v_b`` is ``sum m_b (v_b + (u_b - u)^2) / M``, where
``u`` is the mean of all.  Averaging the ``v_b`` alone leaves out how far the batches lie apart.

There are two answers to "statistics of which net?".  *In one sweep*, every BatchNorm normalises with its batch,
as in training, and all are measured in one pass over the data.  *Layer by layer*, a BatchNorm is measured behind
others that already have their final statistics, as it will be used; that takes a pass for each BatchNorm on the
longest path.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from caffebn.bn.opening import (
    Definition,
    Weights,
    make_net,
    open_plain,
    runnable,
    same_random_numbers,
    source_name,
)
from caffebn.errors import ArgumentError, CaffebnWarning
from caffebn.layers.base import ncs
from caffebn.net import Net
from caffebn.proto import Message, binary, make_blob
from caffebn.weights import as_stored, is_stored, read_stored, read_weights

__all__ = ["LayerStatistics", "Statistics", "bn_stats"]

METHODS = ("sweep", "layerwise")


class ArrayLike(Protocol):
    """Items that can be counted and taken by their indices."""

    def __len__(self) -> int: ...
    def __getitem__(self, indices: Any) -> np.ndarray: ...


Progress = Callable[[Iterable[int], int, str], Iterable[int]]


@dataclass
class LayerStatistics:
    """The statistics of one BatchNorm layer.

    Attributes
    ----------
    name : str
    values : int
        Values per channel that were seen.
    mean, var : ndarray of float64, (channels)
    old_mean, old_var : ndarray of float64, (channels)
        What was stored, divided by the factor.
    old_factor : float
    mean_drift : float
        Largest ``|mean - old mean| / sqrt(var + eps)`` of a channel.
    var_ratio : (float, float)
        Smallest and largest ``(old var + eps) / (var + eps)`` of a channel.
    spread : float
        Largest share of a channel's variance that lies between the batches, which averages of variances lack.
    """

    name: str
    values: int
    mean: np.ndarray
    var: np.ndarray
    old_mean: np.ndarray
    old_var: np.ndarray
    old_factor: float
    mean_drift: float
    var_ratio: tuple[float, float]
    spread: float


@dataclass
class Statistics:
    """What `bn_stats` found.

    Attributes
    ----------
    layers : list of LayerStatistics
        In net order.
    items, passes : int
        Items of data, and how often all were run.
    before, after : dict of float
        Scores of the net in TEST with the stored and with the new statistics; empty when there are none.
    blobs : dict of list of ndarray
        The three blobs of each BatchNorm layer, as they are written.
    left_out : list of str
        Layers that were not run: of types that caffebn does not have, and those behind them.
    """

    items: int
    passes: int
    layers: list[LayerStatistics] = field(default_factory=list)
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    blobs: dict[str, list[np.ndarray]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    source: Weights = field(default_factory=dict, repr=False)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights that were given, with the new statistics, as a .caffemodel, whole or not at all."""
        if isinstance(self.source, Mapping):
            net = as_stored(self.source, {})
        elif is_stored(self.source):
            net = read_stored(self.source)
        else:
            net = as_stored(read_weights(self.source), {})
        layers = {layer.name: layer for layer in net.layer}
        for name, statistics in self.blobs.items():
            layer = layers.get(name) or net.add("layer", name=name, type="BatchNorm")
            layer.blobs = [make_blob(blob) for blob in statistics]
        binary.write(path, net)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, fit for JSON, without the statistics themselves."""
        keys = ("name", "values", "old_factor", "mean_drift", "var_ratio", "spread")
        return {
            "items": self.items,
            "passes": self.passes,
            "layers": [{key: getattr(layer, key) for key in keys} for layer in self.layers],
            "before": self.before,
            "after": self.after,
        }


def bn_stats(
    net: Definition,
    weights: Weights,
    data: Mapping[str, ArrayLike] | None = None,
    *,
    method: str = "sweep",
    unbiased: bool = False,
    phase: str = "TRAIN",
    items: int | None = None,
    batch_size: int | None = None,
    score: bool = True,
    progress: Progress | None = None,
) -> Statistics:
    """Compute the statistics of every BatchNorm layer anew, over data.

    Parameters
    ----------
    net : path-like or Message
    weights : path-like or mapping
    data : mapping, optional
        All items of each input, by input name; an array, or what has a length and gives arrays for indices.
        ``label``, when the net has no such input, is only used for the score.  Without `data` the net reads its own.
    method : {"sweep", "layerwise"}
        See the module.
    unbiased : bool
        Multiply the variance by ``M / (M - 1)``.
    phase : {"TRAIN", "TEST"}
        Whose data layers are read.  All other layers run as in TEST: Dropout is off.
    items : int, optional
        How many items to use; all by default.  The last batch is filled up with the first items, which are not
        counted a second time.
    batch_size : int, optional
        For `data`; by default that of the net's input.  In one sweep the statistics depend on it a little.
    score : bool
        Run the net in TEST before and after: on its own test data, or on `data`.
    progress : callable, optional
        Called with the numbers of the batches, how many there are, and a title; yields the numbers.

    Returns
    -------
    Statistics

    Raises
    ------
    ArgumentError
        No BatchNorm layer, no data, data that do not fit, or statistics that are not finite.
    """
    if method not in METHODS:
        raise ArgumentError(f"bn_stats: method must be one of {', '.join(METHODS)}, found {method!r}")
    tested = open_plain(net, weights)
    arrays = tested.arrays or {}
    # run with Input layers or with the data of the phase, everything else as in TEST
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaffebnWarning)  # they came when the net was opened first
        opened = open_plain(net, weights, "TEST" if data is not None else phase)
    definition, left_out = runnable(opened.definition)
    norms = [layer for layer in definition.layer if layer.type == "BatchNorm"]
    if not norms:
        raise ArgumentError(f'bn_stats: the net "{definition.name}" has no BatchNorm layer')
    stored = {layer.name: _old(arrays.get(layer.name)) for layer in norms}
    for layer in definition.layer:
        if layer.bottom:
            layer.phase = "TEST"
        if layer.type == "BatchNorm":
            layer.mutable("batch_norm_param").use_global_stats = method == "layerwise"
    with same_random_numbers(1):
        made = make_net(definition, arrays, phase=phase, source=source_name(weights))
    feed = _Feed(made, data, items, batch_size)
    run = _sweep if method == "sweep" else _layerwise
    passes, sums = run(made, feed, progress or (lambda batches, total, title: batches))
    result = Statistics(feed.items, passes, source=arrays if tested.converted else weights, left_out=left_out)
    for layer in norms:
        gathered = sums[layer.name]
        factor = _factor(layer.batch_norm_param.moving_average_fraction, len(feed))
        result.layers.append(_summary(layer, gathered, stored[layer.name], unbiased))
        mean, var = result.layers[-1].mean, result.layers[-1].var
        blobs = [np.asarray(x, np.float32) for x in (mean * factor, var * factor, [factor])]
        if not all(np.isfinite(blob).all() for blob in blobs):
            raise ArgumentError(
                f'bn_stats: layer "{layer.name}" (BatchNorm): its input is not finite on these data: are the weights '
                "those of this net?"
            )
        result.blobs[layer.name] = blobs
    if score:
        result.before = _score(tested.definition, arrays, data, items)
        result.after = _score(tested.definition, {**arrays, **result.blobs}, data, items)
    return result


def _factor(fraction: float, batches: int) -> float:
    """Return what the factor would be after a long training, so that one that goes on weighs new batches as before."""
    return 1 / (1 - fraction) if fraction < 1 else float(batches)


def _old(blobs: Sequence[np.ndarray | None] | None) -> tuple[np.ndarray, np.ndarray, float] | None:
    if blobs is None or len(blobs) != 3 or any(blob is None for blob in blobs):
        return None
    mean, var, factor = (np.asarray(blob, np.float64).reshape(-1) for blob in blobs)
    share = 1 / factor[0] if factor[0] else 0.0
    return mean * share, var * share, float(factor[0])


def _summary(
    layer: Message, sums: _Sums, old: tuple[np.ndarray, np.ndarray, float] | None, unbiased: bool
) -> LayerStatistics:
    var = sums.squares / sums.count
    eps = layer.batch_norm_param.eps
    old_mean, old_var, factor = old or (np.zeros_like(var), np.zeros_like(var), 0.0)
    with np.errstate(all="ignore"):  # eps may be what it should not
        drift = np.abs(sums.mean - old_mean) / np.sqrt(var + eps)
        ratio = (old_var + eps) / (var + eps)
    spread = np.divide(sums.between, sums.squares, out=np.zeros_like(var), where=sums.squares > 0)
    if unbiased and sums.count > 1:
        var = var * (sums.count / (sums.count - 1))
    return LayerStatistics(
        layer.name, sums.count, sums.mean, var, old_mean, old_var, factor,
        float(drift.max()), (float(ratio.min()), float(ratio.max())), float(spread.max()),
    )  # fmt: skip


# -- sums ------------------------------------------------------------------------------------------------


class _Sums:
    """Count, mean and sum of squared differences of all values so far, merged batch by batch.

    `between` is the part of the squares that comes from the differences of the batches' means.
    """

    def __init__(self, channels: int):
        self.count = 0
        self.mean = np.zeros(channels)
        self.squares = np.zeros(channels)
        self.between = np.zeros(channels)

    def add(self, count: int, mean: np.ndarray, var: np.ndarray) -> None:
        total = self.count + count
        if total == 0:
            return
        delta = mean - self.mean
        across = delta**2 * (self.count * count / total)
        self.squares += var * count + across
        self.between += across
        self.mean += delta * (count / total)
        self.count = total


class _Watch:
    """Runs a net layer by layer, and adds up what its BatchNorm layers read, each before it runs."""

    def __init__(self, net: Net, feed: _Feed):
        self._net, self._feed = net, feed
        self._owners = _owners(net)
        self.sums: dict[str, _Sums] = {}
        self.wanted = {layer.name for layer in net.layers if layer.type == "BatchNorm"}

    def run(self, last: str | None = None) -> None:
        """Run all layers, or up to one."""
        for layer in self._net.layers:
            if layer.name in self.wanted:
                self._add(layer)
            self._net.forward(start=layer.name, end=layer.name)
            if layer.name == last:
                break

    def _add(self, layer: Any) -> None:
        net = self._net
        x = net.blobs[net.bottom_names[layer.name][0]].on(net.device).data
        kept = self._feed.kept(len(x))
        n, c, s = ncs(x.shape, 1)
        if kept and s:
            mean, var = (net.arrays.empty(c, np.float64) for _ in range(2))
            layer.ops.moments(x.reshape(n, c, s)[:kept], mean, var)
            owner = self._owners[layer.name]
            found = (net.arrays.read_later(values)() for values in (mean, var))
            self.sums.setdefault(owner, _Sums(c)).add(kept * s, *found)

    def by_layer(self) -> dict[str, _Sums]:
        return {
            name: self.sums[self._owners[name]] for name in self.wanted if self._owners[name] in self.sums
        }


def _owners(net: Net) -> dict[str, str]:
    """Name the layer whose statistics each BatchNorm uses: its own, or that with which it shares them."""
    owners = {}
    for p in net.parameters:
        if p.layer.type == "BatchNorm" and p.index == 0:
            owners[p.layer.name] = p.owner.layer.name if p.owner else p.layer.name
    return owners


def _sweep(net: Net, feed: _Feed, progress: Progress) -> tuple[int, dict[str, _Sums]]:
    watch = _Watch(net, feed)
    for _ in feed.run(progress, "statistics"):
        watch.run()
    return 1, watch.by_layer()


def _layerwise(net: Net, feed: _Feed, progress: Progress) -> tuple[int, dict[str, _Sums]]:
    owners = _owners(net)
    if len(set(owners.values())) < len(owners):
        raise ArgumentError(
            "bn_stats: some BatchNorm layers share their statistics, which cannot be measured layer by layer: use "
            'the method "sweep"'
        )
    levels = _levels(net)
    watch = _Watch(net, feed)
    for i, names in enumerate(levels):
        watch.wanted = set(names)
        last = max(names, key=lambda name: list(net.layer_dict).index(name))
        for _ in feed.run(progress, f"level {i + 1} of {len(levels)}"):
            watch.run(last)
        for name in names:
            sums = watch.sums[name]
            for blob, value in zip(
                net.params[name], (sums.mean, sums.squares / sums.count, 1.0), strict=True
            ):
                blob.data[...] = value
    return len(levels), dict(watch.sums)


def _levels(net: Net) -> list[list[str]]:
    """Group BatchNorm layers by the number of others in front of them on the longest path."""
    depth: dict[str, int] = {}
    levels: dict[int, list[str]] = {}
    for layer in net.layers:
        d = max((depth.get(name, 0) for name in net.bottom_names[layer.name]), default=0)
        if layer.type == "BatchNorm":
            levels.setdefault(d, []).append(layer.name)
            d += 1
        for name in net.top_names[layer.name]:
            depth[name] = d
    return [levels[d] for d in sorted(levels)]


# -- data --------------------------------------------------------------------------------------------------


class _Feed:
    """Runs over the data from the start, batch by batch.

    Attributes
    ----------
    items : int
        That are counted.
    """

    def __init__(
        self, net: Net, data: Mapping[str, ArrayLike] | None, items: int | None, batch_size: int | None
    ):
        self._net = net
        self._data: dict[str, ArrayLike] = {}
        self._sources: list[Any] = []
        self.items = self._size = 0
        if data is not None:
            self._open_arrays(data, batch_size)
        else:
            self._open_layers()
        if items is not None:
            if not 1 <= items <= (self.items or items):
                raise ArgumentError(f"bn_stats: items must be 1 to {self.items}, found {items}")
            self.items = items
        elif not self.items:
            raise ArgumentError(
                "bn_stats: say how many items to use: the net's data layers do not tell (items)"
            )
        self._kept = self._size

    def _open_arrays(self, data: Mapping[str, ArrayLike], batch_size: int | None) -> None:
        net = self._net
        for name in net.inputs:
            if name not in data:
                raise ArgumentError(
                    f'bn_stats: no data for the input "{name}", found {", ".join(data) or "none"}'
                )
        if not net.inputs:
            raise ArgumentError("bn_stats: data are given, and the net has no inputs: it reads its own")
        self._data = {name: data[name] for name in net.inputs}
        counts = {name: len(values) for name, values in self._data.items()}
        if len(set(counts.values())) != 1:
            raise ArgumentError(f"bn_stats: all inputs need the same number of items, found {counts}")
        self.items = next(iter(counts.values()))
        self._size = batch_size or net.blobs[net.inputs[0]].shape[0]
        self._check_size()
        for name in net.inputs:
            shape, found = net.blobs[name].shape, np.asarray(self._data[name][[0]]).shape
            if shape[1:] != found[1:]:
                raise ArgumentError(
                    f'bn_stats: items of the input "{name}" have shape {shape[1:]}, found {found[1:]}'
                )
            net.blobs[name].reshape(self._size, *shape[1:])
        net.reshape()

    def _open_layers(self) -> None:
        net = self._net
        if net.inputs:
            raise ArgumentError(
                f"bn_stats: the net waits for its inputs ({', '.join(net.inputs)}): give data, or a net with "
                "data layers"
            )
        self._sources = [layer for layer in net.layers if hasattr(layer, "seek")]
        self.items = max((layer.source.items for layer in self._sources), default=0)
        first = next((layer for layer in net.layers if net.top_names[layer.name]), None)
        self._size = net.blobs[net.top_names[first.name][0]].shape[0] if first is not None else 0
        self._check_size()

    def _check_size(self) -> None:
        if self._size < 1:
            raise ArgumentError(
                "bn_stats: a batch of the net has no item: say how many it shall have (batch_size)"
            )

    def __len__(self) -> int:
        return -(-self.items // self._size)

    def kept(self, rows: int) -> int:
        """Return how many of the first rows of a blob count in this batch."""
        return rows * self._kept // self._size if rows % self._size == 0 else rows

    def run(self, progress: Progress, title: str) -> Iterator[int]:
        """Put one batch after the other into the net's inputs."""
        for layer in self._sources:
            layer.seek(0)
        for batch in progress(range(len(self)), len(self), title):
            begin = batch * self._size
            self._kept = min(self._size, self.items - begin)
            indices = np.arange(begin, begin + self._size) % self.items
            for name, values in self._data.items():
                self._net.blobs[name].data[...] = values[indices]
            yield batch


def _score(
    tested: Message, weights: Mapping[str, Any], data: Mapping[str, ArrayLike] | None, items: int | None
) -> dict[str, float]:
    """Average the scalar outputs of a net in TEST over its own data, or its accuracy over given labels."""
    with same_random_numbers(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", CaffebnWarning)  # they came when the net was made first
        made = make_net(runnable(tested)[0], weights)
    if data is None:
        if made.inputs:
            return {}
        feed = _Feed(made, None, None, None)
        totals: dict[str, float] = {}
        for _ in feed.run(lambda batches, total, title: batches, ""):
            for name, value in made.forward().items():
                if value.size == 1:
                    totals[name] = totals.get(name, 0.0) + float(value.sum())
        return {name: total / len(feed) for name, total in totals.items()}
    if "label" not in data:
        return {}
    totals, count = {}, items or len(data["label"])
    size = made.blobs[made.inputs[0]].shape[0]
    for begin in range(0, count, size):
        indices = np.arange(begin, min(begin + size, count))
        for name in made.inputs:
            made.blobs[name].reshape(len(indices), *made.blobs[name].shape[1:])
            made.blobs[name].data[...] = np.asarray(data[name][indices]).reshape(made.blobs[name].shape)
        made.reshape()
        labels = np.asarray(data["label"][indices]).reshape(-1)
        for name, value in made.forward().items():
            if value.size == 1:
                totals[name] = totals.get(name, 0.0) + float(value.sum()) * len(indices)
            elif value.reshape(len(value), -1).shape[0] == len(labels):
                right = (value.reshape(len(labels), -1).argmax(1) == labels).sum()
                key = f"accuracy of {name}"
                totals[key] = totals.get(key, 0.0) + float(right)
    return {name: total / count for name, total in totals.items()}
