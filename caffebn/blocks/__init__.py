"""Nets with blocks: read a .prototxt that may have ``block``, ``template`` and ``include`` entries.

What comes out is a plain NetParameter: where a block stood, its layers stand.  A text without such
entries is read as `caffebn.proto.text` reads it.  The language is described in docs/blocks.md;
the blocks that come with caffebn are the ``.prototxt`` files in this folder.
"""

from __future__ import annotations

import os

from caffebn.blocks.net_reader import NetReader, builtin
from caffebn.blocks.template import Parameter, Template
from caffebn.proto import Message, text

__all__ = ["Parameter", "Template", "builtin", "parse", "read"]


def parse(
    definition: str, filename: str = "<text>", strict: bool = False, *, type: str = "NetParameter"
) -> Message:
    """Read a net from a text, and make the layers of its blocks.

    Parameters
    ----------
    definition : str
    filename : str
        Name to show in errors and warnings; includes are found from its folder.
    strict : bool
        Refuse unknown fields, which are otherwise kept with a CaffebnWarning each.
    type : str
        Name of the message that the text holds; a SolverParameter may have nets inside.

    Returns
    -------
    Message
        Its layers are in the order of the text, and know their places: those of a block that of
        the block, and the line in the template.

    Raises
    ------
    ParseError
        When the text is not in the format or not in the schema, or a block cannot be made.
    """
    return text.parse_with(NetReader, definition, type, filename, strict)


def read(path: str | os.PathLike[str], strict: bool = False, *, type: str = "NetParameter") -> Message:
    """Read a net from a text file in UTF-8, and make the layers of its blocks; see `parse`.

    Raises
    ------
    FileError
        When the file cannot be read.
    ParseError
        When its content is not a text in the format, or a block cannot be made.
    """
    return text.parse_with(NetReader, text.load(path), type, str(path), strict)
