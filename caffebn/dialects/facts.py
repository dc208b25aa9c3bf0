"""What the files say of each layer that normalises: fields by name and by number, blobs, signs."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from caffebn.errors import FormatError
from caffebn.proto import Message, UnknownBinary, UnknownText, binary, blob_array, wire

__all__ = ["TYPES", "Facts", "gather", "named_fields", "text_fields"]

TYPES = ("BatchNorm", "BN", "SyncBN")
"""Type strings of layers that normalise by channel."""

_NUMBERS = (45, 137, 139, 152, 200, 202)
"""Where forks keep their BNParameter in a LayerParameter."""
_LEGACY = ("num", "channels", "height", "width")


@dataclass
class Facts:
    """One layer that normalises.

    Attributes
    ----------
    name, type : str
    fields : dict
        Parameters by the name that the text uses; a filler is a dict.
    numbered : dict
        Parameters by number, from a binary file: an int, a float or bytes.
    number : int or None
        Number of the BNParameter in its LayerParameter.
    blobs : list of ndarray or None
        None when there are no weights.
    shapes_tell : bool
        The blobs have shapes of their own, not the four old numbers.
    extra_tops : bool
        Has tops behind the first, for mean and variance.
    marks_nvcaffe : bool
        LayerParameter 145 to 148 hold number types, as NVCaffe 0.16 and later write them.
    from_text : bool
        The fields are those of a prototxt; what the weights file says beside them does not count.
    """

    name: str
    type: str
    fields: dict[str, Any] = field(default_factory=dict)
    numbered: dict[int, Any] = field(default_factory=dict)
    number: int | None = None
    blobs: list[np.ndarray] | None = None
    shapes_tell: bool = True
    extra_tops: bool = False
    marks_nvcaffe: bool = False
    from_text: bool = False

    @property
    def count(self) -> int:
        """Number of blobs; 0 when there are none."""
        return len(self.blobs or ())

    @property
    def channels(self) -> int:
        """Values in the largest blob."""
        return max((blob.size for blob in self.blobs or ()), default=0)


def gather(definition: Message | None, stored: Message | None, source: str = "weights") -> list[Facts]:
    """Collect the facts of all layers that normalise.

    Parameters
    ----------
    definition : Message or None
        The net as the text has it; its fields count, not those in the weights file.
    stored : Message or None
        The net of the weights file.
    source : str
        Name of the latter, for errors.

    Raises
    ------
    FormatError
        A blob is damaged.
    """
    weights = {layer.name: layer for layer in (stored.layer if stored is not None else ())}
    layers = definition.layer if definition is not None else list(weights.values())
    found = []
    for layer in layers:
        if layer.type not in TYPES:
            continue
        kept = weights.get(layer.name)
        facts = Facts(layer.name, layer.type, from_text=definition is not None)
        facts.fields = text_fields(layer)
        if kept is not None:
            _read_stored(facts, kept, source)
        facts.extra_tops = any(len(spec.top) > 1 for spec in (layer, kept) if spec is not None)
        found.append(facts)
    return found


def text_fields(layer: Message) -> dict[str, Any]:
    """Parameters of a layer by name, those included that only forks have."""
    fields: dict[str, Any] = {}
    if layer.type == "BatchNorm" and layer.has("batch_norm_param"):
        param = layer.batch_norm_param
        fields.update((f.name, value) for f, value in param.set_fields())
        fields.update(named_fields(param))
    for unknown in layer.unknown:
        if (
            isinstance(unknown, UnknownText)
            and unknown.name == "bn_param"
            and isinstance(unknown.value, Message)
        ):
            fields.update(named_fields(unknown.value))
    return fields


def named_fields(message: Message) -> dict[str, Any]:
    """Unknown fields of a text as Python values; a message becomes a dict."""
    return {u.name: _plain(u.value) for u in message.unknown if isinstance(u, UnknownText)}


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return named_fields(value)
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return (
        {"true": True, "True": True, "false": False, "False": False}.get(value, value)
        if isinstance(value, str)
        else value
    )


def _read_stored(facts: Facts, kept: Message, source: str) -> None:
    facts.blobs = []
    for i, blob in enumerate(kept.blobs):
        try:
            facts.blobs.append(blob_array(blob))
        except FormatError as e:
            raise FormatError(f'{source}: layer "{kept.name}", blob {i}: {e.message}') from None
        facts.shapes_tell = facts.shapes_tell and not any(blob.has(name) for name in _LEGACY)
    facts.marks_nvcaffe = any(
        isinstance(u, UnknownBinary) and u.number in (145, 146, 147, 148) and u.wire_type == wire.VARINT
        for u in kept.unknown
    )
    for number, content in _parameters(kept):
        if facts.type != "BatchNorm" or number == 139:
            facts.number, facts.numbered = number, _decoded(content)


def _parameters(layer: Message) -> Iterator[tuple[int, bytes]]:
    """Messages in a LayerParameter that may be a fork's parameters, as bytes."""
    for unknown in layer.unknown:
        if (
            isinstance(unknown, UnknownBinary)
            and unknown.number in _NUMBERS
            and unknown.wire_type == wire.BYTES
        ):
            yield unknown.number, unknown.data
    for f, value in layer.set_fields():  # numbers that BVLC uses for something else
        if f.number in _NUMBERS and isinstance(value, Message):
            yield f.number, _serialised(value)


def _serialised(message: Message) -> bytes:
    bare = message.copy()
    bare.unknown[:] = [
        u for u in bare.unknown if isinstance(u, UnknownBinary)
    ]  # what a text added has no number
    return binary.dump(bare)


def _decoded(content: bytes) -> dict[int, Any]:
    values: dict[int, Any] = {}
    try:
        message = binary.parse(content, "(unknown)")
    except FormatError:
        return values  # no message: it tells nothing
    for u in message.unknown:
        if isinstance(u, UnknownBinary):
            if u.wire_type == wire.VARINT:
                values[u.number] = sum((byte & 0x7F) << 7 * i for i, byte in enumerate(u.data))
            elif u.wire_type == wire.FIXED32:
                values[u.number] = struct.unpack("<f", u.data)[0]
            else:
                values[u.number] = u.data
    return values
