"""The layers of a net and the blobs that join them: making them, planning who reads what, running each by itself.

`Net` is what users see of a net, steps are how whole passes run; both ask here for layers, blobs and what is to be done
before and after a layer runs.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from caffebn import ops, seeding
from caffebn.blob import Blob, Changes, Memory
from caffebn.errors import CaffebnWarning
from caffebn.layers import Context, Layer, Workspace, create
from caffebn.net.plan import Versions, follow_versions, plan_backward, plan_kept
from caffebn.proto import Message

__all__ = ["Wiring"]


class Wiring:
    """Layers in order of execution, and for each the blobs that it reads and makes.

    Parameters
    ----------
    definition : Message
        NetParameter of the layers that run, with Splits.
    source : str
        What to call it in messages about layers that have no place in a text.
    device, phase : str
    dtype : dtype
        Of all blobs.
    winograd : bool
        As for `Net`.
    lean : bool
        Blobs that are not shown need not hold their values when a pass is over.

    Attributes
    ----------
    layers : list of Layer
    blobs : list of Blob
        In the order in which layers make them; layers are given them as they are on the layer's device.
    names : list of str
        Of the blobs.
    bottom_ids, top_ids : list of list of int
        Indices of each layer's blobs.
    bottoms, tops : list of list of Blob
        The same as blobs.
    loss_weights : list of list of float
        Of each layer's tops.
    output_ids : list of int
        Blobs that no layer reads, by name.
    need_backward : list of bool
        Whether each layer takes part in the backward pass.
    propagate_down : list of list of bool
        Which of its bottoms' gradients each layer computes.
    shown : list of bool
        For each blob whether users look at it.
    changes : Changes
        Counts what makes a recorded pass void.

    Raises
    ------
    NetError
        The layers cannot be made or joined.
    """

    def __init__(
        self,
        definition: Message,
        source: str,
        device: str,
        phase: str,
        dtype: np.dtype,
        winograd: bool,
        lean: bool,
    ):
        self.device, self.phase, self.dtype, self.lean = device, phase, dtype, lean
        self.changes = Changes()
        self._ops = ops.get(device)
        self.layers: list[Layer] = []
        self.blobs: list[Blob] = []
        self.names: list[str] = []
        self.bottom_ids: list[list[int]] = []
        self.top_ids: list[list[int]] = []
        self.bottoms: list[list[Blob]] = []
        self.tops: list[list[Blob]] = []
        self.loss_weights: list[list[float]] = []
        self._seen_shapes: list[list[tuple[int, ...]]] = []
        self._connect(definition, source, winograd)
        self.shown = [True] * len(self.blobs)

    # -- making ------------------------------------------------------------------------------------

    def _connect(self, definition: Message, source: str, winograd: bool) -> None:
        """Make the layers and their blobs, each shaped as soon as its bottoms are."""
        context = Context(
            self.device,
            self.phase,
            self.dtype,
            seeding.generator(),
            Workspace(self.dtype, self.device),
            self.changes,
            winograd,
        )
        unread: dict[str, int] = {}  # latest version of each blob that no layer has read
        makers: dict[str, str] = {}
        names: set[str] = set()
        for spec in definition.layer:
            if not spec.has("phase"):
                spec.phase = self.phase
            if spec.name in names:
                warnings.warn(
                    f'{spec.where or source}: layer name "{spec.name}" is used twice; '
                    "weights and layers are found by name",
                    CaffebnWarning,
                    stacklevel=5,
                )
            names.add(spec.name)
            context.phase = spec.phase
            layer = create(spec, context)
            bottoms = [unread.pop(name) for name in spec.bottom]
            tops = []
            for j, name in enumerate(spec.top):
                if j < len(spec.bottom) and spec.bottom[j] == name:
                    if not layer.in_place:
                        raise layer.error(f'cannot work in place: give it a top other than "{name}"', "top")
                    tops.append(bottoms[j])
                elif name in makers:
                    raise layer.error(
                        f'top "{name}" is made by layer "{makers[name]}" already; the same name is allowed only for '
                        "a layer that works in place, at the same position among its bottoms", "top",
                    )  # fmt: skip
                else:
                    makers[name] = layer.name
                    tops.append(self._named_blob(name))
                unread[name] = tops[-1]
            if not tops and layer.default_loss_weight:
                tops.append(self._named_blob("(automatic)"))
            self.layers.append(layer)
            self.bottom_ids.append(bottoms)
            self.top_ids.append(tops)
            self.bottoms.append([self.blobs[b].on(layer.device) for b in bottoms])
            self.tops.append([self.blobs[b].on(layer.device) for b in tops])
            self._seen_shapes.append([])
            layer.setup(self.bottoms[-1], self.tops[-1])
            self.loss_weights.append(_loss_weights(layer, len(tops)))
            self.reshape_layer(len(self.layers) - 1)
        self.output_ids = [unread[name] for name in sorted(unread)]

    def _named_blob(self, name: str) -> int:
        self.blobs.append(self.new_blob())
        self.names.append(name)
        return len(self.blobs) - 1

    def new_memory(self) -> Memory:
        """Make memory for values of blobs, of no size yet."""
        return Memory(self.dtype, page_locked=self.device == "gpu")

    def new_blob(self) -> Blob:
        """Make an empty blob of the net's dtype whose changes the net notices."""
        return Blob((0,), self.dtype, self.changes, page_locked=self.device == "gpu")

    def plan_gradients(self, force: bool) -> None:
        """Decide which layers take part in the backward pass, as `plan_backward` does."""
        self.need_backward, self.propagate_down = plan_backward(
            self.layers, self.bottom_ids, self.top_ids, self.loss_weights, force
        )

    def plan_copies(self) -> Versions:
        """Prepare the copies of values that layers in place overwrite, and who reads them going backward.

        A layer in place also overwrites its top's gradient; where that is its weight in the loss, it has to be
        put there before each backward pass.
        """
        self._weights_in_place: dict[int, list[tuple[Blob, float]]] = {}
        for i, (bottoms, tops, weights) in enumerate(
            zip(self.bottom_ids, self.top_ids, self.loss_weights, strict=True)
        ):
            in_place = [
                (self.blobs[b].on(self.device), w)
                for b, w in zip(tops, weights, strict=True)
                if w and b in bottoms
            ]
            if in_place:
                self._weights_in_place[i] = in_place
        self._kept_before: dict[int, list[tuple[Blob, Blob, list[tuple[Blob, Blob]]]]] = {}
        self._backward_tops = [list(tops) for tops in self.tops]
        self._backward_bottoms = [list(bottoms) for bottoms in self.bottoms]
        versions = follow_versions(self.layers, self.bottom_ids, self.top_ids, self.names, self.output_ids)
        for kept in plan_kept(self.layers, versions, self.need_backward):
            blob = self.blobs[kept.blob]
            # each reader sees the copy in the shape of its own blob, and the gradient of that blob: where a
            # layer has made a view, these differ
            stand_ins = []
            for blobs, places in ((self._backward_tops, kept.tops), (self._backward_bottoms, kept.bottoms)):
                for i, j in places:
                    stand_in = self.new_blob().on(self.layers[i].device)
                    stand_ins.append((blobs[i][j], stand_in))
                    blobs[i][j] = stand_in
            self._kept_before.setdefault(kept.overwriter, []).append(
                (blob.on(self.device), self.new_blob().on(self.device), stand_ins)
            )
        return versions

    # -- what there is -----------------------------------------------------------------------------

    def weighted(self) -> list[tuple[Blob, float]]:
        """Return the tops that count in the loss, and their weights."""
        return [
            (self.blobs[b].on(self.device), weight)
            for ids, weights in zip(self.top_ids, self.loss_weights, strict=True)
            for b, weight in zip(ids, weights, strict=True)
            if weight
        ]

    def blobs_that_last(self) -> list[Blob]:
        """Return the blobs whose values outlast a pass."""
        return [blob for blob, shown in zip(self.blobs, self.shown, strict=True) if shown]

    def blobs_with_own_diff(self) -> list[Blob]:
        """Blobs whose diff means something before anybody going backward writes it: a weight in the loss, or 0."""
        blobs = [top for top, _ in self.weighted()]
        for bottoms, downs, needed in zip(self.bottoms, self.propagate_down, self.need_backward, strict=True):
            blobs += [b for b, down in zip(bottoms, downs, strict=True) if not (down and needed)]
        return blobs

    def hides(self, i: int) -> bool:
        """Whether no user looks at the top of a layer that has one, so that it need not be written."""
        return not self.shown[self.top_ids[i][0]]

    def copies_before(self, i: int) -> list[Blob]:
        """Return the copies that `keep_before` makes."""
        return [copy for _, copy, _ in self._kept_before.get(i, ())]

    def values_going_backward(self, i: int, tops: Sequence[Blob] | None = None) -> list[Blob]:
        """Return the blobs whose data the backward pass of a layer reads; `tops` as for `backward_layer`."""
        if not self.need_backward[i]:
            return []
        reads = self.layers[i].reads
        return [
            *(self._backward_bottoms[i] if "bottom" in reads else ()),
            *((tops or self._backward_tops[i]) if "top" in reads else ()),
        ]

    def gradients_of(self, i: int) -> list[Blob]:
        """Return the blobs whose diff the backward pass of a layer reads or writes."""
        if not self.need_backward[i]:
            return []
        bottoms = zip(self.bottoms[i], self.propagate_down[i], strict=True)
        return [*self.tops[i], *(bottom for bottom, down in bottoms if down)]

    def backward_tops(self, i: int) -> list[Blob]:
        """Return what stands for the tops of a layer going backward."""
        return list(self._backward_tops[i])

    def has_loss_weight(self, i: int) -> bool:
        """Whether a top of a layer counts in the loss."""
        return any(self.loss_weights[i])

    def restores_loss_weight(self, i: int) -> bool:
        """Whether a weight in the loss is written before each backward pass of a layer."""
        return i in self._weights_in_place

    # -- running -----------------------------------------------------------------------------------

    def reshape_layer(self, i: int) -> None:
        """Let a layer shape its tops."""
        bottoms, tops = self.bottoms[i], self.tops[i]
        before = [top.shape for top in tops]
        self.layers[i].reshape(bottoms, tops)
        self.changes.count += self.layers[i].repeatable  # its scratch memory may be another
        self._seen_shapes[i] = [b.shape for b in bottoms]
        for top, shape, weight in zip(tops, before, self.loss_weights[i], strict=True):
            if weight and top.shape != shape:
                top.diff[...] = weight

    def has_new_shapes(self) -> bool:
        """Whether a bottom has another shape than its layer has seen."""
        return [[b.shape for b in bottoms] for bottoms in self.bottoms] != self._seen_shapes

    def reshape_if_needed(self, i: int) -> None:
        """Reshape a layer if a bottom's shape has changed, and the copies of what it overwrites."""
        bottoms = self.bottoms[i]
        if self.layers[i].reshapes_each_pass or self._seen_shapes[i] != [b.shape for b in bottoms]:
            self.reshape_layer(i)
        for blob, copy, stand_ins in self._kept_before.get(i, ()):
            copy.reshape(*blob.shape)
            for own, stand_in in stand_ins:
                if stand_in.shape != own.shape:
                    stand_in.reshape(*own.shape)
                    stand_in.share_data(copy)
                if not stand_in.shares_diff_with(own):
                    stand_in.share_diff(own)

    def keep_before(self, i: int) -> None:
        """Copy what a layer is about to overwrite and what is read going backward."""
        for blob, copy, _ in self._kept_before.get(i, ()):
            self._ops.scale_copy(blob.data, 1.0, copy.data)

    def forward_layer(self, i: int) -> None:
        """Run the forward pass of one layer by itself."""
        self.reshape_if_needed(i)
        self.keep_before(i)
        self.layers[i].forward(self.bottoms[i], self.tops[i])

    def backward_layer(self, i: int, tops: Sequence[Blob] | None = None) -> None:
        """Run the backward pass of one layer by itself, if it takes part."""
        if not self.need_backward[i]:
            return
        layer, down = self.layers[i], self.propagate_down[i]
        for top, weight in self._weights_in_place.get(i, ()):
            top.diff[...] = weight
        if layer.has_backward:
            layer.backward(tops or self._backward_tops[i], down, self._backward_bottoms[i])
        elif any(down):
            raise layer.error(
                "has no gradient, but one of its bottoms asks for it (propagate_down: false stops it)"
            )


def _loss_weights(layer: Layer, n_tops: int) -> list[float]:
    """Weight of each top in the loss: as stated, or the type's default for the first."""
    stated = layer.spec.loss_weight
    if stated:
        if len(stated) != n_tops:
            raise layer.error(
                f"loss_weight: expected one for each of its {n_tops} tops or none, found {len(stated)}",
                "loss_weight",
            )
        return list(stated)
    return [layer.default_loss_weight if j == 0 else 0.0 for j in range(n_tops)]
