"""The layers, one file per Caffe layer type; every module of this folder is a part of the catalogue.

`Layer` is the base of the types of this package and of types that other packages `register`.  Layers that run
as type ``Python`` derive from `PythonLayer`, which is ``caffebn.Layer``.
"""

from importlib import import_module
from pkgutil import iter_modules

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
