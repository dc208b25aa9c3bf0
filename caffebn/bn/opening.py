"""What the tools of this folder start from: a net's text for one phase, its weights, and inputs to run it on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from caffebn import blocks, seeding
from caffebn.errors import ArgumentError, NetError, WeightsError, did_you_mean
from caffebn.layers import find_type
from caffebn.net import Net
from caffebn.net.filter import filter_net
from caffebn.net.plain import Arrays, Weights, read_plain, tell
from caffebn.proto import Message, upgrade
from caffebn.weights import copy_weights

__all__ = [
    "Definition",
    "Weights",
    "definition_of",
    "fill",
    "make_net",
    "open_plain",
    "random_inputs",
    "relative_error",
    "runnable",
    "same_random_numbers",
    "source_name",
]

Definition = str | os.PathLike[str] | Message
"""A net: the path of a .prototxt, or a NetParameter."""

_LABELLED = ("Accuracy", "ContrastiveLoss", "HingeLoss", "InfogainLoss", "MultinomialLogisticLoss",
             "SigmoidCrossEntropyLoss", "SoftmaxWithLoss")  # fmt: skip


def definition_of(net: Definition, phase: str = "TEST") -> Message:
    """Return the text of a net in the present form, with the layers of one phase, blocks expanded.

    Raises
    ------
    FileError, ParseError, NetError
        It cannot be read, or is no net, or has no layer in that phase.
    """
    source = "" if isinstance(net, Message) else str(net)
    definition = net.copy() if isinstance(net, Message) else blocks.read(net)
    upgrade.net(definition, source)
    state = definition.state.copy() if definition.has("state") else Message("NetState")
    state.phase = phase
    definition = filter_net(definition, state)
    if not definition.layer:
        raise NetError(
            f"{source or definition.name or 'net'}: no layer is in it in the phase {phase}; expected a net"
        )
    return definition


@dataclass
class Opened:
    """A net and its weights.

    Attributes
    ----------
    definition : Message
    arrays : mapping or None
        Arrays by layer name.
    converted : bool
        Whether they were in a dialect of batch normalisation.
    """

    definition: Message
    arrays: Arrays | None
    converted: bool = False


def open_plain(net: Definition, weights: Weights | None, phase: str = "TEST") -> Opened:
    """Read the text of a net as `definition_of` does, and its weights.

    Where they are in a dialect of batch normalisation, both are rewritten to BatchNorm and Scale, with a warning that
    says so.

    Raises
    ------
    FileError, ParseError, FormatError, NetError
        They cannot be read, or the dialect cannot be told.
    WeightsError
        There are none in the file.
    """
    definition = definition_of(net, phase)
    arrays, converted = read_plain(definition, weights, names=[] if isinstance(net, Message) else [str(net)])
    if weights is not None and not isinstance(weights, Mapping) and not any(arrays.values()):
        raise WeightsError(f"{weights}: no layer in this file has weights")
    if converted is None:
        return Opened(definition, None if weights is None else arrays)
    tell("weights" if weights is None else source_name(weights), converted)
    assert converted.net is not None
    return Opened(converted.net, None if weights is None else arrays, True)


def runnable(definition: Message) -> tuple[Message, list[str]]:
    """Return the part of a net that does not need layers of unknown types, and the names of the other layers.

    What a left out layer reads becomes an output.  Where nothing would be left but inputs, the whole net is returned:
    making it says which type is unknown.
    """
    part = definition.copy()
    part.layer = []
    lost: set[str] = set()  # blobs that left out layers make
    left_out: list[str] = []
    for spec in definition.layer:
        if find_type(spec.type) is not None and lost.isdisjoint(spec.bottom):
            part.layer.append(spec.copy())
            lost.difference_update(spec.top)
        else:
            left_out.append(spec.name)
            lost.update(spec.top)
    if left_out and not any(spec.bottom for spec in part.layer):
        return definition, []
    return part, left_out


def make_net(
    definition: Message,
    weights: Weights | None,
    dtype: str = "float32",
    phase: str = "TEST",
    source: str = "weights",
) -> Net:
    """Make a net of a text and load weights, from a file or from arrays that errors call `source`.

    Raises
    ------
    NetError, WeightsError
        The net cannot be made; weights do not fit, or not one layer of the net is among them.
    """
    net = Net(definition, phase, dtype=dtype)
    if isinstance(weights, Mapping) and weights:
        types = {layer.name: layer.type for layer in net.layers}
        net.weights_report = copy_weights(net.params, types, weights, source)
    elif weights is not None and not isinstance(weights, Mapping):
        net.copy_from(weights)
    if net.weights_report is not None:
        net.weights_report.check()
    return net


def source_name(weights: Weights) -> str:
    """Return what to call weights in messages: their file, if they are in one."""
    return "weights" if isinstance(weights, Mapping) else str(weights)


def random_inputs(net: Net, seed: int = 1) -> dict[str, np.ndarray]:
    """Make values for the inputs of a net: normally distributed, mean 0 and variance 1; zeros for labels.

    Returns
    -------
    dict of ndarray of float32
        By input name; empty for a net that reads its own data.
    """
    rng = np.random.default_rng(seed)
    labels = {
        bottom
        for layer in net.layers
        if layer.type in _LABELLED
        for bottom in list(net.bottom_names[layer.name])[1:]
    }
    return {
        name: np.zeros(net.blobs[name].shape, np.float32)
        if name in labels
        else rng.standard_normal(net.blobs[name].shape, dtype=np.float32)
        for name in net.inputs
    }


def fill(net: Net, inputs: Mapping[str, np.ndarray]) -> None:
    """Give a net its inputs, of any number of items.

    Raises
    ------
    ArgumentError
        An input is missing, or one is given that the net does not have, or a shape does not fit.
    """
    for name in inputs:
        if name not in net.inputs:
            raise ArgumentError(
                f'input "{name}": the net has the inputs {", ".join(net.inputs) or "(none)"}'
                + did_you_mean(name, net.inputs)
            )
    for name in net.inputs:
        if name not in inputs:
            raise ArgumentError(f'the input "{name}" of the net is not given')
        value, blob = np.asarray(inputs[name]), net.blobs[name]
        if value.ndim != len(blob.shape):
            raise ArgumentError(
                f'input "{name}": expected {len(blob.shape)} axes, as in {blob.shape}, found shape {value.shape}'
            )
        if value.shape != blob.shape:
            blob.reshape(*value.shape)
        blob.data[...] = value
    if inputs:
        net.reshape()


def relative_error(found: np.ndarray, expected: np.ndarray) -> tuple[float, float, float]:
    """Return the largest difference, the mean difference, and the largest one relative to the largest value.

    Infinite where only one of the two has a number; equal infinities, and NaN at the same places, are no difference.
    """
    a, b = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    if a.size == 0:
        return 0.0, 0.0, 0.0
    with np.errstate(invalid="ignore"):
        difference = np.abs(a - b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    difference[same] = 0.0
    difference[np.isnan(difference)] = np.inf
    worst = float(difference.max())
    finite = np.abs(a[np.isfinite(a)])
    size = float(finite.max()) if finite.size else 0.0
    return worst, float(difference.mean()), worst / size if size else worst


@contextmanager
def same_random_numbers(seed: int) -> Iterator[None]:
    """Let what is random inside (the start of data layers, fillers) come out the same each time."""
    state = seeding.get_state()
    seeding.set_random_seed(seed)
    try:
        yield
    finally:
        seeding.set_state(state)
