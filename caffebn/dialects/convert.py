"""Whole nets: every layer of a dialect as BatchNorm and Scale, and back."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from caffebn.dialects.facts import TYPES, Facts, gather
from caffebn.dialects.recognise import Verdict, recognise
from caffebn.dialects.signs import FOREIGN, HARMLESS
from caffebn.dialects.table import DIALECTS, PLAIN, Dialect, dialect, numbers
from caffebn.dialects.values import Meaning, blobs_of, fields_of, meaning
from caffebn.errors import NetError, some
from caffebn.proto import (
    Identifier,
    Message,
    UnknownBinary,
    UnknownText,
    binary,
    blob_array,
    make_blob,
    text,
    wire,
)
from caffebn.proto.message import new
from caffebn.proto.schema import UNKNOWN

__all__ = ["Conversion", "DialectError", "from_plain", "to_plain", "verdicts"]


class DialectError(NetError):
    """The files do not say which dialect they are in.

    Attributes
    ----------
    verdicts : list of Verdict
        Those that are not certain.
    """

    def __init__(self, message: str, verdicts: Sequence[Verdict] = ()):
        super().__init__(message)
        self.verdicts = list(verdicts)


@dataclass
class Conversion:
    """What came of a conversion.

    Attributes
    ----------
    net, weights : Message or None
        The converted net and weights; the given ones are as they were.
    verdicts : list of Verdict
        One for each layer that normalises.
    changed : list of str
        Names of the layers that were converted.
    lost : dict of list of str
        What could not be kept, and of which layers.
    """

    net: Message | None
    weights: Message | None
    verdicts: list[Verdict]
    changed: list[str] = field(default_factory=list)
    lost: dict[str, list[str]] = field(default_factory=dict)

    def summary(self) -> list[str]:
        """Sentences on what was converted, and what was lost."""
        lines = []
        by_dialect: dict[str, list[str]] = {}
        for v in self.verdicts:
            if v.layer in self.changed:
                by_dialect.setdefault(v.dialect, []).append(v.layer)
        for id, layers in by_dialect.items():
            lines.append(
                f"{len(layers)} layers of dialect {id} ({DIALECTS[id].title}) converted: {some(layers)}"
            )
        lines += [f"lost: {what} ({some(layers)})" for what, layers in self.lost.items()]
        return lines


def verdicts(
    definition: Message | None,
    stored: Message | None = None,
    as_: str | Mapping[str, str] | None = None,
    names: Sequence[str] = (),
) -> list[Verdict]:
    """Say which dialect each layer that normalises is in.

    Parameters
    ----------
    definition, stored : Message or None
        NetParameters of the prototxt and of the weights file, in the present form; one of them is enough.
    as_ : str or mapping, optional
        What is known already: a dialect, or dialects by layer.
    names : sequence of str
        Names of the files.
    """
    return recognise(gather(definition, stored), as_, names)


def to_plain(
    definition: Message | None,
    stored: Message | None = None,
    as_: str | Mapping[str, str] | None = None,
    names: Sequence[str] = (),
    live: bool = True,
) -> Conversion:
    """Write every layer of a dialect as BatchNorm and Scale.

    Parameters
    ----------
    definition, stored, as_, names
        As for `verdicts`.
    live : bool
        Store statistics that are no sums with the factor 1 / (1 - fraction), so that training goes on as an average of
        the same length; False: with the factor 1, which is exact to the bit.

    Returns
    -------
    Conversion

    Raises
    ------
    DialectError
        The dialect of a layer cannot be told; the message has the choices.
    NetError
        A layer cannot be converted.
    """
    found = gather(definition, stored)
    judged = recognise(found, as_, names)
    _refuse_doubt(judged)
    result = Conversion(_copy(definition), _copy(stored), judged)
    taken = {layer.name for net in (definition, stored) if net is not None for layer in net.layer}
    meanings: dict[str, tuple[Meaning, str]] = {}
    for facts, verdict in zip(found, judged, strict=True):
        if _is_plain(facts, verdict):
            continue
        m = meaning(facts, DIALECTS[verdict.dialect], live)
        meanings[facts.name] = (m, _scale_name(facts.name, m, result.net, stored, taken))
        result.changed.append(facts.name)
        for what in m.lost:
            result.lost.setdefault(what, []).append(facts.name)
    for net in (result.net, result.weights):
        if net is not None:
            _rewrite(net, meanings, judged, with_blobs=net is result.weights)
    _affine_layers(result)
    return result


def _copy(net: Message | None) -> Message | None:
    return None if net is None else net.copy()


def _refuse_doubt(judged: Sequence[Verdict]) -> None:
    doubtful = [v for v in judged if not v.certain]
    if not doubtful:
        return
    groups: dict[tuple, list[Verdict]] = {}
    for v in doubtful:
        groups.setdefault((tuple(v.choices), tuple(v.doubt), tuple(v.evidence)), []).append(v)
    lines = []
    for (choices, doubt, evidence), members in groups.items():
        said = f" (found: {'; '.join(evidence)})" if evidence else ""
        options = ", ".join(f"{id} ({DIALECTS[id].title})" for id in choices)
        lines.append(
            f"{some([v.layer for v in members])}: the dialect of batch normalisation is not certain{said}. "
            f"{_sentence('; '.join(doubt))} Say which: {options}"
        )
    lines.append('Give one as dialect="...", on the command line as --as ...')
    raise DialectError("\n".join(lines), doubtful)


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _is_plain(facts: Facts, verdict: Verdict) -> bool:
    return (
        verdict.dialect == PLAIN
        and facts.type == "BatchNorm"
        and not (set(facts.fields) & (FOREIGN - HARMLESS))
    )


def _scale_name(name: str, m: Meaning, net: Message | None, stored: Message | None, taken: set[str]) -> str:
    """Name of the Scale: that of the text when one is there already without weights of its own, else a new one."""
    if not m.scales:
        return ""
    if m.normalises and net is not None:
        scale = _scale_behind(net, name)
        kept = {layer.name for layer in (stored.layer if stored is not None else ()) if layer.blobs}
        if scale is not None and scale.name not in kept:
            return scale.name
    if not m.normalises:
        return name
    return _unused(f"{name}_scale", taken)


def _unused(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _scale_behind(net: Message, name: str) -> Message | None:
    """The learned Scale of axis 1 that alone reads what a layer makes, the next to touch it."""
    layers = list(net.layer)
    at = next((i for i, layer in enumerate(layers) if layer.name == name), None)
    if at is None or not layers[at].top:
        return None
    blob = layers[at].top[0]
    readers = []
    for layer in layers[at + 1 :]:
        if blob in layer.bottom:
            readers.append(layer)
        if blob in layer.top:
            break
    if len(readers) != 1:
        return None
    scale = readers[0]
    p = scale.scale_param
    if scale.type == "Scale" and len(scale.bottom) == 1 and p.axis == 1 and p.num_axes == 1:
        return scale
    return None


def _rewrite(
    net: Message, meanings: Mapping[str, tuple[Meaning, str]], judged: Sequence[Verdict], with_blobs: bool
) -> None:
    names = {layer.name for layer in net.layer}
    read = {blob for layer in net.layer for blob in layer.bottom}
    orders = {v.layer: DIALECTS[v.dialect].orders[0] for v in judged}
    layers = []
    for layer in net.layer:
        if layer.name not in meanings or layer.type not in TYPES:
            layers.append(layer)
            continue
        m, scale_name = meanings[layer.name]
        for blob in layer.top[1:]:
            if blob in read:
                raise NetError(
                    f'layer "{layer.name}" ({layer.type}): its top "{blob}" (mean or variance of the batch) is '
                    f"read by another "
                    "layer, and BatchNorm has no such top",
                    layer.where,
                )
        layers += _plain_layers(layer, m, scale_name, orders[layer.name], scale_name in names, with_blobs)
    if with_blobs:  # a Scale that stood in the text, but whose weights were in the layer before
        scales = {scale: m for m, scale in meanings.values() if scale}
        for layer in layers:
            if layer.type == "Scale" and layer.name in scales and not layer.blobs:
                _store(layer, _affine_blobs(scales[layer.name]))
    net.layer = layers


def _plain_layers(
    layer: Message, m: Meaning, scale_name: str, order: str, scale_there: bool, with_blobs: bool
) -> list[Message]:
    """BatchNorm, Scale and ReLU in place of one layer."""
    base = layer.copy()
    for f in [
        f for f, value in base.set_fields() if f.name in ("batch_norm_param", "embed_param", "param", "blobs")
    ]:
        base.clear(f.name)
    base.unknown[:] = [
        u
        for u in base.unknown
        if not (isinstance(u, UnknownText) and u.name == "bn_param")
        and not (isinstance(u, UnknownBinary) and u.number in _NUMBERS)
    ]
    if base.top:
        base.top = list(base.top)[:1]
    made = []
    entries = list(layer.param)
    if m.normalises:
        norm = base.copy()
        norm.type = "BatchNorm"
        param = Message("BatchNormParameter")
        if m.use_global_stats is not None:
            param.use_global_stats = m.use_global_stats
        if np.float32(m.fraction) != np.float32(0.999):
            param.moving_average_fraction = m.fraction
        if np.float32(m.eps) != np.float32(1e-5):
            param.eps = m.eps
        if any(True for _ in param.set_fields()):
            norm.batch_norm_param = param
        norm.param = [Message("ParamSpec", lr_mult=0, decay_mult=0) for _ in range(3)]
        if with_blobs and m.sums is not None:
            _store(norm, m.sums)
        made.append(norm)
    if m.scales and not (m.normalises and scale_there):
        scale = base.copy()
        scale.name, scale.type = scale_name, "Scale"
        if m.normalises and base.top:
            scale.bottom = [base.top[0]]
        elif base.bottom:
            scale.bottom = list(base.bottom)[:1]
        scale.mutable("scale_param").bias_term = m.shifts
        if "scale" in m.fillers:
            scale.scale_param.filler = _filler(m.fillers["scale"])
        if "shift" in m.fillers and m.shifts:
            scale.scale_param.bias_filler = _filler(m.fillers["shift"])
        places = [order.index(letter) for letter in "st" if letter in order]
        if m.frozen:
            scale.param = [Message("ParamSpec", lr_mult=0, decay_mult=0) for _ in range(1 + m.shifts)]
        elif entries and all(place < len(entries) for place in places):
            scale.param = [entries[place].copy() for place in places]
        if with_blobs and m.scale is not None:
            _store(scale, _affine_blobs(m))
        made.append(scale)
    if m.relu:
        relu = base.copy()
        relu.name, relu.type = f"{layer.name}_relu", "ReLU"
        if base.top:
            relu.bottom = [base.top[0]]
        made.append(relu)
    return made


_NUMBERS = {45, 137, 152, 200, 202}


def _affine_blobs(m: Meaning) -> list[np.ndarray]:
    assert m.scale is not None
    return [m.scale, *([m.shift if m.shift is not None else np.zeros_like(m.scale)] if m.shifts else [])]


def _store(layer: Message, arrays: Sequence[np.ndarray]) -> None:
    layer.blobs = [
        make_blob(
            np.ascontiguousarray(np.asarray(a).astype(np.float64 if a.dtype == np.float64 else np.float32))
        )
        for a in arrays
    ]


def _filler(values: dict[str, Any]) -> Message:
    """A FillerParameter of the fields that a fork's message had."""
    known = Message("FillerParameter").schema.fields
    lines = [f"{name}: {_literal(value)}" for name, value in values.items() if name in known]
    return text.parse("\n".join(lines), "FillerParameter")


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and not isinstance(value, Identifier):
        return f'"{value}"'
    return str(value)


