"""Small nets with weights of a seed, statistics included."""

from __future__ import annotations

import numpy as np

from caffebn import blocks
from caffebn.bn.opening import definition_of, fill, make_net
from caffebn.net import Net


def random_weights(definition, seed=0, factor=2.5):
    """Make weights for a net text: BatchNorm with sums of positive variances, the rest normal."""
    net = Net(blocks.parse(definition), "TEST")
    rng = np.random.default_rng(seed)
    weights = {}
    for name, blobs in net.params.items():
        if net.layer_dict[name].type == "BatchNorm":
            mean, var = (blob.shape for blob in blobs[:2])
            arrays = [rng.normal(size=mean) * factor, rng.uniform(0.1, 3, var) * factor, np.array([factor])]
        else:
            arrays = [rng.normal(size=blob.shape) for blob in blobs]
        weights[name] = [np.asarray(a, np.float32) for a in arrays]
    return weights


def run(definition, weights, x, dtype="float64"):
    """Outputs of a net on x."""
    message = blocks.parse(definition) if isinstance(definition, str) else definition
    net = make_net(definition_of(message), weights, dtype)
    fill(net, x)
    return {name: value.copy() for name, value in net.forward().items()}


def data(*shape):
    dims = " ".join(f"dim: {n}" for n in shape)
    return f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {dims} }} }} }}\n'


def conv(name, bottom, top=None, num_output=4, kernel=3, **more):
    fields = " ".join(f"{k}: {v}" for k, v in more.items())
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{top or name}" '
        f"convolution_param {{ num_output: {num_output} kernel_size: {kernel} {fields} }} }}\n"
    )


def layer(kind, name, bottom, top=None, text=""):
    bottoms = " ".join(f'bottom: "{b}"' for b in bottom.split())
    return f'layer {{ name: "{name}" type: "{kind}" {bottoms} top: "{top or name}" {text} }}\n'


def bn(name, bottom, top=None, text=""):
    """A BatchNorm, in place unless a top is given."""
    return layer("BatchNorm", name, bottom, top or bottom, text)


def scale(name, bottom, top=None, text="bias_term: true"):
    return layer("Scale", name, bottom, top or bottom, f"scale_param {{ {text} }}")


def relu(name, bottom):
    return layer("ReLU", name, bottom, bottom)
