"""The one family of exceptions and warnings that caffebn raises.

Every message is written for the person who has to act on it: where (file, line,
column, layer, blob), what was expected, what was found, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

__all__ = [
    "ArgumentError",
    "CaffebnError",
    "CaffebnWarning",
    "DeviceError",
    "FileError",
    "FormatError",
    "GradientError",
    "LevelError",
    "MissingPackageError",
    "NetError",
    "ParseError",
    "SolverError",
    "Where",
    "WeightsError",
    "did_you_mean",
    "missing_package",
    "some",
]


class Where(NamedTuple):
    """A place in a text file: name of the file, line and column (both from 1)."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class CaffebnError(Exception):
    """Base class of every error that caffebn raises on purpose.

    Parameters
    ----------
    message : str
        What is wrong and what to do about it.
    where : Where, optional
        The place in a text file; printed in front of the message.
    """

    def __init__(self, message: str, where: Where | None = None):
        super().__init__(f"{where}: {message}" if where else message)
        self.message = message
        self.where = where


class ParseError(CaffebnError, ValueError):
    """A .prototxt text that is not in the text format, or not in the schema."""


class FormatError(CaffebnError, ValueError):
    """A binary file (.caffemodel, .binaryproto ...) that is damaged or hostile."""


class NetError(CaffebnError, ValueError):
    """A net that cannot be made: a layer's parameters, its blobs, their shapes."""


class SolverError(CaffebnError, ValueError):
    """A solver that cannot be made, or a training that cannot go on."""


class WeightsError(CaffebnError, ValueError):
    """Weights that do not fit the net."""


class ArgumentError(CaffebnError, ValueError):
    """A call with an argument of the wrong shape, dtype, name or range."""


class GradientError(CaffebnError, AssertionError):
    """A gradient that is not that of the forward pass, or could not be compared with it."""


class FileError(CaffebnError, OSError):
    """A file that cannot be read or written."""


class LevelError(CaffebnError, RuntimeError):
    """An instruction-set level that this processor or this build lacks."""


class DeviceError(CaffebnError, RuntimeError):
    """A GPU that is not there, or has no memory left.

    Parameters
    ----------
    message : str
    used, needed : int
        Bytes of its memory that this process had, and that it asked for, when there was no more; else 0.
    """

    def __init__(self, message: str, used: int = 0, needed: int = 0):
        super().__init__(message)
        self.used = used
        self.needed = needed


class MissingPackageError(CaffebnError, ImportError):
    """An optional package that is not installed."""


class CaffebnWarning(UserWarning):
    """Something that works but is probably not what was meant."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``'; did you mean "x"?'`` for the nearest known word, or ``''``."""
    if len(word) > 64:  # comparing takes the square of the lengths
        return ""
    known = list(islice(known, 1000))
    folded = {k.lower(): k for k in known}
    near = [folded[word.lower()]] if word.lower() in folded else difflib.get_close_matches(word, known, n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def some(names: Iterable[object], most: int = 5, quote: str = '"') -> str:
    """List names, `most` of them and how many more there are: ``"a", "b" and 3 more``; ``none`` without any."""
    listed = [f"{quote}{name}{quote}" for name in names]
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return f"{', '.join(listed[:most])}{more}" or "none"


def missing_package(package: str, extra: str, purpose: str) -> MissingPackageError:
    """Make the error for an optional package, saying how to install it."""
    return MissingPackageError(f'{purpose} needs the package "{package}": pip install "caffebn[{extra}]"')