def _affine_layers(result: Conversion) -> None:
    """EltwiseAffine of happynear and ducha-aiki is Scale with bias under another name."""
    for net in (result.net, result.weights):
        for layer in net.layer if net is not None else ():
            if layer.type != "EltwiseAffine":
                continue
            layer.type = "Scale"
            layer.mutable("scale_param").bias_term = True
            layer.unknown[:] = [u for u in layer.unknown if not isinstance(u, UnknownText)]
            for blob in layer.blobs:
                size = max(len(blob.data), len(blob.double_data))
                for old in ("num", "channels", "height", "width"):
                    blob.clear(old)
                blob.mutable("shape").dim = [size]
            if layer.name not in result.changed:
                result.changed.append(layer.name)


# -- back


def from_plain(definition: Message | None, stored: Message | None, id: str) -> Conversion:
    """Write every BatchNorm, with the Scale that alone reads it, in a dialect.

    Parameters
    ----------
    definition, stored : Message or None
        The net and its weights, in the present form; one of them is enough.
    id : str
        The dialect.

    Raises
    ------
    NetError
        A layer that the dialect cannot express.
    """
    d = dialect(id)
    net = definition if definition is not None else stored
    assert net is not None
    facts = {f.name: f for f in gather(definition, stored) if f.type == "BatchNorm"}
    kept = {layer.name: layer for layer in (stored.layer if stored is not None else ())}
    result = Conversion(
        _copy(definition), _copy(stored), [Verdict(name, id, evidence=["as told"]) for name in facts]
    )
    changed: dict[str, tuple[Meaning, Message | None, dict[str, Any], list[np.ndarray] | None]] = {}
    for name, found in facts.items():
        m = meaning(found, DIALECTS[PLAIN])
        scale = _scale_behind(net, name)
        m.scales, m.shifts = scale is not None, scale is not None and scale.scale_param.bias_term
        if scale is not None and scale.name in kept:
            affine = [f.reshape(-1) for f in _arrays(kept[scale.name])]
            m.scale, m.shift = affine[0], affine[1] if len(affine) > 1 else None
        fields = fields_of(m, d, name)
        blobs = blobs_of(m, d, name) if m.sums is not None else None
        changed[name] = (m, scale, fields, blobs)
        result.changed.append(name)
        for what in dict.fromkeys(m.lost):
            result.lost.setdefault(what, []).append(name)
    for target in (result.net, result.weights):
        if target is not None:
            _rewrite_back(target, changed, d, with_blobs=target is result.weights)
    return result


