"""The text form (.prototxt): read it, print it.

The form is that of protocol buffers; see `caffebn.proto.text_reader` for what is
accepted.  Unknown fields, which forks of Caffe add, are kept with a warning.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from caffebn.errors import CaffebnWarning, FileError, ParseError
from caffebn.proto.message import Message
from caffebn.proto.schema import message_type
from caffebn.proto.source import Source
from caffebn.proto.text_printer import dump
from caffebn.proto.text_reader import Reader

__all__ = ["MAX_BYTES", "dump", "load", "parse", "parse_with", "read"]

#: The largest text that is read.
MAX_BYTES = 256 * 2**20


def parse(text: str, type: str = "NetParameter", filename: str = "<text>", strict: bool = False) -> Message:
    """Read a message from a text.

    Parameters
    ----------
    text : str
    type : str
        Name of the message that the text holds: "NetParameter", "SolverParameter" ...
    filename : str
        Name to show in errors and warnings.
    strict : bool
        Refuse unknown fields, which are otherwise kept with a CaffebnWarning each.

    Returns
    -------
    Message

    Raises
    ------
    ParseError
        When the text is not in the format or not in the schema; it names line and column.
    """
    return parse_with(Reader, text, type, filename, strict)


def read(path: str | os.PathLike[str], type: str = "NetParameter", strict: bool = False) -> Message:
    """Read a message from a text file in UTF-8; see `parse`.

    Raises
    ------
    FileError
        When the file cannot be read.
    ParseError
        When its content is not a text in the format.
    """
    return parse_with(Reader, load(path), type, str(path), strict)


def load(path: str | os.PathLike[str]) -> str:
    """Return the content of a text file in UTF-8.

    Raises
    ------
    FileError
        When the file cannot be read, or is too large to be a text.
    ParseError
        When it is not UTF-8.
    """
    name = str(path)
    try:
        size = os.path.getsize(path)
        if size > MAX_BYTES:
            raise FileError(f"{name}: {size} bytes are too many for a text, the limit is {MAX_BYTES}")
        content = Path(path).read_bytes()
    except OSError as e:
        if isinstance(e, FileError):
            raise
        raise FileError(f"{name}: cannot be read: {e.strerror or e}") from e
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        before = content[: e.start].decode("utf-8", "replace")
        raise ParseError(
            f"byte 0x{content[e.start]:02x} is not UTF-8 text; expected a text in the .prototxt form, "
            "not a binary file such as a .caffemodel",
            Source(name, before).where(len(before)),
        ) from None


def parse_with(reader: type[Reader], text: str, type: str, filename: str, strict: bool) -> Message:
    """Read a message by a class of readers, warning of each unknown field; see `parse`."""
    reading = reader(text.removeprefix("\ufeff"), filename, strict)
    message = reading.message(message_type(type))
    for words in reading.complaints():
        warnings.warn(words, CaffebnWarning, stacklevel=3)
    return message
