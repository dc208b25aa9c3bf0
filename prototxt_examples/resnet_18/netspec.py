"""ResNet-18 (He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, 2015), written in Python.

python netspec.py deploy > deploy.prototxt
python netspec.py train_val > train_val.prototxt
"""

from __future__ import annotations

import sys

import caffebn as caffe
from caffebn import layers as L
from caffebn import params as P
from caffebn.net_spec import Top
from caffebn.proto import Message

# number of outputs of the stages 2 to 5, each of two blocks
WIDTHS = {2: 64, 3: 128, 4: 256, 5: 512}


def normalised(n: caffe.NetSpec, name: str, bottom: Top, width: int, **window: int) -> Top:
    """Add a convolution, its BatchNorm and its Scale, under the names that the published ResNets have."""
    conv, rest = (name, f"_{name}") if name == "conv1" else (f"res{name}", name)
    n[conv] = L.Convolution(
        bottom, num_output=width, bias_term=False, weight_filler=dict(type="msra"), **window
    )
    n[f"bn{rest}"] = L.BatchNorm(n[conv], in_place=True)
    n[f"scale{rest}"] = L.Scale(n[f"bn{rest}"], in_place=True, bias_term=True)
    return n[f"scale{rest}"]


def block(n: caffe.NetSpec, name: str, bottom: Top, width: int, halved: bool) -> Top:
    """Add a basic block: two convolutions beside a shortcut, which is projected where the map is halved."""
    stride = dict(stride=2) if halved else {}
    shortcut = normalised(n, f"{name}_branch1", bottom, width, kernel_size=1, **stride) if halved else bottom
    inner = normalised(n, f"{name}_branch2a", bottom, width, kernel_size=3, pad=1, **stride)
    n[f"res{name}_branch2a_relu"] = L.ReLU(inner, in_place=True)
    outer = normalised(n, f"{name}_branch2b", n[f"res{name}_branch2a_relu"], width, kernel_size=3, pad=1)
    n[f"res{name}"] = L.Eltwise(shortcut, outer)
    n[f"res{name}_relu"] = L.ReLU(n[f"res{name}"], in_place=True)
    return n[f"res{name}_relu"]


def scores(n: caffe.NetSpec) -> Top:
    """Add all layers from `n.data` to the scores of the classes."""
    n.conv1_relu = L.ReLU(normalised(n, "conv1", n.data, 64, kernel_size=7, stride=2, pad=3), in_place=True)
    n.pool1 = x = L.Pooling(n.conv1_relu, pool=P.Pooling.MAX, kernel_size=3, stride=2)
    for stage, width in WIDTHS.items():
        x = block(n, f"{stage}a", x, width, halved=stage != 2)
        x = block(n, f"{stage}b", x, width, halved=False)
    n.pool5 = L.Pooling(x, pool=P.Pooling.AVE, global_pooling=True)
    n.fc1000 = L.InnerProduct(n.pool5, num_output=1000, weight_filler=dict(type="xavier"))
    return n.fc1000


def named(n: caffe.NetSpec) -> Message:
    net = n.to_proto()
    net.name = "ResNet-18"
    return net


def deploy() -> Message:
    """Return the net that classifies."""
    n = caffe.NetSpec()
    n.data = L.Input(name="input", shape=dict(dim=[1, 3, 224, 224]))
    n.prob = L.Softmax(scores(n))
    return named(n)


def train_val() -> Message:
    """Return the net that is trained and tested, with its databases or, in the stage "dry", random numbers."""

    def database(phase: str, batch: int, **transform: bool) -> tuple[Top, ...]:
        return L.Data(
            ntop=2, source=f"ilsvrc12_{'train' if phase == 'TRAIN' else 'val'}_lmdb", batch_size=batch,
            backend=P.Data.LMDB, include=dict(phase=phase, not_stage="dry"),
            transform_param=dict(crop_size=224, mean_value=[104, 117, 123], **transform),
        )  # fmt: skip

    random = L.DummyData(
        ntop=2, include=dict(stage="dry"), shape=[dict(dim=[2, 3, 224, 224]), dict(dim=[2])],
        data_filler=[dict(type="gaussian", std=1), dict(type="constant", value=0)],
    )  # fmt: skip
    sources = [database("TRAIN", 32, mirror=True), database("TEST", 50), random]
    makers = []
    for source in sources:  # three layers, of which one is there at a time, make blobs of the same names
        n = caffe.NetSpec()
        n.data, n.label = source
        makers += n.to_proto().layer
    top = scores(n)
    n.loss = L.SoftmaxWithLoss(top, n.label)
    n.accuracy = L.Accuracy(top, n.label, include=dict(phase="TEST"))
    n.accuracy_top5 = L.Accuracy(top, n.label, top_k=5, include=dict(phase="TEST"))
    net = named(n)
    net.layer[:1] = makers
    return net


if __name__ == "__main__":
    print({"deploy": deploy, "train_val": train_val}[sys.argv[1]](), end="")
