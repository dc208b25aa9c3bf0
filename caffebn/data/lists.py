"""Text files that name the files of a data layer."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from caffebn.errors import FileError, FormatError

__all__ = ["Entry", "read_image_list", "read_text"]


class Entry(NamedTuple):
    """A line of a list of pictures."""

    name: str
    label: int
    line: int


def read_text(path: str) -> str:
    """Read a text file.

    Raises
    ------
    FileError
        It cannot be read.
    FormatError
        It is not UTF-8 text.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as e:
        raise FileError(f"{path}: cannot be read: {e.strerror or e}") from e
    except UnicodeDecodeError as e:
        raise FormatError(f"{path}: expected UTF-8 text: {e}") from e


def read_image_list(path: str) -> list[Entry]:
    """Read a list of pictures: in each line the name of a file, which may have spaces, and a whole number.

    Raises
    ------
    FileError, FormatError
        The list cannot be read, is empty, or a line has no label.
    """
    entries = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            name, label = line.strip().rsplit(None, 1)
            entries.append(Entry(name, int(label), number))
        except ValueError:
            raise FormatError(
                f'{path}:{number}: expected the name of a picture and a whole number, found "{line.strip():.80}"'
            ) from None
    if not entries:
        raise FormatError(f"{path}: the list is empty")
    return entries
