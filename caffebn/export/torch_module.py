"""PyTorch: a net as the source of a module that people can read and train, and its state_dict."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from caffebn.errors import ArgumentError, missing_package
from caffebn.export.graph import Graph, Node, Value, trace
from caffebn.export.onnx_ops import refusal
from caffebn.export.torch_ops import CONVERTERS, HELPERS
from caffebn.export.verify import BATCHES, TOLERANCE, Run, Verification, verify
from caffebn.files import replacing, write_whole
from caffebn.net import Net
from caffebn.tensors import write_tensors

__all__ = ["TorchExport", "torch"]

BATCH_NORM = ("text", "train", "frozen")

# names that a module has already, or that the source uses
_TAKEN = frozenset(
    "F T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double "
    "dump_patches eval "
    "extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict modules "
    "mtia named_buffers named_children named_modules named_parameters nn parameters register_buffer register_module "
    "register_parameter requires_grad_ self set_extra_state set_submodule share_memory state_dict to to_empty torch "
    "train training type xpu zero_grad param_groups arg_max".split()
)


@dataclass
class TorchExport:
    """A module's source and tensors, and how they came about.

    Attributes
    ----------
    source : str
        Python source with one class.
    class_name : str
    state : dict of ndarray
        The state_dict.
    notes : list of str
        What training in PyTorch does otherwise than in Caffe; stands in the source, too.
    verification : Verification or None
        What PyTorch said; None when it was not asked.
    """

    source: str
    class_name: str
    state: dict[str, np.ndarray]
    notes: list[str] = field(default_factory=list)
    verification: Verification | None = None


def torch(
    net: Net,
    path: str | os.PathLike[str] | None = None,
    *,
    state: str = "pt",
    class_name: str | None = None,
    batch_norm: str = "text",
    fixed_batch: bool = False,
    outputs: Sequence[str] | None = None,
    check: bool = True,
    batches: Sequence[int] = BATCHES,
    tolerance: float = TOLERANCE,
) -> TorchExport:
    """Write a net as the source of a ``torch.nn.Module`` with a state_dict beside it.

    The modules have the names of the layers and the variables those of the blobs.  A BatchNorm and the Scale
    behind it become one ``nn.BatchNorm2d`` whose running statistics are Caffe's sums divided by the factor.

    Parameters
    ----------
    net : Net
        In the phase TEST, with its weights.
    path : path-like, optional
        A file that ends in .py; the state_dict is written beside it with the ending `state`.
    state : {"pt", "safetensors"}
        Format of the state_dict; writing .pt needs torch.
    class_name : str, optional
        Name of the class; made of the net's name by default.
    batch_norm : {"text", "train", "frozen"}
        What BatchNorm does in training: what the text says (``use_global_stats: true``, as many deploy nets have it,
        keeps the stored statistics), batch statistics, or stored ones.  ``use_global_stats: false`` always
        stays.
    fixed_batch, outputs, check, batches, tolerance
        As for `caffebn.export.onnx`.

    Returns
    -------
    TorchExport

    Raises
    ------
    MissingPackageError
        torch is not installed, which checking and .pt need.
    NetError
        A layer that has no counterpart; the message names it.
    VerifyError
        The module computes something else; nothing is written.
    """
    if state not in ("pt", "safetensors"):
        raise ArgumentError(f"state: expected pt or safetensors, found {state!r}")
    if batch_norm not in BATCH_NORM:
        raise ArgumentError(f"batch_norm: expected one of {', '.join(BATCH_NORM)}, found {batch_norm!r}")
    if path is not None and Path(path).suffix != ".py":
        raise ArgumentError(f"{path}: the source of a module is written to a file that ends in .py")
    class_name = class_name or _class_name(net.name)
    if not class_name.isidentifier() or keyword.iskeyword(class_name) or class_name in HELPERS:
        raise ArgumentError(f"class_name: {class_name!r} cannot be the name of the class")
    graph = trace(net, fixed_batch, outputs, drop_identities=False)
    made = _Source(graph, class_name, batch_norm)
    stored = Path(path).with_suffix(f".{state}") if path is not None else None
    result = TorchExport(made.text(stored), class_name, made.state, made.all_notes())
    if check:
        sizes = None if fixed_batch else batches
        run = _runner(result.source, class_name, result.state, graph)
        result.verification = verify(graph, run, "PyTorch", sizes, tolerance)
    if path is not None and stored is not None:
        if state == "pt":
            package = _package("writing a .pt file (weights as .safetensors need none)")
            with replacing(stored) as temporary:
                package.save(_tensors(package, result.state), temporary)
        else:
            write_tensors(stored, result.state)
        with write_whole(path) as f:
            f.write(result.source.encode())
    return result


def _package(purpose: str) -> ModuleType:
    try:
        import torch
    except ImportError:
        raise missing_package("torch", "torch", purpose) from None
    return torch


def _tensors(package: ModuleType, state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {name: package.from_numpy(np.array(value)) for name, value in state.items()}


def load_source(source: str, class_name: str) -> Any:
    """Run generated source and return an instance of its class."""
    spec = importlib.util.spec_from_loader("caffebn_generated", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    exec(compile(source, f"<{class_name}>", "exec"), module.__dict__)
    return getattr(module, class_name)()


def _runner(source: str, class_name: str, state: Mapping[str, np.ndarray], graph: Graph) -> Run:
    package = _package("verifying a module (which --no-check leaves out)")
    module = load_source(source, class_name)
    module.load_state_dict(_tensors(package, state))
    module.eval()
    order = [value.blob for value in graph.inputs]

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with package.no_grad():
            found = module(*(package.from_numpy(inputs[name]) for name in order))
        values = found if isinstance(found, tuple) else (found,)
        return {name: value.numpy() for name, value in zip(graph.outputs, values, strict=True)}

    return run


def _class_name(name: str) -> str:
    """Net names such as "ResNet-50" as that of a class."""
    words = "".join(word[:1].upper() + word[1:] for word in re.split(r"\W+|_", name))
    return words if words.isidentifier() and words not in HELPERS else f"Net{words}"


class _Source:
    """The source under construction; the `Writer` of the converters."""

    def __init__(self, graph: Graph, class_name: str, batch_norm: str):
        self.graph, self.class_name, self.batch_norm = graph, class_name, batch_norm
        self.state: dict[str, np.ndarray] = {}
        self.notes: list[str] = []
        self.batch_norms: list[tuple[float, float]] = []
        self.frozen = 0
        self.declarations: list[str] = []
        self.shared: list[str] = []
        self.lines: list[str] = []
        self.helpers: list[str] = []
        self.multipliers: dict[str, tuple[float, float]] = {}
        self._attributes: set[str] = set(_TAKEN)
        self._variables: dict[str, str] = {}
        self._places: dict[tuple, str] = {}
        self._inputs = [self.var(value) for value in graph.inputs]
        for node in graph.nodes:
            convert = CONVERTERS.get(node.type)
            if convert is None:
                raise refusal(node)
            self._node = node
            convert(self, node)
        self._outputs = [self.var(value) for value in graph.outputs.values()]

    # -- what converters call

    def var(self, value: Value) -> str:
        """The variable that holds a value: named after its blob, so that layers in place overwrite it."""
        if value.blob not in self._variables:
            self._variables[value.blob] = _identifier(value.blob, {*self._variables.values(), *_TAKEN})
        return self._variables[value.blob]

    def declare(self, name: str, expression: str, **tensors: np.ndarray) -> str:
        """Declare a module or parameter with its tensors; return ``self.<attribute>``."""
        attribute = _identifier(name, self._attributes)
        self._attributes.add(attribute)
        self.declarations.append(f"self.{attribute} = {expression}")
        for i, (kind, array) in enumerate(tensors.items()):
            key = f"{attribute}.{kind}" if kind else attribute
            place = (np.asarray(array).__array_interface__["data"][0], np.shape(array))
            if kind in ("weight", "bias", "") and place in self._places:
                self.shared.append(f"self.{key} = self.{self._places[place]}")
            self._places.setdefault(place, key)
            dtype = np.asarray(array).dtype if kind == "num_batches_tracked" else np.float32
            self.state[key] = np.asarray(array, dtype)
            self._note_rates(key, kind, i)
        return f"self.{attribute}"

    def line(self, node: Node, expression: str) -> None:
        """Add the line that makes a node's tops."""
        tops = ", ".join(self.var(top) for top in node.tops)
        self.lines.append(f"{tops} = {expression}")

    def need(self, helper: str) -> str:
        """Put one of `HELPERS` into the source; return its name."""
        if helper not in self.helpers:
            self.helpers.append(helper)
        return helper

    # -- the text

    def _note_rates(self, key: str, kind: str, index: int) -> None:
        """Keep the multipliers of learning rate and weight decay that the text gives a parameter."""
        if kind not in ("weight", "bias", ""):
            return
        node = self._node
        layer = node.scale if node.type == "BatchNorm" and node.scale is not None else node.layer
        entries = layer.spec.param
        if index < len(entries):
            rates = entries[index].lr_mult, entries[index].decay_mult
            if rates != (1.0, 1.0):
                self.multipliers[key] = rates

    def all_notes(self) -> list[str]:
        """What training does otherwise than in Caffe."""
        notes = list(self.notes)
        if self.frozen and self.batch_norm == "text":
            notes.append(
                f"{self.frozen} BatchNorm use their stored statistics in training, too, as use_global_stats: true "
                f"in the "
                'text says; exported with batch_norm "train" they take those of the batch'
            )
        averaging = sorted({(b, f) for b, f in self.batch_norms if b < 1})
        off = [(b, f) for b, f in averaging if abs(f * (1 - b) - 1) > 0.02]
        if off:
            b, f = off[0]
            notes.append(
                "running statistics: Caffe gives the first batches of a continued training the weight 1 / (fraction * "
                f"factor + 1), here {1 / (b * f + 1):.3g} (factor {f:.6g}), which falls to {1 - b:.3g} (momentum) as "
                f"the factor grows to {1 / (1 - b):.6g}; PyTorch gives it from the start"
            )
        if self.batch_norms:
            notes.append(
                "a channel with a single value in the whole batch is an error when PyTorch trains; Caffe takes 0"
            )
        return notes

    def text(self, stored: Path | None) -> str:
        """The whole file."""
        outputs = ", ".join(self._outputs)
        lines = [
            f'"""{_plain(self.graph.net.name) or "A net"}, written by caffebn from a Caffe net.',
            "",
            *self._how_to_load(stored),
            "",
            *(
                f"{name}: {self._shape(value)}"
                for name, value in zip(self._inputs, self.graph.inputs, strict=True)
            ),
            *(
                f"returns {name}: {self._shape(v)}"
                for name, v in zip(self._outputs, self.graph.outputs.values(), strict=True)
            ),
        ]
        notes = self.all_notes()
        if notes:
            lines += ["", "Training here and in Caffe:", *(f"- {_plain(note)}" for note in notes)]
        lines += ['"""', "", "import torch", "import torch.nn.functional as F", "from torch import nn"]
        for helper in self.helpers:
            lines += ["", *HELPERS[helper].rstrip().split("\n")]
        lines += [
            "",
            "",
            f"class {self.class_name}(nn.Module):",
            "    def __init__(self):",
            "        super().__init__()",
        ]
        lines += [f"        {line}" for line in [*self.declarations, *self.shared]]
        lines += ["", f"    def forward({', '.join(['self', *self._inputs])}):"]
        lines += [f"        {line}" for line in self.lines]
        lines += [f"        return {outputs}"]
        if self.multipliers:
            lines += self._param_groups()
        return "\n".join(lines) + "\n"

    def _how_to_load(self, stored: Path | None) -> list[str]:
        name = stored.name if stored is not None else "weights.pt"
        load = (
            f'safetensors.torch.load_file("{name}")'
            if name.endswith(".safetensors")
            else f'torch.load("{name}", weights_only=True)'
        )
        return [f"    net = {self.class_name}()", f"    net.load_state_dict({load})", "    net.eval()"]

    @staticmethod
    def _shape(value: Value) -> str:
        return "(" + ", ".join("N" if n < 0 else str(n) for n in value.sizes) + ")"

    def _param_groups(self) -> list[str]:
        rates = [
            f"            {name!r}: ({lr:g}, {decay:g})," for name, (lr, decay) in self.multipliers.items()
        ]
        return [
            "",
            "    def param_groups(self, lr, weight_decay=0.0):",
            '        """Groups for an optimizer with the lr_mult and decay_mult of the prototxt."""',
            "        multipliers = {",
            *rates,
            "        }",
            "        groups = {}",
            "        for name, parameter in self.named_parameters():",
            "            groups.setdefault(multipliers.get(name, (1, 1)), []).append(parameter)",
            "        return [",
            '            {"params": p, "lr": lr * rate, "weight_decay": weight_decay * decay}',
            "            for (rate, decay), p in groups.items()",
            "        ]",
        ]


def _plain(text: str) -> str:
    """Text that may stand in a docstring."""
    return text.replace("\\", "/").replace('"""', "'''")


def _identifier(name: str, taken: set[str] | frozenset[str]) -> str:
    """A Python name like `name` that is not taken."""
    made = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
    if made[0].isdigit():
        made = f"_{made}"
    while made in taken or keyword.iskeyword(made):
        made += "_"
    return made
