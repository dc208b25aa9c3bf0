"""Reshape: another shape for the same values."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from caffebn.blob import Blob
from caffebn.layers.base import layer, times
from caffebn.layers.flatten import View

__all__ = ["Reshape"]


@layer("Reshape", "reshape_param")
class Reshape(View):
    """Replace the axes ``[axis, axis + num_axes)`` by those of `shape`.

    bottom 0 -> top 0 of the same count, which looks at the bottom's data: no copy is made.  Not in place.
    Both phases alike.

    `axis` (0) may be one more than the last axis; a negative one counts from behind the last axis, so that
    -1 appends axes.  `num_axes` (-1) is the number of axes that are replaced, -1 all to the end, and 0 none:
    axes are then inserted.  A size of 0 in `shape` copies the bottom's size at the same position counted from
    `axis`, and one size may be -1, which takes what is left.

    Raises
    ------
    NetError
        Axes that the bottom does not have, a size of 0 with nothing to copy, more than one -1, another
        negative size, a shape of another count.

    Notes
    -----
    Source: Caffe reshape_layer.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        sizes = list(self.param.shape.dim)
        if sizes.count(-1) > 1:
            raise self.error("only one size can be inferred (-1)", "shape")
        if min(sizes, default=0) < -1:
            raise self.error(f"a size cannot be negative, except -1, found {times(sizes)}", "shape")

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p, shape = self.param, bottom[0].shape
        # Caffe's rule: unlike everywhere else, -1 is behind the last axis
        begin = p.axis + len(shape) + 1 if p.axis < 0 else p.axis
        if not 0 <= begin <= len(shape):
            raise self.error(f"axis {p.axis} does not exist: the bottom has {len(shape)} axes", "axis")
        if p.num_axes < -1:
            raise self.error(
                f"num_axes must be at least 0, or -1 for all axes from axis on, found {p.num_axes}",
                "num_axes",
            )
        end = len(shape) if p.num_axes == -1 else begin + p.num_axes
        if end > len(shape):
            raise self.error(
                f"num_axes {p.num_axes} from axis {begin} on runs past the end of {self.shown(bottom, 0)}",
                "num_axes",
            )
        sizes = list(p.shape.dim)
        for i, size in enumerate(sizes):
            if size == 0:
                if begin + i >= len(shape):
                    raise self.error(
                        f"size {i} of the shape is 0, which copies axis {begin + i} of "
                        f"{self.shown(bottom, 0)}, but there is none",
                        "shape",
                    )
                sizes[i] = shape[begin + i]
        if -1 in sizes:
            fixed = [*shape[:begin], *(n for n in sizes if n != -1), *shape[end:]]
            sizes[sizes.index(-1)] = _rest(shape, fixed)
        wanted = (*shape[:begin], *sizes, *shape[end:])
        if prod(wanted) != bottom[0].count:
            raise self.error(
                f"{self.shown(bottom, 0)} has {bottom[0].count} values and does not fit the shape {times(wanted)}",
                "shape",
            )
        self.view(bottom, top, wanted)


def _rest(shape: Sequence[int], fixed: Sequence[int]) -> int:
    """Return the size that makes `fixed` have the count of `shape`, also when there are axes of size 0."""
    if 0 in shape and 0 not in fixed:
        return 0
    whole, part = (prod(n for n in sizes if n) for sizes in (shape, fixed))
    return whole // part
