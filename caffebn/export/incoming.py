"""Weights from elsewhere: a PyTorch state_dict, .npz or .safetensors, into the layers of a net.

The unit is the module: ``layer1.0.bn1.weight``, ``.bias``, ``.running_mean``, ``.running_var`` are one, and belong to
a BatchNorm and the Scale behind it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from caffebn.blob import times
from caffebn.dialects.neighbours import from_framework
from caffebn.errors import (
    ArgumentError,
    FileError,
    FormatError,
    WeightsError,
    did_you_mean,
    missing_package,
    some,
)
from caffebn.layers import Layer
from caffebn.net import Net
from caffebn.tensors import read_tensors
from caffebn.weights import by_layer, copy_weights

__all__ = ["Imported", "import_weights", "read_state"]

_NORM = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


@dataclass
class Imported:
    """What went where.

    Attributes
    ----------
    source : str
    rows : list of (str, str, str)
        Layer, module, and what the layer got.
    unused : list of str
        Names of arrays that no layer took.
    untouched : list of str
        Layers with parameters that got none.
    notes : list of str
        What deserves a look.
    """

    source: str
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    untouched: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Slot:
    """A layer of the net that takes one module; a BatchNorm with the Scale behind it is one."""

    layer: Layer
    scale: Layer | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What the arrays of the module should look like, by name."""
        layer = self.layer
        if layer.type == "BatchNorm":
            c = layer.blobs[0].shape
            found = {"running_mean": c, "running_var": c}
            if self.scale is not None:
                found["weight"] = c
                if len(self.scale.blobs) > 1:
                    found["bias"] = c
            return found
        names = ("bias",) if layer.type == "Bias" else ("weight", "bias")
        found = {name: blob.shape for name, blob in zip(names, layer.blobs, strict=False)}
        if layer.type == "InnerProduct" and layer.param.transpose:
            found["weight"] = found["weight"][::-1]
        return found

    @property
    def optional(self) -> set[str]:
        return {"weight", "bias"} if self.layer.type == "BatchNorm" else set()


