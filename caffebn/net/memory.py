"""Where the values and gradients of a net live: each in memory of its own, or several in one, in turn.

A net that promises only some blobs (``Net(..., keep=[names])``) needs the memory of the others only while somebody will
still read them.  Time is counted in steps: a pass forward, then a pass backward.  Two blobs whose times do not overlap
may share memory.  A step has two halves, reading and writing: where a sum may take the place of what it adds to (a
residual, say), that is in use in the first half only, and the sum in the second.  Sizes decide only which blobs share,
so a plan stays right when shapes change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

from caffebn.blob import Blob, Memory
from caffebn.net.fuse import Again, NormStep
from caffebn.net.steps import Step

if TYPE_CHECKING:
    from caffebn.net.wiring import Wiring

__all__ = ["MemoryPlan", "again_before"]


@dataclass
class Use:
    """A piece of memory, which blobs have their data or diff there, and when.

    Attributes
    ----------
    memory : Memory
    data, diff : list of Blob
    busy : int
        A number whose bits 2 t and 2 t + 1 are set when the memory is in use in the halves of step t.
    near : list of Use
        In whose place it had best lie, if it may.
    home : Memory
        Where it is planned to be.
    """

    memory: Memory
    data: list[Blob] = field(default_factory=list)
    diff: list[Blob] = field(default_factory=list)
    busy: int = 0
    near: list[Use] = field(default_factory=list, repr=False, compare=False)
    home: Memory = field(init=False)

    def __post_init__(self) -> None:
        self.home = self.memory

    @property
    def size(self) -> int:
        """Values of the largest of its blobs."""
        return max(blob.count for blob in (*self.data, *self.diff))

    def move(self, memory: Memory) -> None:
        """Let its blobs look at other memory."""
        for blob in self.data:
            blob.look_at(data=memory)
        for blob in self.diff:
            blob.look_at(diff=memory)


class MemoryPlan:
    """Which memory the passes of a net use, and which of it serves several blobs.

    Parameters
    ----------
    wiring : Wiring
    steps, backward_steps : sequence of Step
        What the passes run, prepared.
    backward : bool
        Whether passes backward are run, too.
    """

    def __init__(
        self, wiring: Wiring, steps: Sequence[Step], backward_steps: Sequence[Step], backward: bool = True
    ):
        self._wiring = wiring
        uses: dict[int, Use] = {}
        times: dict[int, list[int]] = {}

        def touch(blobs: Iterable[Blob], diff: bool, time: int, halves: Sequence[int] = (0, 1)) -> None:
            for blob in blobs:
                memory = blob.memories[diff]
                use = uses.setdefault(id(memory), Use(memory))
                members = use.diff if diff else use.data
                if not any(blob is member for member in members):
                    members.append(blob)
                times.setdefault(id(memory), []).extend(2 * time + half for half in halves)

        forward = len(steps)
        again: set[int] = set()
        for time, step in enumerate(steps):
            # ops on a GPU are not promised to read an element before they write it
            old, new = [] if wiring.device == "gpu" else step.may_replace(), step.written()
            if not old:
                touch(step.values(), False, time)
                continue
            apart = {id(blob) for blob in (*old, *new)}
            touch([blob for blob in step.values() if id(blob) not in apart], False, time)
            touch(old, False, time, halves=(0,))
            touch(new, False, time, halves=(1,))
            for a, b in product(old, new):
                replaced, sum_ = uses[id(a.memories[0])], uses[id(b.memories[0])]
                replaced.near.append(sum_)
                sum_.near.append(replaced)
        for time, step in enumerate(backward_steps if backward else (), start=forward):
            touch(step.values_going_backward(), False, time)
            touch(step.gradients(), True, time)
            if isinstance(step, Again):
                again.add(id(step.top.memories[0]))
        for key, found in times.items():
            spans = [found]
            if key in again:  # not needed in between
                spans = [[t for t in found if t < 2 * forward], [t for t in found if t >= 2 * forward]]
            for span in spans:
                uses[key].busy |= (2 << max(span)) - (1 << min(span))
        own = {id(memory) for blob in wiring.blobs_that_last() for memory in blob.memories}
        own |= {id(blob.memories[1]) for blob in wiring.blobs_with_own_diff()}
        self._shared = [use for key, use in uses.items() if key not in own and use.memory.parent is None]
        self.joints = [] if backward_steps or wiring.device == "gpu" else self._find_joints(uses, steps)
        self._places = _share(self._shared)
        shared = {id(use) for use in self._shared}
        self._alone = [use for use in uses.values() if id(use) not in shared]

    @property
    def bytes(self) -> int:
        """What values and gradients take with the shapes of now, without parameters and the layers' scratch memory."""
        joined = {id(joint.use) for joint in self.joints if joint.fits}
        places = [*([use] for use in self._alone), *self._places]
        sizes = (max((use.size for use in place if id(use) not in joined), default=0) for place in places)
        return self._wiring.dtype.itemsize * sum(sizes)

    def _find_joints(self, uses: dict[int, Use], steps: Sequence[Step]) -> list[Joint]:
        """Find bottoms of Concat layers that could be written where the layer would put them."""
        if any(layer.reshapes_each_pass for layer in self._wiring.layers):
            return []  # shapes have to be known before anything is written
        writers: dict[int, list[int]] = {}
        for time, step in enumerate(steps):
            for blob in step.written():
                writers.setdefault(id(blob.memories[0]), []).append(time)
        shared = {id(use) for use in self._shared}
        found: list[Joint] = []
        for time, step in enumerate(steps):
            if step.layers[0].type != "Concat" or len(step.layers) > 1:
                continue
            (top,) = self._wiring.tops[step.first]
            whole = uses[id(top.memories[0])]
            bottoms = self._wiring.bottoms[step.first]
            for position, bottom in enumerate(bottoms):
                use = uses[id(bottom.memories[0])]
                once = sum(other.memories[0] is use.memory for other in bottoms) == 1
                taken = any(joint.use is use for joint in found)
                # nobody may change the values in either place while they are read in the other
                written, changed = writers.get(id(use.memory), [time]), writers[id(whole.memory)][-1]
                still = written[-1] < time and (changed == time or use.busy >> (2 * time + 2) == 0)
                if once and not taken and still and id(use) in shared and not use.diff:
                    found.append(Joint(step.layers[0], top, position, use))
                    whole.busy |= use.busy
        return found

    def apply(self) -> None:
        """Let the blobs look at the memory planned for them."""
        for place in self._places:
            memory = self._wiring.new_memory()
            for use in place:
                use.home = memory
        self.loosen()
        self.join()

    def loosen(self) -> None:
        """Let all blobs look at places of their own, as shapes are about to change."""
        joined = {id(joint.use) for joint in self.joints if joint.fits}
        for use in self._shared:
            if id(use) not in joined:
                use.move(use.home)
        for joint in self.joints:
            if joint.fits:
                joint.use.move(self._wiring.new_memory())

    def join(self) -> None:
        """Have the bottoms of Concat layers written in place, where shapes allow it."""
        for joint in reversed(self.joints):  # the outermost first, whose memory holds the others'
            if joint.fits:
                whole = joint.top.memories[0]
                size = joint.use.size
                joint.use.move(Memory(self._wiring.dtype, size, whole, joint.layer.pieces[joint.position][0]))
            else:
                joint.use.move(joint.use.home)

    def undo(self) -> None:
        """Give each its own memory again; all values are 0."""
        for use in self._shared:
            use.move(self._wiring.new_memory())


