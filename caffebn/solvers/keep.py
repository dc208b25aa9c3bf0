"""Which snapshots stay on disk: the last ones, and the best by the score of a test."""

from __future__ import annotations

import json
import math
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from caffebn.errors import ArgumentError, CaffebnWarning, did_you_mean
from caffebn.files import write_whole
from caffebn.solvers.events import Event, SnapshotWritten, TestResult

if TYPE_CHECKING:
    from caffebn.solvers.solver import Solver

__all__ = ["KeepSnapshots"]


class KeepSnapshots:
    """A listener that deletes older snapshots when a new one is complete, but never the best.

    Only snapshots of this training are deleted: those that it writes, and, when it was resumed, those of the
    same prefix up to the iteration where it goes on.

    Parameters
    ----------
    solver : Solver
        Restored already, if it is resumed.
    keep : int, optional
        How many of the last snapshots to keep; None is all.
    best : str, optional
        Name of an output of a test net.  The snapshot with the best value stays, and is written for that if there is
        none of that iteration.  Best is the lowest of a loss and the highest of everything else;
        ``"name:min"`` and ``"name:max"`` say it.  It is noted in ``<snapshot_prefix>_best.json``, with the keys
        `name`, `value`, `iteration`, `model` and `state`.

    Raises
    ------
    ArgumentError
        No test net has that output, or it is more than one number; `keep` is less than 1.
    """

    def __init__(self, solver: Solver, keep: int | None = None, best: str | None = None):
        if keep is not None and keep < 1:
            raise ArgumentError(f"keep: expected at least 1 snapshot, found {keep}")
        self._solver = solver
        self._keep = keep
        self._name, self._net, self._sign = _output(solver, best) if best is not None else ("", -1, 0)
        self._best = -math.inf  # its sign is such that more is better
        self._best_iteration: int | None = None
        self._pairs: dict[int, tuple[Path, Path]] = {}
        stem = Path(f"{solver.snapshot_prefix}_iter_").resolve()
        self._folder, self._stem = stem.parent, stem.name
        self._note = self._folder / f"{self._stem.removesuffix('_iter_')}_best.json"
        if solver.iter:
            self._find_earlier()

    def __call__(self, event: Event) -> None:
        """Heed a snapshot or a test."""
        if isinstance(event, SnapshotWritten):
            self._pairs[event.iteration] = (Path(event.model).resolve(), Path(event.state).resolve())
            self._delete()
        elif isinstance(event, TestResult) and event.index == self._net:
            value = self._sign * float(event.outputs[self._name].item())
            if value > self._best:
                self._best, self._best_iteration = value, event.iteration
                if event.iteration not in self._pairs:
                    self._solver.snapshot()
                self._write_note(event.iteration)
                self._delete()

    def _delete(self) -> None:
        """Delete what is neither among the last nor the best; states first, as weights alone are still of use."""
        if self._keep is None:
            return
        for iteration in sorted(self._pairs)[: -self._keep]:
            if iteration == self._best_iteration:
                continue
            model, state = self._pairs.pop(iteration)
            for path in (state, model):
                try:
                    path.unlink(missing_ok=True)
                except OSError as e:
                    warnings.warn(
                        f"{path}: this older snapshot cannot be deleted: {e.strerror or e}",
                        CaffebnWarning,
                        stacklevel=2,
                    )

    def _write_note(self, iteration: int) -> None:
        model, state = self._pairs[iteration]
        note = {
            "name": self._name,
            "value": self._sign * self._best,
            "iteration": iteration,
            "model": str(model),
            "state": str(state),
        }
        with write_whole(self._note) as f:
            f.write(json.dumps(note, indent=2).encode() + b"\n")

    def _find_earlier(self) -> None:
        """Find the snapshots of the run that is resumed, its best, and what it left half written when it was killed."""
        pattern = re.compile(re.escape(self._stem) + r"(\d+)\.(?:caffemodel|solverstate)((?:\.h5)?)")
        written = (
            re.escape(self._stem) + r"\d+\.(caffemodel|solverstate)(\.h5)?",
            re.escape(self._note.name),
        )
        rest = re.compile(rf"\.({'|'.join(written)})\..*\.part")
        for path in self._folder.iterdir():
            if (found := pattern.fullmatch(path.name)) and int(found[1]) <= self._solver.iter:
                model, state = (
                    path.with_name(f"{self._stem}{found[1]}.{kind}{found[2]}")
                    for kind in ("caffemodel", "solverstate")
                )
                self._pairs[int(found[1])] = (model, state)
            elif rest.fullmatch(path.name):
                path.unlink(missing_ok=True)
        if not self._name:
            return
        try:
            note = json.loads(self._note.read_bytes())
            name, value, iteration = note["name"], float(note["value"]), int(note["iteration"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError) as e:
            warnings.warn(
                f"{self._note}: cannot be read, so the best snapshot is looked for anew: {type(e).__name__}: {e}",
                CaffebnWarning,
                stacklevel=3,
            )
            return
        if name == self._name and iteration in self._pairs:
            self._best, self._best_iteration = self._sign * value, iteration


def _output(solver: Solver, best: str) -> tuple[str, int, int]:
    """Return the name of an output, the index of its test net, and 1 or -1: whether more or less is better."""
    name, colon, direction = best.rpartition(":")
    if not colon or direction not in ("min", "max"):
        name, direction = best, ""
    for index, net in enumerate(solver.test_nets):
        if name in net.outputs:
            if net.blobs[name].count != 1:
                raise ArgumentError(
                    f'the best snapshot: the output "{name}" of the test net has {net.blobs[name].count} numbers; '
                    "expected one that is a single number"
                )
            lower = direction == "min" or (not direction and net.blob_loss_weights[name] != 0)
            return name, index, -1 if lower else 1
    known = [name for net in solver.test_nets for name in net.outputs]
    raise ArgumentError(
        f'the best snapshot: no test net has an output "{name}"{did_you_mean(name, known)}; there are '
        f"{', '.join(known) or 'none: the solver has no test_iter, so that nothing is tested'}"
    )
