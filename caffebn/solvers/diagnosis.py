"""Looking into a net in training: where numbers stop being numbers, and BatchNorm layers with too little to see."""

from __future__ import annotations

import numpy as np

from caffebn.net import Net

__all__ = ["first_not_finite", "single_item_batch_norms"]


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
    if net.keep is not None:  # run again, with all values kept, on what the data layers have left
        made = [layer.name for layer in net.layers if layer.spec.bottom]
        net.run_forward(start=made[0], end=made[-1])
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
