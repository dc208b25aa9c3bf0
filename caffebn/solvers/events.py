"""What a solver tells those who listen: progress, test results, snapshots.

``str(event)`` is what Caffe writes into its log about the same thing, so that programs which read such logs go
on working; the attributes are for programs that come later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Event", "Progress", "SnapshotWritten", "TestResult", "outputs_of"]


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes
    ----------
    iteration : int
        Number of completed iterations, but for `Progress`: the number of the iteration it is about.
    """

    iteration: int


@dataclass(frozen=True)
class Progress(Event):
    """Loss and rate of an iteration that `display` asks for.

    Attributes
    ----------
    loss : float
        Averaged over the last `average_loss` iterations.
    rate : float or None
        Learning rate; None for the forward pass after the last iteration.
    outputs : dict of ndarray
        Outputs of the train net.
    loss_weights : dict of float
        Of those outputs that are losses.
    seconds : float
        Since the display before, or the start.
    iterations : int
        Done in that time.
    """

    loss: float
    rate: float | None = None
    outputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    loss_weights: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    iterations: int = 0

    def __str__(self) -> str:
        if self.rate is None:
            return f"Iteration {self.iteration}, loss = {self.loss:g}"
        speed = self.iterations / self.seconds if self.seconds else 0.0
        return "\n".join(
            [
                f"Iteration {self.iteration} ({speed:g} iter/s, {self.seconds:g}s/{self.iterations} iters), "
                f"loss = {self.loss:g}",
                *_output_lines("Train", self.outputs, self.loss_weights),
                f"Iteration {self.iteration}, lr = {self.rate:g}",
            ]
        )


@dataclass(frozen=True)
class TestResult(Event):
    """Outputs of a test net, averaged over `test_iter` forward passes.

    Attributes
    ----------
    index : int
        Which of the test nets.
    outputs : dict of ndarray
    loss_weights : dict of float
        Of those outputs that are losses.
    loss : float or None
        The total loss, when `test_compute_loss` asks for it.
    """

    __test__ = False  # no test of pytest's

    index: int
    outputs: Mapping[str, np.ndarray]
    loss_weights: Mapping[str, float]
    loss: float | None = None

    def __str__(self) -> str:
        return "\n".join(
            [
                f"Iteration {self.iteration}, Testing net (#{self.index})",
                *([] if self.loss is None else [f"Test loss: {self.loss:g}"]),
                *_output_lines("Test", self.outputs, self.loss_weights),
            ]
        )


@dataclass(frozen=True)
class SnapshotWritten(Event):
    """A pair of files that training can go on from.

    Attributes
    ----------
    model, state : str
        Paths of the weights and of the solver state.
    """

    model: str
    state: str

    def __str__(self) -> str:
        kind = "HDF5" if self.state.endswith(".h5") else "binary proto"
        return (
            f"Snapshotting to {kind} file {self.model}\nSnapshotting solver state to {kind} file {self.state}"
        )


def outputs_of(outputs: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> tuple[dict, dict]:
    """Return copies of a net's outputs, and the loss weights of those that have one."""
    copies = {name: np.array(value) for name, value in outputs.items()}
    return copies, {name: weights[name] for name in copies if weights[name]}


def _output_lines(
    what: str, outputs: Mapping[str, np.ndarray], weights: Mapping[str, float]
) -> Iterator[str]:
    number = 0
    for name, values in outputs.items():
        for value in values.reshape(-1):
            weight = weights.get(name)
            loss = f" (* {weight:g} = {weight * value:g} loss)" if weight else ""
            yield f"    {what} net output #{number}: {name} = {value:g}{loss}"
            number += 1
