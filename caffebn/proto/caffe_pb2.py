"""Caffe's messages as real protobuf classes, for scripts that want pycaffe's ``caffe_pb2``.

The classes are made from the same table as everything else in `caffebn.proto`, in a
pool of their own, so a ``caffe_pb2`` of somebody else may be loaded beside it.

Examples
--------
>>> from caffebn.proto import caffe_pb2
>>> caffe_pb2.PoolingParameter().pool == caffe_pb2.PoolingParameter.MAX
True
"""

from __future__ import annotations

from caffebn.errors import missing_package
from caffebn.proto import schema

try:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
except ImportError:
    raise missing_package("protobuf", "proto", "caffebn.proto.caffe_pb2") from None


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    declared = {name: file.message_type.add(name=name) for name in schema.messages}
    for enum in schema.enums.values():
        owner, _, name = enum.name.rpartition(".")
        into = (declared[owner] if owner else file).enum_type.add(name=name)
        for value, number in enum.by_name.items():
            into.value.add(name=value, number=number)
    for message in schema.messages.values():
        for field in message.fields.values():
            _declare(field, declared[message.name].field.add())
    return file


def _declare(field: schema.Field, into: descriptor_pb2.FieldDescriptorProto) -> None:
    into.name = field.name
    into.number = field.number
    into.label = into.Label.Value(f"LABEL_{field.label.upper()}")
    into.type = into.Type.Value(f"TYPE_{field.kind.upper()}")
    if field.type:
        into.type_name = f".caffe.{field.type.name}"
    if field.has_default:
        is_bool = field.kind == "bool"
        into.default_value = str(field.default).lower() if is_bool else str(field.default)
    if field.packed:
        into.options.packed = True


_pool = descriptor_pool.DescriptorPool()
_pool.AddSerializedFile(_file().SerializeToString())

DESCRIPTOR = _pool.FindFileByName("caffe.proto")

__all__ = ["DESCRIPTOR"]

for _name, _message in DESCRIPTOR.message_types_by_name.items():
    globals()[_name] = message_factory.GetMessageClass(_message)
    __all__ += [_name]
for _name, _enum in DESCRIPTOR.enum_types_by_name.items():
    globals()[_name] = EnumTypeWrapper(_enum)
    globals().update(EnumTypeWrapper(_enum).items())
    __all__ += [_name, *EnumTypeWrapper(_enum).keys()]
