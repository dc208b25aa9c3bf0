"""Caffe's messages: the schema, the text form, the binary form, and upgrades of old forms."""

from __future__ import annotations

from caffebn.proto import binary, schema, text, upgrade
from caffebn.proto.blobs import blob_array, make_blob
from caffebn.proto.message import Message, Repeated
from caffebn.proto.unknown import Identifier, UnknownBinary, UnknownText

__all__ = [
    "Identifier",
    "Message",
    "Repeated",
    "UnknownBinary",
    "UnknownText",
    "binary",
    "blob_array",
    "make_blob",
    "schema",
    "text",
    "upgrade",
]
