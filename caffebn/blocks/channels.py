"""How many channels a blob has, as far as the text of the layers before tells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from caffebn.errors import did_you_mean
from caffebn.proto import Message

__all__ = ["Channels"]

#: Layer types whose first top has as many channels as their first bottom.
_SAME = frozenset(
    ["AbsVal", "BNLL", "BatchNorm", "Bias", "Clip", "Dropout", "ELU", "Eltwise", "Exp", "LRN", "Log", "MVN",
     "PReLU", "Pooling", "Power", "ReLU", "Scale", "Sigmoid", "Split", "Swish", "TanH", "Threshold"]
)  # fmt: skip
_NUM_OUTPUT = {
    "Convolution": "convolution_param",
    "Deconvolution": "convolution_param",
    "InnerProduct": "inner_product_param",
}
_SHAPED = {"Input": "input_param", "DummyData": "dummy_data_param"}


class Channels:
    """Counts the channels (axis 1) of the blobs of a net, whose layers may become more."""

    def __init__(self) -> None:
        self._known: dict[str, int | Message] = {}  # a layer: the one that does not tell
        self._seen = 0

    def of(self, net: Message, blob: str) -> int:
        """Return the channels of a blob.

        Raises
        ------
        ValueError
            No layer before makes the blob, or they do not tell its channels.
        """
        if self._seen == 0:
            shapes = net.input_shape or [Message("BlobShape", dim=d) for d in _quadruples(net.input_dim)]
            self._known.update(_counted(net.input, shapes))
        for layer in net.layer[self._seen :]:
            self._add(layer)
        self._seen = len(net.layer)
        found = self._known.get(blob)
        if found is None:
            hint = did_you_mean(blob, self._known)
            raise ValueError(f'no layer before this block makes "{blob}"{hint}')
        if isinstance(found, Message):
            raise ValueError(
                f'cannot tell how many channels "{blob}" has, for layer "{found.name}" ({found.type}) '
                "does not say: state what depends on it"
            )
        return found

    def _add(self, layer: Message) -> None:
        bottoms = [self._known.get(bottom, layer) for bottom in layer.bottom]
        self._known.update(dict.fromkeys(layer.top, layer))
        if layer.type in _NUM_OUTPUT:
            count = getattr(layer, _NUM_OUTPUT[layer.type]).num_output
            self._known.update(dict.fromkeys(layer.top, count))
        elif layer.type in _SHAPED:
            self._known.update(_counted(layer.top, getattr(layer, _SHAPED[layer.type]).shape))
        elif layer.type == "MemoryData" and layer.top:
            self._known[layer.top[0]] = layer.memory_data_param.channels
        elif layer.type == "Concat" and layer.top and bottoms:
            param = layer.concat_param
            axis = param.concat_dim if param.has("concat_dim") else param.axis
            self._known[layer.top[0]] = _sum(bottoms) if axis == 1 else bottoms[0]
        elif layer.type in _SAME and bottoms:
            self._known.update(dict.fromkeys(layer.top, bottoms[0]))


def _sum(counts: Sequence[int | Message]) -> int | Message:
    unknown = [count for count in counts if isinstance(count, Message)]
    return unknown[0] if unknown else sum(counts)


def _counted(tops: Sequence[str], shapes: Sequence[Message]) -> Iterable[tuple[str, int]]:
    """Pair tops with the second sizes of their shapes, of which there is one for all or one for each."""
    if len(shapes) == 1:
        shapes = [shapes[0]] * len(tops)
    return ((top, shape.dim[1]) for top, shape in zip(tops, shapes, strict=False) if len(shape.dim) > 1)


def _quadruples(sizes: Sequence[int]) -> Iterable[Sequence[int]]:
    return (sizes[i : i + 4] for i in range(0, len(sizes) - 3, 4))
