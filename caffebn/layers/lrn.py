"""LRN: local response normalisation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer

__all__ = ["LRN"]


@layer("LRN", "lrn_param")
class LRN(Layer):
    """Divide by a power of the squares in the neighbourhood.

    bottom 0 (N, C, H, W), exactly 4 axes -> top 0 (same shape), not in place.  Both phases alike.  The field
    ``engine`` has no effect.

    Forward ``y = x / scale ^ beta`` (`beta` 0.75), with n = `local_size` (5, odd) and `alpha` (1):

    - ``norm_region: ACROSS_CHANNELS`` (default): ``scale = k + alpha / n * sum(x^2)`` over n channels
      around each, cut at the first and the last; `k` is 1 by default;
    - ``norm_region: WITHIN_CHANNEL``: ``scale = 1 + alpha / n^2 * sum(x^2)`` over n by n places around
      each, zeros outside of the plane.  Caffe builds this of other layers, which do not know `k`.

    Backward: ``dx = dy * scale^-beta - 2 alpha beta / n * x * sum(dy * y / scale)`` over the same
    neighbourhood, with n^2 for n within a channel.

    Raises
    ------
    NetError
        Not 4 axes, an even `local_size`.

    Notes
    -----
    Sources: Caffe lrn_layer; Krizhevsky et al. 2012.
    """

    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        return ("bottom", "top")

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param
        if p.local_size % 2 == 0:
            raise self.error(
                f"local_size must be odd, so that the window has a middle, found {p.local_size}", "local_size"
            )
        self.across = p.norm_region == "ACROSS_CHANNELS"

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) != 4:
            raise self.error(f"needs exactly 4 axes (N, C, H, W), found {self.shown(bottom, 0)}", "bottom")
        top[0].reshape(*shape)
        self.scale = self.scratch(shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p, x, y = self.param, bottom[0].data, top[0].data
        if self.across:
            self.ops.lrn_across(x, self.scale, y, p.local_size, p.alpha, p.beta, p.k)
        else:
            self.ops.lrn_within(x, self.scale, y, p.local_size, p.alpha, p.beta)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            p = self.param
            gradient = self.ops.lrn_across_backward if self.across else self.ops.lrn_within_backward
            arrays = bottom[0].data, top[0].data, self.scale, top[0].diff, bottom[0].diff
            gradient(*arrays, p.local_size, p.alpha, p.beta)

    def macs(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> int:
        window = self.param.local_size if self.across else self.param.local_size**2
        return bottom[0].count * window
