"""Pooling: maximum or average over windows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer, times

__all__ = ["Pooling", "pooled_sizes"]


@layer("Pooling", "pooling_param")
class Pooling(Layer):
    """Maximum or average over windows of the plane.

    bottom 0 (N, C, H, W), exactly 4 axes -> top 0 (N, C, H', W') and, for MAX, an optional top 1 of the
    same shape with the index ``h * W + w`` of each maximum in its plane, as a float.  Both phases alike.
    The field ``engine`` has no effect.

    The window is `kernel_size` or `kernel_h` and `kernel_w`, likewise `stride` (1) and `pad` (0); or the
    whole plane with `global_pooling`.  Along each direction
    ``size' = ceil((size + 2 pad - kernel) / stride) + 1``, rounded down with ``round_mode: FLOOR``.  When
    any padding is not 0, a last window that would start at or behind ``size + pad`` is dropped.

    - MAX: windows are cut to the plane, padding never wins, the first of equal values in row order
      counts; its place alone gets the gradient.  The gradient of top 1 is ignored.
    - AVE: the sum divided by the size of the window cut to the padded plane, so that padding counts as
      zeros and what hangs over beyond it does not; each place gets ``dy`` by the same divisor.

    Raises
    ------
    NetError
        Not 4 axes; no kernel, or half a pair; square and pair forms together; padding as large as the
        kernel; a kernel with `global_pooling`; a window larger than the padded plane; top 1 without MAX;
        STOCHASTIC, which Caffe has on GPUs only.

    Notes
    -----
    Without padding, ceil and a stride larger than the kernel can put a last window outside of the plane:
    MAX is then -FLT_MAX there (Caffe's start value) and AVE 0/0.
    Source: Caffe pooling_layer.
    """

    n_tops = (1, 2)

    @property
    def reads(self) -> Iterable[str]:
        return ()

    @property
    def repeatable(self) -> bool:  # type: ignore[override]
        return len(self.spec.top) < 2

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param
        if p.pool == "STOCHASTIC":
            raise self.error(
                "pool: STOCHASTIC is not supported (nor is it by Caffe's CPU): use MAX or AVE", "pool"
            )
        if len(top) > 1 and p.pool != "MAX":
            raise self.error(
                f"a second top, the places of the maxima, needs pool: MAX, found {p.pool}", "top", 1
            )
        self.stride = self._pair("stride", "stride", 1)
        self.pad = self._pair("pad", "pad", 0)
        if min(self.stride) == 0:
            raise self.error("stride must be positive", "stride")
        if p.global_pooling:
            for field in ("kernel_size", "kernel_h", "kernel_w"):
                if p.has(field):
                    raise self.error(f"global_pooling takes the whole plane: remove {field}", field)
            if self.pad != (0, 0) or self.stride != (1, 1):
                raise self.error("global_pooling needs pad 0 and stride 1", "global_pooling")
            return
        self.kernel = self._pair("kernel_size", "kernel", 0)
        if min(self.kernel) == 0:
            raise self.error(
                "needs a kernel: write kernel_size, or kernel_h and kernel_w, or global_pooling: true",
                "kernel_size",
            )
        if any(pad >= kernel for pad, kernel in zip(self.pad, self.kernel, strict=True)):
            raise self.error(
                f"pad must be smaller than the kernel, {times(self.kernel)}, found {times(self.pad)}",
                "pad",
            )

    def _pair(self, square: str, prefix: str, default: int) -> tuple[int, int]:
        """Sizes for height and width: one field for both, or a pair of fields."""
        p, h, w = self.param, f"{prefix}_h", f"{prefix}_w"
        if p.has(h) != p.has(w):
            raise self.error(f"{h} and {w} must be given together", h if p.has(h) else w)
        if p.has(h) and p.has(square):
            raise self.error(f"give either {square} or {h} and {w}, not both", square)
        if p.has(h):
            return getattr(p, h), getattr(p, w)
        size = getattr(p, square) if p.has(square) else default
        return size, size

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) != 4:
            raise self.error(f"needs exactly 4 axes (N, C, H, W), found {self.shown(bottom, 0)}", "bottom")
        if self.param.global_pooling:
            self.kernel = shape[2:]
        pooled = pooled_sizes(
            shape[2:], self.kernel, self.stride, self.pad, floor=self.param.round_mode == "FLOOR"
        )
        if min(pooled) < 1:
            raise self.error(
                f"the kernel {times(self.kernel)} does not fit into {self.shown(bottom, 0)} "
                f"with pad {times(self.pad)}",
                "kernel_size",
            )
        for blob in top:
            blob.reshape(*shape[:2], *pooled)
        if self.param.pool == "MAX":
            self.index = self.scratch(top[0].shape, np.int32)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        x, y = bottom[0].data, top[0].data
        if self.param.pool == "AVE":
            self.ops.ave_pool(x, y, self.kernel, self.stride, self.pad)
            return
        self.ops.max_pool(x, y, self.index, self.kernel, self.stride, self.pad)
        if len(top) > 1:
            self.ops.places_as_numbers(self.index, top[1].data)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        dy, dx = top[0].diff, bottom[0].diff
        if self.param.pool == "AVE":
            self.ops.ave_pool_backward(dy, dx, self.kernel, self.stride, self.pad)
        else:
            self.ops.max_pool_backward(dy, self.index, dx)


def pooled_sizes(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    floor: bool = False,
) -> tuple[int, ...]:
    """Return the number of windows along each direction, rounded up unless `floor`, by Caffe's rules."""
    padded = any(pad)  # Caffe makes the test below for both directions when either has padding

    def windows(size: int, kernel: int, stride: int, pad: int) -> int:
        room = size + 2 * pad - kernel
        n = (room // stride if floor else -(-room // stride)) + 1
        return n - 1 if padded and (n - 1) * stride >= size + pad else n

    return tuple(map(windows, sizes, kernel, stride, pad))
