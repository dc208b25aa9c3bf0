"""Fine-tuning: keep BatchNorm's statistics, and Scale's values, as they were trained."""

from __future__ import annotations

from pathlib import Path

from caffebn.errors import ArgumentError, did_you_mean
from caffebn.net import Net
from caffebn.proto import Message, upgrade
from caffebn.solvers.nets import NetMaker

__all__ = ["freeze_batch_norm", "freeze_solver", "trainable"]

_CHOICES = ("stats", "stats+scale")


def freeze_batch_norm(net: Message, what: str = "stats") -> Message:
    """Return a copy of a net's text whose BatchNorm layers go on with the statistics that they have.

    Parameters
    ----------
    net : Message
        NetParameter; as it is read, in any form that Caffe has had.
    what : {"stats", "stats+scale"}
        "stats": every BatchNorm gets ``use_global_stats: true``, so that it normalises with its stored
        statistics in training, too, and never changes them.  "stats+scale": the Scale layers that directly
        follow a BatchNorm get ``lr_mult: 0`` as well, which makes the pair a fixed affine function.

    Returns
    -------
    Message
        Give it to a solver as its `net_param`.

    Raises
    ------
    ArgumentError
        `what` is something else, or there is no BatchNorm layer.

    Notes
    -----
    Load weights before training: statistics of a BatchNorm that was never trained are 0, and stay so.
    """
    if what not in _CHOICES:
        raise ArgumentError(
            f"freeze_batch_norm: expected {' or '.join(map(repr, _CHOICES))}, found {what!r}"
            f"{did_you_mean(str(what), _CHOICES)}"
        )
    frozen = net.copy()
    upgrade.net(frozen)
    makers: dict[str, Message] = {}  # the last layer that made or changed each blob
    found = False
    for layer in frozen.layer:
        if layer.type == "BatchNorm":
            found = True
            layer.mutable("batch_norm_param").use_global_stats = True
        elif layer.type == "Scale" and what == "stats+scale":
            before = makers.get(layer.bottom[0]) if layer.bottom else None
            if before is not None and before.type == "BatchNorm":
                _stop(layer)
        makers.update((top, layer) for top in layer.top)
    if not found:
        raise ArgumentError(f'freeze_batch_norm: the net "{net.name}" has no BatchNorm layer')
    return frozen


def freeze_solver(solver: Message, what: str = "stats") -> Message:
    """Return a copy of a solver's text that trains its net with frozen BatchNorm layers.

    Parameters
    ----------
    solver : Message
        SolverParameter.  Nets that it names are read, and stand in the copy as messages.
    what : {"stats", "stats+scale"}
        See `freeze_batch_norm`.

    Raises
    ------
    SolverError, FileError
        The net that is trained is not given, or cannot be found.
    ArgumentError
        As `freeze_batch_norm`.
    """
    frozen = solver.copy()
    folder = Path(solver.where.file).parent if solver.where else None
    definition = freeze_batch_norm(NetMaker(solver, folder).train_definition(), what)
    for name in ("train_net", "train_net_param", "net", "net_param"):
        if frozen.has(name):
            frozen.clear(name)
            # a net for both phases goes on to be the test net, too
            setattr(frozen, f"{name.removesuffix('_param')}_param", definition)
    return frozen


def _stop(scale: Message) -> None:
    """Give every blob of a Scale layer the rate 0."""
    blobs = (len(scale.bottom) == 1) + scale.scale_param.bias_term
    while len(scale.param) < blobs:
        scale.add("param")
    for param in scale.param:
        param.lr_mult = 0


def trainable(net: Net) -> list[str]:
    """Return what a solver changes in a net: ``"conv1[0]"`` for blob 0 of layer "conv1", in net order.

    Parameters shared by several layers appear once, under their first layer.  Statistics of BatchNorm never appear.
    """
    return [f"{p.layer.name}[{p.index}]" for p in net.parameters if p.owner is None and p.lr_mult != 0]
