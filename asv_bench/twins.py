"""The net of caffebn in other runtimes, with the same weights: PyTorch, ONNX Runtime, OpenCV.

Enough layer types for the nets that are compared; another type is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["onnx_session", "opencv_net", "torch_net", "torch_trainer"]


@dataclass
class Step:
    """A layer as the others know it: BatchNorm (mean, variance) and Scale (slope, shift) are one, Split is none.

    `kind` is "conv", "batch_norm", "relu", "max_pool", "global_average", "sum", "linear" or "softmax"; `bottoms` and
    `top` are numbers of values, of which the input is 0, and each is made once.
    """

    kind: str
    bottoms: list[int]
    top: int
    arrays: list[np.ndarray] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)


def steps(net: Any) -> list[Step]:
    """Take a net apart; the loss at the end of a training net is left out."""
    made: list[Step] = []
    values: dict[str, int] = {}  # by blob name
    for layer in net.layers:
        bottoms = [values[name] for name in net.bottom_names[layer.name] if name in values]
        tops = net.top_names[layer.name]
        if layer.type == "Input":
            if not values:
                values[tops[0]] = 0
            continue
        if layer.type == "SoftmaxWithLoss":
            continue
        if layer.type == "Split":
            values.update(dict.fromkeys(tops, bottoms[0]))
            continue
        arrays = [np.array(blob.data) for blob in layer.blobs]
        if layer.type == "Scale" and made and made[-1].kind == "batch_norm" and made[-1].top == bottoms[0]:
            made[-1].arrays[2:] = arrays
            values[tops[0]] = made[-1].top
            continue
        kind, options = _translated(layer)
        if kind == "batch_norm":
            mean, var, factor = arrays
            share = 1 / factor if factor else factor
            arrays = [mean * share, var * share]
        top = values[tops[0]] = len(made) + 1
        made.append(Step(kind, bottoms, top, arrays, options))
    return made


def _translated(layer: Any) -> tuple[str, dict[str, Any]]:
    spec = layer.spec
    if layer.type == "Convolution":
        p = spec.convolution_param
        return "conv", {
            "kernel": p.kernel_size[0],
            "stride": p.stride[0] if p.stride else 1,
            "pad": p.pad[0] if p.pad else 0,
            "group": p.group,
        }
    if layer.type == "BatchNorm":
        return "batch_norm", {"eps": spec.batch_norm_param.eps}
    if layer.type == "ReLU" and not spec.relu_param.negative_slope:
        return "relu", {}
    if layer.type == "Pooling":
        p = spec.pooling_param
        if p.pool == "MAX":
            return "max_pool", {"kernel": p.kernel_size, "stride": p.stride, "pad": p.pad}
        if p.global_pooling:
            return "global_average", {}
    if layer.type == "Eltwise" and spec.eltwise_param.operation == "SUM" and not spec.eltwise_param.coeff:
        return "sum", {}
    if layer.type == "InnerProduct":
        return "linear", {}
    if layer.type == "Softmax":
        return "softmax", {}
    raise NotImplementedError(f'layer "{layer.name}" ({layer.type})')


def last_uses(made: Sequence[Step]) -> Iterator[list[int]]:
    """Yield for each step the values that nobody reads after it."""
    last = {value: i for i, step in enumerate(made) for value in step.bottoms}
    for i in range(len(made)):
        yield [value for value, use in last.items() if use == i]


# -- PyTorch ---------------------------------------------------------------------------------------


def torch_net(net: Any) -> Any:
    """Return an `nn.Module` that computes what the net computes, with copies of its weights."""
    import torch
    from torch import nn

    def module(step: Step) -> nn.Module | Callable:
        o, a = step.options, [torch.from_numpy(np.ascontiguousarray(array)) for array in step.arrays]
        if step.kind == "conv":
            outputs, inputs = a[0].shape[:2]
            made = nn.Conv2d(
                inputs * o["group"], outputs, o["kernel"], o["stride"], o["pad"], groups=o["group"], bias=len(a) > 1
            )  # fmt: skip
        elif step.kind == "linear":
            made = nn.Linear(a[0].shape[1], a[0].shape[0], bias=len(a) > 1)
        elif step.kind == "batch_norm":
            flat = net.inputs and len(net.blobs[net.inputs[0]].shape) == 2
            made = (nn.BatchNorm1d if flat else nn.BatchNorm2d)(len(a[0]), o["eps"], affine=len(a) > 2)
            made.running_mean.copy_(a.pop(0))
            made.running_var.copy_(a.pop(0))
        elif step.kind == "relu":
            return nn.ReLU(inplace=True)
        elif step.kind == "max_pool":
            return nn.MaxPool2d(o["kernel"], o["stride"], o["pad"], ceil_mode=True)
        elif step.kind == "global_average":
            return nn.AdaptiveAvgPool2d(1)
        elif step.kind == "softmax":
            return nn.Softmax(dim=1)
        else:
            raise NotImplementedError(step.kind)
        with torch.no_grad():
            for parameter, array in zip((made.weight, made.bias), a, strict=False):
                parameter.copy_(array)
        return made

    class Twin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            made = steps(net)
            self.parts = nn.ModuleList(nn.Identity() if s.kind == "sum" else module(s) for s in made)
            self.plan = [
                (part, s.kind, s.bottoms, s.top, gone)
                for part, s, gone in zip(self.parts, made, last_uses(made), strict=True)
            ]

        def forward(self, x: Any) -> Any:
            values = {0: x}
            for part, kind, bottoms, top, gone in self.plan:
                first = values[bottoms[0]]
                if kind == "sum":
                    # into the branch that BatchNorm made, as torchvision's ResNet does; nobody else reads it
                    y = (
                        values[bottoms[-1]].add_(first)
                        if bottoms[-1] in gone
                        else first + values[bottoms[-1]]
                    )
                else:
                    y = part(first.flatten(1) if kind == "linear" else first)
                first = None
                for value in gone:
                    del values[value]
                values[top] = y
            return y

    return Twin()


def torch_trainer(
    net: Any,
    data: np.ndarray,
    label: np.ndarray,
    rate: float,
    momentum: float,
    decay: float,
    fused: bool = False,
) -> Callable[[], Any]:
    """Return a function that makes one step of stochastic gradient descent and returns the loss (a tensor)."""
    import torch

    module = torch_net(net).train()
    x, target = torch.from_numpy(data.copy()), torch.from_numpy(label.astype(np.int64))
    optimizer = torch.optim.SGD(module.parameters(), rate, momentum=momentum, weight_decay=decay, fused=fused)

    def step() -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(x), target)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


# -- ONNX ------------------------------------------------------------------------------------------


def onnx_model(net: Any) -> bytes:
    """Return the net as an ONNX model."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, initializers = [], []

    def add(operator: str, step: Step, inputs: Sequence[str], **attributes: Any) -> None:
        arrays = step.arrays
        if operator == "BatchNormalization":
            mean, var, *affine = arrays
            arrays = [*(affine or (np.ones_like(mean), np.zeros_like(mean))), mean, var]
        names = []
        for i, array in enumerate(arrays):
            names.append(f"w{step.top}_{i}")
            initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), names[-1]))
        nodes.append(helper.make_node(operator, [*inputs, *names], [f"v{step.top}"], **attributes))

    made = steps(net)
    for step in made:
        o, inputs = step.options, [f"v{i}" for i in step.bottoms]
        if step.kind == "conv":
            add(
                "Conv", step, inputs, kernel_shape=[o["kernel"]] * 2, strides=[o["stride"]] * 2,
                pads=[o["pad"]] * 4, group=o["group"],
            )  # fmt: skip
        elif step.kind == "batch_norm":
            add("BatchNormalization", step, inputs, epsilon=o["eps"])
        elif step.kind == "relu":
            add("Relu", step, inputs)
        elif step.kind == "max_pool":
            add(
                "MaxPool", step, inputs, kernel_shape=[o["kernel"]] * 2, strides=[o["stride"]] * 2,
                pads=[o["pad"]] * 4, ceil_mode=1,
            )  # fmt: skip
        elif step.kind == "global_average":
            add("GlobalAveragePool", step, inputs)
        elif step.kind == "sum":
            add("Add", step, inputs)
        elif step.kind == "linear":
            nodes.append(helper.make_node("Flatten", inputs, [f"flat{step.top}"]))
            add("Gemm", step, [f"flat{step.top}"], transB=1)
        elif step.kind == "softmax":
            add("Softmax", step, inputs, axis=1)
    shape = net.blobs[net.inputs[0]].shape
    graph = helper.make_graph(
        nodes,
        net.name or "net",
        [helper.make_tensor_value_info("v0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"v{made[-1].top}", TensorProto.FLOAT, None)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


def onnx_session(net: Any, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that runs the net in ONNX Runtime, with all its optimisations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(onnx_model(net), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"v0": x})[0]


# -- OpenCV ----------------------------------------------------------------------------------------


def opencv_net(net: Any, prototxt: str, folder: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that runs the net in OpenCV, which reads the two files of Caffe itself."""
    import cv2

    cv2.setNumThreads(threads)
    text, weights = folder / "opencv.prototxt", folder / "opencv.caffemodel"
    text.write_text(prototxt)
    net.save(weights)
    other = cv2.dnn.readNetFromCaffe(str(text), str(weights))
    other.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)

    def run(x: np.ndarray) -> np.ndarray:
        other.setInput(x)
        return other.forward()

    return run
