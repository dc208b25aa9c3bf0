"""Flatten: several axes become one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer, look_at

__all__ = ["Flatten", "View"]


class View(Layer):
    """Base of the layers that only give another shape: the top looks at the bottom's data."""

    shares_memory = True
    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def view(self, bottom: Sequence[Blob], top: Sequence[Blob], shape: Sequence[int]) -> None:
        """Let the top look at the bottom's data with another shape."""
        top[0].reshape(*shape)
        top[0].share_data(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing to compute: the top is the bottom."""
        look_at(bottom[0], top)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        # The gradients do not share memory: that of the top may be a loss weight, which has to stay
        if propagate_down[0]:
            self.ops.scale_copy(top[0].diff, 1.0, bottom[0].diff.reshape(top[0].shape))


@layer("Flatten", "flatten_param")
class Flatten(View):
    """Join the axes from `axis` (1) to `end_axis` (-1, the last), both included.

    bottom 0 (any shape with those axes) -> top 0, which looks at the bottom's data: no copy is made.  Not in
    place.  Both phases alike.

    Raises
    ------
    NetError
        An axis that does not exist, `end_axis` before `axis`.

    Notes
    -----
    Source: Caffe flatten_layer.
    """

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        begin = self.axis(self.param.axis, len(shape))
        end = self.axis(self.param.end_axis, len(shape), "end_axis") + 1
        if end <= begin:
            raise self.error(
                f"end_axis {self.param.end_axis} lies before axis {self.param.axis} of "
                f"{self.shown(bottom, 0)}",
                "end_axis",
            )
        self.view(bottom, top, (*shape[:begin], prod(shape[begin:end]), *shape[end:]))
