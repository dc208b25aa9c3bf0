"""Caffe's messages: the schema, the text form, the binary form, and upgrades of old forms."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from caffebn.proto import binary, schema, text, upgrade
from caffebn.proto.blobs import blob_array, make_blob
from caffebn.proto.foreign import as_message
from caffebn.proto.message import Message, Repeated
from caffebn.proto.unknown import Identifier, UnknownBinary, UnknownText

__all__ = [
    "Identifier",
    "Message",
    "Repeated",
    "UnknownBinary",
    "UnknownText",
    "as_message",
    "binary",
    "blob_array",
    "make_blob",
    "schema",
    "text",
    "upgrade",
]


def __getattr__(name: str) -> Any:
    # scripts say caffe.proto.caffe_pb2 without importing it; the protobuf package is optional and slow
    if name == "caffe_pb2":
        return import_module("caffebn.proto.caffe_pb2")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
