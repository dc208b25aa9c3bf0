"""What a layer is: set up once, reshaped when shapes change, run forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from caffebn import ops
from caffebn.blob import Blob, Changes, times
from caffebn.errors import NetError, did_you_mean
from caffebn.fillers import fill
from caffebn.layers import packages
from caffebn.ops import labels
from caffebn.proto import Message
from caffebn.proto.schema import message_type

__all__ = [
    "LAYERS",
    "Context",
    "Layer",
    "Workspace",
    "create",
    "find_type",
    "known_types",
    "layer",
    "look_at",
    "ncs",
    "times",
]


class Workspace:
    """Scratch memory that all layers of a net share: valid within one forward or backward of a layer."""

    def __init__(self, dtype: np.dtype, device: str = "cpu"):
        self._arrays = ops.arrays(device)
        self._flat = self._arrays.empty(0, dtype)

    def reserve(self, size: int) -> None:
        """Make room for `size` elements; called in reshape."""
        if size > self._flat.size:
            self._flat = self._arrays.empty(size, self._flat.dtype)

    @property
    def flat(self) -> np.ndarray:
        """The scratch memory as an array of one axis."""
        return self._flat


@dataclass
class Context:
    """What a net hands to each of its layers."""

    device: str
    phase: str
    dtype: np.dtype
    rng: np.random.Generator
    workspace: Workspace
    changes: Changes = field(default_factory=Changes)
    winograd: bool = True


class Layer:
    """Base of all layer types.

    A subclass says as data how many bottoms and tops it takes, whether a top may be the bottom
    (`in_place`), and which values of its forward pass its backward pass reads (`reads`).  The net
    sees to it that those values are still there, even when a later layer works in place on them; a
    layer may therefore write its top over its bottom without a copy of its own.

    Parameters
    ----------
    spec : Message
        The LayerParameter; the layer owns it.
    context : Context
        Device, phase, dtype, random numbers and scratch memory of the net.

    Attributes
    ----------
    param : Message
        The type's own parameter message, e.g. BatchNormParameter, with its defaults.
    blobs : list of Blob
        Learnable and stored parameters.
    param_propagate_down : list of bool
        For each of `blobs`: whether backward has to add to its diff.
    """

    type: ClassVar[str] = ""
    param_field: ClassVar[str] = ""
    """Name of the field of LayerParameter that holds the type's own parameters."""
    more_params: ClassVar[tuple[str, ...]] = ()
    """Names of further fields of LayerParameter that the type reads."""
    own_defaults: ClassVar[Mapping[str, str]] = {}
    """Options that have another default for this type than in the schema."""

    n_bottoms: ClassVar[int | tuple[int, int | None]] = 1
    """Exact number of bottoms, or (least, most)."""
    n_tops: ClassVar[int | tuple[int, int | None]] = 1
    equal_tops: ClassVar[bool] = False
    """As many tops as bottoms."""

    in_place: ClassVar[bool] = False
    """A top may be the bottom of the same position."""
    shares_memory: ClassVar[bool] = False
    """The tops are views of bottom 0, or, without bottoms, of the layer's blobs."""
    reshapes_each_pass: ClassVar[bool] = False
    """Shapes may change though those of the bottoms do not: `reshape` runs before each forward pass."""
    repeatable: ClassVar[bool] = False
    """A pass is the same calls of `ops` with the same arguments each time, as long as shapes and memory are: no
    random numbers, no look at values, nothing computed in Python.  The net then repeats the calls by itself."""
    on_host: ClassVar[bool] = False
    """Computes with NumPy: it is handed arrays of the host, on a GPU too, and the cpu ops."""
    has_backward: ClassVar[bool] = True
    default_loss_weight: ClassVar[float] = 0.0
    """Weight of top 0 in the loss when the text says nothing; a layer with one makes its top when it has none."""

    def __init__(self, spec: Message, context: Context):
        self.spec = spec
        self.name: str = spec.name
        self.param: Message = getattr(spec, self.param_field) if self.param_field else spec
        self.net_device = context.device
        self.device = "cpu" if self.on_host and context.device == "gpu" else context.device
        self.ops = ops.get(self.device)
        self.phase = context.phase
        self.dtype = context.dtype
        self.rng = context.rng
        self.workspace = context.workspace
        self._changes = context.changes
        self.winograd = context.winograd
        self.blobs: list[Blob] = []
        self.param_propagate_down: list[bool] = []

    # -- what a type writes ------------------------------------------------------------------------

    @property
    def needs_host(self) -> bool:
        """Whether a pass takes values from the host, or waits for the device: it cannot be part of a graph."""
        return self.on_host

    @property
    def reads(self) -> Iterable[str]:
        """Which data the backward pass reads: "bottom", "top", both or none."""
        return ("bottom",)

    def allow_force_backward(self, bottom: int) -> bool:
        """Whether `force_backward` may ask for the gradient of that bottom (False for labels)."""
        return True

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Once: check the parameters, make `blobs`."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """At first, and whenever a bottom's shape has changed: shape the tops, size the scratch."""
        raise NotImplementedError

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Fill the tops' data."""
        raise NotImplementedError

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Overwrite the diffs of the bottoms asked for, add to those of the blobs asked for."""
        raise NotImplementedError

    def before_launch(self) -> None:
        """What the host does before a recorded forward pass is launched again: nothing for most layers."""

    def macs(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> int:
        """Multiply-adds of one forward pass; 0 for layers that only move or activate."""
        return 0

    def get_state(self) -> dict[str, Any]:
        """Return what the next forward pass depends on beside bottoms, blobs and random numbers.

        Nothing for most layers; a layer that hands out data tells where it is.  Values are fit for JSON; a
        solver keeps them in its snapshots.
        """
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from where the layer was when `get_state` was called."""

    # -- help for writing one ----------------------------------------------------------------------

    @property
    def parameters(self) -> list[Blob]:
        """`blobs` as the ops take them: what `forward` and `backward` compute with."""
        return self.blobs if self.device != "gpu" else [blob.on("gpu") for blob in self.blobs]

    def error(self, message: str, field: str | None = None, index: int | None = None) -> NetError:
        """Make an error that names the layer and points at a field (an element of it) of its parameters."""
        where = None
        for holder in (self.param, self.spec):
            if where is None and field in holder.schema.fields:
                where = holder.where_of(field, index)
        return NetError(f'layer "{self.name}" ({self.type}): {message}', where or self.spec.where)

    @contextmanager
    def naming_itself(self) -> Iterator[None]:
        """Put the layer's name in front of what an op says about values, such as a label that is no class."""
        token = labels.speaker.set(f'layer "{self.name}" ({self.type})')
        try:
            yield
        finally:
            labels.speaker.reset(token)

    def shown(self, bottom: Sequence[Blob], index: int) -> str:
        """Name and shape of a bottom, for messages: ``"data" (2x3x5)``."""
        return f'"{self.spec.bottom[index]}" ({times(bottom[index].shape)})'

    def check_equal_shapes(self, bottom: Sequence[Blob]) -> None:
        """Refuse bottoms that are not all of one shape."""
        for i, blob in enumerate(bottom):
            if blob.shape != bottom[0].shape:
                raise self.error(
                    f"the bottoms must have one shape, found {self.shown(bottom, 0)} and {self.shown(bottom, i)}",
                    "bottom",
                    i,
                )

    def refuse_gradient(self, propagate_down: Sequence[bool], index: int, what: str) -> None:
        """Raise when the gradient of a bottom that has none is asked for; `what` it holds is for the message."""
        if index < len(propagate_down) and propagate_down[index]:
            stop = " ".join("propagate_down: " + str(i != index).lower() for i in range(len(propagate_down)))
            raise self.error(
                f'the {what}, "{self.spec.bottom[index]}", have no gradient: make them with layers that '
                f"learn nothing, or write {stop}",
                "bottom",
                index,
            )

    def add_blob(self, shape: Sequence[int], filler: Message | None = None, value: float = 0.0) -> Blob:
        """Append a parameter blob, filled by a FillerParameter or, without one, with `value`."""
        blob = Blob(shape, self.dtype, self._changes)
        if filler is not None:
            try:
                fill(blob.data, filler, self.rng)
            except NetError as e:
                raise NetError(
                    f'layer "{self.name}" ({self.type}): {e.message}', e.where or self.spec.where
                ) from None
        elif value:
            blob.data[...] = value
        self.blobs.append(blob)
        self.param_propagate_down.append(True)
        return blob

    def scratch(self, shape: Sequence[int], dtype: DTypeLike | None = None) -> np.ndarray:
        """Make memory of this layer's own, zero at first, of the net's dtype by default; called in reshape."""
        return ops.arrays(self.device).zeros(shape, dtype or self.dtype)

    def put(self, values: np.ndarray, array: np.ndarray) -> None:
        """Copy values of the host, of any dtype, into memory of this layer."""
        ops.arrays(self.device).put(values, array)

    def copy_data(self, source: Blob, target: Blob) -> None:
        """Forward of the identity: nothing to do in place."""
        if not target.shares_data_with(source):
            self.ops.scale_copy(source.data, 1.0, target.data)

    def copy_diff(self, source: Blob, target: Blob) -> None:
        """Backward of the identity: nothing to do in place."""
        if not target.shares_diff_with(source):
            self.ops.scale_copy(source.diff, 1.0, target.diff)

    def filler(self, field: str) -> Message:
        """The FillerParameter in that field; the default one (constant 0) when absent."""
        return getattr(self.param, field)

    def axis(self, value: int, n_axes: int, field: str = "axis", end: bool = False) -> int:
        """Count a negative axis from the end; refuse one that does not exist.

        With `end` the axis just behind the last one is allowed.
        """
        index = value + n_axes if value < 0 else value
        if not 0 <= index < n_axes + end:
            raise self.error(f"{field} {value} does not exist: the bottom has {n_axes} axes", field)
        return index


