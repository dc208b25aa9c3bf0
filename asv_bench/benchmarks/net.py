"""Whole nets: ResNet-50, MobileNet, DenseNet, and a small perceptron with BatchNorm where overhead counts."""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from .common import ALL_THREADS, BACKENDS, KEPT, SEED, THREADS, Backend, random


def _input(name: str, *shape: int) -> str:
    dims = " ".join(f"dim: {n}" for n in shape)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'


def _layer(name: str, kind: str, bottoms: str, top: str = "", more: str = "") -> str:
    """Return a layer of the named bottoms; its top has its name unless said otherwise."""
    ends = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
    return f'layer {{ name: "{name}" type: "{kind}" {ends} top: "{top or name}" {more} }}\n'


def _normalised(name: str, relu: bool) -> Iterator[str]:
    """Yield BatchNorm, Scale and perhaps ReLU, in place on a blob."""
    yield _layer(f"{name}_bn", "BatchNorm", name, name)
    yield _layer(f"{name}_scale", "Scale", name, name, "scale_param { bias_term: true }")
    if relu:
        yield _layer(f"{name}_relu", "ReLU", name, name)


def _convolution(
    name: str, bottom: str, outputs: int, kernel: int, stride: int, relu: bool = True
) -> Iterator[str]:
    more = (
        f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} stride: {stride} "
        f'pad: {kernel // 2} bias_term: false weight_filler {{ type: "msra" }} }}'
    )
    yield _layer(name, "Convolution", bottom, more=more)
    yield from _normalised(name, relu)


def _block(name: str, bottom: str, width: int, stride: int, widen: bool) -> Iterator[str]:
    """Yield a bottleneck block; its output is the blob of its name."""
    if widen:
        yield from _convolution(f"{name}_side", bottom, 4 * width, 1, stride, relu=False)
    yield from _convolution(f"{name}_1", bottom, width, 1, stride)
    yield from _convolution(f"{name}_2", f"{name}_1", width, 3, 1)
    yield from _convolution(f"{name}_3", f"{name}_2", 4 * width, 1, 1, relu=False)
    side = f"{name}_side" if widen else bottom
    yield _layer(name, "Eltwise", f"{side} {name}_3")
    yield _layer(f"{name}_relu", "ReLU", name, name)


def _inner_product(name: str, bottom: str, outputs: int) -> str:
    more = f'inner_product_param {{ num_output: {outputs} weight_filler {{ type: "xavier" }} }}'
    return _layer(name, "InnerProduct", bottom, more=more)


def _output(bottom: str, train: bool) -> str:
    if train:
        return _layer("loss", "SoftmaxWithLoss", f"{bottom} label")
    return _layer("prob", "Softmax", bottom)


def resnet50(batch: int, train: bool) -> str:
    """Return ResNet-50 as a prototxt (He et al., https://arxiv.org/abs/1512.03385, table 1)."""
    parts = ['name: "ResNet-50"\n', _input("data", batch, 3, 224, 224)]
    if train:
        parts.append(_input("label", batch))
    parts += _convolution("conv1", "data", 64, 7, 2)
    parts.append(
        _layer("pool1", "Pooling", "conv1", more="pooling_param { pool: MAX kernel_size: 3 stride: 2 }")
    )
    bottom = "pool1"
    for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], start=2):
        for i in range(blocks):
            name = f"res{stage}{'abcdef'[i]}"
            parts += _block(name, bottom, width, 2 if i == 0 and stage > 2 else 1, widen=i == 0)
            bottom = name
    parts.append(_layer("pool5", "Pooling", bottom, more="pooling_param { pool: AVE global_pooling: true }"))
    parts.append(_inner_product("fc1000", "pool5", 1000))
    parts.append(_output("fc1000", train))
    return "".join(parts)


def perceptron(batch: int, train: bool) -> str:
    """Return 784-100-100-100-10 with BatchNorm as a prototxt, as one trains it on MNIST."""
    parts = ['name: "perceptron"\n', _input("data", batch, 784)]
    if train:
        parts.append(_input("label", batch))
    bottom = "data"
    for i in range(1, 4):
        parts.append(_inner_product(f"ip{i}", bottom, 100))
        parts += _normalised(f"ip{i}", relu=True)
        bottom = f"ip{i}"
    parts.append(_inner_product("ip4", bottom, 10))
    parts.append(_output("ip4", train))
    return "".join(parts)


