"""A net in its TEST phase as a graph: which layer makes each version of a blob, and which layers read it.

Layers that work in place give one name to several values.  Here each of them is a `Value` of its own, so that
"who else reads this?" has an answer; names come back when the graph is written as a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from caffebn.errors import NetError, did_you_mean
from caffebn.net import Net
from caffebn.proto import Message

__all__ = ["Graph", "Node", "Value"]


@dataclass(eq=False)
class Value:
    """One version of a blob.

    Attributes
    ----------
    name : str
        Name of the blob.
    maker : Node
    readers : list of (Node, int)
        Layers that read it, and as which of their bottoms.
    shape : tuple of int
        Empty for what `net` lacks.
    """

    name: str
    maker: Node
    shape: tuple[int, ...]
    readers: list[tuple[Node, int]] = field(default_factory=list)

    @property
    def channels(self) -> int:
        """Size of axis 1."""
        return self.shape[1]


@dataclass(eq=False)
class Node:
    """A layer.

    Attributes
    ----------
    spec : Message
        Its LayerParameter; bottoms and tops in it are written by `Graph.to_net`.
    bottoms, tops : list of Value
    blobs : list of ndarray of float64
    shared : dict
        Names of other layers with which a blob is shared, by the blob's index.
    """

    spec: Message
    bottoms: list[Value]
    tops: list[Value]
    blobs: list[np.ndarray]
    shared: dict[int, list[str]]

    @property
    def name(self) -> str:
        """Name of the layer."""
        return self.spec.name

    @property
    def type(self) -> str:
        """Type string of the layer."""
        return self.spec.type

    @property
    def is_affine(self) -> bool:
        """Whether it is an affine function of each channel in TEST, as long as its parameters say so."""
        return self.type in ("BatchNorm", "Scale", "Bias") and len(self.bottoms) == 1

    def __str__(self) -> str:
        return f'"{self.name}" ({self.type})'


class Graph:
    """The layers of a net.

    Parameters
    ----------
    definition : Message
        NetParameter in the present form, filtered to the layers of one phase.
    net : Net
        Made of it, or of the part of it that can be run, with its weights.
    weights : mapping
        Arrays by layer name, for the layers that `net` lacks.

    Attributes
    ----------
    nodes : list of Node
        In the order in which they run.
    """

    def __init__(
        self, definition: Message, net: Net, weights: Mapping[str, Sequence[np.ndarray | None]] | None = None
    ):
        self._definition = definition
        self.nodes: list[Node] = []
        shared = _shared_blobs(net)
        latest: dict[str, Value] = {}
        for spec in definition.layer:
            if spec.name in net.layer_dict:
                arrays = [blob.data for blob in net.params.get(spec.name, ())]
            else:
                arrays = [array for array in (weights or {}).get(spec.name, ()) if array is not None]
            blobs = [np.asarray(array, np.float64) for array in arrays]
            node = Node(spec.copy(), [_latest(latest, spec, name) for name in spec.bottom], [], blobs, {})
            node.shared = shared.get(spec.name, {})
            for i, value in enumerate(node.bottoms):
                value.readers.append((node, i))
            for name in spec.top:
                value = Value(name, node, net.blobs[name].shape if spec.name in net.layer_dict else ())
                node.tops.append(value)
                latest[name] = value
            self.nodes.append(node)
        for node in list(self.nodes):
            # a net puts Split layers in by itself; those of a saved text would only hide who reads what
            if node.type == "Split" and all(top.readers for top in node.tops):
                for top in node.tops:
                    self._hand_on(top, node.bottoms[0])
                node.bottoms[0].readers.remove((node, 0))
                self.nodes.remove(node)

    def _hand_on(self, old: Value, new: Value) -> None:
        """Let the readers of one value read another."""
        for node, i in old.readers:
            node.bottoms[i] = new
            new.readers.append((node, i))
        old.readers = []

    def remove(self, node: Node, keep_name: bool) -> None:
        """Take out a layer with one bottom and one top; its readers read what it read.

        Parameters
        ----------
        keep_name : bool
            Give the bottom the name of the top: the value that the top had is now the bottom's.
        """
        (bottom,), (top,) = node.bottoms, node.tops
        bottom.readers.remove((node, 0))
        self._hand_on(top, bottom)
        if keep_name:
            bottom.name = top.name
        self.nodes.remove(node)

    def replace(self, chain: list[Node], spec: Message, blobs: list[np.ndarray]) -> Node:
        """Put one layer in place of a chain of layers with one bottom and one top each."""
        head, tail = chain[0], chain[-1]
        node = Node(spec, list(head.bottoms), list(tail.tops), blobs, {})
        (bottom,), (top,) = node.bottoms, node.tops
        bottom.readers[bottom.readers.index((head, 0))] = (node, 0)
        top.maker = node
        self.nodes[self.nodes.index(tail)] = node
        for gone in chain[:-1]:
            self.nodes.remove(gone)
        return node

    def to_net(self) -> Message:
        """Return the text of the net, without weights."""
        net = self._definition.copy()
        net.layer = []
        for node in self.nodes:
            spec = node.spec.copy()
            spec.bottom = [value.name for value in node.bottoms]
            spec.top = [value.name for value in node.tops]
            spec.clear("blobs")
            net.layer.append(spec)
        return net

    def weights(self, dtype: type = np.float32) -> dict[str, list[np.ndarray]]:
        """Return the blobs of all layers that have any, by layer name."""
        return {n.name: [b.astype(dtype) for b in n.blobs] for n in self.nodes if n.blobs}


def _latest(latest: Mapping[str, Value], spec: Message, name: str) -> Value:
    if name not in latest:
        raise NetError(
            f'layer "{spec.name}" ({spec.type}): bottom "{name}" is made by no earlier layer'
            + did_you_mean(name, latest),
            spec.where,
        )
    return latest[name]


def _shared_blobs(net: Net) -> Mapping[str, dict[int, list[str]]]:
    """Say for each layer which of its blobs are shared by name, and with which layers."""
    users: dict[str, list[tuple[str, int]]] = {}
    for p in net.parameters:
        if p.name:
            users.setdefault(p.name, []).append((p.layer.name, p.index))
    found: dict[str, dict[int, list[str]]] = {}
    for places in users.values():
        for layer, index in places:
            others = list(_others(places, (layer, index)))
            if others:
                found.setdefault(layer, {})[index] = others
    return found


def _others(places: list[tuple[str, int]], own: tuple[str, int]) -> Iterator[str]:
    return (layer for layer, index in places if (layer, index) != own)
