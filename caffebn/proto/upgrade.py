"""Old forms of nets and solvers, rewritten in place to the present form, as Caffe does on reading a file.

A net: the V0 form (``layers { layer { ... } }``), the V1 form (``layers``), old fields of data layers,
``input`` fields, the learning rates of BatchNorm.  A solver: the number ``solver_type``, and the nets in it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from caffebn.errors import CaffebnWarning, NetError, did_you_mean, some
from caffebn.proto import forks
from caffebn.proto.message import Message, Repeated, new, place
from caffebn.proto.schema import messages, parameter_field
from caffebn.proto.unknown import UnknownBinary

__all__ = ["net", "solver"]

#: Names of V1 layer types that are not the number's name in CamelCase.
_SPECIAL_TYPES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "BN": "BN",
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

#: Types of the V0 form whose V1 name is not the same word in capitals.
_V0_TYPES = {
    "conv": "CONVOLUTION",
    "images": "IMAGE_DATA",
    "innerproduct": "INNER_PRODUCT",
    "pool": "POOLING",
}
_V0_TYPES |= {
    name: name.upper()
    for name in (
        "accuracy bnll concat data dropout euclidean_loss flatten hdf5_data hdf5_output im2col infogain_loss lrn "
        "multinomial_logistic_loss relu sigmoid softmax softmax_loss split tanh window_data"
    ).split()
}

#: Fields of the V0 form that have another name today, in the parameters of the type or in `transform_param`.
_V0_FIELDS = {
    "biasterm": "bias_term",
    "kernelsize": "kernel_size",
    "batchsize": "batch_size",
    "shuffle_images": "shuffle",
    "det_fg_threshold": "fg_threshold",
    "det_bg_threshold": "bg_threshold",
    "det_fg_fraction": "fg_fraction",
    "det_context_pad": "context_pad",
    "det_crop_mode": "crop_mode",
    "meanfile": "mean_file",
    "cropsize": "crop_size",
}

#: Layers that alone can take over the padding of a padding layer.
_V0_PADDED = ("conv", "pool")

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
    * In the V0 form, the layer inside becomes the layer, its type a name of today, and its fields
      go to the parameters of that type or to ``transform_param``; fields that the type does not have
      are left out with a warning.  A padding layer becomes the ``pad`` of what reads it.
    * ``input`` with ``input_shape`` or ``input_dim`` becomes an Input layer in front.
    * What forks of Caffe say in words of their own, and Caffe can say, too, is said in Caffe's (`forks.rewrite`).
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
        For ``layers`` beside ``layer``, for a type that the V0 form does not have, for a padding layer
        that is not read by convolutions and poolings alone, and for ``input`` fields that do not belong
        together.

    Warns
    -----
    CaffebnWarning
        For fields that have no effect.
    """
    return [
        *_upgrade_layers(message, filename),
        *_upgrade_input(message, filename),
        *_upgrade_batch_norm(message),
        *forks.rewrite(message),
    ]


def solver(message: Message) -> list[str]:
    """Rewrite the old ``solver_type`` of a `SolverParameter` to ``type``, and the nets in it, in place.

    Returns
    -------
    list of str
        What was changed.

    Raises
    ------
    NetError
        When both are given; see also `net`.
    """
    return [*_upgrade_solver_type(message), *_upgrade_nets(message)]


def _upgrade_nets(solver: Message) -> Iterator[str]:
    for field, value in list(solver.set_fields()):
        if field.kind == "message" and field.type.name == "NetParameter":
            for definition in value if field.repeated else [value]:
                yield from (f"{field.name}: {change}" for change in net(definition))


def _upgrade_solver_type(message: Message) -> Iterator[str]:
    if not message.has("solver_type"):
        return
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
    yield f'solver_type: {old} is now type: "{message.type}"'


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
    yield from _fold_padding(net, filename)
    layers = []
    for old in net.layers:
        layers.append(_upgraded_layer(old, filename))
    in_v0 = sum(old.has("layer") for old in net.layers)
    in_v1 = len(layers) - in_v0
    untyped = [
        now.name for now, old in zip(layers, net.layers, strict=True) if old.type == "NONE" and not now.type
    ]
    net.clear("layers")
    net.layer = layers
    if in_v0:
        yield f"{in_v0} layers in the V0 form (layers {{ layer {{ ... }} }}) are now in the present form (layer)"
    if in_v1:
        yield f"{in_v1} layers in the V1 form (layers) are now in the present form (layer)"
    if untyped:
        yield f"the type of {len(untyped)} layers is not in the V1 form and is now empty: {some(untyped)}"


def _upgraded_layer(old: Message, filename: str) -> Message:
    layer = new(messages["LayerParameter"], old._source, old._offset)
    for field, value in old.set_fields():
        target = layer.schema.fields.get(field.name)
        if field.name == "type":
            layer.type = _type_name(value)
            _carry_place(old, "type", layer, "type")
        elif field.name in _PER_BLOB:
            _spread(old, field.name, value, layer)
        elif target is not None:
            layer.__dict__[field.name] = Repeated(target, value) if field.repeated else value
            _carry_place(old, field.name, layer, field.name)
    # a number that is free in the old form may have a meaning in the present one
    layer.unknown.extend(
        u for u in old.unknown if not (isinstance(u, UnknownBinary) and u.number in layer.schema.by_number)
    )
    if old.has("layer"):
        _take_v0(old.layer, layer, filename)
    forks.read_v1_batch_norm(old, layer)
    _move_transform(layer)
    return layer