EXAMPLES = Path(__file__).parents[2] / "prototxt_examples"


def example(name: str) -> Callable[[int, bool], str]:
    """Return the function that returns a net of the examples, for pictures of 224 x 224, as a prototxt."""

    def prototxt(batch: int, train: bool) -> str:
        parts = [f'name: "{name}"\n', _input("data", batch, 3, 224, 224)]
        if train:
            parts.append(_input("label", batch))
        text = (EXAMPLES / name / "net.prototxt").read_text()
        scores = re.findall(r'top: "([^"]*)"', text)[-1]
        parts += [text, _output(scores, train)]
        return "".join(parts)

    return prototxt


NETS = {
    "resnet50": resnet50,
    "perceptron": perceptron,
    "mobilenet_v1": example("mobilenet_v1"),
    "densenet_121": example("densenet_121"),
}


def make(text: str, train: bool, dtype: str = "float32", **options):
    """Make a net of a prototxt, with random input; options as for Net."""
    import caffebn

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.prototxt")
        path.write_text(text)
        net = caffebn.Net(str(path), caffebn.TRAIN if train else caffebn.TEST, dtype=dtype, **options)
    for blobs in net.params.values():
        if len(blobs) == 3:  # BatchNorm: the statistics of normalised data, or numbers grow layer by layer
            mean, var, factor = blobs
            mean.data[...], var.data[...], factor.data[...] = 0, 1, 1
    data = net.blobs["data"]
    data.data[...] = random(data.data.shape)
    if train:
        label = net.blobs["label"]
        label.data[...] = np.random.default_rng(SEED).integers(10, size=label.data.shape)
    net.forward()
    return net


def select(backend: str) -> None:
    """Make the nets that follow run on a back end."""
    import caffebn

    caffebn.set_mode_gpu() if backend == "gpu" else caffebn.set_mode_cpu()


class _Net:
    """A net that is run; subclasses say which, and in which phase."""

    param_names = ["net, batch", "kept", "threads", "backend"]
    timeout = 300
    train = False

    def setup(self, case, kept, threads, backend):
        name, batch = case
        self.backend = Backend(backend, threads)
        select(backend)
        self.net = make(NETS[name](batch, self.train), self.train, keep=KEPT[kept])

    def run(self):
        self.net.forward()
        if self.train:
            self.net.backward()
        self.backend.wait()


class Inference(_Net):
    """The forward pass of a test-phase net."""

    params = [
        [("resnet50", 1), ("resnet50", 8), ("mobilenet_v1", 1), ("densenet_121", 1), ("perceptron", 1)],
        list(KEPT),
        THREADS,
        BACKENDS,
    ]

    def time_forward(self, *_):
        self.run()


class Training(_Net):
    """Forward and backward pass of a training-phase net."""

    params = [
        [("resnet50", 8), ("mobilenet_v1", 4), ("densenet_121", 2), ("perceptron", 60)],
        list(KEPT),
        THREADS,
        BACKENDS,
    ]
    train = True

    def time_forward_backward(self, *_):
        self.run()


class InferenceMemory(_Net):
    """The most memory that a process needs for the above."""

    params = [[("resnet50", 1), ("resnet50", 8)], list(KEPT), [ALL_THREADS], BACKENDS]

    def peakmem_forward(self, *_):
        self.run()


class TrainingMemory(_Net):
    params = [[("resnet50", 8)], list(KEPT), [ALL_THREADS], BACKENDS]
    train = True

    def peakmem_forward_backward(self, *_):
        self.run()


class Serving:
    """An image through each of several nets that share weights, in as many threads of Python."""

    params = [[1, 2]]
    param_names = ["threads of Python"]
    timeout = 300

    def setup(self, servers):
        Backend("cpu", 1)
        text = resnet50(1, train=False)
        self.nets = [make(text, train=False) for _ in range(servers)]
        for net in self.nets[1:]:
            net.share_with(self.nets[0])

    def time_forward(self, servers):
        helpers = [threading.Thread(target=net.forward) for net in self.nets]
        for helper in helpers:
            helper.start()
        for helper in helpers:
            helper.join()


class Construction:
    """From the text of a prototxt to a net with filled weights."""

    params = [list(NETS)]
    param_names = ["net"]
    timeout = 300

    def setup(self, name):
        Backend("cpu", ALL_THREADS)
        self.text = NETS[name](1, train=False)

    def time_make(self, name):
        make(self.text, train=False)