LAYERS: dict[str, type[Layer]] = {}
"""Layer class by Caffe's type string."""


def layer(type_name: str, param: str = "") -> Callable[[type[Layer]], type[Layer]]:
    """Class decorator: register a layer type.  Outside of this package it is ``caffebn.layers.register``.

    Parameters
    ----------
    type_name : str
        Caffe's exact type string, e.g. ``"BatchNorm"``, or another for a type that Caffe does not have.
    param : str
        Name of the field of LayerParameter with its parameters, e.g. ``"batch_norm_param"``.

    Raises
    ------
    NetError
        The type string is taken by another class, there is no such field, or what is decorated is no class of
        layers.  A definition that is run again, as in a notebook, replaces itself.
    """

    def register(cls: type[Layer]) -> type[Layer]:
        if not (isinstance(cls, type) and issubclass(cls, Layer)):
            raise NetError(
                f'layer type "{type_name}": expected a class derived from caffebn.layers.Layer, found {cls}'
            )
        other = LAYERS.get(type_name)
        if other and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise NetError(
                f'layer type "{type_name}" is registered already, by {other.__module__}.{other.__qualname__}'
            )
        fields = message_type("LayerParameter").fields
        if param and param not in fields:
            raise NetError(
                f'layer type "{type_name}": LayerParameter has no field "{param}"{did_you_mean(param, fields)}'
            )
        cls.type = type_name
        cls.param_field = param
        LAYERS[type_name] = cls
        return cls

    return register