def _arrays(layer: Message) -> list[np.ndarray]:
    return [blob_array(blob) for blob in layer.blobs]


def _rewrite_back(
    net: Message,
    changed: Mapping[str, tuple[Meaning, Message | None, dict[str, Any], list[np.ndarray] | None]],
    d: Dialect,
    with_blobs: bool,
) -> None:
    gone = {scale.name for _, scale, _, _ in changed.values() if scale is not None}
    layers = []
    for layer in net.layer:
        if layer.name in gone:
            continue
        if layer.name in changed:
            m, scale, fields, blobs = changed[layer.name]
            layer.type = d.type
            layer.clear("batch_norm_param")
            layer.clear("blobs")
            if scale is not None and layer.top:
                layer.top = list(scale.top)
            layer.param = _rates(m, scale, d, len(blobs) if blobs else len(d.orders[0]))
            if with_blobs:
                _write_numbered(layer, fields, d)
                if blobs is not None:
                    _store(layer, blobs)
            else:
                _write_named(layer, fields, d)
        layers.append(layer)
    net.layer = layers


def _rates(m: Meaning, scale: Message | None, d: Dialect, count: int) -> list[Message]:
    order = d.order(count) or d.orders[0]
    affine = list(scale.param) if scale is not None else []
    entries = []
    for letter in order:
        place = "st".find(letter)
        if place >= 0:
            entries.append(
                affine[place].copy() if place < len(affine) else Message("ParamSpec", lr_mult=1, decay_mult=1)
            )
        else:
            entries.append(Message("ParamSpec", lr_mult=0, decay_mult=0))
    return entries


