"""caffebn: the maintained home for Caffe networks.

Define a net in a .prototxt, load its .caffemodel, run it and train it, with Caffe's numbers and
without a Caffe build.  A pycaffe script runs with ``import caffebn as caffe``.
"""

from caffebn import data, errors, io
from caffebn.blob import Blob
from caffebn.classifier import Classifier
from caffebn.errors import CaffebnError, CaffebnWarning
from caffebn.layers import PythonLayer as Layer
from caffebn.layers import layer_type_list
from caffebn.net import TEST, TRAIN, Net, set_mode_cpu, set_mode_gpu
from caffebn.seeding import set_random_seed

__version__ = "0.1.0.dev0"

__all__ = [
    "TEST",
    "TRAIN",
    "Blob",
    "CaffebnError",
    "CaffebnWarning",
    "Classifier",
    "Layer",
    "Net",
    "data",
    "errors",
    "io",
    "layer_type_list",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_random_seed",
]
