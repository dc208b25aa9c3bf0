"""Pictures as Caffe's data layers see them: (channels, height, width), bytes, BGR."""

from __future__ import annotations

import functools
import io
import os
from typing import Any

import numpy as np

from caffebn.data import packages
from caffebn.errors import FileError, FormatError

__all__ = ["decode", "encode", "read", "read_file", "resize"]

_PURPOSE = "Reading pictures"


def read(path: str | os.PathLike[str], color: bool | None = True) -> np.ndarray:
    """Read a picture file; as `decode`.

    Raises
    ------
    FileError
        The file cannot be read.
    FormatError
        It is not a picture.
    """
    return decode(read_file(path), color, str(path))


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Read the bytes of a picture file.

    Raises
    ------
    FileError
        It cannot be read.
    """
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError as e:
        raise FileError(f"{path}: cannot read the picture: {e.strerror or e}") from e


def decode(content: bytes, color: bool | None = True, name: str = "the picture") -> np.ndarray:
    """Decode the bytes of a picture file.

    Parameters
    ----------
    content : bytes
        Any format that Pillow reads, 8 bits a value.
    color : bool or None
        True: three channels.  False: one, ``0.299 R + 0.587 G + 0.114 B``.  None: one for a grey picture,
        four for one with an alpha channel, else three.
    name : str
        What to call it in an error.

    Returns
    -------
    ndarray of uint8, (channels, height, width)
        BGR, or BGRA.

    Raises
    ------
    FormatError
        Not a picture, a damaged one, or one of other than 8 bits.
    MissingPackageError
        Without Pillow.
    """
    image = packages.pillow(_PURPOSE)
    try:
        with image.open(io.BytesIO(content)) as picture:
            if picture.mode.startswith(("I", "F")):
                raise FormatError(
                    f"{name}: expected a picture of 8 bits, found one of 16 or 32; store it as float_data, or in HDF5"
                )
            values = np.asarray(picture.convert(_mode(picture, color)))
    except FormatError:
        raise
    # Pillow tells a damaged file in each of these ways
    except (OSError, SyntaxError, ValueError, EOFError, image.DecompressionBombError) as e:
        raise FormatError(f"{name}: not a picture that Pillow can read: {e}") from e
    if values.ndim == 2:
        return values[np.newaxis]
    order = [2, 1, 0, 3][: values.shape[2]]
    return np.ascontiguousarray(values.transpose(2, 0, 1)[order])


def _mode(picture: Any, color: bool | None) -> str:
    """Name Pillow's mode for the channels wanted."""
    if color is not None:
        return "RGB" if color else "L"
    if picture.mode in ("1", "L"):
        return "L"
    return "RGBA" if picture.mode in ("RGBA", "LA", "PA") else "RGB"


def encode(values: np.ndarray, kind: str) -> bytes:
    """Encode a picture (channels, height, width), BGR or grey, as a file of that kind: ``png``, ``jpg`` ...

    Raises
    ------
    FormatError
        Pillow writes no such files.
    """
    image = packages.pillow("Writing pictures")
    extension = f".{kind.lower().removeprefix('.')}"
    known = image.registered_extensions()
    if known.get(extension) not in image.SAVE:
        raise FormatError(f'pictures cannot be written as "{kind}": take png or jpg')
    pixels = values[0] if len(values) == 1 else values[::-1].transpose(1, 2, 0)
    file = io.BytesIO()
    # 95 is what OpenCV, and so Caffe, takes for JPEG; other formats ignore it
    image.fromarray(np.ascontiguousarray(pixels)).save(file, known[extension], quality=95)
    return file.getvalue()


def resize(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize bytes (channels, height, width) by bilinear interpolation.

    Pixels are little squares whose centres are mapped, the rim is repeated, and nothing is smoothed when the
    picture becomes smaller: what OpenCV's INTER_LINEAR does, up to one level of rounding.
    """
    if values.shape[1:] == (height, width):
        return values
    above, below, weight = _taps(values.shape[1], height)
    left, right, across = _taps(values.shape[2], width)
    rows = values[:, above].astype(np.float32)
    rows += (values[:, below] - rows) * weight[:, np.newaxis]
    result = rows[:, :, left]
    result += (rows[:, :, right] - result) * across
    return np.rint(result).astype(np.uint8)


@functools.lru_cache(maxsize=64)
def _taps(size: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the two neighbours of each new place along an axis, and the weight of the second."""
    place = np.clip((np.arange(new) + 0.5) * (size / new) - 0.5, 0, size - 1)
    first = place.astype(np.intp)
    return first, np.minimum(first + 1, size - 1), (place - first).astype(np.float32)
