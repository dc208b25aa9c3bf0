"""ArgMax: which values are the largest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer, ncs

__all__ = ["ArgMax"]


@layer("ArgMax", "argmax_param")
class ArgMax(Layer):
    """Find the `top_k` (1) largest values, largest first, and where they are.

    Without `axis`: bottom 0 (N, ...) -> top 0 (N, 1, top_k) with indices into the values of each item, or
    with `out_max_val` (N, 2, top_k) with indices and then values; axes of size 1 are appended up to the
    bottom's number of axes.

    With `axis`: bottom 0 (..., C, ...) -> top 0 (..., top_k, ...) with indices along that axis, or with
    `out_max_val` the values in their place.

    Of equal values that of the larger index comes first.  Indices are floats.  Both phases alike; no
    gradient.

    Raises
    ------
    NetError
        An axis that does not exist, `top_k` not from 1 to the number of values.

    Notes
    -----
    Source: Caffe argmax_layer.
    """

    has_backward = False
    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p, shape = self.param, bottom[0].shape
        if p.has("axis"):
            axis = self.axis(p.axis, len(shape))
            self.ncs = ncs(shape, axis)
            top_shape: tuple[int, ...] = (*shape[:axis], p.top_k, *shape[axis + 1 :])
        else:
            if not shape:
                raise self.error("needs at least 1 axis, found a blob with none", "bottom")
            self.ncs = shape[0], prod(shape[1:]), 1
            top_shape = (shape[0], 2 if p.out_max_val else 1, p.top_k)
            top_shape += (1,) * (len(shape) - len(top_shape))
        if not 1 <= p.top_k <= self.ncs[1]:
            raise self.error(
                f"top_k must be from 1 to {self.ncs[1]}, the number of values to choose from in "
                f"{self.shown(bottom, 0)}, found {p.top_k}",
                "top_k",
            )
        top[0].reshape(*top_shape)
        outer, _, inner = self.ncs
        self.found = outer, p.top_k, inner
        if p.out_max_val and not p.has("axis"):
            self.index, self.value = self.scratch(self.found), self.scratch(self.found)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p, x = self.param, bottom[0].data.reshape(self.ncs)
        if not p.out_max_val:
            self.ops.arg_max(x, top[0].data.reshape(self.found), None)
        elif p.has("axis"):
            self.ops.arg_max(x, None, top[0].data.reshape(self.found))
        else:
            self.ops.arg_max(x, self.index, self.value)
            y = top[0].data.reshape(len(x), 2 * p.top_k)
            self.ops.copy_into(self.index[:, :, 0], y, 0)
            self.ops.copy_into(self.value[:, :, 0], y, p.top_k)
