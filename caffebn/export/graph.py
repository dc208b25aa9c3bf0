"""A net as exporters want it: every value has one maker, and BatchNorm knows its Scale.

Caffe's layers work in place, so one blob name stands for several values, and read blobs through Splits.
Here each value is made once and named once, Splits are gone, and a BatchNorm that only a Scale reads has
taken that Scale in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from caffebn.errors import ArgumentError, CaffebnError, NetError, did_you_mean
from caffebn.layers import Layer
from caffebn.net import Net
from caffebn.proto import Message

__all__ = ["DYNAMIC", "OPEN", "Graph", "Node", "Value", "needed", "statistics", "trace"]

DYNAMIC = -1
"""A size that follows the batch."""
OPEN = -2
"""A size that follows the height and width of the pictures."""


@dataclass(eq=False)
class Value:
    """What a layer makes: one version of a blob.

    Attributes
    ----------
    name : str
        The blob's name for an input and for the last version of other blobs, else ``blob/layer``.
    blob : str
        Name of the blob.
    shape : tuple of int
        Sizes when the net was traced.
    sizes : tuple of int
        The same, with `DYNAMIC` for what follows the batch and `OPEN` for what follows height and width.
    """

    name: str
    blob: str
    shape: tuple[int, ...]
    sizes: tuple[int, ...]


@dataclass(eq=False)
class Node:
    """A layer with the values it reads and makes.

    Attributes
    ----------
    layer : Layer
    bottoms, tops : list of Value
    params : list of ndarray
        The layer's parameters: the net's memory.
    scale : Layer or None
        For a BatchNorm: the Scale behind it that it has taken in.
    scale_params : list of ndarray
        The parameters of that Scale.
    """

    layer: Layer
    bottoms: list[Value]
    tops: list[Value]
    params: list[np.ndarray]
    scale: Layer | None = None
    scale_params: list[np.ndarray] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.layer.name

    @property
    def type(self) -> str:
        """The layer's type."""
        return self.layer.type


@dataclass(eq=False)
class Graph:
    """The net: nodes in order of execution, the inputs' values, and the value of each output by its name."""

    net: Net
    inputs: list[Value]
    nodes: list[Node]
    outputs: dict[str, Value]

    def readers(self, value: Value) -> list[Node]:
        """Nodes that read a value, once for each of their bottoms."""
        return [node for node in self.nodes for bottom in node.bottoms if bottom is value]

    def only_reader(self, value: Value) -> Node | None:
        """The node that alone reads a value which is no output of the net."""
        readers = self.readers(value)
        if len(readers) != 1 or any(out is value for out in self.outputs.values()):
            return None
        return readers[0]


def trace(
    net: Net,
    fixed_batch: bool = False,
    outputs: Sequence[str] | None = None,
    drop_identities: bool = True,
    open_size: bool = False,
) -> Graph:
    """Follow the values of a net in the phase TEST.

    Which sizes follow the batch is found by giving the first input, and all whose first axis is as long, one more
    item and looking what changes; the net has its own shapes again afterwards.

    Parameters
    ----------
    net : Net
    fixed_batch : bool
        Take all sizes as they are.
    outputs : sequence of str, optional
        Blobs to end in, in place of the net's outputs; layers that they do not need are left out.
    drop_identities : bool
        Leave out layers that only hand on their bottom in the phase TEST (Dropout).
    open_size : bool
        Find, likewise, what follows the height and width of the inputs of four axes.

    Raises
    ------
    ArgumentError
        The net is in the phase TRAIN, or there is no such blob.
    NetError
        It cannot run with another batch size, or on pictures of another size, or two of its layers have one name.
    """
    if net.phase != "TEST":
        raise ArgumentError("a net is exported in the phase TEST: make it with caffebn.TEST")
    if len(net.layer_dict) < len(net.layers):
        raise NetError("two layers of the net have one name: rename one of them to export the net")
    if outputs:
        net = _cut(net, outputs)
    shapes, sizes = _sizes(net, fixed_batch, open_size)
    last_maker = {name: layer.name for layer in net.layers for name in net.top_names[layer.name]}
    current: dict[str, Value] = {}
    names: set[str] = set()
    graph = Graph(net, [], [], {})
    for layer in net.layers:
        bottoms = [current[name] for name in net.bottom_names[layer.name]]
        if layer.type == "Split" or (layer.type == "Dropout" and drop_identities):
            current.update((name, bottoms[0]) for name in net.top_names[layer.name])
            continue
        tops = []
        for name in net.top_names[layer.name]:
            plain = layer.type == "Input" or (last_maker[name] == layer.name and name not in net.inputs)
            unique = name if plain else f"{name}/{layer.name}"
            while unique in names:
                unique += "_"
            names.add(unique)
            tops.append(Value(unique, name, shapes[name], sizes[name]))
            current[name] = tops[-1]
        if layer.type == "Input":
            graph.inputs += tops
        else:
            graph.nodes.append(Node(layer, bottoms, tops, [blob.data for blob in layer.blobs]))
    graph.outputs = {name: current[name] for name in outputs or net.outputs}
    if not graph.outputs:
        raise NetError("the net has no outputs: there is nothing to export")
    if outputs:  # an Input layer that is needed for one of its tops brings the others, such as labels
        graph.inputs = [v for v in graph.inputs if graph.readers(v) or v in graph.outputs.values()]
    _join_scales(graph)
    return graph