# -- the V0 form: what was one layer was a connection with a layer in it


def _take_v0(old: Message, layer: Message, filename: str) -> None:
    """Give a layer of today what the layer inside a V0 connection says."""
    if old.has("name"):
        layer.name = old.name
        _carry_place(old, "name", layer, "name")
    if old.has("type"):
        if old.type not in _V0_TYPES:
            raise _error(
                f'layer "{old.name}": there is no type "{old.type}" in the V0 form'
                f"{did_you_mean(old.type, _V0_TYPES)} (known: {', '.join(sorted(_V0_TYPES))})",
                filename,
                old,
                "type",
            )
        layer.type = _type_name(_V0_TYPES[old.type])
        _carry_place(old, "type", layer, "type")
    without_effect = []
    for field, value in old.set_fields():
        if field.name in ("name", "type"):
            continue
        if field.name == "blobs":
            layer.__dict__["blobs"] = Repeated(layer.schema.fields["blobs"], value)
        elif field.name in _PER_BLOB:
            _spread(old, field.name, value, layer)
        elif not _move_v0_field(old, field.name, value, layer):
            without_effect.append(field.name)
    layer.unknown.extend(u for u in old.unknown if not isinstance(u, UnknownBinary))
    if without_effect:
        where = old.where_of(without_effect[0]) or old.where
        at = f"{where}: " if where else ""
        warnings.warn(
            f'{at}layer "{old.name}": {", ".join(without_effect)} has no effect in a layer of type "{old.type}", '
            "as in Caffe, and is left out",
            CaffebnWarning,
            stacklevel=5,
        )


def _move_v0_field(old: Message, name: str, value: Any, layer: Message) -> bool:
    """Put a field where it belongs today: `transform_param`, or the parameters of the type; False: nowhere."""
    today = _V0_FIELDS.get(name, name)
    own = parameter_field(layer.type)
    if name == "shuffle_images" and layer.type != "ImageData":
        return False  # HDF5Data has had such a field only since
    if today in _TRANSFORM_FIELDS:
        param = layer.mutable("transform_param")
    elif own is not None and own.name == today:
        setattr(layer, today, value)
        return True
    elif own is not None and today in own.type.fields:
        param = layer.mutable(own.name)
    else:
        return False
    setattr(param, today, [value] if param.schema.fields[today].repeated else value)
    return True


def _fold_padding(net: Message, filename: str) -> Iterator[str]:
    """Give the padding of each padding layer to the convolutions and poolings that read it."""
    makers: dict[str, Message] = {}
    read: set[int] = set()
    for connection in net.layers:
        for i, name in enumerate(connection.bottom):
            padding = makers.get(name)
            if padding is None or padding.layer.type != "padding":
                continue
            read.add(id(padding))
            _take_padding(connection, i, padding, filename)
        makers.update((name, connection) for name in connection.top)
    paddings = [c for c in net.layers if c.layer.type == "padding"]
    for padding in paddings:
        if id(padding) not in read:
            raise _padding_error(padding, "no layer reads what it makes", filename, padding)
    if paddings:
        net.layers = [c for c in net.layers if c.layer.type != "padding"]
        yield (
            f"{len(paddings)} padding layers are now the pad of what read them: "
            f"{some([c.layer.name for c in paddings])}"
        )


def _take_padding(connection: Message, bottom: int, padding: Message, filename: str) -> None:
    layer = connection.layer
    if layer.type not in _V0_PADDED or len(connection.bottom) != 1:
        words = f'layer "{layer.name}" (type "{layer.type}") reads it, but only a conv or a pool with one bottom can'
    elif len(padding.bottom) != 1 or len(padding.top) != 1:
        words = f"it needs one bottom and one top, found {len(padding.bottom)} and {len(padding.top)}"
    elif layer.pad:
        words = f'layer "{layer.name}" behind it has a pad of its own'
    else:
        layer.pad = padding.layer.pad
        connection.bottom[bottom] = padding.bottom[0]
        return
    raise _padding_error(padding, words, filename, connection)


def _padding_error(padding: Message, words: str, filename: str, where: Message) -> NetError:
    return _error(f'padding layer "{padding.layer.name}": {words}', filename, where, "layer")


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
    return [name for name in _TRANSFORM_FIELDS if getattr(layer, param).has(name)] if param else []


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
        yield f'input fields are now an Input layer "input" with the tops {some(names)}'
    else:
        yield f"input without a shape was dropped: {some(names)}"
    for field in ("input", "input_shape", "input_dim"):
        net.clear(field)


# -- BatchNorm


def _upgrade_batch_norm(net: Message) -> Iterator[str]:
    changed = []
    for layer in net.layer:
        if layer.type != "BatchNorm" or len(layer.param) != 3:
            continue
        learned = [param for param in layer.param if param.lr_mult or param.decay_mult]
        for param in learned:
            param.lr_mult = param.decay_mult = 0
        if learned:
            changed.append(layer.name)
    if changed:
        yield (
            f"lr_mult and decay_mult are now 0 in the three param of {len(changed)} BatchNorm layers, "
            f"whose blobs are statistics and not learned: {some(changed)}"
        )
