"""Logs of a training: the lines that Caffe writes, and the same events as JSON, one object a line."""

from __future__ import annotations

import json
import logging
import math
import os
import time
import warnings
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from caffebn.errors import CaffebnWarning, FileError
from caffebn.solvers.events import Event, Progress, SnapshotWritten, TestResult

if TYPE_CHECKING:
    from caffebn.solvers.solver import Solver

__all__ = ["CaffeFormatter", "JsonLines", "LogFile", "TextLog", "items_per_iteration", "plain_outputs"]


class CaffeFormatter(logging.Formatter):
    """Prefixes each line as Caffe's logs have it: ``I1120 12:34:56.789012  4321 solver.py:239] ``.

    Severity and date, time, process, source, as programs that read such logs take them apart.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Give the record's lines, each with the prefix."""
        when = datetime.fromtimestamp(record.created)
        prefix = f"{record.levelname[0]}{when:%m%d %H:%M:%S.%f} {record.process:5d} {record.filename}:{record.lineno}] "
        return "\n".join(prefix + line for line in record.getMessage().splitlines())


class LogFile:
    """A text file that grows line by line.

    What is in it stays: lines come behind those of earlier runs.  When it cannot be written any more (a full
    disk), there is one warning, and the training goes on without it: a log is worth less than a training.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    FileError
        The file cannot be opened for writing.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self._path = os.fspath(path)
        try:
            # closed by close(), and written line by line: a killed training keeps its log
            self._file: Any = open(self._path, "ab+", buffering=0)  # noqa: SIM115
        except OSError as e:
            raise FileError(f"{self._path}: the log cannot be written: {e.strerror or e}") from None
        if self._file.tell():
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":  # a process that was killed has left half a line
                self.write("")

    def write(self, line: str) -> None:
        """Append one line."""
        if self._file is None:
            return
        try:
            self._file.write(f"{line}\n".encode(errors="surrogateescape"))
        except OSError as e:
            self.close()
            warnings.warn(
                f"{self._path}: the log cannot be written any more: {e.strerror or e}; training goes on without it",
                CaffebnWarning,
                stacklevel=2,
            )

    def close(self) -> None:
        """Close the file; later lines go nowhere."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()


class TextLog(logging.Handler):
    """Writes records with Caffe's prefix into a `LogFile`."""

    def __init__(self, path: str | os.PathLike[str]):
        super().__init__()
        self._log = LogFile(path)
        self.setFormatter(CaffeFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        self._log.write(self.format(record))

    def close(self) -> None:
        """Close the file."""
        self._log.close()
        super().close()


class JsonLines:
    """A listener that writes each event of a solver as a JSON object on a line of its own.

    The keys are listed in docs/training.md; numbers that are not finite become null.

    Parameters
    ----------
    path : path-like
    solver : Solver

    Raises
    ------
    FileError
        The file cannot be opened for writing.
    """

    def __init__(self, path: str | os.PathLike[str], solver: Solver):
        self._log = LogFile(path)
        self._items = items_per_iteration(solver)

    def write(self, event: str, iteration: int, **values: Any) -> None:
        """Write an event; `time` is added, in seconds since 1970."""
        line = {"event": event, "time": round(time.time(), 6), "iteration": iteration, **values}
        self._log.write(json.dumps(_finite(line), allow_nan=False))

    def __call__(self, event: Event) -> None:
        """Write what a solver tells."""
        if isinstance(event, Progress):
            speed = event.iterations / event.seconds if event.seconds else None
            self.write(
                "progress",
                event.iteration,
                loss=event.loss,
                lr=event.rate,
                outputs=plain_outputs(event.outputs),
                seconds=event.seconds,
                iterations=event.iterations,
                items_per_second=speed and speed * self._items,
            )
        elif isinstance(event, TestResult):
            self.write(
                "test",
                event.iteration,
                net=event.index,
                outputs=plain_outputs(event.outputs),
                loss=event.loss,
            )
        elif isinstance(event, SnapshotWritten):
            self.write("snapshot", event.iteration, model=event.model, state=event.state)

    def close(self) -> None:
        """Close the file."""
        self._log.close()


def items_per_iteration(solver: Solver) -> int:
    """Return how many items (pictures, mostly) an iteration sees: the batch of the first layer, times `iter_size`."""
    net = solver.net
    shapes = (net.blobs[top].shape for layer in net.layers[:1] for top in net.top_names[layer.name])
    return next((shape[0] for shape in shapes if shape), 1) * solver.param.iter_size


def plain_outputs(outputs: Mapping[str, np.ndarray]) -> dict[str, float | list[float]]:
    """Return outputs of a net as numbers, and as flat lists those that have more than one."""
    return {
        name: float(value.item()) if value.size == 1 else value.reshape(-1).astype(float).tolist()
        for name, value in outputs.items()
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
