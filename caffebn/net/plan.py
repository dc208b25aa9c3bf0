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

__all__ = ["Kept", "Version", "Versions", "follow_versions", "plan_backward", "plan_kept"]

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


@dataclass
class Versions:
    """The values that each piece of memory holds, one after the other.

    A version is a pair (memory, number of times the memory has been overwritten before).

    Attributes
    ----------
    bottoms, tops : list of list of Version
        What each layer reads and makes, by position.
    made_by, read_by : dict of list of (layer, position)
        Makers (a view makes the version of its bottom once more) and readers.
    overwritten : dict of (layer, blob)
        By which layer in place a version comes to its end, and through which blob.
    """

    bottoms: list[list[Version]] = field(default_factory=list)
    tops: list[list[Version]] = field(default_factory=list)
    made_by: dict[Version, list[tuple[int, int]]] = field(default_factory=dict)
    read_by: dict[Version, list[tuple[int, int]]] = field(default_factory=dict)
    overwritten: dict[Version, tuple[int, int]] = field(default_factory=dict)


def follow_versions(
    layers: Sequence[Layer],
    bottom_ids: Sequence[Sequence[int]],
    top_ids: Sequence[Sequence[int]],
    blob_names: Sequence[str],
    output_ids: Sequence[int],
) -> Versions:
    """Find out what every memory holds, and when.

    Parameters
    ----------
    layers, bottom_ids, top_ids
        As for `plan_backward`.
    blob_names : sequence of str
    output_ids : sequence of int
        Blobs that the net hands to its user.

    Raises
    ------
    NetError
        A layer (or the user) would read a blob after a layer has worked in place on its memory.
    """
    found = Versions()
    memory: dict[int, int] = {}  # blob -> memory
    current: dict[int, int] = {}  # memory -> version number
    version_of: dict[int, int] = {}  # blob -> version number its values belong to
    parameters: dict[int, Layer] = {}  # memory that is a parameter -> the layer that shows it as its top

    def check_fresh(blob: int, reader: str, where: Where | None) -> None:
        version = (memory[blob], version_of[blob])
        if version in found.overwritten:
            overwriter, through = found.overwritten[version]
            spoiler = layers[overwriter]
            raise NetError(
                f'layer "{spoiler.name}" ({spoiler.type}) works in place on "{blob_names[through]}", '
                f'which shares its memory with "{blob_names[blob]}", and {reader} reads that afterwards: '
                f'give "{spoiler.name}" a top of its own',
                spoiler.spec.where or where,
            )

    for i, layer in enumerate(layers):
        found.bottoms.append([])
        found.tops.append([])
        for j, blob in enumerate(bottom_ids[i]):
            check_fresh(blob, f'layer "{layer.name}" ({layer.type})', layer.spec.where)
            version = (memory[blob], version_of[blob])
            found.bottoms[i].append(version)
            found.read_by.setdefault(version, []).append((i, j))
        for j, blob in enumerate(top_ids[i]):
            if j < len(bottom_ids[i]) and bottom_ids[i][j] == blob:
                mem = memory[blob]
                if mem in parameters:
                    raise layer.error(
                        f'works in place on "{blob_names[blob]}", which is a parameter of layer '
                        f'"{parameters[mem].name}" ({parameters[mem].type}): give it a top of its own',
                        "top",
                    )
                found.overwritten[mem, current[mem]] = (i, blob)
                current[mem] += 1
            elif layer.shares_memory and bottom_ids[i]:
                mem = memory[blob] = memory[bottom_ids[i][0]]
            else:
                mem = memory[blob] = blob
                current[mem] = 0
                if layer.shares_memory:
                    parameters[mem] = layer
            version_of[blob] = current[mem]
            found.tops[i].append((mem, current[mem]))
            found.made_by.setdefault((mem, current[mem]), []).append((i, j))
    for blob in output_ids:
        check_fresh(blob, "the user of the net", None)
    return found


def plan_kept(layers: Sequence[Layer], versions: Versions, need_backward: Sequence[bool]) -> list[Kept]:
    """Find the versions that are read going backward after they have been overwritten.

    Parameters
    ----------
    layers : sequence of Layer
    versions : Versions
    need_backward : sequence of bool
        Whether each layer takes part in the backward pass.

    Returns
    -------
    list of Kept
    """
    kept = []
    for version, (overwriter, blob) in versions.overwritten.items():
        tops = [
            (i, j)
            for i, j in versions.made_by.get(version, [])
            if need_backward[i] and "top" in layers[i].reads
        ]
        bottoms = [
            (i, j)
            for i, j in versions.read_by.get(version, [])
            if need_backward[i] and "bottom" in layers[i].reads
        ]
        if tops or bottoms:
            kept.append(Kept(overwriter, blob, tops, bottoms))
    return kept
