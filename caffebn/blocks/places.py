"""Places in the body of a template: where the block stands, then how it went inside."""

from __future__ import annotations

from caffebn.errors import Where
from caffebn.proto.source import Source

__all__ = ["Inside", "WhereInside"]


_SHOWN = 6  # steps of a way; of a longer one the middle is left out


class WhereInside(Where):
    """A place in the body of a template.

    File, line and column are those of the outermost block, which the user wrote; as text it
    goes on with each block inside, its template, and the place in that template.

    Parameters
    ----------
    file, line, column
    way : tuple of str
        How it goes on from the outermost block.
    """

    way: tuple[str, ...]

    def __new__(cls, file: str, line: int, column: int, way: tuple[str, ...] = ()) -> WhereInside:
        """Make a place; pickle leaves `way` out here and sets it afterwards."""
        self = super().__new__(cls, file, line, column)
        self.way = way
        return self

    def __str__(self) -> str:
        way = self.way
        if len(way) > _SHOWN:
            left_out = len(way) - _SHOWN
            way = (*way[: _SHOWN // 2], f"... {left_out} more ...", *way[-_SHOWN // 2 :])
        return ": ".join((super().__str__(), *way))


class Inside(Source):
    """The text of a template's body while a block is made from it.

    Parameters
    ----------
    body : Source
        The text that the template stands in.
    outer : Where
        The place of the block.
    block : str
        The block in words, with the name of its template.
    """

    __slots__ = ("_block", "_outer")

    def __init__(self, body: Source, outer: Where, block: str):
        self.filename = body.filename
        self._starts = body._starts
        self._outer = outer
        self._block = block

    def where(self, offset: int) -> Where:
        """Return the place of the block, and the way from there to `offset` of the template."""
        step = f"in {self._block} at {super().where(offset)}"
        return WhereInside(*self._outer, (*getattr(self._outer, "way", ()), step))
