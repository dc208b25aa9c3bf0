"""SPP: spatial pyramid pooling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer, times
from caffebn.layers.pooling import pooled_sizes

__all__ = ["SPP"]


@dataclass
class _Level:
    """One level of the pyramid: its windows, where it begins in the top, its values and places of maxima."""

    kernel: tuple[int, ...]
    pad: tuple[int, ...]
    offset: int
    y: np.ndarray
    index: np.ndarray


@layer("SPP", "spp_param")
class SPP(Layer):
    """Pool over grids of 1, 2 x 2, 4 x 4 ... bins, so that the top's size hardly depends on the picture's.

    bottom 0 (N, C, H, W), exactly 4 axes -> top 0 (N, C times all bins), level after level, each laid out as
    (C, rows, columns); with one level (N, C, 1, 1).  Both phases alike.  The field ``engine`` has no effect.

    Level i, from 0 to `pyramid_height` - 1, is a Pooling with ``bins = 2^i`` in each direction, ``kernel =
    stride = ceil(size / bins)`` and ``pad = (kernel * bins - size + 1) / 2``, rounded down.  By the rules of
    Pooling a level can have fewer bins than that, so the top's size is not quite independent of the bottom's.
    `pool` is MAX (default) or AVE.

    Backward: the sum of the gradients of all levels, each as that of a Pooling.

    Raises
    ------
    NetError
        Not 4 axes, `pyramid_height` missing or 0, a plane too small for the finest level; STOCHASTIC, which
        Caffe has on GPUs only.

    Notes
    -----
    Sources: Caffe spp_layer; He et al. 2014.
    """

    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if self.param.pyramid_height == 0:
            raise self.error("pyramid_height must be given and positive", "pyramid_height")
        if self.param.pool == "STOCHASTIC":
            raise self.error(
                "pool: STOCHASTIC is not supported (nor is it by Caffe's CPU): use MAX or AVE", "pool"
            )

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) != 4:
            raise self.error(f"needs exactly 4 axes (N, C, H, W), found {self.shown(bottom, 0)}", "bottom")
        self.levels: list[_Level] = []
        size = 0
        for i in range(self.param.pyramid_height):
            level = self._level(bottom, 2**i, size)
            self.levels.append(level)
            size += prod(level.y.shape[1:])
        top[0].reshape(*(self.levels[0].y.shape if len(self.levels) == 1 else (shape[0], size)))
        self.whole = shape[0], size
        if len(self.levels) > 1:
            self.workspace.reserve(bottom[0].count)

    def _level(self, bottom: Sequence[Blob], bins: int, offset: int) -> _Level:
        shape = bottom[0].shape
        kernel = tuple(-(-size // bins) for size in shape[2:])
        pad = tuple((k * bins - size + 1) // 2 for k, size in zip(kernel, shape[2:], strict=True))
        if any(p >= k for p, k in zip(pad, kernel, strict=True)):
            raise self.error(
                f"{self.shown(bottom, 0)} is too small for a level of {times((bins, bins))} bins: write a smaller "
                "pyramid_height",
                "pyramid_height",
            )
        pooled = (*shape[:2], *pooled_sizes(shape[2:], kernel, kernel, pad))
        return _Level(kernel, pad, offset, self.scratch(pooled), self.scratch(pooled, np.int32))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        x, y = bottom[0].data, top[0].data.reshape(self.whole)
        for level in self.levels:
            if self.param.pool == "AVE":
                self.ops.ave_pool(x, level.y, level.kernel, level.kernel, level.pad)
            else:
                self.ops.max_pool(x, level.y, level.index, level.kernel, level.kernel, level.pad)
            self.ops.copy_into(_flat(level.y), y, level.offset)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        dy, dx = top[0].diff.reshape(self.whole), bottom[0].diff
        for i, level in enumerate(self.levels):
            # the first level writes dx, the others write beside it and are added
            part = self.workspace.flat[: dx.size].reshape(dx.shape) if i else dx
            self.ops.copy_from(dy, level.offset, _flat(level.y))
            if self.param.pool == "AVE":
                self.ops.ave_pool_backward(level.y, part, level.kernel, level.kernel, level.pad)
            else:
                self.ops.max_pool_backward(level.y, level.index, part)
            if i:
                self.ops.axpy(part, 1.0, dx)


def _flat(y: np.ndarray) -> np.ndarray:
    return y.reshape(len(y), prod(y.shape[1:]))
