"""Fields of forks of Caffe in common layers: what is understood, what may be ignored, and numbers that clash.

In a text the name says what is meant.  In a binary file forks use BVLC's numbers for fields of their own; there the
fork has to be known.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from caffebn.errors import ArgumentError, did_you_mean, some
from caffebn.proto import binary, wire
from caffebn.proto.message import Message
from caffebn.proto.unknown import Identifier, UnknownBinary, UnknownText, Value

__all__ = ["FORKS", "is_known", "is_type", "read_v1_batch_norm", "reinterpret", "rewrite", "suspects"]

#: Fields that change nothing in what a net computes: the choice of an implementation, memory, seeds.
_HARMLESS = {
    "NetParameter": "auto_insert_gathers autotune compile_net_state default_backward_math default_backward_type "
    "default_conv_algos_override default_cudnn_math_override default_forward_math default_forward_type "
    "eltwise_mem_sharing "
    "engine global_grad_scale global_grad_scale_adaptive mem_param multinode reduce_buckets "
    "reduced_memory_inference richness",
    "LayerParameter": "autotune backward_math backward_type bottom_data_type bottom_shared_index compute_data_type "
    "cudnn_math_override device forward_math forward_type top_data_type top_shared_index",
    "BatchNormParameter": "engine icnet",
    "ConcatParameter": "engine",
    "ConvolutionParameter": "conv_algorithm conv_algos_override cudnn_convolution_algo_seeker cudnn_math_override "
    "dis_mode gen_mode weight_fixed",
    "DropoutParameter": "engine random_seed",
    "EltwiseParameter": "engine",
    "InnerProductParameter": "dis_mode engine gen_mode weight_fixed",
    "PoolingParameter": "torch_pooling",
    "ReLUParameter": "fuse",
    "ScaleParameter": "dis_mode gen_mode",
    "SoftmaxParameter": "class_weight cutting_point hard_mining_label hard_ratio label_smooth_factor",
    "TransformationParameter": "random_seed",
}
#: Fields that `rewrite` says in Caffe's words, or that the dialects of batch normalisation know.
_UNDERSTOOD = {
    "PoolingParameter": "ceil_mode",
    "ConvolutionParameter": "dilation_h dilation_w hole hole_h hole_w negative_slope relu",
    "InnerProductParameter": "negative_slope relu",
    "ReLUParameter": "relu6",
    "V1LayerParameter": "bn_param",
    "LayerParameter": "bn_param eltwise_affine_param relu6_param relux_param",
    "BatchNormParameter": "add_eps_before_sqrt bias_filler bias_term disable_mean disable_variance filler fused_relu "
    "relu scale_bias scale_filler stats_batch_size update_global_stats use_weight_bias",
}
_KNOWN = {
    (message, field)
    for table in (_HARMLESS, _UNDERSTOOD)
    for message, names in table.items()
    for field in names.split()
}


def is_known(message: str, field: str) -> bool:
    """Whether a field that Caffe does not have needs no warning."""
    return (message, field) in _KNOWN


def is_type(field: str, name: str) -> bool:
    """Whether a word that Caffe does not have is the type of a layer of forks in the V1 form."""
    return (field, name) == ("V1LayerParameter.type", "BN")


#: Where the forks of 2015 have the parameters of V1 layers of type BN, and what these numbers mean to BVLC.
_V1_PARAMS = {41: "exp_param", 42: "loss_param", 43: ""}
#: What their fields default to: var_eps (3) and moving_average (4), which is true in happynear's alone.
_V1_DEFAULTS: dict[str, Value] = {"var_eps": 1e-10, "moving_average": Identifier("false")}
_V1_NUMBERED = {3: wire.tag(3, wire.FIXED32) + struct.pack("<f", 1e-10), 4: wire.tag(4, wire.VARINT)}


def read_v1_batch_norm(old: Message, layer: Message) -> None:
    """Make a layer of type BN of one in the V1 form, as some forks of 2015 wrote it; leave others alone.

    Their numbers of the type, 39 and 42, are DECONVOLUTION and nothing in BVLC's.  Their defaults, which are not
    those of the same fields in other forks, are written out: eps 1e-10, statistics of the batch.

    Parameters
    ----------
    old : Message
        In the V1 form.
    layer : Message
        The same in the present form, as far as BVLC has the fields; changed in place.
    """
    if old.type == "BN":
        _complete_v1_text(layer)
    elif old.where is None and _is_v1_batch_norm(old):
        _complete_v1_binary(old, layer)


def _is_v1_batch_norm(old: Message) -> bool:
    unknown = {u.number: u for u in old.unknown if isinstance(u, UnknownBinary)}
    type_42 = not old.has("type") and 5 in unknown and unknown[5].data == b"\x2a"
    no_deconvolution = old.type == "DECONVOLUTION" and not old.has("convolution_param")
    return type_42 or (no_deconvolution and (old.has("exp_param") or len(old.blobs) in (2, 4)))


def _complete_v1_text(layer: Message) -> None:
    texts = (u for u in layer.unknown if isinstance(u, UnknownText))
    param = next((u.value for u in texts if u.name == "bn_param"), None)
    if not isinstance(param, Message):
        param = Message("(unknown)")
        layer.unknown.append(UnknownText("bn_param", param))
    given = {u.name for u in param.unknown if isinstance(u, UnknownText)}
    param.unknown.extend(UnknownText(name, v) for name, v in _V1_DEFAULTS.items() if name not in given)


def _complete_v1_binary(old: Message, layer: Message) -> None:
    """Put the parameters at 139, where happynear's forks have the same message in the present form."""
    unknown = {u.number: u for u in old.unknown if isinstance(u, UnknownBinary)}
    layer.type, content = "BN", b""
    for number, name in _V1_PARAMS.items():
        if number in unknown:
            content = unknown[number].data
            break
        if name and old.has(name):
            content = binary.dump(getattr(old, name))
            layer.clear(name)
            break
    given = {u.number for u in binary.parse(content, "(unknown)").unknown if isinstance(u, UnknownBinary)}
    defaults = {3: _V1_NUMBERED[3], 4: _V1_NUMBERED[4] + wire.varint(43 in unknown)}
    content += b"".join(default for number, default in defaults.items() if number not in given)
    layer.unknown[:] = [
        u for u in layer.unknown if not (isinstance(u, UnknownBinary) and u.number in (5, *_V1_PARAMS))
    ]
    layer.unknown.append(UnknownBinary(139, wire.BYTES, content))


