"""Parameter blobs: one flat buffer for all, one memory for those that share a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caffebn.blob import Blob, Memory
from caffebn.layers import Layer
from caffebn.layers.base import times
from caffebn.proto import Message

__all__ = ["Parameter", "Parameters"]


@dataclass
class Parameter:
    """One parameter blob of one layer: where it is, who owns it, how fast it learns.

    Attributes
    ----------
    layer : Layer
    index : int
        The blob's position in the layer.
    name : str
        Name under which it is shared, or "".
    owner : Parameter or None
        The parameter whose memory this one looks at; None when it has its own.
    lr_mult, decay_mult : float
        Multipliers of the learning rate and of the weight decay.
    """

    layer: Layer
    index: int
    name: str
    owner: Parameter | None
    lr_mult: float
    decay_mult: float

    @property
    def blob(self) -> Blob:
        """The parameter's value and gradient."""
        return self.layer.blobs[self.index]


class Parameters(list[Parameter]):
    """All parameter blobs of a net, in net order; making it moves them into two flat buffers.

    Parameters
    ----------
    layers : sequence of Layer
    dtype : dtype
    page_locked : bool
        As for `Memory`.

    Attributes
    ----------
    data, diff : Memory
        The flat buffers of values and of gradients: every parameter with memory of its own, in net order,
        without gaps.

    Raises
    ------
    NetError
        Parameters of one name that differ in shape, or in what they state about learning.
    """

    def __init__(self, layers: Sequence[Layer], dtype: np.dtype, page_locked: bool = False):
        super().__init__()
        owners: dict[str, Parameter] = {}
        for layer in layers:
            for k in range(len(layer.blobs)):
                spec = layer.spec.param[k] if k < len(layer.spec.param) else Message("ParamSpec")
                parameter = Parameter(
                    layer, k, spec.name, owners.get(spec.name), spec.lr_mult, spec.decay_mult
                )
                self.append(parameter)
                if parameter.owner:
                    _join(parameter, parameter.owner, spec)
                elif spec.name:
                    owners[spec.name] = parameter
        total = sum(p.blob.count for p in self if p.owner is None)
        self.data, self.diff = (Memory(dtype, total, page_locked=page_locked) for _ in range(2))
        offset = 0
        for p in self:
            if p.owner is None:
                p.blob.move_to(
                    *(Memory(dtype, p.blob.count, flat, offset) for flat in (self.data, self.diff))
                )
                offset += p.blob.count
        for p in self:
            if p.owner:
                p.blob.share_data(p.owner.blob)
                p.blob.share_diff(p.owner.blob)
                p.lr_mult, p.decay_mult = p.owner.lr_mult, p.owner.decay_mult

    def release_unused(self) -> None:
        """Give the flat buffer of values back when no parameter lies in it: all look at another net's."""
        if not any(p.blob.lies_in(self.data) for p in self):
            self.data.release()

    @property
    def memories(self) -> tuple[Memory, Memory]:
        """The flat buffers of values and of gradients."""
        return self.data, self.diff


def _join(parameter: Parameter, owner: Parameter, spec: Message) -> None:
    """Check that a parameter may share its owner's memory, and settle their multipliers."""
    permissive = spec.share_mode == "PERMISSIVE"
    found, expected = parameter.blob, owner.blob
    if found.count != expected.count if permissive else found.shape != expected.shape:
        raise parameter.layer.error(
            f'parameter "{spec.name}" is shared with layer "{owner.layer.name}": expected '
            f"{times(expected.shape)}, found {times(found.shape)}"
            + ("" if permissive else " (share_mode: PERMISSIVE asks for the same count only)"),
            "param",
        )
    first = owner.layer.spec.param[owner.index]
    for name in ("lr_mult", "decay_mult"):
        if not spec.has(name):
            continue
        stated = getattr(spec, name)
        if not first.has(name):
            setattr(owner, name, stated)
            setattr(first, name, stated)
        elif stated != getattr(first, name):
            raise parameter.layer.error(
                f'parameter "{spec.name}" is shared with layer "{owner.layer.name}", which states {name} '
                f"{getattr(first, name):g}, here it is {stated:g}: state it once",
                "param",
            )
