"""The parameters of a net as arrays by name: .npz, .safetensors and HDF5 files."""

from __future__ import annotations

import os

import numpy as np

from caffebn.net import Net
from caffebn.tensors import write_tensors
from caffebn.weights import blob_arrays, is_hdf5

__all__ = ["arrays"]


def arrays(net: Net, path: str | os.PathLike[str] | None = None) -> dict[str, np.ndarray]:
    """Return the parameters of a net as arrays named ``<layer>/<index>``, and write them to a file.

    The values are Caffe's: the three blobs of a BatchNorm are sums and their factor.  ``Net(..., weights=path)``
    reads such files.  (For statistics that are divided already, see the state_dict of `caffebn.export.torch`.)

    Parameters
    ----------
    net : Net
    path : path-like, optional
        Ends in .npz or .safetensors, or in .h5 or .hdf5 for Caffe's own ``data/<layer>/<index>``.

    Returns
    -------
    dict of ndarray
        Views of the net's memory.

    Raises
    ------
    ArgumentError
        Another ending.
    FileError
        The file cannot be written.
    """
    found = blob_arrays(net.params)
    if path is not None:
        if is_hdf5(path):
            net.save_hdf5(path)
        else:
            write_tensors(path, found)
    return found
