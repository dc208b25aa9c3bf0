"""Split layers: after them, every version of a blob has exactly one reader."""

from __future__ import annotations

from collections import defaultdict

from caffebn.errors import NetError, did_you_mean
from caffebn.proto import Message

__all__ = ["insert_splits", "split_blob_name"]

Source = tuple[int, int]  # (layer, top) that made a version of a blob


def insert_splits(net: Message) -> Message:
    """Return a copy of the net with a Split layer wherever one version of a blob has several readers.

    A loss weight that the text states counts as a reader; it moves to the first copy.  (The weight 1 that loss
    layers have without being told does not count: a quirk of Caffe's.)  Names are Caffe's, since they
    appear in saved nets: layer ``<blob>_<layer>_<top>_split``, tops ``<blob>_<layer>_<top>_split_<k>``.

    Parameters
    ----------
    net : Message
        NetParameter after filtering.

    Raises
    ------
    NetError
        A bottom that no earlier layer makes, or a layer in place on a blob that others read, too.
    """
    latest: dict[str, Source] = {}
    source_of: dict[tuple[int, int], Source] = {}
    readers: dict[Source, int] = defaultdict(int)
    first_reader: dict[Source, Message] = {}
    in_place: list[tuple[Source, Message, int]] = []
    weights: dict[Source, float] = {}
    for i, layer in enumerate(net.layer):
        for j, name in enumerate(layer.bottom):
            if name not in latest:
                raise NetError(
                    f'layer "{layer.name}" ({layer.type}): bottom "{name}" is made by no earlier layer'
                    + did_you_mean(name, latest),
                    layer.where_of("bottom", j) or layer.where,
                )
            source_of[i, j] = latest[name]
            readers[latest[name]] += 1
            first_reader.setdefault(latest[name], layer)
            if j < len(layer.top) and layer.top[j] == name:
                in_place.append((latest[name], layer, j))
        for j, name in enumerate(layer.top):
            latest[name] = (i, j)
            if _weight(layer, j):
                weights[i, j] = _weight(layer, j)
                readers[i, j] += 1
    for source, layer, j in in_place:
        if readers[source] > 1:
            other = first_reader[source]
            what = (
                f'layer "{other.name}" reads it, too'
                if other is not layer
                else "it is also a loss or read again"
            )
            raise NetError(
                f'layer "{layer.name}" ({layer.type}): works in place on "{layer.bottom[j]}", but {what}: '
                f'give "{layer.name}" a top of its own',
                layer.where_of("top", j) or layer.where,
            )

    result = net.copy()
    result.layer = []
    copies_given: dict[Source, int] = defaultdict(int)
    for i, original in enumerate(net.layer):
        layer = original.copy()
        result.layer.append(layer)
        for j, name in enumerate(original.bottom):
            source = source_of[i, j]
            if readers[source] > 1:
                maker = net.layer[source[0]].name
                layer.bottom[j] = split_blob_name(name, maker, source[1], copies_given[source])
                copies_given[source] += 1
        for j, name in enumerate(original.top):
            if readers[i, j] > 1:
                split = Message("LayerParameter", name=_split_layer_name(name, layer.name, j), type="Split")
                split.bottom = [name]
                split.top = [split_blob_name(name, layer.name, j, k) for k in range(readers[i, j])]
                if (i, j) in weights:
                    # the loss weight moves to the first copy, and other readers take the following ones
                    split.loss_weight = [weights[i, j]] + [0.0] * (readers[i, j] - 1)
                    layer.loss_weight = [
                        0.0 if t == j else _weight(original, t) for t in range(len(layer.top))
                    ]
                    copies_given[i, j] = 1
                result.layer.append(split)
    return result


def _weight(layer: Message, top: int) -> float:
    return layer.loss_weight[top] if top < len(layer.loss_weight) else 0.0


def _split_layer_name(blob: str, layer: str, top: int) -> str:
    return f"{blob}_{layer}_{top}_split"


def split_blob_name(blob: str, layer: str, top: int, copy: int) -> str:
    """Name of one copy of a blob that a layer makes as that top."""
    return f"{_split_layer_name(blob, layer, top)}_{copy}"