def needed(layers: Sequence[Message], outputs: Sequence[str]) -> list[Message]:
    """Return copies of the layers on which these blobs depend, in their last version."""
    wanted, kept = set(outputs), []
    for layer in reversed(layers):
        if wanted.intersection(layer.top):
            wanted.update(layer.bottom)
            kept.append(layer.copy())
    return kept[::-1]


def _cut(net: Net, outputs: Sequence[str]) -> Net:
    """Make a net of the layers on which these blobs depend, with the same parameters."""
    for name in outputs:
        if name not in net.blobs:
            raise ArgumentError(f'there is no blob "{name}" to end in{did_you_mean(name, net.blobs)}')
    definition = Message("NetParameter", name=net.name)
    definition.layer = needed([layer.spec for layer in net.layers], outputs)
    for spec in definition.layer:
        spec.clear("blobs")
    part = Net(definition, net.phase, device=net.device, dtype=net.dtype)
    for name in part.inputs:
        part.blobs[name].reshape(*net.blobs[name].shape)
    part.reshape()
    part.share_with(net)
    return part


Shapes = dict[str, tuple[int, ...]]


def _sizes(net: Net, fixed: bool, open_size: bool) -> tuple[Shapes, Shapes]:
    before = {name: blob.shape for name, blob in net.blobs.items()}
    items = next((before[name][0] for name in net.inputs if before[name]), None)
    sizes = dict(before)
    if not fixed and items is not None:
        more = {n: (items + 1, *before[n][1:]) for n in net.inputs if before[n][:1] == (items,)}
        after = _reshaped(
            net, more, before, "with another batch size than its own", "with a fixed batch (--fixed-batch)"
        )
        sizes = _marked(sizes, before, after, DYNAMIC)
    if open_size:
        # twice as large, so that whatever the strides are, all that follows it changes
        more = {
            n: (*before[n][:2], 2 * before[n][2], 2 * before[n][3]) for n in net.inputs if len(before[n]) == 4
        }
        if not more:
            raise ArgumentError("open_size: no input of the net has height and width (four axes)")
        after = _reshaped(
            net, more, before, "on pictures of another size than its own", "without --open-size; an InnerProduct "
            "that reads planes can become a Convolution, which takes any size (surgery, to_convolution)"
        )  # fmt: skip
        sizes = _marked(sizes, before, after, OPEN)
    return before, sizes


def _marked(sizes: Shapes, before: Shapes, after: Shapes, mark: int) -> Shapes:
    return {
        name: tuple(
            s if a == b else mark for s, a, b in zip(sizes[name], before[name], after[name], strict=True)
        )
        for name in sizes
    }


def _reshaped(net: Net, shapes: Shapes, before: Shapes, how: str, instead: str) -> Shapes:
    """Return the shapes of all blobs for inputs of other shapes; the net has its own again afterwards."""
    try:
        for name, shape in shapes.items():
            net.blobs[name].reshape(*shape)
        net.reshape()
    except CaffebnError as e:
        raise NetError(f"the net cannot run {how}: {e}. Export it {instead}") from None
    finally:
        after = {name: blob.shape for name, blob in net.blobs.items()}
        for name in net.inputs:
            net.blobs[name].reshape(*before[name])
        net.reshape()
    return after


def statistics(node: Node) -> tuple[np.ndarray, np.ndarray]:
    """Stored mean and variance of a BatchNorm in float64: the sums divided by the factor, 0 for a factor of 0."""
    sum_mean, sum_var, factor = (np.asarray(p, np.float64).reshape(-1) for p in node.params)
    scale = 0.0 if factor[0] == 0 else 1.0 / factor[0]
    return sum_mean * scale, sum_var * scale


def is_channel_scale(node: Node) -> bool:
    """Whether a node is a learned Scale of axis 1, one value a channel."""
    if node.type != "Scale" or len(node.bottoms) != 1:
        return False
    p, n_axes = node.layer.param, len(node.bottoms[0].shape)
    return n_axes >= 2 and p.num_axes == 1 and p.axis in (1, 1 - n_axes)


def _join_scales(graph: Graph) -> None:
    for node in [n for n in graph.nodes if n.type == "BatchNorm"]:
        reader = graph.only_reader(node.tops[0])
        if reader is not None and is_channel_scale(reader):
            node.scale, node.scale_params, node.tops = reader.layer, reader.params, reader.tops
            graph.nodes.remove(reader)
