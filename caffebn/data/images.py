"""Databases of picture files, and the mean of a database: what Caffe's tools do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from caffebn.data import picture
from caffebn.data.datum import datum_bytes, datum_values, encoded_datum_bytes
from caffebn.data.lists import Entry
from caffebn.errors import CaffebnError, FormatError
from caffebn.proto import Message

__all__ = ["image_records", "mean_blob"]


def image_records(
    source: str,
    entries: Iterable[Entry],
    root: str = "",
    height: int = 0,
    width: int = 0,
    color: bool = True,
    check_size: bool = False,
    encode: str | None = None,
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and records of a database of pictures, as Caffe's convert_imageset makes them.

    Parameters
    ----------
    source : str
        The list, for messages.
    entries : iterable of Entry
        Its lines.
    root : str
        Folder of the files.
    height, width : int
        Resize to these; 0 leaves that axis as it is.
    color : bool
        BGR, or grey.
    check_size : bool
        Refuse pictures that differ in size from the first.
    encode : str, optional
        Store picture files instead of pixels: of this kind, or with ``""`` of their own kind.  A file that
        needs no change is stored as it is.

    Raises
    ------
    FileError, FormatError
        A picture cannot be read, or has another size; the message names the line of the list.
    """
    first: tuple[int, ...] | None = None
    for i, entry in enumerate(entries):
        path = Path(root, entry.name)
        try:
            content = picture.read_file(path)
            values = picture.decode(content, color, str(path))
            values = picture.resize(values, height or values.shape[1], width or values.shape[2])
            first = first or values.shape
            if check_size and values.shape != first:
                raise FormatError(
                    f"{path}: is {values.shape[1]} x {values.shape[2]} (height x width), the first picture is "
                    f"{first[1]} x {first[2]}"
                )
            if encode is None:
                record = datum_bytes(values, entry.label)
            else:
                own = path.suffix.lower().removeprefix(".")
                unchanged = color and not (height or width) and encode.lower() in ("", own)
                record = encoded_datum_bytes(
                    content if unchanged else picture.encode(values, encode or own), entry.label
                )
        except CaffebnError as e:
            raise type(e)(f"{source}:{entry.line}: {e.message}") from e
        yield f"{i:08}_{entry.name}".encode()[:_KEY_BYTES], record


_KEY_BYTES = 511  # LMDB takes no longer ones; the number in front keeps them apart


def mean_blob(records: Iterable[tuple[bytes, bytes]], source: str) -> Message:
    """Return the mean of the items of a database, as Caffe's compute_image_mean writes it.

    Parameters
    ----------
    records : iterable of (key, Datum)
    source : str
        The database, for messages.

    Returns
    -------
    Message
        A BlobProto, 1 x channels x height x width in the old form, float32; sums are made in double precision.

    Raises
    ------
    FormatError
        There is no record, one is no Datum, or they differ in shape.
    """
    total: np.ndarray | None = None
    count = 0
    for _, record in records:
        name = f"{source}, record {count}"
        values, _ = datum_values(record, None, name)
        if total is None:
            total = np.zeros(values.shape)
        if values.shape != total.shape:
            raise FormatError(
                f"{name}: is {' x '.join(map(str, values.shape))}, the ones before are "
                f"{' x '.join(map(str, total.shape))} (channels x height x width): a mean needs one size"
            )
        total += values
        count += 1
    if total is None:
        raise FormatError(f"{source}: the database is empty")
    channels, height, width = total.shape
    mean = (total / count).astype(np.float32).reshape(-1)
    return Message("BlobProto", num=1, channels=channels, height=height, width=width, data=mean)
