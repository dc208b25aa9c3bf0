"""From the offset of a character in a text to its line and column."""

from __future__ import annotations

from array import array
from bisect import bisect_right

from caffebn.errors import Where

__all__ = ["Source"]


class Source:
    """A text whose messages remember where they stand in it.

    Parameters
    ----------
    filename : str
        Name to show.
    text : str
        The text; only the starts of its lines are kept.
    """

    __slots__ = ("_starts", "filename")

    def __init__(self, filename: str, text: str):
        self.filename = filename
        self._starts = array("q", [0])
        end = text.find("\n")
        while end >= 0:
            self._starts.append(end + 1)
            end = text.find("\n", end + 1)

    def line(self, offset: int) -> int:
        """Return the number of the line, from 1, of the character at `offset`."""
        return bisect_right(self._starts, offset)

    def where(self, offset: int) -> Where:
        """Return the place of the character at `offset`."""
        line = self.line(offset)
        return Where(self.filename, line, offset - self._starts[line - 1] + 1)
