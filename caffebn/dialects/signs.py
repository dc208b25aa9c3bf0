"""A quick look whether a net is in a dialect at all; nets that are plain need no more of this folder."""

from __future__ import annotations

from caffebn.proto import Message, UnknownText

__all__ = ["FOREIGN", "HARMLESS", "PLAIN", "speaks_dialect"]

PLAIN = "bvlc"
"""The dialect of BVLC Caffe."""
FOREIGN = set(
    "add_eps_before_sqrt bias_filler bias_term disable_mean disable_variance engine filler fused_relu icnet relu "
    "scale_bias scale_filler stats_batch_size update_global_stats use_weight_bias".split()
)
"""Fields that only forks have in a BatchNormParameter."""
HARMLESS = {"engine", "update_global_stats", "icnet"}
"""Those of them that do not change what a plain layer computes."""


def speaks_dialect(definition: Message | None, stored: Message | None = None) -> bool:
    """Whether there is a layer that plain Caffe would not read, or would read otherwise; a quick look."""
    for layer in definition.layer if definition is not None else ():
        kind = layer.type
        if kind in ("BN", "SyncBN", "EltwiseAffine"):
            return True
        if kind == "BatchNorm" and any(
            isinstance(u, UnknownText) and u.name in FOREIGN - HARMLESS
            for u in layer.batch_norm_param.unknown
        ):
            return True
    for layer in stored.layer if stored is not None else ():
        kind = layer.type
        if kind in ("BN", "SyncBN") or (kind == "BatchNorm" and len(layer.blobs) not in (0, 3)):
            return True
    return False
