"""Old forms of nets and solvers, rewritten in place to the present form, as Caffe does on reading a file.

A net: the V1 form (``layers``), old fields of data layers, ``input`` fields, the
learning rates of BatchNorm.  A solver: the number ``solver_type``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from caffebn.errors import CaffebnWarning, NetError
from caffebn.proto.message import Message, Repeated, new, place
from caffebn.proto.schema import messages
from caffebn.proto.unknown import UnknownBinary

__all__ = ["net", "solver"]

#: Names of V1 layer types that are not the number's name in CamelCase.
_SPECIAL_TYPES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "LRN": "LRN",
    "MVN": "MVN",
    "RELU": "ReLU",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "TANH": "TanH",
}

_SOLVER_TYPES = {
    "SGD": "SGD",
    "NESTEROV": "Nesterov",
    "ADAGRAD": "AdaGrad",
    "RMSPROP": "RMSProp",
    "ADADELTA": "AdaDelta",
    "ADAM": "Adam",
}

#: V1 field with one value per blob -> field of `ParamSpec`.
_PER_BLOB = {
    "param": "name",
    "blob_share_mode": "share_mode",
    "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}

_DATA_PARAMS = {"Data": "data_param", "ImageData": "image_data_param", "WindowData": "window_data_param"}
_TRANSFORM_FIELDS = ("scale", "mean_file", "crop_size", "mirror")


def net(message: Message, filename: str = "") -> list[str]:
    """Rewrite the old forms in a net.

    * ``layers`` become ``layer``: the type number becomes a type name, ``blobs_lr``,
      ``weight_decay``, ``param`` and ``blob_share_mode`` become ``param`` messages, and
      ``scale``, ``mean_file``, ``crop_size`` and ``mirror`` of data layers move to
      ``transform_param``.  Weights are carried over, not copied.
    * ``input`` with ``input_shape`` or ``input_dim`` becomes an Input layer in front.
    * A BatchNorm layer with exactly three ``param`` gets ``lr_mult`` and ``decay_mult`` 0 in
      each, for its blobs are statistics and must not be learned.

    Parameters
    ----------
    message : Message
        A `NetParameter` from a text or a binary file; changed in place.
    filename : str
        Name to show in errors about a net that has no place in a text.

    Returns
    -------
    list of str
        What was changed, one sentence for each kind of change.

    Raises
    ------
    NetError
        For a net in the V0 form, for ``layers`` beside ``layer``, and for ``input`` fields
        that do not belong together.
    """
    return [
        *_upgrade_layers(message, filename),
        *_upgrade_input(message, filename),
        *_upgrade_batch_norm(message),
    ]


def solver(message: Message) -> list[str]:
    """Rewrite the old ``solver_type`` of a `SolverParameter` to ``type``, in place.

    Returns
    -------
    list of str
        What was changed.

    Raises
    ------
    NetError
        When both are given.
    """
    if not message.has("solver_type"):
        return []
    if message.has("type"):
        raise NetError(
            f'type: "{message.type}" and the old solver_type: {message.solver_type} are both given; '
            "remove solver_type",
            message.where_of("solver_type"),
        )
    old = message.solver_type
    message.type = _SOLVER_TYPES[old]
    _carry_place(message, "solver_type", message, "type")
    message.clear("solver_type")
    return [f'solver_type: {old} is now type: "{message.type}"']


def _error(words: str, filename: str, message: Message, field: str) -> NetError:
    where = message.where_of(field)
    return NetError(words if where or not filename else f"{filename}: {words}", where)


# -- layers


def _upgrade_layers(net: Message, filename: str) -> Iterator[str]:
    for layer in net.layer:
        _warn_of_old_transform(layer)
    if not net.has("layers"):
        return
    if net.has("layer"):
        raise _error(
            "the net has layers in the present form (layer) and in the old form (layers); "
            "a net must use one of them",
            filename,
            net,
            "layers",
        )
    if any(old.has("layer") for old in net.layers):
        raise _error(
            "the net is in Caffe's V0 form (layers { layer { ... } }), which is not supported; "
            "bring it to the present form with Caffe's upgrade_net_proto_text or upgrade_net_proto_binary",
            filename,
            net,
            "layers",
        )
    layers = [_upgraded_layer(old) for old in net.layers]
    untyped = [old.name for old in net.layers if old.type == "NONE"]
    net.clear("layers")
    net.layer = layers
    yield f"{len(layers)} layers in the V1 form (layers) are now in the present form (layer)"
    if untyped:
        yield f"the type of {len(untyped)} layers is not in the V1 form and is now empty: {_listed(untyped)}"


def _upgraded_layer(old: Message) -> Message:
    layer = new(messages["LayerParameter"], old._source, old._offset)
    for field, value in old.set_fields():
        target = layer.schema.fields.get(field.name)
        if field.name == "type":
            layer.type = _type_name(value)
            _carry_place(old, "type", layer, "type")
        elif field.name in _PER_BLOB:
            _spread(old, field.name, value, layer)
        elif target is not None:
            layer._values[field.name] = Repeated(target, value) if field.repeated else value
            _carry_place(old, field.name, layer, field.name)
    # a number that is free in the old form may have a meaning in the present one
    layer.unknown.extend(
        u for u in old.unknown if not (isinstance(u, UnknownBinary) and u.number in layer.schema.by_number)
    )
    _move_transform(layer)
    return layer


def _type_name(name: str) -> str:
    camel_case = "".join(word.capitalize() for word in name.split("_"))
    return _SPECIAL_TYPES.get(name, camel_case)


def _spread(old: Message, name: str, values: list, layer: Message) -> None:
    """Put the value for each blob into the `param` message of that blob."""
    for i, value in enumerate(values):
        if i == len(layer.param):
            layer.param.append(new(messages["ParamSpec"], old._source, _offset(old, name, i)))
        setattr(layer.param[i], _PER_BLOB[name], value)
        place(layer.param[i], _PER_BLOB[name], _offset(old, name, i))


def _offset(message: Message, name: str, index: int) -> int:
    offsets = (message._places or {}).get(name, ())
    return offsets[index] if index < len(offsets) else message._offset


def _carry_place(source: Message, name: str, target: Message, new_name: str) -> None:
    for offset in (source._places or {}).get(name, ()):
        place(target, new_name, offset)


def _move_transform(layer: Message) -> None:
    for name in _old_transform(layer):
        data = layer.mutable(_DATA_PARAMS[layer.type])
        transform = layer.mutable("transform_param")
        setattr(transform, name, getattr(data, name))
        data.clear(name)


def _warn_of_old_transform(layer: Message) -> None:
    # Caffe moves these fields in old nets only, and never reads them in a present one
    names = _old_transform(layer)
    if names:
        field = _DATA_PARAMS[layer.type]
        where = layer.where_of(field)
        at = f"{where}: " if where else ""
        warnings.warn(
            f'{at}layer "{layer.name}": {", ".join(names)} in {field} has no effect, as in Caffe; '
            "write it in transform_param",
            CaffebnWarning,
            stacklevel=4,
        )


def _old_transform(layer: Message) -> list[str]:
    param = _DATA_PARAMS.get(layer.type)
    return [name for name in _TRANSFORM_FIELDS if param and getattr(layer, param).has(name)]


# -- input fields


def _upgrade_input(net: Message, filename: str) -> Iterator[str]:
    if not net.has("input"):
        return
    names = list(net.input)
    by_shape, by_dim = net.has("input_shape"), net.has("input_dim")
    if by_shape and len(net.input_shape) != len(names):
        raise _error(
            f"{len(names)} input need {len(names)} input_shape, found {len(net.input_shape)}",
            filename,
            net,
            "input_shape",
        )
    if by_dim and not by_shape and len(net.input_dim) != 4 * len(names):
        raise _error(
            f"{len(names)} input need {4 * len(names)} input_dim (four each), found {len(net.input_dim)}",
            filename,
            net,
            "input_dim",
        )
    if by_shape or by_dim:
        layer = new(messages["LayerParameter"], net._source, _offset(net, "input", 0))
        layer.name, layer.type, layer.top = "input", "Input", names
        param = layer.mutable("input_param")
        if by_shape:
            param.shape = net.input_shape
        else:
            for i in range(len(names)):
                param.add("shape", dim=net.input_dim[4 * i : 4 * i + 4])
        net.layer.insert(0, layer)
        yield f'input fields are now an Input layer "input" with the tops {_listed(names)}'
    else:
        yield f"input without a shape was dropped: {_listed(names)}"
    for field in ("input", "input_shape", "input_dim"):
        net.clear(field)


# -- BatchNorm


def _upgrade_batch_norm(net: Message) -> Iterator[str]:
    changed = []
    for layer in net.layer:
        if layer.type != "BatchNorm" or len(layer.param) != 3:
            continue
        if any(param.lr_mult or param.decay_mult for param in layer.param):
            changed.append(layer.name)
        for param in layer.param:
            param.lr_mult = param.decay_mult = 0
    if changed:
        yield (
            f"lr_mult and decay_mult are now 0 in the three param of {len(changed)} BatchNorm layers, "
            f"whose blobs are statistics and not learned: {_listed(changed)}"
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(f'"{name}"' for name in names[:5]) + more
