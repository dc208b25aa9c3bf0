"""One update of all parameters of a net: clip, normalise, decay, apply a rule.

All parameters lie in one flat buffer, and so does each history of the rule.  Parameters that follow each other
and have equal multipliers are one piece, and each piece is one call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from caffebn import ops
from caffebn.blob import Memory
from caffebn.errors import SolverError
from caffebn.layers.base import times
from caffebn.net import Net
from caffebn.net.parameters import Parameter
from caffebn.proto import Message
from caffebn.solvers.rules import Rule
from caffebn.weights import same_shape

__all__ = ["Updater"]


class Updater:
    """Changes the parameters of a net by a rule, and keeps the rule's history.

    Parameters
    ----------
    net : Net
    rule : Rule

    Attributes
    ----------
    owned : list of Parameter
        The parameters with memory of their own, in net order: Caffe's learnable parameters, those with
        ``lr_mult: 0`` included.
    history : list of ndarray
        One array for each of `owned`, in their shapes, and a second set behind the first for rules that keep
        two: the order of a solver state.  They are views of the memory in use.
    """

    def __init__(self, net: Net, rule: Rule):
        self.rule = rule
        self.owned: list[Parameter] = [p for p in net.parameters if p.owner is None]
        self._net = net
        self._ops = ops.get(net.device)
        self._op = getattr(self._ops, rule.op)
        self._offsets = np.cumsum([0, *(p.blob.count for p in self.owned)]).tolist()
        self._sets = [Memory(net.dtype, self._offsets[-1]) for _ in range(rule.histories)]
        self._settings: list[tuple[float, float]] = []
        self._pieces: list[tuple[slice, float, float]] = []
        self._arrays = ops.arrays(net.device)
        self._square = self._arrays.zeros(1, np.float64)
        self._records = net.device == "cpu"
        self._graph: Any = None
        self._of_graph: tuple | None = None  # the numbers of the update in the graph
        self._last: tuple | None = None

    @property
    def history(self) -> list[np.ndarray]:
        """The arrays of the history, on the host."""
        return [
            memory.flat[begin : begin + p.blob.count].reshape(p.blob.shape)
            for memory in self._sets
            for begin, p in zip(self._offsets, self.owned, strict=False)
        ]

    def prepare(self) -> None:
        """Group the parameters by their multipliers, which may have changed since the last time.

        Raises
        ------
        SolverError
            A parameter looks at other memory than when the net was made, or is to learn although the net
            computes no gradient for it.
        """
        for p in self.owned:
            if not p.blob.lies_in(self._net.parameters.data):
                raise SolverError(
                    f'layer "{p.layer.name}" ({p.layer.type}): blob {p.index} no longer lies in the net\'s own '
                    "memory, so the solver cannot change it: net.share_with() was called on the train net; call it "
                    "on the other net, other.share_with(solver.net)"
                )
        settings = [(p.lr_mult, p.decay_mult) for p in self.owned]
        if settings != self._settings:
            self._check_gradients()
            self._settings = settings
            self._pieces = list(self._group())

    def _check_gradients(self) -> None:
        for p in self.owned:
            if p.lr_mult != 0 and not p.layer.param_propagate_down[p.index]:
                raise SolverError(
                    f'layer "{p.layer.name}" ({p.layer.type}): blob {p.index} has got lr_mult {p.lr_mult:g}, but it '
                    "was 0 when the net was made, which then computes no gradient for it: state the rate in the text"
                )

    def _group(self) -> Iterator[tuple[slice, float, float]]:
        """Yield where each piece lies in the flat arrays, and its two multipliers."""
        for (lr_mult, decay_mult), run in groupby(range(len(self.owned)), key=self._settings.__getitem__):
            members = list(run)
            yield slice(self._offsets[members[0]], self._offsets[members[-1] + 1]), lr_mult, decay_mult

    def check_history(self, found: Sequence[np.ndarray], source: str) -> None:
        """Refuse a history that is not that of such a solver of such a net.

        Raises
        ------
        SolverError
        """
        history = self.history
        expected = len(history)
        if len(found) != expected:
            other_rule = len(found) in (len(self.owned), 2 * len(self.owned))
            raise SolverError(
                f'{source}: expected {expected} blobs of history, as a "{self.rule.name}" solver of this net has, '
                f"found {len(found)}: "
                + (
                    "AdaDelta, Adam and Nadam keep two for each parameter, the other solvers one"
                    if other_rule
                    else "the state belongs to another net"
                )
            )
        for i, (kept, array) in enumerate(zip(history, found, strict=True)):
            if not same_shape(kept.shape, array.shape):
                p = self.owned[i % len(self.owned)]
                raise SolverError(
                    f'{source}: history {i}, that of layer "{p.layer.name}" ({p.layer.type}), blob {p.index}: expected '
                    f"{times(kept.shape)}, found {times(array.shape)}: the state belongs to another net"
                )

    def set_history(self, history: Sequence[np.ndarray]) -> None:
        """Take over a history that `check_history` has passed."""
        for kept, array in zip(self.history, history, strict=True):
            kept[...] = array.reshape(kept.shape)

    def apply(self, p: Message, rate: float, iteration: int) -> None:
        """Change the parameters by their gradients; the diffs hold what was subtracted, afterwards.

        Clipping sees the gradients summed over `iter_size` and without weight decay, as in Caffe.

        Parameters
        ----------
        p : Message
            The SolverParameter.
        rate : float
            Learning rate, before the multipliers.
        iteration : int
            Number of the iteration, from 0.
        """
        factor, numbers = self.rule.numbers(p, iteration)
        scale = self._clip(p.clip_gradients) / p.iter_size
        decay, l1 = p.weight_decay, p.regularization_type == "L1"
        memories = [self._net.parameters.data, self._net.parameters.diff, *self._sets]
        flats = [memory.on(self._net.device) for memory in memories]
        calls = [
            (piece, (rate * lr_mult * factor, *numbers, scale, decay * decay_mult, l1))
            for piece, lr_mult, decay_mult in self._pieces
        ]

        def work() -> None:
            for piece, values in calls:
                self._op(*(flat[piece] for flat in flats), *values)

        if self._records:
            pieces = [(piece.start, piece.stop, values) for piece, values in calls]
            self._apply_recorded(work, (ops.threads.get(), *map(id, flats), *pieces))
        else:
            work()

    def record(self) -> None:
        """On a GPU, too: repeat updates whose numbers are those of the one before as a graph, from now on."""
        self._records = True

    def _apply_recorded(self, work: Callable[[], None], numbers: tuple) -> None:
        if numbers == self._of_graph:
            self._graph.launch()
        elif numbers == self._last:
            self._graph, self._of_graph = self._arrays.Graph(work), numbers  # runs the work once, too
        else:
            work()
        self._last = numbers

    def _clip(self, limit: float) -> float:
        """Return the factor that brings the norm of all gradients down to `limit`; negative is no limit."""
        if limit < 0:
            return 1.0
        self._ops.sum_of_squares(self._net.parameters.diff.on(self._net.device), self._square)
        norm = math.sqrt(float(self._square[0]))
        return limit / norm if norm > limit else 1.0
