"""The layers, one file per Caffe layer type; every module of this folder is a part of the catalogue.

It is pycaffe's ``layers``, too, by which a net is written in Python: any name with a capital that is not
listed below is the function that makes such a layer, ``layers.Convolution(bottom, kernel_size=3)``; see
`caffebn.net_spec`.  The class that computes a Convolution is in ``caffebn.layers.convolution``.
"""

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from caffebn import net_spec
from caffebn.layers.base import LAYERS, Context, Layer, Workspace, create, layer

__all__ = ["LAYERS", "Context", "Layer", "Workspace", "create", "layer", "layer_type_list"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")


def layer_type_list() -> list[str]:
    """Return the names of all known layer types, in alphabetical order."""
    return sorted(LAYERS)


def __getattr__(name: str) -> Callable[..., Any]:
    return getattr(net_spec.layers, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *LAYERS})
