"""Look for mistakes with BatchNorm: in nets for training and for use, in weights, in solvers.

Each rule has a code and is a function in `caffebn.bn.rules`; this module reads the files, asks the rules, draws
the table of which statistics are used when, and repairs what can be repaired safely.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from caffebn import blocks
from caffebn.errors import ArgumentError, CaffebnError, CaffebnWarning, FileError, NetError, Where
from caffebn.files import write_whole
from caffebn.net import Net
from caffebn.net.filter import filter_net
from caffebn.net.splits import insert_splits
from caffebn.proto import Message, text, upgrade
from caffebn.weights import is_stored, read_stored, read_weights, stored_arrays

__all__ = ["Edit", "Finding", "NetFile", "Report", "View", "lint"]

_MAKES = ("Input", "DummyData", "Parameter")  # layers without bottoms that read nothing
SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Edit:
    """A change to a text: at a place, what matches `pattern` becomes `replacement`."""

    where: Where
    pattern: str
    replacement: str


@dataclass
class Finding:
    """One mistake.

    Attributes
    ----------
    code : str
        Of the rule, e.g. "BN101".
    severity : {"error", "warning", "note"}
    layer : str
        Its name, or empty.
    where : str
        ``file:line:column``, or the name of a file of weights.
    what, why, write : str
        What was found; what it does; what to write instead.
    edit : Edit or None
        The repair, where it is safe.
    """

    code: str
    severity: str
    layer: str
    where: str
    what: str
    why: str
    write: str
    edit: Edit | None = None

    @property
    def fixable(self) -> bool:
        """Whether `Report.fix` repairs it."""
        return self.edit is not None


class View:
    """The layers of a net in one phase.

    Attributes
    ----------
    file : NetFile
    phase : {"TRAIN", "TEST"}
    definition : Message
        In the present form, with the layers of the phase.
    trains : bool
        Whether the net goes backward: the phase is TRAIN and there is a loss.
    """

    def __init__(self, file: NetFile, phase: str, definition: Message):
        self.file, self.phase, self.definition = file, phase, definition
        self.trains = phase == "TRAIN" and any(_is_loss(layer) for layer in definition.layer)
        self._net: Net | None = None
        self._error: CaffebnError | None = None
        self._tried = False

    def layers(self, *types: str) -> list[Message]:
        """Return the layers of some types."""
        return [layer for layer in self.definition.layer if layer.type in types]

    def uses_batch(self, layer: Message) -> bool:
        """Whether a BatchNorm uses the statistics of the batch here."""
        phase = layer.phase if layer.has("phase") else self.phase
        param = layer.batch_norm_param
        return not param.use_global_stats if param.has("use_global_stats") else phase == "TRAIN"

    def readers(self, layer: Message) -> list[Message]:
        """Return the layers that read what a layer with one top makes, before it is overwritten."""
        found: list[Message] = []
        if not layer.top:
            return found
        name, seen = layer.top[0], False
        for other in self.definition.layer:
            if seen and name in other.bottom:
                found.append(other)
                if name in other.top:
                    break
            seen |= other is layer
        return found

    def maker(self, layer: Message) -> Message | None:
        """Return the layer that makes the first bottom of a layer, or changed it last in place."""
        found = None
        for other in self.definition.layer:
            if other is layer:
                break
            if layer.bottom and layer.bottom[0] in other.top:
                found = other
        return found

    @property
    def batch_size(self) -> int | None:
        """Items of a batch, as the layers that make data say."""
        for layer in self.definition.layer:
            if layer.bottom:
                continue
            for item, value in layer.set_fields():
                if item.kind == "message" and not item.repeated:
                    if "batch_size" in value.schema.fields and value.has("batch_size"):
                        return value.batch_size
                    if (
                        item.name in ("input_param", "dummy_data_param")
                        and value.shape
                        and value.shape[0].dim
                    ):
                        return int(value.shape[0].dim[0])
        return None

    @property
    def net(self) -> Net | None:
        """The net, for its shapes; None when it cannot be made, as without its data."""
        if not self._tried:
            self._tried = True
            for definition in (self.definition, *(_without_data(self.definition, c) for c in (3, 1))):
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", CaffebnWarning)
                        self._net = Net(definition, self.phase)
                    break
                except MemoryError:
                    continue
                except CaffebnError as e:
                    self._error = self._error or e
        return self._net

    @property
    def error(self) -> CaffebnError | None:
        """Why the net cannot be made; None when it can, and where its data are missing, which may be elsewhere."""
        has_data = any(not layer.bottom and layer.type not in _MAKES for layer in self.definition.layer)
        return None if self.net is not None or has_data else self._error

    def in_place_error(self) -> NetError | None:
        """Return what is wrong with layers in place, when no net can be made because of them."""
        try:
            insert_splits(self.definition)
        except NetError as e:
            return e if "in place" in e.message else None
        return None


class NetFile:
    """A net's text, and the phases that it is for.

    Attributes
    ----------
    name : str
        Of the file.
    raw : Message
        As it was read, blocks expanded, nothing upgraded.
    views : list of View
        TRAIN and TEST for a net with a loss, else TEST.
    """

    def __init__(self, path: str | os.PathLike[str] | Message):
        if isinstance(path, Message):
            self.name, self.raw = path.name or "net", path.copy()
        else:
            self.name, self.raw = str(path), blocks.read(path)
        definition = self.raw.copy()
        upgrade.net(definition, self.name)
        self.views: list[View] = []
        for phase in ("TRAIN", "TEST"):
            state = definition.state.copy() if definition.has("state") else Message("NetState")
            state.phase = phase
            view = View(self, phase, filter_net(definition, state))
            if view.trains or phase == "TEST":
                self.views.append(view)
        if not definition.layer:
            raise NetError(f"{self.name}: no layer is in it; expected a net")

    @property
    def is_deploy(self) -> bool:
        """Whether it is for use only: there is no loss in it."""
        return not any(view.trains for view in self.views)


@dataclass
class Report:
    """What `lint` found.

    Attributes
    ----------
    findings : list of Finding
        Errors first.
    views : list of str
        Headings of `table`: file and phase.
    table : dict
        For each BatchNorm layer, by name: "batch", "stored" or "" (not there) for each view.
    """

    findings: list[Finding] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    table: dict[str, list[str]] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether there is nothing but notes."""
        return all(finding.severity == "note" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, fit for JSON."""
        keys = ("code", "severity", "layer", "where", "what", "why", "write", "fixable")
        return {
            "findings": [{key: getattr(f, key) for key in keys} for f in self.findings],
            "statistics": {name: dict(zip(self.views, row, strict=True)) for name, row in self.table.items()},
        }

    def fix(self) -> list[str]:
        """Repair in the files what is safe to repair; comments and everything else stay as they are.

        Returns
        -------
        list of str
            ``file:line:column`` of each change, and what it was.

        Raises
        ------
        FileError
            A file cannot be read or written; each file is written whole or not at all.
        """
        edits: dict[str, list[Edit]] = {}
        for finding in self.findings:
            if finding.edit is not None:
                edits.setdefault(finding.edit.where.file, []).append(finding.edit)
        done = []
        for name, changes in edits.items():
            content = text.load(name)
            starts = [0, *(m.end() for m in re.finditer("\n", content))]
            spots = {starts[e.where.line - 1] + e.where.column - 1: e for e in changes}
            for offset, edit in sorted(spots.items(), reverse=True):
                found = re.compile(edit.pattern).match(content, offset)
                if found is None:
                    continue  # a block or a variable of a template stands there
                content = content[:offset] + found.expand(edit.replacement) + content[found.end() :]
                done.append(f"{edit.where}: {found[0]} is now {found.expand(edit.replacement)}")
            with write_whole(name) as f:
                f.write(content.encode())
        return done[::-1]


@dataclass
class Case:
    """All that rules may look at."""

    files: list[NetFile]
    weights: dict[str, tuple[str, list[np.ndarray]]] | None
    """Type (as the file says) and blobs, by layer name."""
    weights_name: str
    solver: Message | None
    solver_net: NetFile | None

    @property
    def views(self) -> list[View]:
        """All phases of all nets."""
        return [view for file in self.files for view in file.views]


def lint(
    nets: str | os.PathLike[str] | Message | Sequence[Any] = (),
    weights: str | os.PathLike[str] | None = None,
    solver: str | os.PathLike[str] | None = None,
) -> Report:
    """Look for mistakes with BatchNorm.

    Parameters
    ----------
    nets : path-like or Message, or a sequence of them
        Nets that belong together: for training and for use.
    weights : path-like, optional
        A .caffemodel.
    solver : path-like, optional
        A solver; the net that it trains is looked at as well.

    Returns
    -------
    Report

    Raises
    ------
    FileError, ParseError, FormatError, NetError
        A file cannot be read.
    ArgumentError
        No net is given.
    """
    from caffebn.bn.rules import RULES  # the rules are made of what is above

    several = [nets] if isinstance(nets, (str, os.PathLike, Message)) else list(nets)
    files = [NetFile(net) for net in several]
    solver_message, solver_net = None, None
    if solver is not None:
        solver_message = text.read(solver, "SolverParameter")
        solver_net = _solver_net(solver_message, Path(solver), files)
        if solver_net not in files:
            files.insert(0, solver_net)
    if not files:
        raise ArgumentError("lint: give a net, or a solver that names one")
    read = None if weights is None else _weights(weights)
    case = Case(files, read, "" if weights is None else str(weights), solver_message, solver_net)
    short = {file.name: Path(file.name).name for file in files}
    unique = len(set(short.values())) == len(files)
    report = Report(views=[f"{short[v.file.name] if unique else v.file.name} {v.phase}" for v in case.views])
    for i, view in enumerate(case.views):
        for layer in view.layers("BatchNorm"):
            row = report.table.setdefault(layer.name, [""] * len(report.views))
            row[i] = "batch" if view.uses_batch(layer) else "stored"
    found = [finding for rule in RULES for finding in rule(case)]
    report.findings = sorted(_once(found), key=lambda f: (SEVERITIES.index(f.severity), f.code))
    return report


def _once(findings: Iterable[Finding]) -> list[Finding]:
    """Leave out what was found in two phases of one text."""
    return list({(f.code, f.layer, f.where, f.what): f for f in findings}.values())


def _solver_net(solver: Message, path: Path, files: list[NetFile]) -> NetFile:
    for name in ("train_net_param", "net_param"):
        if solver.has(name):
            return NetFile(getattr(solver, name))
    named = solver.train_net if solver.has("train_net") else solver.net
    if not named:
        raise ArgumentError(f"{path}: the solver names no net (net, train_net)")
    for place in (Path(named), path.parent / named, path.parent / Path(named).name):
        if place.exists():
            for file in files:
                if Path(file.name).exists() and Path(file.name).samefile(place):
                    return file
            return NetFile(str(place))
    raise FileError(
        f'there is no file "{named}", neither in the current directory nor beside the solver',
        solver.where_of("train_net" if solver.has("train_net") else "net"),
    )


def _weights(path: str | os.PathLike[str]) -> dict[str, tuple[str, list[np.ndarray]]]:
    types: dict[str, str] = {}
    if is_stored(path):
        net = read_stored(path)
        arrays = stored_arrays(net, str(path))
        types = {layer.name: layer.type for layer in net.layer}
    else:
        arrays = read_weights(path)
    return {
        name: (types.get(name, ""), [np.asarray(a) for a in blobs if a is not None])
        for name, blobs in arrays.items()
    }


def _is_loss(layer: Message) -> bool:
    return layer.type.endswith("Loss") or any(layer.loss_weight)


def _without_data(definition: Message, channels: int) -> Message:
    """Put Input layers in the place of layers that read data, with the sizes that their text tells."""
    net = definition.copy()
    for layer in net.layer:
        if layer.bottom or layer.type in _MAKES:
            continue
        size = 0
        for item, value in layer.set_fields():
            if item.kind == "message" and not item.repeated and "batch_size" in value.schema.fields:
                size = value.batch_size
        crop = layer.transform_param.crop_size or 224
        shapes = [[size or 1, channels, crop, crop]] + [[size or 1]] * (len(layer.top) - 1)
        layer.type = "Input"
        layer.mutable("input_param").shape = [Message("BlobShape", dim=shape) for shape in shapes]
    return net
