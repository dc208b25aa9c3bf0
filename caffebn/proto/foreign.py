"""Messages of the protobuf package, taken as ours."""

from __future__ import annotations

from typing import Any

from caffebn.errors import ArgumentError
from caffebn.proto import binary
from caffebn.proto.message import Message

__all__ = ["as_message", "from_protobuf"]


def from_protobuf(value: Any, type: str) -> Message | None:
    """Copy a message of the protobuf package, when it is one of that name; None for anything else."""
    if getattr(getattr(value, "DESCRIPTOR", None), "name", None) != type:
        return None
    return binary.parse(value.SerializeToString(), type)


def as_message(value: Any, type: str, caller: str) -> Message:
    """Return a message that a caller handed over: ours as it is, one of the protobuf package as a copy.

    Raises
    ------
    ArgumentError
        When it is not a message of that type.
    """
    if isinstance(value, Message) and value.schema.name == type:
        return value
    twin = from_protobuf(value, type)
    if twin is None:
        found = value.schema.name if isinstance(value, Message) else value.__class__.__name__
        raise ArgumentError(f"{caller}: expected a {type} message, found {found}")
    return twin