#: Types that only forks have, and Caffe has other words for.
_FOREIGN_TYPES = ("ReLU6", "ReLUX", "Axpy")


def rewrite(net: Message) -> Iterator[str]:
    """Say in Caffe's words what forks say in theirs, in place; yield what was changed.

    * ``ceil_mode`` of Pooling becomes ``round_mode``.
    * ``hole``, ``hole_h``, ``hole_w``, ``dilation_h`` and ``dilation_w`` become ``dilation``.
    * ``relu: true`` of Convolution and InnerProduct becomes a ReLU behind them.
    * ReLU6, ReLUX and ``relu6: true`` become a ReLU and a Clip that is a Clip from 0.
    * Axpy becomes Flatten, Scale with two bottoms and Eltwise.
    """
    changed: dict[str, list[str]] = {}
    layers = []
    for layer in net.layer:
        made = [layer]
        for what, act in () if _is_plain(layer) else _REWRITES:
            more = act(layer)
            if more is not None:
                changed.setdefault(what, []).append(layer.name)
                made = more or made
        layers += made
    if changed:
        net.layer = layers
    for what, names in changed.items():
        yield f"{what}: {some(names)}"


def _is_plain(layer: Message) -> bool:
    """Whether neither the type of a layer nor a field in it is of a fork; nearly all layers are."""
    return layer.type not in _FOREIGN_TYPES and not any(
        isinstance(value, Message) and value._unknown for value in layer.__dict__.values()
    )


def _take(message: Message, *names: str) -> dict[str, Any]:
    """Remove unknown fields of a text and return their values."""
    found = {u.name: u.value for u in message.unknown if isinstance(u, UnknownText) and u.name in names}
    if found:
        message.unknown[:] = [
            u for u in message.unknown if not (isinstance(u, UnknownText) and u.name in names)
        ]
    return found


