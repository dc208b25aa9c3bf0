"""Writing files whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from caffebn.errors import FileError

__all__ = ["replacing", "write_whole"]

_temporary: set[Path] = set()  # names that are being written for others


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success it takes the place of `path`.

    Inside the block, `replacing` the temporary name gives that name itself: what is not in its place yet needs
    no second one.  The file written under the temporary name is synced to disk, renamed over
    `path`, and the folder is synced.  When the block raises, `path` keeps its
    old content and the temporary file is removed.

    Raises
    ------
    FileError
        When the folder does not exist or cannot be written, or the disk is full.
    """
    path = Path(path)
    if path in _temporary:
        yield path
        return
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as e:
        raise FileError(f"{path}: cannot write here: {e.strerror or e}") from e
    os.close(handle)
    temporary = Path(name)
    _temporary.add(temporary)
    try:
        yield temporary
        # mkstemp makes private files; a result should have the mode open() gives
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        _sync(temporary, os.O_RDWR)
        os.replace(temporary, path)
        _sync(path.parent, os.O_RDONLY)
    except OSError as e:
        if isinstance(e, FileError):
            # what the block wrote with may know the temporary name alone
            raise FileError(e.message.replace(str(temporary), str(path)), e.where) from e
        raise FileError(f"{path}: not written, any old file is untouched: {e.strerror or e}") from e
    finally:
        _temporary.discard(temporary)
        temporary.unlink(missing_ok=True)


@contextmanager
def write_whole(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open `path` for binary writing such that it is written whole or not at all."""
    with replacing(path) as temporary, open(temporary, "wb") as f:
        yield f


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
