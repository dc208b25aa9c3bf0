"""Which axes of bottom 0 a Scale or a Bias covers: learned or a second bottom, the rule is one."""

from __future__ import annotations

from collections.abc import Sequence

from caffebn.blob import Blob
from caffebn.layers.base import Layer, ncs, times

__all__ = ["covered", "learned_shape"]


def learned_shape(layer: Layer, bottom: Sequence[Blob]) -> tuple[int, ...]:
    """Return the shape of the learned blob: ``bottom[0].shape[axis : axis + num_axes]``.

    `num_axes` -1 means all axes from `axis` on; 0 means one value in a blob with no axes, and `axis`
    is then ignored.

    Raises
    ------
    NetError
        `num_axes` below -1, or axes that bottom 0 does not have.
    """
    shape, num_axes = bottom[0].shape, layer.param.num_axes
    if num_axes < -1:
        raise layer.error(
            f"num_axes must be at least 0, or -1 for all axes from axis on, found {num_axes}", "num_axes"
        )
    if num_axes == 0:
        return ()
    axis = layer.axis(layer.param.axis, len(shape))
    end = len(shape) if num_axes == -1 else axis + num_axes
    if end > len(shape):
        raise layer.error(
            f"num_axes {num_axes} from axis {axis} on runs past the end of {layer.shown(bottom, 0)}",
            "num_axes",
        )
    return shape[axis:end]


def covered(layer: Layer, bottom: Sequence[Blob], factor: Blob) -> tuple[int, int, int]:
    """Return the shape of bottom 0 as (N, C, S), where C are the axes that `factor`, laid on `axis`, covers.

    Raises
    ------
    NetError
        The sizes differ, or `factor` runs past the end of bottom 0.
    """
    shape, n_axes = bottom[0].shape, len(factor.shape)
    axis = layer.axis(layer.param.axis, len(shape)) if n_axes else 0
    if shape[axis : axis + n_axes] != factor.shape:
        what = layer.shown(bottom, 1) if len(bottom) > 1 else f"the learned blob ({times(factor.shape)})"
        raise layer.error(
            f"{what} does not fit on {layer.shown(bottom, 0)} from axis {axis} on: expected sizes "
            f"{times(shape[axis : axis + n_axes])}",
            "bottom",
            len(bottom) - 1,
        )
    return ncs(shape, axis, n_axes)
