"""What can be compared with a net: another net, stored activations, an ONNX model, a PyTorch module.

Each of them is a `Side`: given inputs, it says what every named thing in it came to.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caffebn.bn.graph import Graph, Value
from caffebn.bn.opening import (
    Definition,
    Weights,
    fill,
    make_net,
    open_plain,
    runnable,
    same_random_numbers,
    source_name,
)
from caffebn.errors import ArgumentError, CaffebnError, FileError, FormatError, missing_package
from caffebn.files import write_whole
from caffebn.proto import Message
from caffebn.tensors import read_tensors

__all__ = ["Activations", "NetSide", "OnnxSide", "Side", "TorchSide", "dump", "open_side", "plain_name"]

Arrays = dict[str, np.ndarray]


class Side:
    """One side of a comparison.

    Attributes
    ----------
    label : str
        What to call it.
    exact : bool
        Whether it computes in double precision.
    by_layer : bool
        Whether its names are those of layers rather than of blobs.
    """

    label = ""
    exact = False
    by_layer = False

    def run(self, inputs: Mapping[str, np.ndarray], order: Sequence[str]) -> Arrays:
        """Return arrays by name; `order` gives the names of the inputs of the net on the other side."""
        raise NotImplementedError

    def outputs(self) -> list[str]:
        """Names of what it puts out at the end; known after `run`."""
        return []


class NetSide(Side):
    """A net with its weights, run in TEST in double precision.

    Attributes
    ----------
    definition : Message
        The part that can be run: without layers of unknown types, and those behind them.
    left_out : list of str
        The names of the other layers.
    net : Net
    graph : Graph
    values : dict of ndarray by Value
        What each version of each blob came to; filled by `run`.
    """

    exact = True

    def __init__(self, definition: Definition, weights: Weights | None, label: str = ""):
        self.label = label or (str(definition) if not isinstance(definition, Message) else definition.name)
        opened = open_plain(definition, weights)
        self.definition, self.left_out = runnable(opened.definition)
        with same_random_numbers(1):
            source = "" if weights is None else source_name(weights)
            self.net = make_net(self.definition, opened.arrays, "float64", source=source)
        self.graph = Graph(self.definition, self.net)
        self.values: dict[Value, np.ndarray] = {}

    def run(self, inputs: Mapping[str, np.ndarray], order: Sequence[str] = ()) -> Arrays:
        net = self.net
        given = dict(inputs)
        if order and len(net.inputs) == len(order):
            # the same names, or else the same order
            given = {
                own: inputs[own if own in inputs else other]
                for own, other in zip(net.inputs, order, strict=True)
            }
        elif order:
            given = {name: inputs[name] for name in net.inputs if name in inputs}
        fill(net, given)
        tops = {(node.name, i): top for node in self.graph.nodes for i, top in enumerate(node.tops)}
        self.values = {}
        for layer in net.layers:
            # one by one, so that every value can be seen before a layer in place overwrites it
            net.forward(start=layer.name, end=layer.name)
            for i, name in enumerate(net.top_names[layer.name]):
                if (layer.name, i) in tops:
                    self.values[tops[layer.name, i]] = net.blobs[name].data.copy()
        return self.arrays()

    def outputs(self) -> list[str]:
        return list(self.net.outputs)

    def arrays(self) -> Arrays:
        """Return all values: ``blob`` for the last version of a blob, ``blob@layer`` for those before."""
        last = {value.name: value for value in self.values}
        return {
            value.name if last[value.name] is value else f"{value.name}@{value.maker.name}": array
            for value, array in self.values.items()
        }


class Activations(Side):
    """Stored arrays: by blob name, ``blob@layer`` for versions that a layer in place has overwritten."""

    def __init__(self, arrays: Mapping[str, np.ndarray], label: str = "stored activations"):
        self.label = label
        self.arrays = {name: np.asarray(array) for name, array in arrays.items()}

    def run(self, inputs: Mapping[str, np.ndarray], order: Sequence[str] = ()) -> Arrays:
        return dict(self.arrays)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Activations:
        """Read a .npz file, or all .npz and .npy files of a folder (the name of a .npy file is the blob's)."""
        path = Path(path)
        arrays: Arrays = {}
        files = sorted(p for p in path.rglob("*.np[yz]")) if path.is_dir() else [path]
        if not files:
            raise FileError(f"{path}: no .npy or .npz file is in this folder")
        for file in files:
            try:
                found = np.load(file, allow_pickle=False)
                if isinstance(found, np.ndarray):
                    name = file.relative_to(path) if path.is_dir() else Path(file.name)
                    arrays[name.with_suffix("").as_posix()] = found
                else:
                    with found:
                        arrays.update({name: found[name] for name in found.files})
            except FileNotFoundError:
                raise FileError(f"{file}: there is no such file") from None
            except (OSError, ValueError, EOFError) as e:
                raise FormatError(f"{file}: not arrays in numpy's format: {e}") from e
        return cls(arrays, str(path))


class OnnxSide(Side):
    """An ONNX model, run by ONNX Runtime without its optimisations, all values in between visible."""

    def __init__(self, path: str | os.PathLike[str]):
        try:
            import onnx
        except ImportError:
            raise missing_package("onnx", "onnx", "comparing with an ONNX model") from None
        try:
            import onnxruntime
        except ImportError:
            raise missing_package("onnxruntime", "onnx", "comparing with an ONNX model") from None
        self.label = str(path)
        try:
            model = onnx.load(path)
        except Exception as e:  # protobuf's own errors, of several classes
            raise FormatError(f"{path}: not an ONNX model: {e}") from None
        self._outputs = [output.name for output in model.graph.output]
        known = set(self._outputs)
        for node in model.graph.node:
            for name in node.output:
                if name and name not in known:
                    model.graph.output.extend([onnx.ValueInfoProto(name=name)])
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as e:  # the runtime's own errors, of several classes
            raise FormatError(f"{path}: ONNX Runtime cannot open this model: {e}") from None

    def run(self, inputs: Mapping[str, np.ndarray], order: Sequence[str]) -> Arrays:
        wanted = self._session.get_inputs()
        if len(wanted) != len(order):
            raise ArgumentError(
                f"{self.label}: expected {len(order)} inputs, as the net has ({', '.join(order)}), "
                f"found {', '.join(i.name for i in wanted) or 'none'}"
            )
        feed = {}
        for info, name in zip(wanted, order, strict=True):
            value = np.asarray(inputs[info.name if info.name in inputs else name], np.float32)
            fixed = [size if isinstance(size, int) else None for size in info.shape]
            if not _fits(value.shape, fixed) and value.ndim == 4 and _fits(_nhwc(value).shape, fixed):
                value = np.ascontiguousarray(_nhwc(value))
            feed[info.name] = value
        names = [output.name for output in self._session.get_outputs()]
        try:
            found = self._session.run(names, feed)
        except Exception as e:  # the runtime's own errors
            raise ArgumentError(f"{self.label}: ONNX Runtime cannot run it on these inputs: {e}") from None
        return {
            name: array for name, array in zip(names, found, strict=True) if isinstance(array, np.ndarray)
        }

    def outputs(self) -> list[str]:
        return list(self._outputs)


class TorchSide(Side):
    """A PyTorch module in eval mode; what each named submodule puts out."""

    by_layer = True

    def __init__(self, module: Any, label: str = ""):
        self.label = label or type(module).__name__
        self._module = module
        self._outputs: list[str] = []

    @classmethod
    def open(cls, where: str) -> TorchSide:
        """Call the function that ``package.module:function`` or ``file.py:function`` names."""
        name, _, function = where.rpartition(":")
        try:
            import torch  # noqa: F401
        except ImportError:
            raise missing_package("torch", "torch", "comparing with a PyTorch module") from None
        if name.endswith(".py"):
            module = _run_file(name)
        else:
            sys.path.insert(0, os.getcwd())
            try:
                module = importlib.import_module(name)
            except Exception as e:  # whatever the user's code raises
                raise _broken(where, "cannot be imported", e) from e
            finally:
                sys.path.remove(os.getcwd())
        if not hasattr(module, function):
            raise ArgumentError(f'{where}: "{name}" has no function "{function}"')
        return cls(_made(where, getattr(module, function)), where)

    @classmethod
    def open_export(cls, path: str) -> TorchSide:
        """Make the module of a file that `caffebn.export.torch` wrote, with the state_dict beside it."""
        try:
            import torch
        except ImportError:
            raise missing_package("torch", "torch", "comparing with a PyTorch module") from None
        source = _run_file(path)
        classes = [c for c in vars(source).values() if isinstance(c, type) and issubclass(c, torch.nn.Module)]
        own = [c for c in classes if c.__module__ == source.__name__]
        if not own:
            raise ArgumentError(
                f"{path}: no class of a PyTorch module is in it; for a function that returns a module write "
                f"{path}:function"
            )
        module = _made(path, own[-1])  # what it is made of comes before
        for stored in (Path(path).with_suffix(ending) for ending in (".pt", ".safetensors")):
            if stored.is_file():
                break
        else:
            raise FileError(
                f"{path}: beside it there must be its state_dict, {Path(path).stem}.pt or .safetensors"
            )
        try:
            if stored.suffix == ".pt":
                state = torch.load(stored, map_location="cpu", weights_only=True)
            else:
                state = {name: torch.from_numpy(np.array(a)) for name, a in read_tensors(stored).items()}
            module.load_state_dict(state)
        except CaffebnError:
            raise
        except Exception as e:  # unpickling raises many things
            raise FormatError(f"{stored}: not the state_dict of {path}: {e}") from e
        return cls(module, path)

    def run(self, inputs: Mapping[str, np.ndarray], order: Sequence[str]) -> Arrays:
        import torch

        found: Arrays = {}

        def keep(name: str) -> Any:
            def hook(module: Any, args: Any, output: Any) -> None:
                if isinstance(output, torch.Tensor):
                    found[name] = output.detach().cpu().numpy().copy()

            return hook

        module = self._module.eval()
        handles = [part.register_forward_hook(keep(name)) for name, part in module.named_modules() if name]
        try:
            parameter = next(module.parameters(), None)
            dtype = parameter.dtype if parameter is not None else torch.float32
            given = [torch.as_tensor(np.asarray(inputs[name]), dtype=dtype) for name in order]
            with torch.no_grad():
                result = module(*given)
        except Exception as e:  # whatever the user's code raises
            shapes = ", ".join(f"{name} {tuple(np.shape(inputs[name]))}" for name in order)
            raise _broken(self.label, f"does not run on the inputs of the net ({shapes})", e) from e
        finally:
            for handle in handles:
                handle.remove()
        if isinstance(result, Mapping):
            results = {str(name): value for name, value in result.items()}
        else:
            several = result if isinstance(result, (tuple, list)) else [result]
            results = {f"output {i}": value for i, value in enumerate(several)}
        self._outputs = list(results)
        found.update({name: value.detach().cpu().numpy() for name, value in results.items()})
        return found

    def outputs(self) -> list[str]:
        return self._outputs


def _run_file(name: str) -> Any:
    """Run a Python file as a module."""
    if not Path(name).is_file():
        raise FileError(f"{name}: there is no such file")
    spec = importlib.util.spec_from_file_location(f"caffebn_compared_{Path(name).stem}", name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as e:  # whatever the user's code raises
        raise _broken(name, "cannot be run", e) from e
    return module


def _made(where: str, function: Any) -> Any:
    """Call what makes a module."""
    import torch

    try:
        module = function()
    except Exception as e:  # whatever the user's code raises
        raise _broken(where, "failed", e) from e
    if not isinstance(module, torch.nn.Module):
        raise ArgumentError(f"{where}: expected it to return a PyTorch module, found {type(module).__name__}")
    return module


def _broken(where: str, what: str, e: Exception) -> ArgumentError:
    """Say what the user's code raised, and in which line of it."""
    frames = [f for f in traceback.extract_tb(e.__traceback__) if not f.filename.startswith(("<", __file__))]
    line = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
    return ArgumentError(f"{where} {what}: {line}{type(e).__name__}: {e}")


def open_side(words: Any, like: NetSide | None = None) -> Side:
    """Open what the words of a command, or an argument of `compare`, name.

    Parameters
    ----------
    words : str, path-like, tuple, mapping or object
        ``net.prototxt,weights.caffemodel`` or a tuple of net and weights; a .caffemodel (for the net of `like`);
        a .npz file or a folder of arrays, or a mapping; an .onnx file; a .py file that
        `caffebn.export.torch` wrote; ``module:function``, or a PyTorch module.
    like : NetSide, optional
        The other side.

    Raises
    ------
    ArgumentError
        It is none of these.
    """
    if isinstance(words, Side):
        return words
    if isinstance(words, tuple):
        return NetSide(*words)
    if isinstance(words, Message):
        return NetSide(words, None)
    if isinstance(words, Mapping):
        return Activations(words)
    if not isinstance(words, (str, os.PathLike)):
        return TorchSide(words)
    text = str(words)
    net, _, weights = text.partition(",")
    if net.endswith(".prototxt"):
        return NetSide(net, weights or None, text)
    if text.endswith((".caffemodel", ".h5")):
        if like is None:
            raise ArgumentError(f"{text}: weights alone are no net: write NET.prototxt,{text}")
        return NetSide(like.definition, text, text)
    if text.endswith(".onnx"):
        return OnnxSide(text)
    if text.endswith((".npz", ".npy")) or Path(text).is_dir():
        return Activations.read(text)
    if ":" in text:
        return TorchSide.open(text)
    if text.endswith(".py"):
        return TorchSide.open_export(text)
    raise ArgumentError(
        f'"{text}": expected NET.prototxt,WEIGHTS.caffemodel, a .caffemodel, a .npz file or a folder of arrays, an '
        ".onnx file, a .py file of caffebn export, or module:function of PyTorch"
    )


def dump(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as a .npz file, in single precision, whole or not at all."""
    if not str(path).endswith(".npz"):
        raise ArgumentError(f"{path}: activations are stored in a .npz file")
    with write_whole(path) as f:
        np.savez(f, **{name: np.asarray(array, np.float32) for name, array in arrays.items()})  # type: ignore[arg-type]


def plain_name(name: str) -> str:
    """Write a name as all tools can: lower case, one ``_`` for what is no letter or digit."""
    return re.sub(r"[^0-9a-z@]+", "_", re.sub(r":\d+$", "", name).lower()).strip("_")


def _fits(shape: Sequence[int], fixed: Sequence[int | None]) -> bool:
    return len(shape) == len(fixed) and all(f in (None, s) for s, f in zip(shape, fixed, strict=True))


def _nhwc(x: np.ndarray) -> np.ndarray:
    return x.transpose(0, 2, 3, 1)
