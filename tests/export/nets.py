"""Nets that the exporters are tried on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caffebn import Net

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "layers").glob("*.npz"))
# what has no place in a net that predicts, or reads files and memory
LEFT_OUT = ("Accuracy", "Data", "DummyData", "Filter", "HDF5", "MemoryData", "Silence", "WindowData")

SMALL = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 9 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 6 kernel_size: 3 group: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
        pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "drop" type: "Dropout" bottom: "fc" top: "fc" }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


def fill_statistics(net: Net, seed: int = 3) -> Net:
    """Give every BatchNorm statistics with a live factor, every Scale values that show."""
    rng = np.random.default_rng(seed)
    for layer in net.layers:
        if layer.type == "BatchNorm":
            mean, var, factor = layer.blobs
            factor.data[...] = 12.5
            mean.data[...] = 12.5 * rng.standard_normal(mean.shape)
            var.data[...] = 12.5 * rng.uniform(0.2, 3, var.shape)
        elif layer.type in ("Scale", "Bias", "PReLU"):
            for blob in layer.blobs:
                blob.data[...] = rng.uniform(0.3, 2, blob.shape)
    return net


def golden_net(path: Path) -> tuple[Net, list[str] | None]:
    """Make the net of a recorded run with its parameters; also return where to end it, before any loss."""
    with np.load(path) as file:
        values = dict(file)
    net = Net.from_text(str(values["prototxt"]), "TEST")
    for key, value in values.items():
        if key.startswith("param_") and not key.startswith("param_after"):
            name, _, index = key[6:].rpartition("_")
            blob = net.params[name][int(index)]
            blob.data[...] = value.reshape(blob.shape)
    losses = [layer for layer in net.layers if layer.type.endswith("Loss")]
    ends = [net.bottom_names[layer.name][0].partition("_")[0] for layer in losses]
    return net, ends or None


def golden_files() -> list[Path]:
    """Recorded runs of one layer that can be exported."""
    wanted = []
    for path in GOLDEN:
        kind = path.stem.partition("__")[0]
        if not kind.startswith(LEFT_OUT) and not kind.endswith("Loss"):
            wanted.append(path)
    return wanted
