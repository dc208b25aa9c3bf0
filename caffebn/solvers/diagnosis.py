"""Looking into a net: where numbers stop being numbers, and the lines that `debug_info` asks for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from caffebn.net import Net

__all__ = ["DebugInfo", "first_not_finite", "single_item_batch_norms"]


def first_not_finite(net: Net) -> str:
    """Say where the first number that is not finite is, after a forward pass.

    Parameters that the solver changes come first: when they are not finite, the update before was too large,
    and everything that follows is its consequence.
    """
    for p in net.parameters:
        if p.lr_mult != 0 and not np.isfinite(p.blob.data).all():
            return (
                f'the parameters of layer "{p.layer.name}" ({p.layer.type}), blob {p.index}, are no longer finite: '
                "the update before was too large"
            )
    for i, layer in enumerate(net.layers):
        for name in net.top_names[layer.name]:
            if not np.isfinite(net.blobs[name].data).all():
                later = [
                    f'"{other.name}" ({other.type})'
                    for other in net.layers[i + 1 :]
                    if name in net.top_names[other.name]
                ]
                in_place = f", on which {' and '.join(later)} worked in place" if later else ""
                return f'it first appears in "{name}", made by layer "{layer.name}" ({layer.type}){in_place}'
    return "all blobs are finite, but their sum is not"


def single_item_batch_norms(net: Net) -> list[str]:
    """Return the BatchNorm layers that take their statistics from a batch of one item."""
    return [
        layer.name
        for layer in net.layers
        if layer.type == "BatchNorm"
        and not layer.use_global_stats  # type: ignore[attr-defined]
        and net.blobs[net.top_names[layer.name][0]].shape[0] == 1
    ]


class DebugInfo:
    """Means of absolute values, layer by layer, while it is switched on.

    Parameters
    ----------
    net : Net
    tell : callable
        Called with each line.

    Attributes
    ----------
    on : bool
    """

    def __init__(self, net: Net, tell: Callable[[str], None]):
        self.on = False
        self._net = net
        self._tell = tell
        net.after_forward(self._forward)
        net.after_backward(self._backward)

    def _forward(self, i: int) -> None:
        if not self.on:
            return
        layer = self._net.layers[i]
        for name in self._net.top_names[layer.name]:
            value = _mean(self._net.blobs[name].data)
            self._tell(f"    [Forward] Layer {layer.name}, top blob {name} data: {value:g}")
        for k, blob in enumerate(layer.blobs):
            self._tell(f"    [Forward] Layer {layer.name}, param blob {k} data: {_mean(blob.data):g}")

    def _backward(self, i: int) -> None:
        if not self.on:
            return
        layer = self._net.layers[i]
        if self._net.need_backward[i]:
            for name in self._net.bottom_names[layer.name]:
                blob = self._net.blobs[name]
                if blob.has_diff:
                    self._tell(
                        f"    [Backward] Layer {layer.name}, bottom blob {name} diff: {_mean(blob.diff):g}"
                    )
            for k, blob in enumerate(layer.blobs):
                if layer.param_propagate_down[k]:
                    self._tell(
                        f"    [Backward] Layer {layer.name}, param blob {k} diff: {_mean(blob.diff):g}"
                    )
        if i == 0:
            self._all_parameters()

    def _all_parameters(self) -> None:
        flats = [memory.flat for memory in (self._net.parameters.data, self._net.parameters.diff)]
        sums = ", ".join(f"{np.abs(flat).sum(dtype=np.float64):g}" for flat in flats)
        norms = ", ".join(f"{np.sqrt(np.square(flat, dtype=np.float64).sum()):g}" for flat in flats)
        self._tell(f"    [Backward] All net params (data, diff): L1 norm = ({sums}); L2 norm = ({norms})")


def _mean(array: np.ndarray) -> float:
    return float(np.abs(array).mean(dtype=np.float64)) if array.size else 0.0