@dataclass
class Joint:
    """A bottom of a Concat layer that may lie in the layer's top."""

    layer: Any
    top: Blob
    position: int
    use: Use

    @property
    def fits(self) -> bool:
        """Whether the bottom is one piece of the top: it is not where the layer cuts each of several images."""
        return self.layer.whole[0] == 1


def _share(uses: Sequence[Use]) -> list[list[Use]]:
    """Put uses into as few and small places as one finds going from the largest to the smallest.

    Where a use may lie in the place of one that is near to it, it does: that is in the caches then.
    """
    places: list[list[Use]] = []
    busy: list[int] = []
    where: dict[int, int] = {}
    for use in sorted(uses, key=lambda use: -use.size):
        near = [where[id(other)] for other in use.near if id(other) in where]
        k = next((k for k in (*near, *range(len(places))) if not busy[k] & use.busy), len(places))
        where[id(use)] = k
        if k == len(places):
            places.append([])
            busy.append(0)
        places[k].append(use)
        busy[k] |= use.busy
    return places


def again_before(steps: Sequence[Step], kept: Iterable[Blob]) -> dict[int, list[Again]]:
    """Find the outputs of normalisations that can be computed once more going backward, instead of being kept.

    These are the tops of a BatchNorm (with Scale and ReLU) that nobody else writes: their input is kept anyway.

    Parameters
    ----------
    steps : sequence of Step
        Of the forward pass.
    kept : collection of Blob
        Blobs that have memory of their own.

    Returns
    -------
    dict of list of Again
        What to do before the backward pass of the step with that index.
    """
    own = {id(blob.memories[0]) for blob in kept}
    writers: dict[int, list[int]] = {}
    readers: dict[int, list[int]] = {}
    for k, step in enumerate(steps):
        for blob in step.written():
            writers.setdefault(id(blob.memories[0]), []).append(k)
        for blob in step.values_going_backward():
            readers.setdefault(id(blob.memories[0]), []).append(k)
    found: dict[int, list[Again]] = {}
    for k, step in enumerate(steps):
        if not isinstance(step, NormStep) or step.residual is not None or step.norm.use_global_stats:
            continue
        key = id(step.top.memories[0])
        if key not in own and writers[key] == [k] and max(readers.get(key, [k])) > k:
            found.setdefault(max(readers[key]), []).append(Again(step))
    return found
