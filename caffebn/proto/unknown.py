"""Fields that are not in the table: kept as they were found, and written back.

Forks of Caffe add fields; a file that has them must be readable, and must not lose them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Union

from caffebn.errors import Where

if TYPE_CHECKING:
    from caffebn.proto.message import Message

__all__ = ["Identifier", "UnknownBinary", "UnknownText", "Value"]


class Identifier(str):
    """A bare word as a value, such as ``true`` or the name of an enum value."""

    __slots__ = ()


Value = Union[int, float, str, Identifier, "Message", list["Value"]]


@dataclass
class UnknownText:
    """A field of a text that is not in the table.

    Attributes
    ----------
    name : str
    value : int, float, str, Identifier, Message or list of these
        A nested message is a Message without known fields: look in its `unknown`.
    where : Where, optional
        Its place in the text; not part of the comparison of two fields.
    """

    name: str
    value: Value
    where: Where | None = field(default=None, compare=False)


@dataclass
class UnknownBinary:
    """A field of a binary file that is not in the table, or has not the type of the table.

    Attributes
    ----------
    number : int
    wire_type : int
        0 varint, 1 eight bytes, 2 counted bytes, 5 four bytes.
    data : bytes
        The value as in the file, without tag and count.
    """

    number: int
    wire_type: int
    data: bytes
