"""Layer types that other packages bring: found by their entry points, loaded when a net needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffebn.errors import NetError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["GROUP", "find", "load"]

GROUP = "caffebn.layers"
"""The group of entry points: the name is the layer type, the value the module that registers it."""


def find() -> dict[str, EntryPoint]:
    """Return the entry points of all installed packages, by layer type; nothing is imported.

    Raises
    ------
    NetError
        Two packages bring the same type.
    """
    # not at the top: this module is slow to import, and few nets need it
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise NetError(
                f'layer type "{entry.name}" is brought by two packages, {_source(other)} and {_source(entry)}: '
                "uninstall one of them"
            )
    return found


def load(type_name: str) -> bool:
    """Import what registers a layer type, if a package brings it; return whether there is one.

    Raises
    ------
    NetError
        The package's module cannot be imported.
    """
    entry = find().get(type_name)
    if entry is None:
        return False
    try:
        entry.load()
    except Exception as e:
        raise NetError(
            f'layer type "{type_name}" is brought by {_source(entry)}, which cannot be loaded: '
            f"{type(e).__name__}: {e}"
        ) from e
    return True


def _source(entry: EntryPoint) -> str:
    package = f'the package "{entry.dist.name}"' if entry.dist else "a package"
    return f"{package} ({entry.value})"
