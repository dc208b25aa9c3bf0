"""The train net and the test nets that a SolverParameter describes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caffebn import blocks
from caffebn.errors import CaffebnWarning, FileError, SolverError
from caffebn.net import Net
from caffebn.proto import Message

__all__ = ["NetMaker"]

_TRAIN_FIELDS = ("net", "net_param", "train_net", "train_net_param")


class NetMaker:
    """Makes the nets of a solver.

    Parameters
    ----------
    p : Message
        The SolverParameter.
    folder : Path or None
        Where the solver's text lies: files that are not found from the current directory are looked for there.
    keep, recompute
        Of the train net; where `keep` is given, test nets keep their outputs alone.
    options
        Keyword arguments of each Net: device, dtype.
    """

    def __init__(
        self,
        p: Message,
        folder: Path | None,
        keep: Sequence[str] | None = None,
        recompute: bool = False,
        **options: Any,
    ):
        self._p = p
        self._folder = folder
        self._options = options
        self._train_options: dict[str, Any] = {"keep": keep, "recompute": recompute}
        self._test_options: dict[str, Any] = {"keep": None if keep is None else []}
        self._read: dict[str, Message] = {}

    def train_net(self) -> Net:
        """Make the net that is trained, see `train_definition`."""
        return self._make(self.train_definition(), "TRAIN", self._p.train_state, **self._train_options)

    def train_definition(self) -> Message:
        """Return the text of the net that is trained.

        Raises
        ------
        SolverError
            The text names no train net, or more than one.
        """
        given = [name for name in _TRAIN_FIELDS if self._p.has(name)]
        if len(given) != 1:
            raise SolverError(
                f"expected one train net, in one of the fields {', '.join(_TRAIN_FIELDS)}; "
                f"found {', '.join(given) or 'none'}",
                self._p.where_of(given[1]) if given else self._p.where,
            )
        value = getattr(self._p, given[0])
        return value if isinstance(value, Message) else self._net_file(value, given[0])

    def test_nets(self) -> list[Net]:
        """Make the test nets: those of `test_net_param`, of `test_net`, and then of `net_param` or `net`.

        There is one for each `test_iter`; the general net fills the places that are left.

        Raises
        ------
        SolverError
            The numbers of `test_iter`, `test_state` and test nets do not go together, or `test_interval` is missing.
        """
        p = self._p
        definitions = [*p.test_net_param]
        definitions += [self._net_file(path, "test_net", i) for i, path in enumerate(p.test_net)]
        general = p.net_param if p.has("net_param") else None
        if p.has("net"):
            general = self._net_file(p.net, "net")
        count = len(p.test_iter)
        if count < len(definitions) or (general is None and count > len(definitions)):
            raise SolverError(
                f"test_iter: expected one for each of the {len(definitions)} test nets, found {count}",
                p.where_of("test_iter") or p.where,
            )
        definitions += [general] * (count - len(definitions))
        if len(p.test_state) not in (0, count):
            raise SolverError(
                f"test_state: expected one for each of the {count} test nets (one for each test_iter) or none, "
                f"found {len(p.test_state)}",
                p.where_of("test_state"),
            )
        for i, n in enumerate(p.test_iter):
            if n < 1:
                raise SolverError(f"test_iter: expected at least 1, found {n}", p.where_of("test_iter", i))
        if count and p.test_interval < 1:
            raise SolverError(
                "test_interval is missing: with test_iter it says after how many iterations to test, at least 1",
                p.where_of("test_interval") or p.where_of("test_iter"),
            )
        if p.test_interval and not count:
            warnings.warn(
                f"{p.where_of('test_interval') or 'solver'}: test_interval without test_iter: nothing is tested",
                CaffebnWarning,
                stacklevel=4,
            )
        states = [*p.test_state] or [Message("NetState")] * count
        return [
            self._make(definition, "TEST", state, **self._test_options)
            for definition, state in zip(definitions, states, strict=True)
        ]

    def weights(self) -> list[str]:
        """Return the paths of all files with weights to start from; one text may name several, with commas."""
        names = [name.strip() for names in self._p.weights for name in names.split(",")]
        return [self._find(name, "weights") for name in names if name]

    def _make(self, definition: Message, phase: str, last: Message, **options: Any) -> Net:
        """Make a net in the state of its phase, overridden by its own text, overridden by the solver's."""
        state = Message("NetState", phase=phase)
        for more in (definition.state, last):
            for name in ("phase", "level"):
                if more.has(name):
                    setattr(state, name, getattr(more, name))
            state.stage += more.stage
        definition = definition.copy()
        definition.clear("state")
        return Net(
            definition,
            phase=state.phase,
            level=state.level,
            stages=list(state.stage),
            **self._options,
            **options,
        )

    def _net_file(self, path: str, field: str, index: int | None = None) -> Message:
        if path not in self._read:
            self._read[path] = blocks.read(self._find(path, field, index))
        return self._read[path]

    def _find(self, path: str, field: str, index: int | None = None) -> str:
        """Find a file from the current directory, as Caffe does, or else beside the solver's text."""
        if os.path.exists(path):
            return path
        where = self._p.where_of(field, index)
        beside = self._folder / path if self._folder is not None else None
        if beside is not None and beside.exists():
            warnings.warn(
                f'{where or "solver"}: {field}: "{path}" is not in the current directory, {os.getcwd()}; '
                f"took {beside}, which lies beside the solver's text",
                CaffebnWarning,
                stacklevel=6,
            )
            return str(beside)
        raise FileError(
            f'{field}: there is no file "{path}" in the current directory, {os.getcwd()}'
            + (", nor beside the solver's text" if beside is not None else ""),
            where,
        )
