"""The layers, one file per Caffe layer type; every module of this folder is a part of the catalogue."""

from importlib import import_module
from pkgutil import iter_modules

from caffebn.layers.base import LAYERS, Context, Layer, Workspace, create, layer

__all__ = ["LAYERS", "Context", "Layer", "Workspace", "create", "layer", "layer_type_list"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")


def layer_type_list() -> list[str]:
    """Return the names of all known layer types, in alphabetical order."""
    return sorted(LAYERS)
