"""The binary form (.caffemodel, .solverstate, .binaryproto): read it, write it."""

from __future__ import annotations

import mmap
import os
import stat
import warnings
from typing import Any

from caffebn.errors import CaffebnWarning, FileError, FormatError, some
from caffebn.files import write_whole
from caffebn.proto.binary_reader import Reader
from caffebn.proto.binary_writer import Part, Writer
from caffebn.proto.message import Message
from caffebn.proto.schema import message_type

__all__ = ["dump", "parse", "read", "write"]


def parse(buffer: Any, type: str = "NetParameter", filename: str = "<bytes>") -> Message:
    """Read a message from bytes.

    Parameters
    ----------
    buffer : bytes-like
        The arrays of the message are read-only views on it.
    type : str
        Name of the message: "NetParameter", "SolverState", "BlobProto", "Datum" ...
    filename : str
        Name to show in errors.

    Returns
    -------
    Message
        Unknown fields, and fields with another wire type than the schema's, are kept in
        `Message.unknown`.

    Raises
    ------
    FormatError
        When the bytes are not such a message; it names the place in file and net.
    """
    return Reader(buffer, filename).message(message_type(type))


def read(path: str | os.PathLike[str], type: str = "NetParameter") -> Message:
    """Read a message from a file, which is mapped: weights are views on it, not copies.

    Raises
    ------
    FileError
        When the file cannot be read.
    FormatError
        When it is empty, damaged or something else; see `parse`.
    """
    message = message_type(type)
    return Reader(_mapped(path), str(path)).message(message)


def dump(message: Message) -> bytes:
    """Return the binary form of a message; of one that `parse` read from a canonical file, the same bytes.

    Unknown fields from a text have no number and are left out with a CaffebnWarning.

    Raises
    ------
    ArgumentError
        When a required field is absent.
    """
    return b"".join(_parts(message))


def write(path: str | os.PathLike[str], message: Message) -> None:
    """Write the binary form of a message to a file, whole or not at all; see `dump`.

    Arrays are written from where they lie, without a copy.

    Raises
    ------
    FileError
        When the file cannot be written.
    """
    parts = _parts(message)
    with write_whole(path) as f:
        f.writelines(parts)


def _mapped(path: str | os.PathLike[str]) -> mmap.mmap:
    name = str(path)
    try:
        with open(path, "rb") as f:
            status = os.fstat(f.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise FileError(f"{name}: is not a regular file, so it cannot be mapped")
            if status.st_size == 0:
                raise FormatError(f"{name}: the file is empty; it was not written or fetched to its end")
            return mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as e:
        if isinstance(e, FileError):
            raise
        raise FileError(f"{name}: cannot be read: {e.strerror or e}") from e


def _parts(message: Message) -> list[Part]:
    writer = Writer(message)
    if writer.left_out:
        named = some((f'"{field.name}" ({field.where})' for field in writer.left_out), quote="")
        warnings.warn(
            f"left out of the binary form, for the schema has no number for them: {named}",
            CaffebnWarning,
            stacklevel=3,
        )
    return writer.parts
