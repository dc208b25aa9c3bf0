"""How a net runs: steps, one for each layer or for several that run as one, and passes that repeat them.

A pass over the whole net is a list of steps.  The first time, each step runs as its layers say, and the calls of
kernels that it makes are recorded where that is the whole of what it does.  From then on the pass is a flat list of
calls with all arguments prepared, until a shape, the place of a memory or the number of threads changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from caffebn.blob import Blob
from caffebn.ops import threads
from caffebn.ops.recording import Recording, recording

if TYPE_CHECKING:
    from caffebn.net.wiring import Wiring

__all__ = ["LayerStep", "Pass", "Step", "stand_in_for"]


def stand_in_for(seen: Blob, own: Blob) -> None:
    """Give `own` the shape of the blob that users see, and its gradient; the data are its own."""
    if own.shape != seen.shape:
        own.reshape(*seen.shape)
    if not own.shares_diff_with(seen):
        own.share_diff(seen)


class Step:
    """Some layers that follow each other, run as one.

    Parameters
    ----------
    wiring : Wiring
    first, last : int
        Indices of its layers.

    Attributes
    ----------
    what : str
        What runs as one, for people: ``"BatchNorm + Scale + ReLU"``.
    repeatable : bool
        Forward and backward are the same calls of ops each time, as long as shapes and memory are.
    ran : bool
        Whether the values in memory are those of this step's forward pass, rather than those of its layers run one
        by one.
    """

    def __init__(self, wiring: Wiring, first: int, last: int):
        self.wiring = wiring
        self.first, self.last = first, last
        self.layers = wiring.layers[first : last + 1]
        self.what = " + ".join(layer.type for layer in self.layers)
        self.repeatable = all(layer.repeatable for layer in self.layers)
        self.ran = False

    def prepare(self) -> None:
        """Reshape the layers whose bottoms have changed; called before `forward`."""
        for i in range(self.first, self.last + 1):
            self.wiring.reshape_if_needed(i)

    def forward(self) -> None:
        """Fill the tops that can be seen."""
        raise NotImplementedError

    def forward_anew(self) -> None:
        """Run `forward`, after `prepare` where shapes may change though those of the bottoms do not."""
        if any(layer.reshapes_each_pass for layer in self.layers):
            self.prepare()
        self.forward()

    @property
    def needs_backward(self) -> bool:
        """Whether any of its layers takes part in the backward pass."""
        return any(self.wiring.need_backward[self.first : self.last + 1])

    def backward(self) -> None:
        """Compute the gradients that its layers compute."""
        for i in range(self.last, self.first - 1, -1):
            self.wiring.backward_layer(i)

    def values(self) -> list[Blob]:
        """Blobs whose data `forward` reads or writes."""
        raise NotImplementedError

    def written(self) -> list[Blob]:
        """Blobs whose data `forward` writes, other than by showing a bottom."""
        raise NotImplementedError

    def may_replace(self) -> list[Blob]:
        """Blobs in whose place `forward` may write its top: of each it reads an element before it writes that one."""
        return []

    def values_going_backward(self) -> list[Blob]:
        """Blobs whose data `backward` reads."""
        return [b for i in range(self.first, self.last + 1) for b in self.wiring.values_going_backward(i)]

    def gradients(self) -> list[Blob]:
        """Blobs whose diff `backward` reads or writes."""
        return [b for i in range(self.first, self.last + 1) for b in self.wiring.gradients_of(i)]

    def expose(self) -> None:
        """After `forward`: bring memory into the state in which its layers, one by one, would have left it."""


class LayerStep(Step):
    """A layer by itself."""

    def __init__(self, wiring: Wiring, i: int, redirected: dict[int, Blob] | None = None):
        super().__init__(wiring, i, i)
        self.layer = wiring.layers[i]
        self.bottoms, self.tops = wiring.bottoms[i], list(wiring.tops[i])
        self.backward_tops = wiring.backward_tops(i)
        self.redirected = [(self.tops[j], blob) for j, blob in (redirected or {}).items()]
        for j, blob in (redirected or {}).items():
            self.tops[j] = self.backward_tops[j] = blob
        self.repeatable = self.repeatable and not wiring.restores_loss_weight(i)

    def prepare(self) -> None:
        super().prepare()
        for seen, own in self.redirected:
            stand_in_for(seen, own)

    def forward(self) -> None:
        self.wiring.keep_before(self.first)
        self.layer.forward(self.bottoms, self.tops)

    def values(self) -> list[Blob]:
        return [*self.wiring.copies_before(self.first), *self.bottoms, *self.tops]

    def written(self) -> list[Blob]:
        return [] if self.layer.shares_memory else self.tops

    def values_going_backward(self) -> list[Blob]:
        return self.wiring.values_going_backward(self.first, self.backward_tops)

    def backward(self) -> None:
        self.wiring.backward_layer(self.first, self.backward_tops)


class Pass:
    """A forward or a backward pass over a whole net.

    Parameters
    ----------
    wiring : Wiring
    steps : sequence of Step
        In the order in which they run.
    settle : callable, optional
        For a forward pass: what to call before shapes and memory are taken as they are.
    """

    def __init__(self, wiring: Wiring, steps: Sequence[Step], settle: Callable[[], None] | None = None):
        self.steps = steps
        self.forward = settle is not None
        self.runs: list[Callable[[], None]] = [s.forward if self.forward else s.backward for s in steps]
        self.again = [s.forward_anew for s in steps] if self.forward else self.runs
        self._settle = settle
        self.records = wiring.device == "cpu"
        self._changes = wiring.changes
        self._state: tuple[int, int] | None = None
        self._script: list[tuple[list[tuple[Callable, tuple]], int]] = []
        self._scratch: dict[str, Any] = {}

    def run(self) -> None:
        """Run all steps."""
        if self._state != (self._changes.count, threads.get()):
            self._record()
            return
        count = self._changes.count
        for calls, k in self._script:
            for kernel, arguments in calls:
                kernel(*arguments)
            if k >= 0:
                self.again[k]()
                if self._changes.count != count:  # a layer that hands out data has found another shape
                    self._run_rest(k + 1)
                    return

    def _record(self) -> None:
        """Run all steps, and write down the calls of those that can be repeated."""
        self._state = None
        if self._settle is not None:
            self._settle()
        before = self._changes.count
        script: list[tuple[list[tuple[Callable, tuple]], int]] = []
        calls: list[tuple[Callable, tuple]] = []
        for k, (step, run) in enumerate(zip(self.steps, self.runs, strict=True)):
            if self.forward:
                step.prepare()
            if step.repeatable and self.records:
                tape = Recording(calls, self._scratch)
                with recording(tape):
                    run()
            else:
                run()
                script.append((calls, k))
                calls = []
        script.append((calls, -1))
        if self._changes.count == before:
            self._script, self._state = script, (before, threads.get())

    def _run_rest(self, k: int) -> None:
        self._state = None
        for step, run in zip(self.steps[k:], self.runs[k:], strict=True):
            if self.forward:
                step.prepare()
            run()
