"""caffebn: the maintained home for Caffe networks.

Define a net in a .prototxt, load its .caffemodel, run it and train it, with Caffe's numbers and
without a Caffe build.  A pycaffe script runs with ``import caffebn as caffe``.
"""

from importlib import import_module
from typing import Any

from caffebn import coord_map, data, draw, errors, io, layers
from caffebn.blob import Blob
from caffebn.classifier import Classifier
from caffebn.detector import Detector
from caffebn.errors import CaffebnError, CaffebnWarning
from caffebn.layers import PythonLayer as Layer
from caffebn.layers import layer_type_list
from caffebn.logs import init_log, log
from caffebn.net import TEST, TRAIN, Net, set_device, set_mode_cpu, set_mode_gpu
from caffebn.net_spec import NetSpec, params, to_proto
from caffebn.ops.threads import get as num_threads
from caffebn.ops.threads import set as set_num_threads
from caffebn.seeding import set_random_seed
from caffebn.solvers import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NadamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    Solver,
    freeze_batch_norm,
    get_solver,
)

__version__ = "0.1.0.dev0"

__all__ = [
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "CaffebnError",
    "CaffebnWarning",
    "Classifier",
    "Detector",
    "Layer",
    "NadamSolver",
    "NesterovSolver",
    "Net",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "Solver",
    "bn",
    "coord_map",
    "data",
    "draw",
    "errors",
    "freeze_batch_norm",
    "get_solver",
    "init_log",
    "io",
    "layer_type_list",
    "layers",
    "log",
    "num_threads",
    "params",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_num_threads",
    "set_random_seed",
    "to_proto",
]

_LATE = ("bn",)  # packages that are imported when they are first asked for


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return import_module(f"caffebn.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
