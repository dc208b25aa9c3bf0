"""Layers that read data, and the databases they read: LMDB, HDF5, lists of pictures, windows of pictures.

Importing this package registers the layer types; lmdb, h5py and Pillow are imported by the nets that need them.
"""

from caffebn.data import data, hdf5_data, hdf5_output, image_data, window_data
from caffebn.data.database import read_database, write_database
from caffebn.data.datum import datum_bytes, datum_values
from caffebn.data.transformer import Transformer

__all__ = [
    "Transformer",
    "data",
    "datum_bytes",
    "datum_values",
    "hdf5_data",
    "hdf5_output",
    "image_data",
    "read_database",
    "window_data",
    "write_database",
]
