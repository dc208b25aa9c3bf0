"""Scale: multiply some axes by a learned or given blob, and add a bias."""

from __future__ import annotations

from collections.abc import Sequence

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer, times
from caffebn.layers.covering import covered, learned_shape

__all__ = ["Scale"]


@layer("Scale", "scale_param")
class Scale(Layer):
    """Multiply by a scale, the same for all places outside the axes it covers, add a bias: ``y = x s + b``.

    bottom 0 (any shape), [bottom 1: the scale] -> top 0 (shape of bottom 0), in place on bottom 0 or not.
    Both phases alike.

    Blobs, all of shape ``bottom[0].shape[axis : axis + num_axes]``:

    - with one bottom, 0: the scale, filled by `filler`, and 1 only where there is no `filler` at all (a
      constant filler without a value gives 0); 1: the bias when `bias_term`, filled by `bias_filler` (0);
    - with two bottoms, 0: the bias when `bias_term`, shaped like bottom 1; `num_axes` is ignored.

    Defaults `axis` 1, `num_axes` 1, no bias; `num_axes` -1 is all axes to the end, 0 one value, for which
    `axis` is ignored.

    Backward: ``dx = dy s``; ``ds`` is the sum of ``dy x`` and ``db`` that of dy over all axes that the
    scale does not cover, added for learned blobs, written for bottom 1.

    Raises
    ------
    NetError
        Axes that bottom 0 does not have, or a scale that does not match them.

    Notes
    -----
    Source: Caffe scale_layer.
    """

    n_bottoms = (1, 2)
    in_place = True
    repeatable = True

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.learned = len(bottom) == 1
        if self.learned:
            filler = self.filler("filler") if self.param.has("filler") else None
            self.add_blob(learned_shape(self, bottom), filler, value=1.0)
        if self.param.bias_term:
            self.add_blob(self._scale(bottom).shape, self.filler("bias_filler"))

    def _scale(self, bottom: Sequence[Blob]) -> Blob:
        return self.parameters[0] if self.learned else bottom[1]

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        scale = self._scale(bottom)
        self.ncs = covered(self, bottom, scale)
        if self.param.bias_term and self.blobs[-1].shape != scale.shape:
            raise self.error(
                f"{self.shown(bottom, 1)} must keep the shape of the bias, {times(self.blobs[-1].shape)}",
                "bottom",
                1,
            )
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        x, y = bottom[0].data.reshape(self.ncs), top[0].data.reshape(self.ncs)
        bias = self.parameters[-1].data.reshape(-1) if self.param.bias_term else None
        self.ops.affine(x, self._scale(bottom).data.reshape(-1), bias, y)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        # the gradients of scale and bias first: in place, dx takes the memory of dy
        scale, dy = self._scale(bottom), top[0].diff.reshape(self.ncs)
        if self.param.bias_term and self.param_propagate_down[-1]:
            self.ops.channel_sum(dy, self.parameters[-1].diff.reshape(-1), accumulate=True)
        if self.param_propagate_down[0] if self.learned else propagate_down[1]:
            x = bottom[0].data.reshape(self.ncs)
            self.ops.channel_dot(x, dy, scale.diff.reshape(-1), accumulate=self.learned)
        if propagate_down[0]:
            self.ops.affine(dy, scale.data.reshape(-1), None, bottom[0].diff.reshape(self.ncs))

    def macs(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> int:
        return bottom[0].count
