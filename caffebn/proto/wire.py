"""Numbers of the binary form: wire types and varints."""

from __future__ import annotations

__all__ = ["BYTES", "FIXED32", "FIXED64", "MAX_FIELD_NUMBER", "VARINT", "WIRE_TYPES", "tag", "varint"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

#: Wire type of one element of each kind.
WIRE_TYPES = {
    "int32": VARINT,
    "int64": VARINT,
    "uint32": VARINT,
    "uint64": VARINT,
    "bool": VARINT,
    "enum": VARINT,
    "float": FIXED32,
    "double": FIXED64,
    "string": BYTES,
    "bytes": BYTES,
    "message": BYTES,
}

MAX_FIELD_NUMBER = 2**29 - 1


def varint(value: int) -> bytes:
    """Write an integer, seven bits a byte, least first; a negative one as its 64-bit two's complement."""
    value &= 2**64 - 1
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(number: int, wire_type: int) -> bytes:
    """Write what stands in front of a field."""
    return varint(number << 3 | wire_type)