def _write_named(layer: Message, fields: dict[str, Any], d: Dialect) -> None:
    if d.type == "BatchNorm":
        param = layer.mutable("batch_norm_param") if fields else None
        for name, value in fields.items():
            assert param is not None
            if name in param.schema.fields:
                setattr(param, name, value)
            else:
                param.unknown.append(
                    UnknownText(name, Identifier(str(value).lower()) if isinstance(value, bool) else value)
                )
        return
    inner = new(UNKNOWN)
    for name, value in fields.items():
        if isinstance(value, bool):
            value = Identifier(str(value).lower())
        elif isinstance(value, str):
            value = Identifier(value)
        elif isinstance(value, float):
            value = float(np.format_float_positional(np.float32(value), trim="0"))
        inner.unknown.append(UnknownText(name, value))
    layer.unknown.append(UnknownText("bn_param", inner))


def _write_numbered(layer: Message, fields: dict[str, Any], d: Dialect) -> None:
    content = b""
    for name, value in sorted(fields.items(), key=lambda item: numbers(d.id).get(item[0], (0, int))[0]):
        number, kind = numbers(d.id)[name]
        if name == "bn_mode":
            value = int(value == "INFERENCE")
        if kind is float:
            content += wire.tag(number, wire.FIXED32) + struct.pack("<f", value)
        else:
            content += wire.tag(number, wire.VARINT) + wire.varint(int(value))
    if d.type == "BN":
        layer.unknown.append(UnknownBinary(d.number, wire.BYTES, content))
    elif content:
        layer.batch_norm_param = binary.parse(content, "BatchNormParameter")
