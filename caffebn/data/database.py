"""LMDB databases of records: reading them in order from any place, writing them whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from caffebn.data import packages
from caffebn.errors import FileError, FormatError

__all__ = ["Database", "read_database", "write_database"]

_FIRST_SIZE = 1 << 26  # bytes of the map a new database starts with; it doubles when it is full
_TRANSACTION = 1000  # records


class Database:
    """The records of an LMDB, as bytes, in the order of their keys, around and around.

    One thread at a time may read; databases of the same folder do not disturb each other.

    Parameters
    ----------
    path : path-like
        The folder.

    Attributes
    ----------
    path : path-like
    records : int
        How many there are, at least 1.

    Raises
    ------
    FileError
        There is no such folder, or no LMDB in it that can be read.
    FormatError
        The database is damaged, or empty.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = path
        self._environment = _open(path)
        self.records: int = self._environment.lmdb.stat()["entries"]
        if not self.records:
            raise FormatError(f"{path}: the database is empty")
        self._transaction = self._environment.lmdb.begin()
        self._cursor = self._transaction.cursor()
        self._stream: Iterator[bytes] = iter(())
        self._next = -1  # number of the record that the stream gives next

    def read(self, start: int, count: int) -> list[bytes]:
        """Return `count` records from number `start` on; the first one follows the last one."""
        start %= self.records
        if start != self._next:
            self._cursor.first()
            for _ in range(start):
                self._cursor.next()
            self._stream = self._cursor.iternext(keys=False)
        found: list[bytes] = []
        while len(found) < count:
            part = list(islice(self._stream, count - len(found)))
            if not part:
                self._cursor.first()
                self._stream = self._cursor.iternext(keys=False)
            found += part
        self._next = start + count if start + count < self.records else -1
        return found


class _Environment:
    """An open LMDB; a process may open each only once."""

    def __init__(self, path: Path, lmdb: Any, inode: int):
        self.path = path
        self.lmdb = lmdb
        self.inode = inode
        weakref.finalize(self, lmdb.close)


_opened: weakref.WeakValueDictionary[str, _Environment] = weakref.WeakValueDictionary()
_opening = threading.Lock()


def _open(path: str | os.PathLike[str]) -> _Environment:
    folder = Path(path)
    if not folder.exists():
        raise FileError(f"{path}: there is no such database; the path counts from the current folder")
    file = folder / "data.mdb" if folder.is_dir() else folder
    if not file.exists():
        if (folder / "CURRENT").exists():
            raise FileError(
                f"{path}: this is a LevelDB, and caffebn reads LMDB; convert it once, with the package plyvel: "
                f'caffebn.data.write_database("new_lmdb", plyvel.DB("{path}")), then write source: "new_lmdb" '
                "backend: LMDB"
            )
        raise FileError(f"{path}: no LMDB in this folder: it has no file data.mdb")
    lmdb = packages.lmdb(f"Reading {path}")
    inode = file.stat().st_ino
    real = os.path.realpath(folder)
    with _opening:
        environment = _opened.get(real)
        if environment is None:
            try:
                # no lock file: databases are read where nothing can be written, and nobody writes to them meanwhile
                opened = lmdb.open(real, subdir=folder.is_dir(), readonly=True, lock=False, max_spare_txns=4)
            except lmdb.InvalidError as e:
                raise FormatError(f"{path}: not an LMDB, or a damaged one: {e}") from e
            except lmdb.Error as e:
                raise FileError(f"{path}: the database cannot be opened: {e}") from e
            environment = _opened[real] = _Environment(folder, opened, inode)
        elif environment.inode != inode:
            raise FileError(
                f"{path}: the database was replaced by another one, and a net still reads the old one: "
                "delete that net first"
            )
    return environment


def read_database(path: str | os.PathLike[str]) -> Iterator[tuple[bytes, bytes]]:
    """Yield all keys and records of an LMDB, in the order of the keys.

    Raises
    ------
    FileError, FormatError
        See `write_database`; the folder holds no LMDB, or a damaged one.
    """
    environment = _open(path)
    with environment.lmdb.begin() as transaction:
        yield from transaction.cursor()


def write_database(path: str | os.PathLike[str], records: Iterable[tuple[bytes, bytes]]) -> int:
    """Write an LMDB that Caffe reads: whole or not at all.

    It is written into a folder beside `path`, which gets the name when all is on disk.

    Parameters
    ----------
    path : path-like
        The folder to make.
    records : iterable of (key, value)
        In any order; they are read back in the order of the keys.  A value is mostly a Datum, see
        `datum_bytes`.

    Returns
    -------
    int
        How many records were written.

    Raises
    ------
    FileError
        The folder exists, or cannot be written.
    FormatError
        A key comes twice, is empty, or is too long for LMDB.
    """
    target = Path(path)
    if target.exists() or target.is_symlink():
        raise FileError(f"{path}: exists already; choose another name, or delete it first")
    lmdb = packages.lmdb(f"Writing {path}")
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    except OSError as e:
        raise FileError(f"{path}: cannot write here: {e.strerror or e}") from e
    try:
        with lmdb.open(str(temporary), map_size=_FIRST_SIZE, lock=False, sync=False) as environment:
            count = 0
            stream = iter(records)
            while part := list(islice(stream, _TRANSACTION)):
                _write_part(lmdb, environment, part, path)
                count += len(part)
            environment.sync(True)
        # mkdtemp makes private folders; a result should have the mode mkdir gives
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        temporary.rename(target)
    except (OSError, lmdb.Error) as e:
        if isinstance(e, FileError):
            raise
        raise FileError(f"{path}: not written: {e}") from e
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return count


def _write_part(lmdb: Any, environment: Any, part: list[tuple[bytes, bytes]], path: object) -> None:
    """Write some records in one transaction, which is tried again with more room when there is too little."""
    while True:
        try:
            with environment.begin(write=True) as transaction:
                for key, value in part:
                    if not transaction.put(key, value, overwrite=False):
                        raise FormatError(f"{path}: not written: the key {key!r} comes twice")
            return
        except lmdb.BadValsizeError:
            sizes = sorted({len(key) for key, _ in part})
            raise FormatError(
                f"{path}: not written: a key of LMDB has 1 to {environment.max_key_size()} bytes, "
                f"found keys of {sizes[0]} to {sizes[-1]}"
            ) from None
        except lmdb.MapFullError:
            environment.set_mapsize(2 * environment.info()["map_size"])
