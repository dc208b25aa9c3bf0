"""ONNX: a net as a model that ONNX Runtime and others run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from caffebn.errors import ArgumentError, missing_package
from caffebn.export.graph import DYNAMIC, OPEN, Graph, Value, trace
from caffebn.export.onnx_ops import CONVERTERS, check_open, refusal
from caffebn.export.preprocess import Preprocess
from caffebn.export.verify import BATCHES, TOLERANCE, Run, Verification, verify
from caffebn.files import write_whole
from caffebn.net import Net

__all__ = ["OPSET", "OPSETS", "OnnxExport", "onnx"]

OPSET = 23
"""The opset that is written when none is asked for."""
OPSETS = range(13, 27)
"""The opsets that can be written."""


@dataclass
class OnnxExport:
    """A model and how it came about.

    Attributes
    ----------
    model : onnx.ModelProto
    notes : list of str
        What deserves a look.
    verification : Verification or None
        What ONNX Runtime said; None when it was not asked.
    """

    model: Any
    notes: list[str] = field(default_factory=list)
    verification: Verification | None = None


def onnx(
    net: Net,
    path: str | os.PathLike[str] | None = None,
    *,
    opset: int = OPSET,
    fixed_batch: bool = False,
    open_size: bool = False,
    outputs: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    check: bool = True,
    batches: Sequence[int] = BATCHES,
    tolerance: float = TOLERANCE,
) -> OnnxExport:
    """Make an ONNX model of a net, verify it, write it.

    The model's inputs and outputs have the names of the net's blobs (an input that is an output, too, is called
    ``<name>/output`` there), and its batch axis is open.  A BatchNorm and
    the Scale behind it become one BatchNormalization with the statistics themselves (sums divided by the factor);
    `caffebn.bn.fold` makes a net without them.
    Poolings have their padding written out, so that windows and divisors are Caffe's; with `open_size` in a form that
    is right for each size.

    Parameters
    ----------
    net : Net
        In the phase TEST, with its weights.
    path : path-like, optional
        File to write, whole or not at all.
    opset : int
        Version of the operators; `OPSETS` are the possible ones.
    fixed_batch : bool
        Write the net's own shapes as the only ones.
    open_size : bool
        Leave height and width of the inputs of four axes open, too: for nets without layers that need one size.
    outputs : sequence of str, optional
        Blobs to end in; the net's outputs by default.
    preprocess : Preprocess, optional
        Put what is done to pictures into the model.
    check : bool
        Run ONNX Runtime and compare.
    batches : sequence of int
        Batch sizes to compare.
    tolerance : float
        Largest difference allowed, as a part of the largest value (at least 1) of each output.

    Returns
    -------
    OnnxExport

    Raises
    ------
    MissingPackageError
        onnx, or with `check` onnxruntime, is not installed.
    NetError
        A layer that ONNX cannot express; the message names it.
    VerifyError
        ONNX Runtime computes something else; nothing is written.
    """
    package = _package()
    if opset not in OPSETS:
        raise ArgumentError(f"opset: expected {OPSETS[0]} to {OPSETS[-1]}, found {opset}")
    graph = trace(net, fixed_batch, outputs, open_size=open_size)
    check_open(graph.nodes)
    if preprocess is not None:
        if preprocess.input is None and len(graph.inputs) == 1:
            preprocess.input = graph.inputs[0].blob
        preprocess.check([v.blob for v in graph.inputs], _shape_of(graph, preprocess.input))
        mean = preprocess.mean_array()
        if open_size and mean is not None and mean.shape[1:] != (1, 1):
            raise ArgumentError(
                "mean: a picture of means has one height and width: give one value for each channel"
            )
    result = OnnxExport(_Model(package, graph, opset, preprocess).build(), _notes(graph))
    package.checker.check_model(result.model, full_check=True)
    if check:
        sizes = None if fixed_batch else batches
        run = _runtime(result.model, list(graph.outputs))
        result.verification = verify(graph, run, "ONNX Runtime", sizes, tolerance, preprocess)
    if path is not None:
        with write_whole(path) as f:
            f.write(result.model.SerializeToString())
    return result


def _package() -> ModuleType:
    try:
        import onnx
    except ImportError:
        raise missing_package("onnx", "onnx", "export to ONNX") from None
    return onnx


def _runtime(model: Any, blobs: Sequence[str]) -> Run:
    try:
        import onnxruntime
    except ImportError:
        raise missing_package(
            "onnxruntime", "onnx", "verifying a model (which --no-check leaves out)"
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(blobs, session.run(None, dict(inputs)), strict=True))

    return run


def _shape_of(graph: Graph, name: str | None) -> tuple[int, ...]:
    return next((v.shape for v in graph.inputs if v.blob == name), ())


def _notes(graph: Graph) -> list[str]:
    notes = []
    for node in graph.nodes:
        if node.type != "BatchNorm":
            continue
        if not node.layer.use_global_stats:  # type: ignore[attr-defined]
            notes.append(
                f'layer "{node.name}" (BatchNorm): use_global_stats: false, so that what comes out for a picture '
                "depends on the others in its batch; the model does the same"
            )
    return notes


class _Model:
    """The model under construction; the `Builder` of the converters."""

    def __init__(self, package: ModuleType, graph: Graph, opset: int, preprocess: Preprocess | None):
        self.package, self.graph, self.opset, self.preprocess = package, graph, opset, preprocess
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.names = {value.name for node in graph.nodes for value in [*node.tops, *node.bottoms]}
        self.names.update(graph.outputs)
        self.places: dict[tuple, str] = {}
        self.operators: set[str] = set()
        self.layer = ""

    def op(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str] | None = None, **attributes: Any
    ) -> str:
        """Add an operator; return the name of its first output."""
        made = list(outputs) if outputs else [_unused(f"{self.layer}/{kind}", self.names)]
        name = _unused(self.layer if outputs else f"{self.layer}/{kind}", self.operators)
        self.nodes.append(self.package.helper.make_node(kind, list(inputs), made, name=name, **attributes))
        return made[0]

    def constant(self, name: str, values: Any, dtype: type = np.float32) -> str:
        """Add a constant, unless the same one is there already; return its name."""
        array = np.ascontiguousarray(np.asarray(values, dtype)).reshape(np.shape(values))
        old = self.constants.get(name)
        if (
            old is not None
            and old.shape == array.shape
            and np.array_equal(old, array, equal_nan=array.dtype.kind == "f")
        ):
            return name
        # parameters shared by name lie in the same place
        place = (array.__array_interface__["data"][0], array.shape)
        if place not in self.places:
            self.places[place] = _unused(name, self.names)
            self.constants[self.places[place]] = array
        return self.places[place]

    def build(self) -> Any:
        """Convert all layers; return the ModelProto."""
        helper, graph = self.package.helper, self.graph
        inputs = [self._input(value) for value in graph.inputs]
        for node in graph.nodes:
            convert = CONVERTERS.get(node.type)
            if convert is None:
                raise refusal(node)
            self.layer = node.name
            convert(self, node)
        outputs = []
        blobs = {value.blob for value in graph.inputs}
        for blob, value in graph.outputs.items():
            # an input that a layer works on in place is an output under another name
            name = _unused(f"{blob}/output", self.names) if blob in blobs else blob
            if value.name != name:
                self.layer = name
                self.op("Identity", [value.name], [name])
            outputs.append(self._info(name, value.sizes))
        initializers = [self.package.numpy_helper.from_array(a, n) for n, a in self.constants.items()]
        made = helper.make_graph(self.nodes, graph.net.name or "net", inputs, outputs, initializers)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(
            made,
            opset_imports=opsets,
            producer_name="caffebn",
            ir_version=helper.find_min_ir_version_for(opsets),
        )
        return self.package.shape_inference.infer_shapes(model)

    def _info(self, name: str, sizes: Sequence[int], kind: int = 1) -> Any:
        shape = ["batch" if s == DYNAMIC and i == 0 else None if s < 0 else s for i, s in enumerate(sizes)]
        if sizes.count(OPEN) == 2 and name in {value.blob for value in self.graph.inputs}:
            first = sizes.index(OPEN)
            shape[first : first + 2] = ["height", "width"]
        return self.package.helper.make_tensor_value_info(name, kind, shape)

    def _input(self, value: Value) -> Any:
        p = self.preprocess
        if p is None or p.input != value.blob:
            return self._info(value.name, value.sizes)
        # the pictures have the name of the input; what the net reads gets another
        self.layer = "preprocess"
        x = name = value.name
        steps: list[tuple[str, list[str], dict[str, Any]]] = []
        if p.dtype == "uint8":
            steps.append(("Cast", [], {"to": 1}))
        if p.layout == "nhwc":
            steps.append(("Transpose", [], {"perm": [0, 3, 1, 2]}))
        if p.channel_swap is not None:
            order = self.constant("preprocess/channel_swap", list(p.channel_swap), np.int64)
            steps.append(("Gather", [order], {"axis": 1}))
        if p.raw_scale != 1:
            steps.append(("Mul", [self.constant("preprocess/raw_scale", np.float32(p.raw_scale))], {}))
        mean = p.mean_array()
        if mean is not None:
            steps.append(("Sub", [self.constant("preprocess/mean", mean)], {}))
        if p.input_scale != 1:
            steps.append(("Mul", [self.constant("preprocess/input_scale", np.float32(p.input_scale))], {}))
        for kind, more, attributes in steps:
            x = self.op(kind, [x, *more], None, **attributes)
        value.name = x
        sizes = [value.sizes[0], *p.shape(value.sizes)[1:]]
        return self._info(name, sizes, 2 if p.dtype == "uint8" else 1)


def _unused(name: str, taken: set[str]) -> str:
    """Take the name, or the name with the first number that makes it a new one."""
    candidate, i = name, 1
    while candidate in taken:
        i += 1
        candidate = f"{name}_{i}"
    taken.add(candidate)
    return candidate