def read_state(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read arrays by name: a .npz, a .safetensors, or a .pt or .pth with a PyTorch state_dict.

    A file of PyTorch is read with ``weights_only``, so that nothing in it is run.  A dict that has the state_dict under
    ``state_dict``, ``model`` or ``model_state_dict`` is looked into.

    Raises
    ------
    MissingPackageError
        torch is not installed, for .pt and .pth.
    FileError, FormatError
        The file cannot be read, or holds something else.
    """
    if Path(path).suffix not in (".pt", ".pth", ".bin"):
        return read_tensors(path)
    try:
        import torch
    except ImportError:
        raise missing_package("torch", "torch", f"{path}: reading a file of PyTorch") from None
    if not Path(path).is_file():
        raise FileError(f"{path}: there is no such file")
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # whatever a damaged or hostile file makes it raise
        raise FormatError(
            f"{path}: PyTorch cannot read it as weights alone ({str(e).splitlines()[0][:200]}); save "
            "model.state_dict(), not the model"
        ) from None
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise FormatError(f"{path}: expected a state_dict, names with tensors, found {type(state).__name__}")
    return {
        str(name): value.to(torch.float32).numpy() if value.is_floating_point() else value.numpy()
        for name, value in state.items()
    }


def import_weights(
    net: Net,
    source: str | os.PathLike[str] | Mapping[str, np.ndarray],
    mapping: Mapping[str, str] | None = None,
    by_order: bool = False,
) -> Imported:
    """Put weights of another framework into a net.

    A module goes to the layer that `mapping` names, else to the layer of its name (``layer1.0.conv1`` is also
    ``layer1_0_conv1`` and ``layer1/0/conv1``), else, with `by_order`, the modules that are left go to the layers
    that are left, kind by kind in the order of both; every shape has to fit.  A BatchNorm gets running_mean and
    running_var as sums with the factor 1 / (1 - moving_average_fraction), with which training goes on, and the
    Scale behind it weight and bias.  Nothing is changed unless everything fits.

    Parameters
    ----------
    net : Net
    source : path-like or mapping
        A .pt, .pth, .npz or .safetensors file, or arrays by name.  Names such as ``conv1/0``, which
        `caffebn.export.arrays` writes, are layers with the indices of their blobs, and the values Caffe's own.
    mapping : mapping, optional
        Layer name -> module name.  For a BatchNorm and its Scale the BatchNorm's.
    by_order : bool
        Match by order what names do not match.

    Returns
    -------
    Imported

    Raises
    ------
    WeightsError
        Shapes do not fit, or nothing matches.
    ArgumentError
        `mapping` names layers or modules that do not exist.
    FileError, FormatError, MissingPackageError
        The file cannot be read.
    """
    is_mapping = isinstance(source, Mapping)
    arrays = dict(source) if is_mapping else read_state(source)  # type: ignore[arg-type]
    report = Imported("arrays" if is_mapping else str(source))
    if arrays and all(_CAFFES.fullmatch(name) for name in arrays):
        return _from_caffe(net, arrays, mapping or {}, report)
    modules = _modules(arrays)
    slots = _slots(net)
    pairs = _by_mapping(slots, modules, mapping or {})
    pairs |= _by_name(
        {s: slots[s] for s in slots if s not in pairs},
        {m: modules[m] for m in modules if m not in pairs.values()},
    )
    left_slots = {s: slots[s] for s in slots if s not in pairs}
    left_modules = {m: modules[m] for m in modules if m not in pairs.values()}
    if by_order:
        pairs |= _by_order(left_slots, left_modules, report.source)
    if not pairs:
        raise WeightsError(
            f"{report.source}: no module has the name of a layer (modules: {some(modules)}; layers: "
            f"{some(slots)}): give "
            "a mapping, or match by order (--by-order)"
        )
    copies: list[tuple[np.ndarray, np.ndarray]] = []
    for name in slots:
        if name in pairs:
            copies += _fit(slots[name], pairs[name], modules[pairs[name]], report)
    for target, values in copies:
        target[...] = values
    used = set(pairs.values())
    report.unused = [f"{m}.{k}".lstrip(".") for m, kinds in modules.items() if m not in used for k in kinds]
    report.untouched = [name for name in slots if name not in pairs]
    return report


_CAFFES = re.compile(r"(.+)/(\d+)")


def _from_caffe(
    net: Net, arrays: Mapping[str, np.ndarray], mapping: Mapping[str, str], report: Imported
) -> Imported:
    """Take arrays named ``<layer>/<index of the blob>``, as `arrays` writes them: Caffe's own values."""
    layers = by_layer(report.source, arrays)
    for name, stored in mapping.items():
        if name not in net.params:
            raise ArgumentError(
                f'mapping: there is no layer "{name}" with weights{did_you_mean(name, net.params)}'
            )
        if stored not in layers:
            raise ArgumentError(
                f'mapping: there is no "{stored}" in {report.source}{did_you_mean(stored, layers)}'
            )
    names = {layer: layer for layer in layers if layer not in mapping.values()}
    names |= {stored: name for name, stored in mapping.items()}
    weights = {names[layer]: blobs for layer, blobs in layers.items()}
    copied = copy_weights(
        net.params, {layer.name: layer.type for layer in net.layers}, weights, report.source
    )
    copied.check()
    stored_as = {name: stored for stored, name in names.items()}
    report.rows = [(n, stored_as[n], ", ".join(map(str, range(len(weights[n]))))) for n in copied.matched]
    report.unused, report.untouched = copied.unused, copied.missing
    return report


def _modules(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    modules: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        module, _, kind = name.rpartition(".")
        modules.setdefault(module, {})[kind] = np.asarray(array)
    return modules


def _slots(net: Net) -> dict[str, _Slot]:
    slots: dict[str, _Slot] = {}
    owners = {id(p.blob) for p in net.parameters if p.owner is None}
    scales: set[str] = set()
    for i, layer in enumerate(net.layers):
        if not layer.blobs or layer.name in scales or not any(id(blob) in owners for blob in layer.blobs):
            continue
        scale = _scale_behind(net, i) if layer.type == "BatchNorm" else None
        if scale is not None:
            scales.add(scale.name)
        slots[layer.name] = _Slot(layer, scale)
    return slots


def _scale_behind(net: Net, i: int) -> Layer | None:
    top = net.top_names[net.layers[i].name][0]
    for layer in net.layers[i + 1 :]:
        if top in net.bottom_names[layer.name]:
            fits = (
                layer.type == "Scale" and layer.blobs and layer.blobs[0].shape == net.layers[i].blobs[0].shape
            )
            return layer if fits and len(net.bottom_names[layer.name]) == 1 else None
    return None


def _by_mapping(
    slots: Mapping[str, _Slot], modules: Mapping[str, Any], mapping: Mapping[str, str]
) -> dict[str, str]:
    for layer, module in mapping.items():
        if layer not in slots:
            raise ArgumentError(
                f'mapping: no layer "{layer}" takes weights (a Scale behind a BatchNorm goes with it); layers: '
                f"{some(slots)}"
            )
        if module not in modules:
            raise ArgumentError(f'mapping: there is no module "{module}"; modules: {some(modules)}')
    return dict(mapping)


def _by_name(slots: Mapping[str, _Slot], modules: Mapping[str, Any]) -> dict[str, str]:
    plain = {_letters(name): name for name in modules if name}
    return {name: plain[_letters(name)] for name in slots if _letters(name) in plain}


def _letters(name: str) -> str:
    return re.sub(r"\W", "_", name).rstrip("_").lower()


def _kind(shapes: Mapping[str, tuple[int, ...]]) -> str:
    if "running_mean" in shapes:
        return "normalisation"
    if "weight" in shapes:
        return f"weights of {len(shapes['weight'])} axes"
    return "bias" if "bias" in shapes else "others"


def _by_order(
    slots: Mapping[str, _Slot], modules: Mapping[str, dict[str, np.ndarray]], source: str
) -> dict[str, str]:
    here: dict[str, list[str]] = {}
    there: dict[str, list[str]] = {}
    for name, slot in slots.items():
        here.setdefault(_kind(slot.shapes), []).append(name)
    for name, arrays in modules.items():
        there.setdefault(_kind({k: np.shape(a) for k, a in arrays.items()}), []).append(name)
    pairs: dict[str, str] = {}
    for kind, names in here.items():
        others = there.get(kind, [])
        if len(names) != len(others):
            raise WeightsError(
                f"{source}: cannot match by order: the net has {len(names)} layers with {kind} ({some(names)}), "
                f"the file "
                f"{len(others)} ({some(others)}): give a mapping"
            )
        pairs.update(zip(names, others, strict=True))
    return pairs


def _fit(
    slot: _Slot, module: str, arrays: Mapping[str, np.ndarray], report: Imported
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Check one module against its layer; return what to copy where."""
    layer = slot.layer
    shapes = slot.shapes
    missing = set(shapes) - set(arrays) - slot.optional
    extra = set(arrays) - set(shapes) - _NORM
    surplus = {
        k
        for k in set(arrays) & {"bias", "weight"}
        if k not in shapes and np.any(arrays[k] != (k == "weight"))
    }
    if missing or extra or surplus:
        raise WeightsError(
            f'layer "{layer.name}" ({layer.type}): expected {", ".join(sorted(shapes)) or "nothing"}, '
            f'module "{module}" of {report.source} has {", ".join(sorted(arrays))}'
            + ("; the layer has no bias: is bias_term right?" if "bias" in surplus else "")
        )
    for kind, shape in shapes.items():
        if kind in arrays and not _same(shape, arrays[kind].shape, layer):
            raise WeightsError(
                f'layer "{layer.name}" ({layer.type}): {kind}: expected {times(shape, "one value")}, '
                f'"{module}" has {times(arrays[kind].shape, "one value")}{_hint(shape, arrays[kind].shape)}'
            )
    report.rows.append(
        (
            layer.name,
            module,
            ", ".join(f"{k} {times(arrays[k].shape, 'one value')}" for k in shapes if k in arrays),
        )
    )
    if layer.type == "BatchNorm":
        return _norm(slot, arrays, report)
    copies = []
    for kind, blob in zip(shapes, layer.blobs, strict=True):
        values = arrays[kind]
        if kind == "weight" and layer.type == "InnerProduct" and layer.param.transpose:
            values = values.T
        copies.append((blob.data, values.reshape(blob.shape)))
    return copies


def _norm(
    slot: _Slot, arrays: Mapping[str, np.ndarray], report: Imported
) -> list[tuple[np.ndarray, np.ndarray]]:
    layer = slot.layer
    kept = {k: v for k, v in arrays.items() if k in _NORM - {"num_batches_tracked"}}
    p = from_framework("pytorch", kept, momentum=1 - layer.param.moving_average_fraction)
    copies = [(blob.data, values) for blob, values in zip(layer.blobs, p.batch_norm, strict=True)]
    if slot.scale is not None:
        scale = p.scale or [np.ones(layer.blobs[0].shape), np.zeros(layer.blobs[0].shape)]
        copies += [(blob.data, values) for blob, values in zip(slot.scale.blobs, scale, strict=False)]
    note = (
        f"eps is not stored with weights: BatchNorm uses what the prototxt says ({layer.param.eps:g} in "
        f'"{layer.name}"); PyTorch\'s default is 1e-05'
    )
    if not any(n.startswith("eps is not stored") for n in report.notes):
        report.notes.append(note)
    return copies


def _same(expected: tuple[int, ...], found: tuple[int, ...], layer: Layer) -> bool:
    if expected == found or (expected == () and found == (1,)):
        return True
    # a Scale's shape may be spelt with the ones that broadcasting needs
    return layer.type in ("Scale", "Bias", "PReLU") and tuple(n for n in found if n != 1) == tuple(
        n for n in expected if n != 1
    )


def _hint(expected: tuple[int, ...], found: tuple[int, ...]) -> str:
    if len(found) == 4 and expected == (found[3], found[2], found[0], found[1]):
        return "; that is TensorFlow's order: transpose it by (3, 2, 0, 1)"
    if len(found) == 2 and expected == found[::-1]:
        return "; that is its transpose"
    return ""
