"""Layer types that other packages bring: found by their entry points, loaded when a net needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffebn.errors import NetError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["GROUP", "find", "load"]

GROUP = "caffebn.layers"
"""The group of entry points: the name is the layer type, the value the module that registers it."""


def find() -> dict[str, list[EntryPoint]]:
    """Return the entry points of all installed packages, by layer type; nothing is imported."""
    # not at the top: this module is slow to import, and few nets need it
    from importlib.metadata import entry_points

    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=GROUP):
        found.setdefault(entry.name, []).append(entry)
    return found


def load(type_name: str) -> str:
    """Import what registers a layer type, if a package brings it; return its name, or "".

    Raises
    ------
    NetError
        Two packages bring the type, or the package's module cannot be imported.
    """
    entries = find().get(type_name)
    if not entries:
        return ""
    entry = entries[0]
    for other in entries[1:]:
        if other.value != entry.value:  # a package may be on the path twice
            raise NetError(
                f'layer type "{type_name}" is brought by two packages, {_source(entry)} and {_source(other)}: '
                "uninstall one of them"
            )
    try:
        entry.load()
    except Exception as e:
        raise NetError(
            f'layer type "{type_name}" is brought by {_source(entry)}, which cannot be loaded: '
            f"{type(e).__name__}: {e}"
        ) from e
    return entry.value


def _source(entry: EntryPoint) -> str:
    package = f'the package "{entry.dist.name}"' if entry.dist else "a package"
    return f"{package} ({entry.value})"
