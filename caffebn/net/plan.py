"""Which gradients a net computes, and what it keeps so that layers in place cannot spoil them.

A layer that works in place, and all layers that make views (Split, Flatten ...), let several blobs and
several versions of a blob live in one piece of memory.  This module follows the versions: which layer
makes each, which layers read it, which layer overwrites it.  A version that a backward pass reads after it
has been overwritten is copied just before that happens, and the layers that read it are given the copy.
A version that a *forward* pass reads after it has been overwritten is a net that cannot be right, and is refused.
Caffe computes wrong gradients, or wrong values, in these cases without a word (BVLC/caffe#2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from caffebn.errors import NetError, Where
from caffebn.layers import Layer

__all__ = ["Kept", "plan_backward", "plan_kept"]

Version = tuple[int, int]  # (memory, number of times it has been overwritten)


def plan_backward(
    layers: Sequence[Layer],
    bottom_ids: Sequence[Sequence[int]],
    top_ids: Sequence[Sequence[int]],
    loss_weights: Sequence[Sequence[float]],
    force: bool,
) -> tuple[list[bool], list[list[bool]]]:
    """Decide which layers take part in the backward pass, and which gradients they compute.

    Going up, a gradient is needed by what has learnable parameters below it; going down, there is one only below
    a loss.  ``propagate_down`` in the text overrides the first rule for a layer's bottoms, `force` both: all layers
    take part and compute what they allow.  Also sets the layers' `param_propagate_down`.

    Parameters
    ----------
    layers : sequence of Layer
        In order of execution, with `param` entries for all that they state.
    bottom_ids, top_ids : sequence of sequence of int
        Blob indices of each layer.
    loss_weights : sequence of sequence of float
        Weight in the loss of each layer's tops.
    force : bool
        The net's `force_backward`.

    Returns
    -------
    need_backward : list of bool
        For each layer.
    propagate_down : list of list of bool
        For each layer's bottoms.

    Raises
    ------
    NetError
        `propagate_down` with another number of values than the layer has bottoms.
    """
    needs: set[int] = set()  # blobs whose gradient is needed
    need_backward: list[bool] = []
    propagate_down: list[list[bool]] = []
    for layer, bottoms, tops in zip(layers, bottom_ids, top_ids, strict=True):
        rates = [p.lr_mult for p in layer.spec.param] + [1.0] * len(layer.blobs)
        layer.param_propagate_down = [force or rate != 0 for rate in rates[: len(layer.blobs)]]
        stated = layer.spec.propagate_down
        if stated and len(stated) != len(bottoms):
            raise layer.error(
                f"propagate_down: expected one value for each of its {len(bottoms)} bottoms, found {len(stated)}",
                "propagate_down",
            )
        propagate_down.append(list(stated) or [b in needs for b in bottoms])
        need_backward.append(any(b in needs for b in bottoms) or any(layer.param_propagate_down))
        if need_backward[-1]:
            needs.update(tops)

    under_loss: set[int] = set()
    without: set[int] = set()  # blobs that get no gradient
    for i in reversed(range(len(layers))):
        of_loss = [b for b, w in zip(top_ids[i], loss_weights[i], strict=True) if w or b in under_loss]
        if all(b in without for b in of_loss):
            need_backward[i] = False
            propagate_down[i] = [False] * len(bottom_ids[i])
        if of_loss:
            under_loss.update(bottom_ids[i])
        without.update(b for b, down in zip(bottom_ids[i], propagate_down[i], strict=True) if not down)

    if force:
        need_backward = [True] * len(layers)
        propagate_down = [
            [down or layer.allow_force_backward(j) for j, down in enumerate(downs)]
            for layer, downs in zip(layers, propagate_down, strict=True)
        ]
    return need_backward, propagate_down


@dataclass
class Kept:
    """A version to copy before layer `overwriter` runs.

    Attributes
    ----------
    overwriter : int
        Index of the layer that works in place.
    blob : int
        Index of the blob that holds the version then.
    tops, bottoms : list of (layer, position)
        Who gets the copy in place of the blob in the backward pass.
    """

    overwriter: int
    blob: int
    tops: list[tuple[int, int]] = field(default_factory=list)
    bottoms: list[tuple[int, int]] = field(default_factory=list)


def plan_kept(
    layers: Sequence[Layer],
    bottom_ids: Sequence[Sequence[int]],
    top_ids: Sequence[Sequence[int]],
    need_backward: Sequence[bool],
    blob_names: Sequence[str],
    output_ids: Sequence[int],
) -> list[Kept]:
    """Find the versions of blobs that have to be kept for the backward pass.

    Parameters
    ----------
    layers : sequence of Layer
        In order of execution.
    bottom_ids, top_ids : sequence of sequence of int
        Blob indices of each layer; a layer in place has the same index on both sides.
    need_backward : sequence of bool
        Whether each layer takes part in the backward pass.
    blob_names : sequence of str
    output_ids : sequence of int
        Blobs that the net hands to its user.

    Returns
    -------
    list of Kept

    Raises
    ------
    NetError
        A layer (or the user) would read a blob after a layer has worked in place on its memory.
    """
    memory: dict[int, int] = {}  # blob -> memory
    current: dict[int, int] = {}  # memory -> version number
    version_of: dict[int, int] = {}  # blob -> version number its values belong to
    made_by: dict[Version, list[tuple[int, int]]] = {}
    read_by: dict[Version, list[tuple[int, int]]] = {}
    overwritten: dict[Version, tuple[int, int]] = {}  # version -> (layer, blob)
    parameters: dict[int, Layer] = {}  # memory that is a parameter -> the layer that shows it as its top

    def check_fresh(blob: int, reader: str, where: Where | None) -> None:
        version = (memory[blob], version_of[blob])
        if version in overwritten:
            spoiler = layers[overwritten[version][0]]
            raise NetError(
                f'layer "{spoiler.name}" ({spoiler.type}) works in place on "{blob_names[overwritten[version][1]]}", '
                f'which shares its memory with "{blob_names[blob]}", and {reader} reads that afterwards: '
                f'give "{spoiler.name}" a top of its own',
                spoiler.spec.where or where,
            )

    for i, layer in enumerate(layers):
        for j, blob in enumerate(bottom_ids[i]):
            check_fresh(blob, f'layer "{layer.name}" ({layer.type})', layer.spec.where)
            read_by.setdefault((memory[blob], version_of[blob]), []).append((i, j))
        for j, blob in enumerate(top_ids[i]):
            if j < len(bottom_ids[i]) and bottom_ids[i][j] == blob:
                mem = memory[blob]
                if mem in parameters:
                    raise layer.error(
                        f'works in place on "{blob_names[blob]}", which is a parameter of layer '
                        f'"{parameters[mem].name}" ({parameters[mem].type}): give it a top of its own',
                        "top",
                    )
                overwritten[mem, current[mem]] = (i, blob)
                current[mem] += 1
            elif layer.shares_memory and bottom_ids[i]:
                mem = memory[blob] = memory[bottom_ids[i][0]]
            else:
                mem = memory[blob] = blob
                current[mem] = 0
                if layer.shares_memory:
                    parameters[mem] = layer
            version_of[blob] = current[mem]
            made_by.setdefault((mem, current[mem]), []).append((i, j))
    for blob in output_ids:
        check_fresh(blob, "the user of the net", None)

    kept = []
    for version, (overwriter, blob) in overwritten.items():
        tops = [(i, j) for i, j in made_by.get(version, []) if need_backward[i] and "top" in layers[i].reads]
        bottoms = [
            (i, j) for i, j in read_by.get(version, []) if need_backward[i] and "bottom" in layers[i].reads
        ]
        if tops or bottoms:
            kept.append(Kept(overwriter, blob, tops, bottoms))
    return kept
