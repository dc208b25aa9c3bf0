"""A training that takes its data from HDF5 files, made in a folder."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

__all__ = ["SOLVER", "make", "params"]

NET = """
name: "small"
layer { name: "data" type: "HDF5Data" top: "data" top: "label" include { phase: TRAIN }
        hdf5_data_param { source: "FOLDER/train.txt" batch_size: 6 shuffle: true } }
layer { name: "data" type: "HDF5Data" top: "data" top: "label" include { phase: TEST }
        hdf5_data_param { source: "FOLDER/test.txt" batch_size: 10 } }
layer { name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
        inner_product_param { num_output: 8 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "ip1" top: "ip1" }
layer { name: "scale" type: "Scale" bottom: "ip1" top: "ip1" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "drop" type: "Dropout" bottom: "ip1" top: "ip1" dropout_param { dropout_ratio: 0.3 } }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy" include { phase: TEST } }
"""

SOLVER = {
    "base_lr": "0.05",
    "momentum": "0.9",
    "lr_policy": '"step"',
    "gamma": "0.5",
    "stepsize": "10",
    "max_iter": "12",
    "random_seed": "3",
    "display": "4",
    "snapshot": "5",
    "test_iter": "2",
    "test_interval": "6",
}


def make(folder: Path, **settings: str | None) -> Path:
    """Write data, net and solver into a folder; return the path of the solver, changed by `settings`."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 5))
    for name, count in (("train", 50), ("test", 20)):
        label = rng.integers(3, size=count)
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["data"] = (centres[label] + 0.5 * rng.normal(size=(count, 5))).astype(np.float32)
            file["label"] = label.astype(np.float32)
        (folder / f"{name}.txt").write_text(f"{folder / name}.h5\n")
    (folder / "net.prototxt").write_text(NET.replace("FOLDER", str(folder)))
    lines = {
        "net": f'"{folder}/net.prototxt"',
        "snapshot_prefix": f'"{folder}/snap"',
        **SOLVER,
        **settings,
    }
    path = folder / "solver.prototxt"
    path.write_text("".join(f"{name}: {value}\n" for name, value in lines.items() if value is not None))
    return path


def params(path: Path) -> bytes:
    """All bits of the weights in a file."""
    from caffebn.proto import binary, blob_array

    net = binary.read(path, "NetParameter")
    return b"".join(blob_array(blob, layer.name).tobytes() for layer in net.layer for blob in layer.blobs)
