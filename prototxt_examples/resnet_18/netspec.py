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


def normalised(n: caffe.NetSpec, name: str, bottom: Top, width: int, kernel: int, stride: int = 1) -> Top:
    """Add a convolution, its BatchNorm and its Scale, under the names that the published ResNets have."""
    conv = "" if name == "conv1" else "res"
    rest = "_conv1" if name == "conv1" else name
    n[conv + name] = L.Convolution(
        bottom, num_output=width, kernel_size=kernel, stride=stride, pad=kernel // 2, bias_term=False,
        weight_filler=dict(type="msra"),
    )  # fmt: skip
    n[f"bn{rest}"] = L.BatchNorm(n[conv + name], in_place=True)
    n[f"scale{rest}"] = L.Scale(n[f"bn{rest}"], in_place=True, bias_term=True)
    return n[f"scale{rest}"]


def block(n: caffe.NetSpec, name: str, bottom: Top, width: int, stride: int, projected: bool) -> Top:
    """Add a basic block: two convolutions beside a shortcut, which projects where width or size change."""
    shortcut = normalised(n, f"{name}_branch1", bottom, width, 1, stride) if projected else bottom
    inner = normalised(n, f"{name}_branch2a", bottom, width, 3, stride)
    n[f"res{name}_branch2a_relu"] = L.ReLU(inner, in_place=True)
    outer = normalised(n, f"{name}_branch2b", n[f"res{name}_branch2a_relu"], width, 3)
    n[f"res{name}"] = L.Eltwise(shortcut, outer)
    n[f"res{name}_relu"] = L.ReLU(n[f"res{name}"], in_place=True)
    return n[f"res{name}_relu"]


def scores(n: caffe.NetSpec, classes: int = 1000) -> Top:
    """Add all layers from `n.data` to the scores of the classes."""
    n.conv1_relu = L.ReLU(normalised(n, "conv1", n.data, 64, 7, 2), in_place=True)
    n.pool1 = x = L.Pooling(n.conv1_relu, pool=P.Pooling.MAX, kernel_size=3, stride=2)
    for stage, width in WIDTHS.items():
        x = block(n, f"{stage}a", x, width, stride=1 if stage == 2 else 2, projected=stage != 2)
        x = block(n, f"{stage}b", x, width, stride=1, projected=False)
    n.pool5 = L.Pooling(x, pool=P.Pooling.AVE, global_pooling=True)
    n[f"fc{classes}"] = L.InnerProduct(n.pool5, num_output=classes, weight_filler=dict(type="msra"))
    return n[f"fc{classes}"]


def named(n: caffe.NetSpec) -> Message:
    net = n.to_proto()
    net.name = "ResNet-18"
    return net


def deploy(batch: int = 1) -> Message:
    """Return the net that classifies."""
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[batch, 3, 224, 224]))
    n.prob = L.Softmax(scores(n))
    return named(n)


def train_val(batch: int = 64) -> Message:
    """Return the net that is trained and tested, with its databases."""

    def data(phase: str, source: str, mirror: bool) -> tuple[Top, ...]:
        return L.Data(
            ntop=2, name="data", include=dict(phase=phase), source=source, batch_size=batch, backend=P.Data.LMDB,
            transform_param=dict(crop_size=224, mean_value=[104, 117, 123], mirror=mirror),
        )  # fmt: skip

    n = caffe.NetSpec()
    n.data, n.label = data("TRAIN", "ilsvrc12_train_lmdb", mirror=True)
    training = n.to_proto()
    n.data, n.label = data("TEST", "ilsvrc12_val_lmdb", mirror=False)
    top = scores(n)
    n.loss = L.SoftmaxWithLoss(top, n.label)
    n.top1 = L.Accuracy(top, n.label, include=dict(phase="TEST"))
    n.top5 = L.Accuracy(top, n.label, top_k=5, include=dict(phase="TEST"))
    net = named(n)
    net.layer.insert(0, training.layer[0])
    return net


if __name__ == "__main__":
    print({"deploy": deploy, "train_val": train_val}[sys.argv[1]](), end="")
