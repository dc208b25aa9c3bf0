"""Weights as nets take them: read from a file, and rewritten where a fork's dialect of batch normalisation needs it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from caffebn.dialects.signs import PLAIN, speaks_dialect
from caffebn.errors import CaffebnWarning
from caffebn.proto import Message
from caffebn.weights import as_stored, is_stored, read_stored, read_weights, stored_arrays

if TYPE_CHECKING:
    from caffebn.dialects.convert import Conversion

__all__ = ["Arrays", "Weights", "read_plain", "tell"]

Arrays = Mapping[str, Sequence["np.ndarray | None"]]
"""Arrays by layer name."""

Weights = str | os.PathLike[str] | Arrays
"""Weights: the path of a file that `read_weights` reads, or arrays by layer name."""


def read_plain(
    definition: Message, weights: Weights | None, dialect: str | None = None, names: Sequence[str] = ()
) -> tuple[Arrays, Conversion | None]:
    """Read weights; where they or the text of their net are in a dialect of batch normalisation, rewrite both.

    Parameters
    ----------
    definition : Message
        The net, a NetParameter in the present form; stays as it is.
    weights : path-like, mapping or None
    dialect : str, optional
        The dialect; by default it is found out.
    names : sequence of str
        Names of the other files, which may tell the dialect.

    Returns
    -------
    arrays : mapping
        Arrays by layer name, empty without weights; those of a .caffemodel are read-only views of the file.
    converted : Conversion or None
        The rewritten net, and what was done; None where everything was plain.

    Raises
    ------
    FileError, FormatError
        The file cannot be read.
    DialectError, NetError
        The dialect cannot be told, or not converted.
    """
    stored: Message | None = None
    arrays: Arrays = {}
    if isinstance(weights, Mapping):
        arrays = weights
    elif weights is not None:
        names = [*names, str(weights)]
        if is_stored(weights):
            stored = read_stored(weights)
            arrays = stored_arrays(stored, str(weights))
        else:
            arrays = read_weights(weights)
    if dialect == PLAIN or (dialect is None and not speaks_dialect(definition, stored)):
        return arrays, None
    if stored is None and weights is not None:
        stored = as_stored(arrays, {layer.name: layer.type for layer in definition.layer})
    from caffebn.dialects.convert import to_plain  # few nets need it

    converted = to_plain(definition, stored, dialect, names)
    if converted.weights is not None:
        arrays = stored_arrays(converted.weights, "weights" if isinstance(weights, Mapping) else str(weights))
    return arrays, converted


def tell(source: str, converted: Conversion) -> None:
    """Warn the caller of who calls this that layers were converted, if any were."""
    if lines := converted.summary():
        warnings.warn("\n".join([f"{source}: {lines[0]}", *lines[1:]]), CaffebnWarning, stacklevel=3)