def known_types() -> list[str]:
    """Return the names of all layer types, those of installed packages included, in alphabetical order."""
    return sorted({*LAYERS, *packages.find()})


def find_type(type_name: str) -> type[Layer] | None:
    """Return the class of a layer type, loaded from another package if that brings it, or None.

    Raises
    ------
    NetError
        The package cannot be loaded, or does not register the type that it announces.
    """
    if type_name not in LAYERS and (module := packages.load(type_name)) and type_name not in LAYERS:
        raise NetError(
            f'layer type "{type_name}" is announced by {module}, which does not register it: it needs a class '
            f'with the decorator @caffebn.layers.register("{type_name}")'
        )
    return LAYERS.get(type_name)


def create(spec: Message, context: Context) -> Layer:
    """Make the layer that a LayerParameter describes.

    Raises
    ------
    NetError
        Unknown type, or wrong number of bottoms or tops.
    """
    cls = find_type(spec.type)
    if cls is None:
        known = known_types()
        raise NetError(
            f'layer "{spec.name}": unknown layer type "{spec.type}"{did_you_mean(spec.type, known)} '
            f"(known: {', '.join(known)})",
            spec.where_of("type") or spec.where,
        )
    made = cls(spec, context)
    _check_count(made, "bottom", cls.n_bottoms, len(spec.bottom))
    tops = len(spec.top)
    if not (tops == 0 and cls.default_loss_weight):
        _check_count(made, "top", cls.n_tops, tops)
    if cls.equal_tops and tops != len(spec.bottom):
        raise made.error(
            f"needs as many tops as bottoms, found {len(spec.bottom)} bottoms and {tops} tops", "top"
        )
    return made


def _check_count(made: Layer, what: str, expected: int | tuple[int, int | None], found: int) -> None:
    least, most = expected if isinstance(expected, tuple) else (expected, expected)
    if found >= least and (most is None or found <= most):
        return
    if most is None:
        need = f"at least {least}"
    elif least == most:
        need = str(least)
    else:
        need = f"{least} to {most}"
    plural = "" if (most or least) == 1 else "s"
    raise made.error(f"needs {need} {what}{plural}, found {found}", what)


def look_at(source: Blob, tops: Sequence[Blob]) -> None:
    """Let the tops of a view look at the data of `source`; called in forward.

    Where `source` looks may have changed since reshape: a net moves its parameters when it is complete, and
    lets them look at those of another net.
    """
    for top in tops:
        if not top.shares_data_with(source):
            top.share_data(source)


def ncs(shape: Sequence[int], axis: int, n_axes: int = 1) -> tuple[int, int, int]:
    """Sizes before, within and behind the axes ``[axis, axis + n_axes)``: the N, C, S of the computations."""
    end = axis + n_axes
    return prod(shape[:axis]), prod(shape[axis:end]), prod(shape[end:])
