"""What ``debug_info: true`` prints: how large the values and the gradients are, layer by layer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from caffebn.net.net import Net

__all__ = ["watch"]


def watch(net: Net, propagate_down: Sequence[Sequence[bool]]) -> None:
    """Make a net print, on standard error, the mean absolute values of what each pass computes.

    It does so while `net.debug_info` is true.

    The lines are those of Caffe, for which there are scripts::

        [Forward] Layer <name>, top blob <name> data: <mean of abs(data)>
        [Forward] Layer <name>, param blob <index, or name when shared> data: <mean of abs(data)>
        [Backward] Layer <name>, bottom blob <name> diff: <mean of abs(diff)>
        [Backward] Layer <name>, param blob <index or name> diff: <mean of abs(diff)>
        [Backward] All net params (data, diff): L1 norm = (<data>, <diff>); L2 norm = (<data>, <diff>)

    Parameters
    ----------
    net : Net
    propagate_down : sequence of sequence of bool
        For the bottoms of each layer: whether their gradients are computed.
    """
    names = {(p.layer, p.index): p.name or str(p.index) for p in net.parameters}

    def forward(i: int) -> None:
        if not net.debug_info:
            return
        layer = net.layers[i]
        for name in layer.spec.top:
            _say(f"[Forward] Layer {layer.name}, top blob {name} data: {_size(net.blobs[name].data)}")
        for k, blob in enumerate(layer.blobs):
            _say(f"[Forward] Layer {layer.name}, param blob {names[layer, k]} data: {_size(blob.data)}")

    def backward(i: int) -> None:
        if not net.debug_info:
            return
        layer = net.layers[i]
        if net.need_backward[i]:
            for name, wanted in zip(layer.spec.bottom, propagate_down[i], strict=True):
                if wanted:
                    diff = net.blobs[name].diff
                    _say(f"[Backward] Layer {layer.name}, bottom blob {name} diff: {_size(diff)}")
            for k, (blob, wanted) in enumerate(zip(layer.blobs, layer.param_propagate_down, strict=True)):
                if wanted:
                    _say(
                        f"[Backward] Layer {layer.name}, param blob {names[layer, k]} diff: {_size(blob.diff)}"
                    )
        if i == 0:
            flat = [array.flat.astype(np.float64) for array in (net.parameters.data, net.parameters.diff)]
            sums = ", ".join(f"{np.abs(values).sum():g}" for values in flat)
            roots = ", ".join(f"{np.sqrt((values**2).sum()):g}" for values in flat)
            _say(f"[Backward] All net params (data, diff): L1 norm = ({sums}); L2 norm = ({roots})")

    net.after_forward(forward)
    net.after_backward(backward)


def _size(values: np.ndarray) -> str:
    return f"{np.abs(values).mean(dtype=np.float64) if values.size else 0.0:g}"


def _say(line: str) -> None:
    print(f"    {line}", file=sys.stderr)
