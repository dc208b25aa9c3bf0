"""Arrays by name in files: NumPy's .npz and .safetensors, without other packages.

A .safetensors file is the length of a JSON header in eight bytes, the header with type, shape and place of
each array, and the arrays one behind the other (https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from caffebn.errors import ArgumentError, FileError, FormatError
from caffebn.files import write_whole

__all__ = ["read_tensors", "write_tensors"]

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
_CODES = {np.dtype(dtype): code for code, dtype in _DTYPES.items() if code != "BF16"}
_MAX_HEADER = 100_000_000


def read_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read all arrays of a .npz or .safetensors file, by its ending.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    dict of ndarray
        In file order.  Those of a .safetensors file are read-only views of the mapped file, but for bfloat16, which
        becomes float32.

    Raises
    ------
    FileError
        The file cannot be read.
    FormatError
        It is damaged, holds Python objects, or has another ending.
    """
    if not Path(path).is_file():
        raise FileError(f"{path}: there is no such file")
    ending = Path(path).suffix
    if ending == ".npz":
        return _read_npz(path)
    if ending == ".safetensors":
        return _read_safetensors(path)
    raise FormatError(f"{path}: expected a file that ends in .npz or .safetensors")


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray]) -> None:
    """Write arrays to a .npz or .safetensors file, by its ending, whole or not at all.

    Raises
    ------
    ArgumentError
        Another ending, or a dtype that the format does not have.
    FileError
        The file cannot be written.
    """
    ending = Path(path).suffix
    if ending == ".npz":
        # numpy.savez would take an array called "file" for its own argument
        with write_whole(path) as f, zipfile.ZipFile(f, "w") as archive:
            for name, array in tensors.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
    elif ending == ".safetensors":
        _write_safetensors(path, tensors)
    else:
        raise ArgumentError(f"{path}: expected a name that ends in .npz or .safetensors")


def _read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError, OSError, NotImplementedError) as e:
        raise FormatError(f"{path}: not a .npz file of plain arrays: {e}") from None


def _write_safetensors(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray]) -> None:
    header: dict[str, Any] = {}
    arrays, end = [], 0
    for name, value in tensors.items():
        array = np.asarray(value)
        array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
        if array.dtype not in _CODES:
            raise ArgumentError(f'{path}: array "{name}": .safetensors has no {array.dtype}')
        begin, end = end, end + array.nbytes
        shape = list(np.shape(value))
        header[name] = {"dtype": _CODES[array.dtype], "shape": shape, "data_offsets": [begin, end]}
        arrays.append(array)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with write_whole(path) as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for array in arrays:
            f.write(array.tobytes())


def _read_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    size = Path(path).stat().st_size
    if size < 8:
        raise FormatError(f"{path}: not a .safetensors file: expected at least 8 bytes, found {size}")
    content = np.memmap(path, np.uint8, "r")
    length = int.from_bytes(content[:8].tobytes(), "little")
    if length > min(size - 8, _MAX_HEADER):
        raise FormatError(f"{path}: not a .safetensors file: a header of {length} bytes in a file of {size}")
    try:
        header = json.loads(content[8 : 8 + length].tobytes())
        if not isinstance(header, dict):
            raise ValueError(f"expected names and places, found {type(header).__name__}")
    except (ValueError, RecursionError) as e:
        raise FormatError(f"{path}: not a .safetensors file: its header is not JSON: {e}") from None
    data = content[8 + length :]
    return {
        name: _tensor(path, name, entry, data) for name, entry in header.items() if name != "__metadata__"
    }


def _tensor(path: str | os.PathLike[str], name: str, entry: Any, data: np.ndarray) -> np.ndarray:
    try:
        code, shape = entry["dtype"], entry["shape"]
        begin, end = entry["data_offsets"]
        whole = [*shape, begin, end]
        if not all(type(n) is int and n >= 0 for n in whole):
            raise ValueError(f"sizes and places must be whole numbers, found {whole}")
        dtype = np.dtype(_DTYPES[code])
        if not begin <= end <= len(data) or end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"bytes {begin} to {end} of {len(data)} do not hold {shape} of {code}")
    except (KeyError, TypeError, ValueError) as e:
        raise FormatError(f'{path}: array "{name}": {e}') from None
    array = np.frombuffer(data[begin:end], dtype).reshape(shape)
    if code == "BF16":  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array
