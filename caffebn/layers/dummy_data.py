"""DummyData: blobs filled by fillers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from caffebn.blob import Blob
from caffebn.errors import NetError
from caffebn.fillers import fill
from caffebn.layers.base import Layer, layer, times
from caffebn.proto import Message

__all__ = ["DummyData"]

_LEGACY = ("num", "channels", "height", "width")


@layer("DummyData", "dummy_data_param")
class DummyData(Layer):
    """Blobs that fillers fill, for trying a net out.

    no bottoms -> top i, shaped by `shape`, which is given once for all tops or once for each, or in the old
    form by `num`, `channels`, `height` and `width`, each of them once or once for each top.  `data_filler`
    is given once, once for each top, or not at all, which fills with 0.

    A top whose filler is constant is filled once, when the net is made; any other at each forward pass, with
    new numbers.  Both phases alike; no gradient.

    Raises
    ------
    NetError
        The wrong number of fillers or shapes, both forms of shape, a filler that cannot fill the shape.

    Notes
    -----
    Source: Caffe dummy_data_layer.
    """

    n_bottoms = 0
    n_tops = (1, None)
    has_backward = False
    on_host = True

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        fillers = list(self.param.data_filler) or [Message("FillerParameter")]
        self.fillers = self._one_each(fillers, "data_filler", len(top))
        for blob, shape, filler in zip(top, self._shapes(len(top)), self.fillers, strict=True):
            blob.reshape(*shape)
            self._fill(blob, filler)

    def _shapes(self, tops: int) -> list[tuple[int, ...]]:
        p = self.param
        legacy = [field for field in _LEGACY if p.has(field)]
        if not legacy:
            shapes = [tuple(shape.dim) for shape in self._one_each(list(p.shape), "shape", tops)]
            for i, shape in enumerate(shapes):
                if min(shape, default=0) < 0:
                    raise self.error(f"a size cannot be negative, found shape {times(shape)}", "shape", i)
            return shapes
        if p.has("shape"):
            raise self.error(f"give either shape or {', '.join(legacy)}, not both", "shape")
        return list(zip(*(self._one_each(list(getattr(p, f)), f, tops) for f in _LEGACY), strict=True))

    def _one_each(self, values: list, field: str, tops: int) -> list:
        if len(values) not in (1, tops):
            raise self.error(
                f"{field} must be given once or {tops} times, for each top, found {len(values)} times", field
            )
        return values if len(values) == tops else values * tops

    def _fill(self, blob: Blob, filler: Message) -> None:
        try:
            fill(blob.data, filler, self.rng)
        except NetError as e:
            raise self.error(e.message, "data_filler") from None

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing to do: the shapes are those of the text."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        for blob, filler in zip(top, self.fillers, strict=True):
            if filler.type != "constant":
                self._fill(blob, filler)
