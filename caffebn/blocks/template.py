"""Templates, their parameters, and the values that blocks give these."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from caffebn.blocks.expressions import describe
from caffebn.proto.source import Source

__all__ = ["KINDS", "RESERVED", "Parameter", "Piece", "Template", "accepted"]


class Piece(NamedTuple):
    """A message given as a value: the piece of text that is read anew wherever the value is used.

    `scope` holds the variables of the place where it stands.
    """

    text: str
    source: Source
    at: int
    scope: ChainMap[str, Any]


#: The kinds of parameters, as a template declares them, in words.
KINDS = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "string": "a string",
    "message": "a message in { }",
}

_TYPES: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool, "string": str, "message": Piece}

#: Names that a parameter or a variable cannot have, for they mean something already.
RESERVED = frozenset(
    ["type", "include", "exclude", "previous", "true", "false", "none", "True", "False", "None",
     "if", "else", "and", "or", "not"]
)  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """One parameter of a template.

    Attributes
    ----------
    name : str
    kind : str or None
        One of `KINDS`; None accepts every value.
    repeated : bool
        Whether its value is a list.
    default : int or None
        Where in the template's text its default stands; None when a block has to give a value.
    """

    name: str
    kind: str | None
    repeated: bool = False
    default: int | None = None

    @property
    def words(self) -> str:
        """What it takes, in words."""
        words = KINDS[self.kind] if self.kind else "a value"
        return f"a list, each element {words}" if self.repeated else words


@dataclass(frozen=True)
class Template:
    """A template: where its body stands, and what its parameters are.

    Attributes
    ----------
    name : str
    text : str
    source : Source
        Knows the places in `text`.
    at, body : int
        Where in `text` the template and its body begin.
    parameters : dict of str to Parameter
        In the order in which they get their values.
    library : mapping of str to Template
        The templates that stand in the same file, or in those it is included with.
    """

    name: str
    text: str
    source: Source
    at: int
    body: int
    parameters: Mapping[str, Parameter]
    library: Mapping[str, Template]


def accepted(parameter: Parameter, value: Any) -> Any:
    """Return a value as the parameter takes it.

    Raises
    ------
    ValueError
        It is of another kind.
    """
    if parameter.repeated:
        return [_accepted(parameter, element) for element in (value if isinstance(value, list) else [value])]
    return _accepted(parameter, value)


def _accepted(parameter: Parameter, value: Any) -> Any:
    if parameter.kind is None or isinstance(value, _TYPES[parameter.kind]):
        if not isinstance(value, bool) or parameter.kind in (None, "bool"):
            return float(value) if parameter.kind == "float" else value
    raise ValueError(f"{parameter.name} takes {parameter.words}, found {describe(value)}")