def _true(value: Any) -> bool:
    return value in ("true", "True", "t", 1, True)


def _ceil_mode(layer: Message) -> list[Message] | None:
    if not layer.pooling_param.unknown:
        return None
    given = _take(layer.pooling_param, "ceil_mode")
    if not given:
        return None
    if not layer.pooling_param.has("round_mode"):  # synopsys has both, and round_mode counts
        layer.pooling_param.round_mode = "CEIL" if _true(given["ceil_mode"]) else "FLOOR"
    return []


def _holes(layer: Message) -> list[Message] | None:
    param = layer.convolution_param
    given = _take(param, "hole", "hole_h", "hole_w", "dilation_h", "dilation_w") if param.unknown else {}
    if not given:
        return None
    if "hole" in given:
        param.dilation = [given["hole"]]
    else:
        height, width = (given.get(f"dilation_{side}", given.get(f"hole_{side}", 1)) for side in "hw")
        param.dilation = [height, width]
    return []


def _fused_relu(layer: Message) -> list[Message] | None:
    for field in ("convolution_param", "inner_product_param"):
        if not getattr(layer, field).unknown:
            continue
        given = _take(getattr(layer, field), "relu", "negative_slope")
        if _true(given.get("relu")) and layer.top:
            relu = _beside(layer, f"{layer.name}_relu", "ReLU", [layer.top[0]], [layer.top[0]])
            if given.get("negative_slope"):
                relu.mutable("relu_param").negative_slope = given["negative_slope"]
            return [layer, relu]
    return None


def _relu6(layer: Message) -> list[Message] | None:
    if layer.type in ("ReLU6", "ReLUX"):
        given = _take(layer, "relu6_param", "relux_param").get("relux_param")
        largest = _take(given, "maximal_value").get("maximal_value", 6) if isinstance(given, Message) else 6
    elif layer.type == "ReLU" and _true(
        _take(layer.relu_param, "relu6").get("relu6") if layer.relu_param.unknown else None
    ):
        largest = 6
    else:
        return None
    layer.type = "Clip"
    layer.clear("relu_param")
    layer.clip_param = {"min": 0.0, "max": float(largest)}
    return []


def _axpy(layer: Message) -> list[Message] | None:
    if layer.type != "Axpy" or len(layer.bottom) != 3 or len(layer.top) != 1:
        return None
    a, x, y = layer.bottom
    flat, scaled = f"{layer.name}_flat", f"{layer.name}_scaled"
    flatten = _beside(layer, flat, "Flatten", [a], [flat])
    scale = _beside(layer, scaled, "Scale", [x, flat], [scaled])
    scale.scale_param = {"axis": 0}
    total = _beside(layer, layer.name, "Eltwise", [scaled, y], list(layer.top))
    return [flatten, scale, total]


_REWRITES = (
    ("ceil_mode is now round_mode", _ceil_mode),
    ("hole or dilation_h and dilation_w are now dilation", _holes),
    ("relu: true is now a ReLU layer", _fused_relu),
    ("ReLU6 is now Clip", _relu6),
    ("Axpy is now Flatten, Scale and Eltwise", _axpy),
)


def _beside(layer: Message, name: str, type: str, bottom: list[str], top: list[str]) -> Message:
    """A layer that is in the net when `layer` is."""
    made = Message("LayerParameter", name=name, type=type, bottom=bottom, top=top)
    for field in ("include", "exclude"):
        if layer.has(field):
            setattr(made, field, [rule.copy() for rule in getattr(layer, field)])
    if layer.has("phase"):
        made.phase = layer.phase
    return made


# -- numbers that clash


@dataclass(frozen=True)
class _Meaning:
    message: str
    number: int
    name: str
    kind: str


