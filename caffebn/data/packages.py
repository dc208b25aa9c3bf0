"""The optional packages that reading data needs, imported when a net or a verb asks for them."""

from __future__ import annotations

from types import ModuleType

from caffebn.errors import missing_package

__all__ = ["lmdb", "pillow"]


def lmdb(purpose: str) -> ModuleType:
    """Return the package lmdb; `purpose` starts the message when it is missing."""
    try:
        import lmdb
    except ImportError as e:
        raise missing_package("lmdb", "data", purpose) from e
    return lmdb


def pillow(purpose: str) -> ModuleType:
    """Return Pillow's module Image; `purpose` starts the message when it is missing."""
    try:
        from PIL import Image
    except ImportError as e:
        raise missing_package("Pillow", "data", purpose) from e
    return Image
