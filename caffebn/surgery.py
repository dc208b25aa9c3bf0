"""Changing nets together with their weights: rename, drop, insert, split, share and freeze layers.

A `Surgery` holds the text of a net and the blobs of its layers; every change keeps the two in step, and what would
leave a net that cannot be made is refused where it happens.  Patterns are names with ``*`` for any characters.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from caffebn import blocks, fillers, seeding
from caffebn.blob import times
from caffebn.errors import ArgumentError, FileError, NetError, WeightsError, did_you_mean
from caffebn.files import write_whole
from caffebn.net import TEST, Net
from caffebn.proto import Message, binary, make_blob, text, upgrade
from caffebn.weights import read_weights, same_shape

__all__ = ["Surgery"]

PathLike = str | os.PathLike[str]

_BIAS = {
    "Convolution": "convolution_param",
    "Deconvolution": "convolution_param",
    "InnerProduct": "inner_product_param",
    "Embed": "embed_param",
}
_COUNTS = {"BatchNorm": 3, "PReLU": 1, "Parameter": 1}
_SOURCES = {"Input", "Parameter", "DummyData"}


class Surgery:
    """A net and its weights, on the table.

    Parameters
    ----------
    net : path-like or Message
        A .prototxt, which may have blocks, or a NetParameter; it is not changed.
    weights : path-like, optional
        A .caffemodel, .caffemodel.h5, .npz or .safetensors.

    Attributes
    ----------
    definition : Message
        The NetParameter as it is now; may be changed directly, too.
    weights : dict of list of ndarray
        Blobs by layer name.  Arrays read from a file are read-only: assign others.

    Examples
    --------
    Every method that changes the net returns it, so that changes can be written one behind the other::

        Surgery("net.prototxt", "net.caffemodel").drop("drop*").rename("fc8", "score").save("out.prototxt")
    """

    def __init__(self, net: PathLike | Message, weights: PathLike | None = None):
        self._source = "<net>" if isinstance(net, Message) else str(net)
        self.definition: Message = net.copy() if isinstance(net, Message) else blocks.read(net)
        upgrade.net(self.definition, self._source)
        if not self.definition.layer:
            raise NetError(f"{self._source}: no layer is in it; expected a net")
        self.weights: dict[str, list[np.ndarray]] = {}
        if weights is not None:
            names = {layer.name for layer in self.definition.layer}
            for name, arrays in read_weights(weights).items():
                if name in names and arrays:
                    self.weights[name] = [a for a in arrays if a is not None]
            if not self.weights:
                raise WeightsError(
                    f"{weights}: not the weights of {self._source}: not one layer with weights has a name that is in "
                    "both"
                )

    # -- looking

    @property
    def names(self) -> list[str]:
        """Names of all layers, in order."""
        return [layer.name for layer in self.definition.layer]

    def layer(self, name: str) -> Message:
        """Return the LayerParameter of that name.

        Raises
        ------
        ArgumentError
            There is none.
        """
        return self.definition.layer[self._index(name)]

    def find(self, *patterns: str) -> list[str]:
        """Return the names that match a pattern, in net order.

        Raises
        ------
        ArgumentError
            A pattern matches no layer.
        """
        found = set()
        for pattern in patterns:
            matching = [name for name in self.names if _matches(pattern, name)]
            if not matching:
                raise ArgumentError(f'no layer matches "{pattern}"{did_you_mean(pattern, self.names)}')
            found.update(matching)
        return [name for name in self.names if name in found]

    def net(self, phase: int | str = TEST, **options: Any) -> Net:
        """Make the net with its weights; options as for `caffebn.Net`."""
        made = Net(self.definition, phase, **options)
        for name, blobs in made.params.items():
            if name in self.weights:
                self._check_fit(name, self.weights[name], [blob.shape for blob in blobs])
                for blob, array in zip(blobs, self.weights[name], strict=True):
                    blob.data[...] = np.asarray(array).reshape(blob.shape)
        return made

    def save(self, net: PathLike | None = None, weights: PathLike | None = None) -> Surgery:
        """Write the .prototxt, the .caffemodel, or both, each whole or not at all.

        Raises
        ------
        FileError
            A file cannot be written, or both are one.
        """
        if net is not None and weights is not None and os.path.abspath(net) == os.path.abspath(weights):
            raise FileError(f"{net}: the net and its weights need two files")
        if net is not None:
            with write_whole(net) as f:
                f.write(text.dump(self.definition).encode())
        if weights is not None:
            stored = self.definition.copy()
            for layer in stored.layer:
                layer.blobs = [make_blob(_plain(array)) for array in self.weights.get(layer.name, [])]
            binary.write(weights, stored)
        return self

    # -- names

    def rename(self, old: str, new: str) -> Surgery:
        """Rename layers with their weights; ``*`` in `new` stands for what those in `old` matched.

        Raises
        ------
        ArgumentError
            No layer matches, or a new name is taken.
        """
        renamed = {name: _substituted(old, new, name) for name in self.find(old)}
        others = [name for name in self.names if name not in renamed]
        for name in renamed.values():
            if name in others or list(renamed.values()).count(name) > 1:
                raise ArgumentError(f'rename: there would be two layers "{name}"')
        for layer in self.definition.layer:
            layer.name = renamed.get(layer.name, layer.name)
        self.weights = {renamed.get(name, name): arrays for name, arrays in self.weights.items()}
        return self

    def rename_blob(self, old: str, new: str) -> Surgery:
        """Rename a blob wherever it is made or read.

        Raises
        ------
        ArgumentError
            There is no such blob, or the new name is taken.
        """
        blobs = {blob for layer in self.definition.layer for blob in [*layer.bottom, *layer.top]}
        if old not in blobs:
            raise ArgumentError(f'there is no blob "{old}"{did_you_mean(old, blobs)}')
        if new in blobs:
            raise ArgumentError(f'rename_blob: there is a blob "{new}" already')
        for layer in self.definition.layer:
            layer.bottom = [new if blob == old else blob for blob in layer.bottom]
            layer.top = [new if blob == old else blob for blob in layer.top]
        return self

    # -- taking out, putting in

    def drop(self, *patterns: str) -> Surgery:
        """Take layers out; what read their top reads their bottom instead.

        Raises
        ------
        ArgumentError
            No layer matches.
        NetError
            A layer with several bottoms or tops whose top is read: nothing says what should take its place.
        """
        for name in self.find(*patterns):
            i = self._index(name)
            layer = self.definition.layer[i]
            for top in layer.top:
                read = any(top in reader.bottom for reader in self._readers(i, top))
                if not read or (len(layer.bottom) and top == layer.bottom[0]):
                    continue
                if len(layer.bottom) != 1:
                    reader = next(reader for reader in self._readers(i, top) if top in reader.bottom)
                    raise NetError(
                        f'drop: layer "{name}" ({layer.type}) has {len(layer.bottom)} bottoms, and layer '
                        f'"{reader.name}" reads '
                        f'its top "{top}": drop that first, or let it read something else',
                        layer.where,
                    )
                self._redirect(i, top, layer.bottom[0])
            del self.definition.layer[i]
            self.weights.pop(name, None)
        return self

    def keep(self, *blobs: str) -> Surgery:
        """Take out all layers on which none of these blobs depends: what comes behind them goes.

        Raises
        ------
        ArgumentError
            There is no such blob.
        """
        wanted, kept = set(blobs), []
        made = {top for layer in self.definition.layer for top in layer.top}
        for blob in blobs:
            if blob not in made:
                raise ArgumentError(f'there is no blob "{blob}"{did_you_mean(blob, made)}')
        for layer in reversed(self.definition.layer):
            if wanted.intersection(layer.top):
                wanted.update(layer.bottom)
                kept.append(layer)
        self.definition.layer = kept[::-1]
        self.weights = {name: arrays for name, arrays in self.weights.items() if name in self.names}
        return self

    def insert(self, after: str, layer: str | Message, weights: Sequence[np.ndarray] = ()) -> Surgery:
        """Put a layer behind another one.

        Parameters
        ----------
        after : str
            Name of that layer.
        layer : str or Message
            A LayerParameter, or the text of one without the braces, such as ``'name: "relu" type: "ReLU"'``.  Without
            a bottom it reads the first top of that layer, and without a top it works in place.  With a top of its
            own, the layers behind it read that.
        weights : sequence of ndarray
            Its blobs.

        Raises
        ------
        ArgumentError
            There is no such layer, or one of the new name already.
        ParseError
            The text is no layer.
        """
        i = self._index(after)
        made = _layer(layer)
        if made.name in self.names:
            raise ArgumentError(f'insert: there is a layer "{made.name}" already')
        if not made.bottom:
            if not self.definition.layer[i].top:
                raise ArgumentError(f'insert: layer "{after}" has no top to read: state a bottom')
            made.bottom = [self.definition.layer[i].top[0]]
        if not made.top:
            made.top = [made.bottom[0]]
        self.definition.layer.insert(i + 1, made)
        if made.top[0] != made.bottom[0] and made.bottom[0] in self.definition.layer[i].top:
            self._redirect(i + 1, made.bottom[0], made.top[0])
        if len(weights):
            self.weights[made.name] = list(weights)
        return self

    def replace(self, name: str, layer: str | Message, weights: Sequence[np.ndarray] = ()) -> Surgery:
        """Put a layer in the place of another; bottoms, tops and rules that it does not state are taken over.

        Raises
        ------
        ArgumentError
            There is no such layer, or another one of the new name.
        """
        i = self._index(name)
        old, made = self.definition.layer[i], _layer(layer)
        if not made.has("name"):
            made.name = name
        if made.name != name and made.name in self.names:
            raise ArgumentError(f'replace: there is a layer "{made.name}" already')
        for field in ("bottom", "top", "include", "exclude"):
            if not made.has(field) and old.has(field):
                setattr(made, field, list(getattr(old, field)))
        self.definition.layer[i] = made
        self.weights.pop(name, None)
        if len(weights):
            self.weights[made.name] = list(weights)
        return self

    def split(self, blob: str) -> tuple[Surgery, Surgery]:
        """Cut the net in two at a blob: a net that ends in it, and one that has it as its input.

        Raises
        ------
        ArgumentError
            There is no such blob.
        NetError
            A layer behind the cut reads something else from before it.
        """
        front = self._twin().keep(blob)
        shape = front.net().blobs[blob].shape
        back = self._twin()
        gone = set(front.names)
        back.definition.layer = [layer for layer in back.definition.layer if layer.name not in gone]
        start = Message("LayerParameter", name=f"{blob}_input", type="Input", top=[blob])
        start.mutable("input_param").add("shape", dim=shape)
        back.definition.layer.insert(0, start)
        known: set[str] = set()
        for layer in back.definition.layer:
            for bottom in layer.bottom:
                if bottom not in known:
                    raise NetError(
                        f'split: layer "{layer.name}" behind "{blob}" reads "{bottom}" from before it: cut elsewhere',
                        layer.where,
                    )
            known.update(layer.top)
        back.weights = {name: arrays for name, arrays in back.weights.items() if name not in gone}
        return front, back

    def split_layer(self, name: str, sizes: Sequence[int]) -> Surgery:
        """Cut a Convolution or InnerProduct into several, of so many outputs each, joined by a Concat.

        The parts are called ``<name>_0``, ``<name>_1`` ...; the Concat takes the name.

        Raises
        ------
        ArgumentError
            The sizes do not add up to the layer's outputs, or it is of another type or has groups.
        """
        i = self._index(name)
        layer = self.definition.layer[i]
        field = {"Convolution": "convolution_param", "InnerProduct": "inner_product_param"}.get(layer.type)
        if (
            field is None
            or getattr(layer, field).schema.fields.get("group")
            and getattr(layer, field).group != 1
        ):
            raise ArgumentError(
                f'split_layer: "{name}" ({layer.type}) is no InnerProduct, and no Convolution without groups'
            )
        total = getattr(layer, field).num_output
        if sum(sizes) != total or min(sizes, default=0) < 1:
            raise ArgumentError(
                f'split_layer: "{name}" has {total} outputs, the sizes {list(sizes)} have {sum(sizes)}'
            )
        parts, begin = [], 0
        axis = 1 if field == "inner_product_param" and layer.inner_product_param.transpose else 0
        for k, size in enumerate(sizes):
            part = layer.copy()
            part.name, part.top = f"{name}_{k}", [f"{name}_{k}"]
            part.mutable(field).num_output = size
            parts.append(part)
            if name in self.weights:
                self.weights[part.name] = [
                    np.take(
                        np.asarray(a), range(begin, begin + size), axis=axis if a.ndim > 1 else a.ndim - 1
                    )
                    for a in self.weights[name]
                ]
            begin += size
        join = Message(
            "LayerParameter", name=name, type="Concat", bottom=[p.name for p in parts], top=list(layer.top)
        )
        if field == "inner_product_param":
            join.concat_param = {"axis": layer.inner_product_param.axis}
        self.definition.layer[i : i + 1] = [*parts, join]
        self.weights.pop(name, None)
        return self

    # -- parameters

    def share(self, owner: str, *patterns: str) -> Surgery:
        """Let layers use the parameters of `owner`.

        Raises
        ------
        ArgumentError
            There is no such layer, or one is of another type.
        """
        first = self.layer(owner)
        names = [name for name in self.find(*patterns) if name != owner]
        for name in names:
            if self.layer(name).type != first.type:
                raise ArgumentError(f'share: "{name}" is a {self.layer(name).type}, "{owner}" a {first.type}')
        for i in range(self._count(first)):
            entry = self._entry(first, i)
            if not entry.has("name"):
                entry.name = f"{owner}_{i}"
            for name in names:
                self._entry(self.layer(name), i).name = entry.name
        for name in names:
            if owner in self.weights:
                self.weights[name] = self.weights[owner]
        return self

    def freeze(self, *patterns: str) -> Surgery:
        """Stop learning in layers: all rates 0, and the stored statistics in a BatchNorm in TRAIN, too.

        Raises
        ------
        ArgumentError
            A pattern matches no layer.
        """
        for name in self.find(*patterns):
            layer = self.layer(name)
            for i in range(self._count(layer)):
                entry = self._entry(layer, i)
                entry.lr_mult = entry.decay_mult = 0
            if layer.type == "BatchNorm":
                layer.mutable("batch_norm_param").use_global_stats = True
        return self

    def learn(self, *patterns: str, lr_mult: float = 1.0, decay_mult: float = 1.0) -> Surgery:
        """Let layers learn, at these multiples of the rate; a BatchNorm takes the statistics of the batch again.

        Raises
        ------
        ArgumentError
            A pattern matches no layer.
        """
        for name in self.find(*patterns):
            layer = self.layer(name)
            if layer.type == "BatchNorm":
                if layer.has("batch_norm_param"):
                    layer.batch_norm_param.clear("use_global_stats")
                continue
            for i in range(self._count(layer)):
                entry = self._entry(layer, i)
                entry.lr_mult, entry.decay_mult = lr_mult, decay_mult
        return self

    def trainable(self) -> list[str]:
        """Names of the layers that learn: those with parameters and a rate that is not 0."""
        found = []
        for layer in self.definition.layer:
            count = self._count(layer)
            rates = [p.lr_mult for p in layer.param] + [1.0] * count
            if layer.type != "BatchNorm" and any(rates[:count]) and layer.name not in found:
                found.append(layer.name)
        return found

    def copy_weights(
        self, source: Surgery | PathLike, names: str | Mapping[str, str] = "*", strict: bool = True
    ) -> list[str]:
        """Take weights of another net.

        Parameters
        ----------
        source : Surgery or path-like
            The other net, or a weights file.
        names : str or mapping
            A pattern of names that are the same in both, or patterns there -> names here; ``*`` on the right
            stands for what those on the left matched.
        strict : bool
            Refuse weights that do not fit; else they are left out.  The shapes of a net that reads data from files are
            not known here; there it shows when the net is made.

        Returns
        -------
        list of str
            The layers that got weights.

        Raises
        ------
        ArgumentError
            No weights match.
        WeightsError
            Shapes differ.
        """
        given = source.weights if isinstance(source, Surgery) else {
            name: [a for a in arrays if a is not None] for name, arrays in read_weights(source).items()
        }  # fmt: skip
        pairs = {names: names} if isinstance(names, str) else dict(names)
        shapes = self._shapes()
        learning = {layer.name for layer in self.definition.layer if self._count(layer)}
        taken = []
        for pattern, target in pairs.items():
            found = [name for name in given if given[name] and _matches(pattern, name)]
            if not found:
                raise ArgumentError(
                    f'copy_weights: no weights match "{pattern}"{did_you_mean(pattern, given)}'
                )
            for name in found:
                here = _substituted(pattern, target, name)
                if here not in learning:
                    if isinstance(names, str):
                        continue
                    raise ArgumentError(
                        f'copy_weights: no layer "{here}" with parameters{did_you_mean(here, learning)}'
                    )
                if here in shapes:
                    if not strict and not _fits(given[name], shapes[here]):
                        continue
                    self._check_fit(here, given[name], shapes[here], name)
                self.weights[here] = list(given[name])
                taken.append(here)
        return taken

    # -- whole tasks

    def to_convolution(self, *patterns: str) -> Surgery:
        """Make Convolutions of InnerProducts, so that the net takes pictures of any size.

        The first one gets a kernel as large as what it reads, those behind it a kernel of 1.  The values are the same,
        in another shape.

        Raises
        ------
        ArgumentError
            No layer matches, or one is no InnerProduct.
        """
        for name in self.find(*patterns):
            layer = self.layer(name)
            if layer.type != "InnerProduct":
                raise ArgumentError(f'to_convolution: "{name}" is a {layer.type}, no InnerProduct')
            p = layer.inner_product_param
            made = self.net()
            shape = made.blobs[layer.bottom[0]].shape
            if len(shape) == 2:  # behind an InnerProduct that is one still
                shape = (*shape, 1, 1)
            if p.axis != 1 or len(shape) != 4:
                raise ArgumentError(
                    f'to_convolution: "{name}" must read (N, C, H, W) from axis 1 on, found {times(shape)} and '
                    f"axis {p.axis}"
                )
            conv = Message("ConvolutionParameter", num_output=p.num_output, bias_term=p.bias_term)
            if shape[2] == shape[3]:
                conv.kernel_size = [shape[2]]
            else:
                conv.kernel_h, conv.kernel_w = shape[2:]
            for field in ("weight_filler", "bias_filler"):
                if p.has(field):
                    setattr(conv, field, getattr(p, field).copy())
            layer.type = "Convolution"
            layer.convolution_param = conv
            layer.clear("inner_product_param")
            if name in self.weights:
                weights, *bias = self.weights[name]
                weights = np.asarray(weights).reshape(np.asarray(weights).shape[-2:])
                weights = weights.T if p.transpose else weights
                self.weights[name] = [np.ascontiguousarray(weights).reshape(p.num_output, *shape[1:]), *bias]
        return self

    def change_outputs(
        self, name: str, count: int, new_name: str | None = None, keep: Mapping[int, int] | None = None
    ) -> Surgery:
        """Give a Convolution or InnerProduct another number of outputs, such as the classes of another task.

        Parameters
        ----------
        name : str
        count : int
            Outputs from now on.
        new_name : str, optional
            Its name from now on; a new one keeps old weight files from not fitting.
        keep : mapping, optional
            Old output -> new output whose weights stay; all others are drawn by the layer's fillers.

        Raises
        ------
        ArgumentError
            Another type of layer, or outputs that do not exist.
        """
        layer = self.layer(name)
        field = {"Convolution": "convolution_param", "InnerProduct": "inner_product_param"}.get(layer.type)
        if field is None:
            raise ArgumentError(
                f'change_outputs: "{name}" is a {layer.type}, neither Convolution nor InnerProduct'
            )
        if count < 1:
            raise ArgumentError(f"change_outputs: expected at least 1 output, found {count}")
        param = layer.mutable(field)
        before = param.num_output
        for old, new in (keep or {}).items():
            if not (0 <= old < before and 0 <= new < count):
                raise ArgumentError(
                    f"change_outputs: keep {old}: {new}: there are {before} outputs now and {count} then"
                )
        param.num_output = count
        arrays = self.weights.pop(name, None)
        if new_name is not None:
            self.rename(name, new_name)
        if arrays is not None:
            along = 1 if field == "inner_product_param" and param.transpose else 0
            fresh = []
            for array, filler in zip(arrays, ("weight_filler", "bias_filler"), strict=False):
                axis = along if np.asarray(array).ndim > 1 else np.asarray(array).ndim - 1
                shape = list(np.shape(array))
                shape[axis] = count
                new_array = np.zeros(shape, np.float32)
                fillers.fill(new_array, getattr(param, filler), seeding.generator())
                for old, new in (keep or {}).items():
                    np.moveaxis(new_array, axis, 0)[new] = np.moveaxis(np.asarray(array), axis, 0)[old]
                fresh.append(new_array)
            self.weights[new_name or name] = fresh
        return self

    # -- inside

    def _index(self, name: str) -> int:
        names = self.names
        if name not in names:
            raise ArgumentError(f'there is no layer "{name}"{did_you_mean(name, names)}')
        return names.index(name)

    def _readers(self, i: int, blob: str) -> Iterator[Message]:
        """Layers behind layer `i` that read this version of a blob."""
        for layer in self.definition.layer[i + 1 :]:
            if blob in layer.bottom:
                yield layer
            if blob in layer.top:
                return

    def _redirect(self, i: int, old: str, new: str) -> None:
        """Let the layers behind layer `i` read another blob, up to the one that makes the old one anew."""
        for layer in list(self._readers(i, old)):
            layer.bottom = [new if blob == old else blob for blob in layer.bottom]

    def _entry(self, layer: Message, i: int) -> Message:
        while len(layer.param) <= i:
            rest = (
                Message("ParamSpec", lr_mult=0, decay_mult=0)
                if layer.type == "BatchNorm"
                else Message("ParamSpec")
            )
            layer.param.append(rest)
        return layer.param[i]

    def _count(self, layer: Message) -> int:
        """Number of parameters of a layer, by its type, or by its weights for a type that is not known here."""
        field = _BIAS.get(layer.type)
        if field is not None:
            return 1 + getattr(layer, field).bias_term
        if layer.type in ("Scale", "Bias"):
            learned = len(layer.bottom) == 1
            return learned + (layer.type == "Scale" and layer.scale_param.bias_term)
        return _COUNTS.get(layer.type, len(self.weights.get(layer.name, ())))

    def _shapes(self) -> dict[str, list[tuple[int, ...]]]:
        """Shapes of the parameters by layer, if the net can be made without any data."""
        if any(not layer.bottom and layer.type not in _SOURCES for layer in self.definition.layer):
            return {}
        return {
            name: [blob.shape for blob in blobs] for name, blobs in Net(self.definition, TEST).params.items()
        }

    def _twin(self) -> Surgery:
        twin = Surgery(self.definition)
        twin.weights = {name: list(arrays) for name, arrays in self.weights.items()}
        return twin

    @staticmethod
    def _check_fit(
        name: str, arrays: Sequence[np.ndarray], shapes: Sequence[tuple[int, ...]], source: str | None = None
    ) -> None:
        if not _fits(arrays, shapes):
            found = ", ".join(times(np.shape(a), "one value") for a in arrays)
            expected = ", ".join(times(s, "one value") for s in shapes)
            of = f'weights of "{source}"' if source not in (None, name) else "its weights"
            raise WeightsError(f'layer "{name}": expected {expected}, {of} have {found}')

    def __repr__(self) -> str:
        return (
            f"<Surgery {self._source}: {len(self.definition.layer)} layers, {len(self.weights)} with weights>"
        )


def _fits(arrays: Sequence[np.ndarray], shapes: Sequence[tuple[int, ...]]) -> bool:
    return len(arrays) == len(shapes) and all(
        same_shape(s, np.shape(a)) for a, s in zip(arrays, shapes, strict=True)
    )


def _plain(array: np.ndarray) -> np.ndarray:
    array = np.ascontiguousarray(array)
    return array if array.dtype == np.float64 else array.astype(np.float32, copy=False)


def _layer(given: str | Message) -> Message:
    if isinstance(given, Message):
        return given.copy()
    return text.parse(given, "LayerParameter", "<layer>")


def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile("(.*)".join(re.escape(part) for part in pattern.split("*")))


def _matches(pattern: str, name: str) -> bool:
    return _pattern(pattern).fullmatch(name) is not None


def _substituted(pattern: str, target: str, name: str) -> str:
    """Put what the stars of `pattern` matched in `name` into those of `target`."""
    match = _pattern(pattern).fullmatch(name)
    assert match is not None
    parts = iter(match.groups())
    fill: Callable[[re.Match[str]], str] = lambda _: next(parts, "*")  # noqa: E731
    return re.sub(r"\*", fill, target)
