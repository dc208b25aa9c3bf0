"""Bias: add a learned or given blob to some axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer
from caffebn.layers.covering import covered, learned_shape

__all__ = ["Bias"]


@layer("Bias", "bias_param")
class Bias(Layer):
    """Add a bias, the same for all places outside the axes it covers: ``y = x + b``.

    bottom 0 (any shape), [bottom 1: the bias] -> top 0 (shape of bottom 0), in place on bottom 0 or not.
    Both phases alike.

    Blobs: with one bottom, 0: the bias, of shape ``bottom[0].shape[axis : axis + num_axes]``, filled by
    `filler` (0).  With two bottoms none, and `num_axes` is ignored: all axes of bottom 1 count.  Defaults
    `axis` 1, `num_axes` 1; -1 is all axes to the end, 0 one value, for which `axis` is ignored.

    Backward: ``dx = dy``; ``db`` is the sum of dy over all axes that the bias does not cover, added for
    the learned blob, written for bottom 1.

    Raises
    ------
    NetError
        Axes that bottom 0 does not have, or a bias that does not match them.

    Notes
    -----
    Source: Caffe bias_layer.
    """

    n_bottoms = (1, 2)
    in_place = True
    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.learned = len(bottom) == 1
        if self.learned:
            self.add_blob(learned_shape(self, bottom), self.filler("filler"))

    def _bias(self, bottom: Sequence[Blob]) -> Blob:
        return self.parameters[0] if self.learned else bottom[1]

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.ncs = covered(self, bottom, self._bias(bottom))
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        x, y = bottom[0].data.reshape(self.ncs), top[0].data.reshape(self.ncs)
        self.ops.affine(x, None, self._bias(bottom).data.reshape(-1), y)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if self.param_propagate_down[0] if self.learned else propagate_down[1]:
            db = self._bias(bottom).diff.reshape(-1)
            self.ops.channel_sum(top[0].diff.reshape(self.ncs), db, accumulate=self.learned)
        if propagate_down[0]:
            self.copy_diff(top[0], bottom[0])
