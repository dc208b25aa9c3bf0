"""The layers, one file per Caffe layer type; every module of this folder is a part of the catalogue.

This is pycaffe's ``layers``, too, by which a net is written in Python: any name with a capital that is not
listed below is the function that makes such a layer, ``layers.Convolution(bottom, kernel_size=3)``; see
`caffebn.net_spec`.  The class that computes a Convolution is in ``caffebn.layers.convolution``.

`Layer` is the base of the types of this package and of types that other packages `register`.  Layers that run
as type ``Python`` derive from `PythonLayer`, which is ``caffebn.Layer``.
"""

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from caffebn import net_spec
from caffebn.layers.base import LAYERS, Context, Layer, Workspace, create, find_type
from caffebn.layers.base import known_types as layer_type_list
from caffebn.layers.base import layer as register
from caffebn.layers.python import PythonLayer

__all__ = [
    "LAYERS",
    "Context",
    "Layer",
    "PythonLayer",
    "Workspace",
    "create",
    "find_type",
    "layer_type_list",
    "register",
]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")


def __getattr__(name: str) -> Callable[..., Any]:
    return getattr(net_spec.layers, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *LAYERS})
