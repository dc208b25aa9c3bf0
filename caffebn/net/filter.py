"""Which layers belong to a net in a given phase, level and stage."""

from __future__ import annotations

from caffebn.errors import NetError
from caffebn.proto import Message

__all__ = ["filter_net", "state_meets_rule"]


def filter_net(net: Message, state: Message) -> Message:
    """Return a copy of the net without the layers that its rules exclude.

    With ``include`` rules a layer stays when any of them is met; with ``exclude`` rules it goes when any is met.

    Parameters
    ----------
    net : Message
        NetParameter, already in today's form.
    state : Message
        NetState: phase, level, stages.

    Raises
    ------
    NetError
        A layer with both kinds of rules.
    """
    kept = []
    for layer in net.layer:
        if layer.include and layer.exclude:
            raise NetError(
                f'layer "{layer.name}": has include and exclude rules, it may have one kind only',
                layer.include[0].where or layer.where,
            )
        if layer.include:
            stays = any(state_meets_rule(state, rule) for rule in layer.include)
        else:
            stays = not any(state_meets_rule(state, rule) for rule in layer.exclude)
        if stays:
            kept.append(layer)
    filtered = net.copy()
    filtered.layer = [layer.copy() for layer in kept]
    return filtered


def state_meets_rule(state: Message, rule: Message) -> bool:
    """Whether all that a NetStateRule states holds; an empty rule always does."""
    return (
        (not rule.has("phase") or rule.phase == state.phase)
        and (not rule.has("min_level") or state.level >= rule.min_level)
        and (not rule.has("max_level") or state.level <= rule.max_level)
        and all(stage in state.stage for stage in rule.stage)
        and not any(stage in state.stage for stage in rule.not_stage)
    )
