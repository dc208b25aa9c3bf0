"""The scalar types of the format: ranges, defaults, and what may be assigned to a field."""

from __future__ import annotations

import operator
from collections.abc import Callable
from ctypes import c_float
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from caffebn.errors import ArgumentError, did_you_mean

if TYPE_CHECKING:
    from caffebn.proto.schema import EnumType, Field

__all__ = ["DTYPES", "RANGES", "checker", "default", "to_float32"]

#: Least and largest value of the integer types.
RANGES = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}

#: numpy types of the elements of array fields, as they lie in a file.
DTYPES = {"float": "<f4", "double": "<f8"}


def to_float32(value: float) -> float:
    """Round a number to the nearest float32; beyond its range that is an infinity."""
    return c_float(value).value


def default(kind: str, enum: EnumType | None, text: str) -> object:
    """Return the value of an absent field, from the default in the table (``''``: none declared)."""
    if kind == "message":
        return None
    if enum:
        return text or enum.first
    if kind == "string":
        return text.strip('"')
    if kind == "bytes":
        return b""
    if kind == "bool":
        return text == "true"
    if kind == "float":
        return to_float32(float(text or 0))
    if kind == "double":
        return float(text or 0)
    return int(text or 0)


def checker(field: Field) -> Callable[[Any], Any]:
    """Return the function that turns what a caller assigns (one element) into what the field keeps.

    It raises ArgumentError for a value of a wrong type or out of range.
    """
    if field.array:
        return partial(_array, field)
    if field.kind in RANGES:
        return partial(_integer, field)
    by_kind = {
        "bool": _bool,
        "float": _float32,
        "double": _number,
        "string": _string,
        "bytes": _bytes,
        "enum": _enum,
        "message": _message,
    }
    return partial(by_kind[field.kind], field)


def _refusal(field: Field, expected: str, found: object, hint: str = "") -> ArgumentError:
    shown = repr(found)
    if len(shown) > 60:
        shown = f"{shown[:57]}..."
    return ArgumentError(
        f"{field.owner}.{field.name}: expected {expected}, found {shown} ({type(found).__name__}){hint}"
    )


def _integer(field: Field, value: object) -> int:
    low, high = RANGES[field.kind]
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, (bool, np.bool_)) or not low <= number <= high:
        raise _refusal(field, f"an integer from {low} to {high}", value)
    return number


def _bool(field: Field, value: object) -> bool:
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, (int, np.integer)) and value in (0, 1)):
        return bool(value)
    raise _refusal(field, "True or False", value)


def _number(field: Field, value: object) -> float:
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        return float(value)
    raise _refusal(field, "a number", value)


def _float32(field: Field, value: object) -> float:
    return to_float32(_number(field, value))


def _string(field: Field, value: object) -> str:
    if not isinstance(value, str):
        raise _refusal(field, "a str", value)
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise _refusal(field, "a str that UTF-8 can hold", value) from None
    return str(value)


def _bytes(field: Field, value: object) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise _refusal(field, "bytes", value)


def _enum(field: Field, value: object) -> str:
    names, numbers = field.type.by_name, field.type.by_number
    if isinstance(value, str) and value in names:
        return str(value)
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) in numbers:
        return numbers[int(value)]
    hint = did_you_mean(value, names) if isinstance(value, str) else ""
    raise _refusal(field, f"one of {', '.join(names)}", value, hint)


def _message(field: Field, value: object) -> object:
    from caffebn.proto.foreign import from_protobuf  # which is made of messages, and they of these checks

    if getattr(value, "schema", None) is field.type:
        return value
    if (twin := from_protobuf(value, field.type.name)) is not None:
        return twin
    raise _refusal(field, f"a {field.type_name} message", value)


def _array(field: Field, value: object) -> np.ndarray:
    array = np.asarray(value)
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        found = f"shape {array.shape} and dtype {array.dtype}"
        raise ArgumentError(
            f"{field.owner}.{field.name}: expected a one-dimensional array of numbers, found {found}"
        )
    return array.astype(field.dtype, copy=False)