_HOLE = tuple(
    _Meaning("ConvolutionParameter", n, name, "int")
    for n, name in ((17, "hole"), (18, "hole_h"), (19, "hole_w"))
)
FORKS: dict[str, tuple[_Meaning, ...]] = {
    "bvlc": (),
    "py-rfcn": (_Meaning("PoolingParameter", 13, "ceil_mode", "bool"),),
    "pr-3057": (_Meaning("PoolingParameter", 13, "ceil_mode", "bool"),),
    "deeplab-v1": _HOLE[:1],
    "caffe-ccnn": _HOLE,
    "yjxiong": tuple(
        _Meaning("ConvolutionParameter", n, name, "int")
        for n, name in ((16, "hole"), (17, "dilation_h"), (18, "dilation_w"))
    ),
    "intel": (
        _Meaning("ConvolutionParameter", 19, "relu", "bool"),
        _Meaning("ConvolutionParameter", 20, "negative_slope", "float"),
        _Meaning("InnerProductParameter", 8, "relu", "bool"),
        _Meaning("InnerProductParameter", 9, "negative_slope", "float"),
    ),
    "synopsys": (
        _Meaning("PoolingParameter", 14, "ceil_mode", "bool"),
        _Meaning("ReLUParameter", 3, "relu6", "bool"),
    ),
}
"""Forks whose numbers mean something else than BVLC's, and what."""


def suspects(net: Message) -> list[str]:
    """Sentences on fields of a binary file that forks use otherwise, so that their meaning is not certain."""
    pooled = [layer.name for layer in net.layer if layer.pooling_param.has("round_mode")]
    forced = [
        layer.name
        for layer in net.layer
        for u in layer.convolution_param.unknown
        if isinstance(u, UnknownBinary) and u.number in (16, 17)
    ]
    found = []
    if pooled:
        found.append(
            f'field 13 of {len(pooled)} Pooling layers ("{pooled[0]}" ...): round_mode to BVLC Caffe, ceil_mode '
            f"(the opposite) "
            "to py-RFCN and pull request 3057: a prototxt would tell, else --fork"
        )
    if forced:
        found.append(
            f'field 16 or 17 of {len(forced)} Convolution layers ("{forced[0]}" ...) may be a dilation of a fork: '
            f"--fork"
        )
    return found


def reinterpret(net: Message, fork: str) -> list[str]:
    """Read the numbers of a net from a binary file as a fork means them, and say that in Caffe's words.

    Parameters
    ----------
    net : Message
        A NetParameter in the present form; changed in place.
    fork : str
        One of `FORKS`.

    Returns
    -------
    list of str
        What was changed.

    Raises
    ------
    ArgumentError
        The fork is not known.
    """
    if fork not in FORKS:
        raise ArgumentError(
            f'there is no fork "{fork}"{did_you_mean(fork, FORKS)} (known: {", ".join(FORKS)})'
        )
    for layer in net.layer:
        for field, value in list(layer.set_fields()):
            if isinstance(value, Message):
                _rename(value, [m for m in FORKS[fork] if m.message == field.type.name])
    return list(rewrite(net))


def _rename(message: Message, meanings: list[_Meaning]) -> None:
    for meaning in meanings:
        value: Any = None
        field = message.schema.by_number.get(meaning.number)
        if field is not None and message.has(field.name):
            value = getattr(message, field.name)
            if isinstance(value, list):
                value = value[0]
            if isinstance(value, str):  # an enum, by its name
                value = field.type.by_name[value]
            value = int(value) if isinstance(value, bool) else value
            message.clear(field.name)
        for u in message.unknown:
            if isinstance(u, UnknownBinary) and u.number == meaning.number:
                value = _number(u)
        if value is None:
            continue
        message.unknown[:] = [
            u for u in message.unknown if not (isinstance(u, UnknownBinary) and u.number == meaning.number)
        ]
        message.unknown.append(
            UnknownText(
                meaning.name, Identifier(str(bool(value)).lower()) if meaning.kind == "bool" else value
            )
        )


def _number(u: UnknownBinary) -> float:
    if u.wire_type == wire.FIXED32:
        return float(struct.unpack("<f", u.data)[0])
    return sum((byte & 0x7F) << 7 * i for i, byte in enumerate(u.data)) if u.wire_type == wire.VARINT else 0
