"""The arguments and options by which several verbs open a net."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from caffebn import blocks
from caffebn.errors import ArgumentError, CaffebnWarning, FileError, FormatError, NetError, did_you_mean, some
from caffebn.net import Net, set_device, set_mode_cpu, set_mode_gpu
from caffebn.proto import Message, UnknownText, binary, schema, upgrade

__all__ = [
    "batch",
    "check_weights",
    "gpu",
    "is_binary",
    "net",
    "open_lean",
    "open_net",
    "open_part",
    "phase",
    "read_message",
    "read_net",
    "refuse_input",
    "set_batch",
    "weights",
]

File = click.Path(exists=True, dir_okay=False)

net: Callable[[Any], Any] = click.argument("net", type=File)
weights: Callable[[Any], Any] = click.option(
    "--weights", "-w", type=File, help="Weights to load: a .caffemodel or .caffemodel.h5."
)
phase: Callable[[Any], Any] = click.option(
    "--phase",
    type=click.Choice(["train", "test"], case_sensitive=False),
    default="test",
    show_default=True,
    help="The phase that the net is made for.",
)
batch: Callable[[Any], Any] = click.option(
    "--batch",
    type=click.IntRange(min=1),
    metavar="N",
    help="Size of the first axis of the net's inputs, in place of the one in the prototxt.",
)


def _run_on(context: click.Context, option: click.Parameter, index: int | None) -> None:
    """Make all nets of this command on that GPU."""
    if index is not None:
        set_device(index)
        set_mode_gpu()
        context.call_on_close(set_mode_cpu)


gpu: Callable[[Any], Any] = click.option(
    "--gpu",
    type=click.IntRange(min=0),
    metavar="N",
    expose_value=False,
    callback=_run_on,
    help="Run on GPU number N, instead of the CPU; `caffebn device` lists them.",
)


def open_net(
    path: str,
    phase: str,
    weights: str | None = None,
    batch: int | None = None,
    any_weights: bool = False,
    **options: Any,
) -> Net:
    """Make a net of a file, load weights, set the batch size; other options as for `Net`.

    A net without layers is refused, and weights of which nothing fits, unless `any_weights` are welcome.
    """
    made = Net(path, phase.upper(), weights=weights, **options)
    if not made.layers:
        raise NetError(f"{path}: no layer is in it in the phase {phase.upper()}; expected a net")
    if not any_weights:
        check_weights(made)
    if batch is not None:
        set_batch(made, batch)
    return made


def open_lean(path: str, phase: str, batch: int | None = None, **options: Any) -> Net:
    """Make a net that is open already once more, with ``keep=[]``; what there was to warn of has been said."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaffebnWarning)
        return open_net(path, phase, batch=batch, keep=[], **options)


def refuse_input(out: str | None, *sources: str | None) -> None:
    """Refuse to write over a file that is read: what was in it would be lost."""
    if out is None or not Path(out).exists():
        return
    for source in sources:
        if source is not None and Path(source).exists() and Path(out).samefile(source):
            raise ArgumentError(f"{out}: is read by this command: write to another file")


def open_part(path: str, weights: str) -> Net:
    """Make the part of a net in TEST that needs no layers of unknown types, with its weights, and name the others."""
    from caffebn.bn.opening import make_net, open_plain, runnable

    opened = open_plain(path, weights)
    definition, left_out = runnable(opened.definition)
    if left_out:
        warnings.warn(
            f"{len(left_out)} layers are left out, for caffebn does not have their types or those before them: "
            f"{some(left_out)}",
            CaffebnWarning,
            stacklevel=2,
        )
    made = make_net(definition, opened.arrays, source=weights)
    check_weights(made)
    return made


def check_weights(net: Net) -> None:
    """Refuse weights of another net, and warn of layers without weights, which have what their fillers drew."""
    report = net.weights_report
    if report is None:
        return
    report.check()
    if report.missing:
        near = next(filter(None, (did_you_mean(name, report.unused) for name in report.missing)), "")
        warnings.warn(
            f"{report.source} has no weights for {some(report.missing)}: they are as their fillers made them"
            + near,
            CaffebnWarning,
            stacklevel=2,
        )


def set_batch(net: Net, batch: int) -> None:
    """Give the first axis of all inputs the size `batch`."""
    if not net.inputs:
        raise ArgumentError(
            "--batch sets the size of Input layers, and this net has none: "
            "its data layers state the batch size in the prototxt"
        )
    for name in net.inputs:
        shape = net.blobs[name].shape
        if not shape:
            raise ArgumentError(f'--batch: the input "{name}" has no axes')
        net.blobs[name].reshape(batch, *shape[1:])
    net.reshape()


def is_binary(path: str) -> bool:
    """Whether a file is in the binary form: it is called so, or has characters that no text has."""
    if path.endswith(".caffemodel"):
        return True
    try:
        with Path(path).open("rb") as f:
            start = f.read(4096)
    except OSError as e:
        raise FileError(f"{path}: cannot be read: {e.strerror or e}") from e
    return any(byte < 32 and byte not in b"\t\n\v\f\r" for byte in start)


def read_message(path: str) -> Message:
    """Read a net in the text or the binary form, or a solver in the text form.

    Raises
    ------
    FileError, ParseError, FormatError
        When it is none of these.
    """
    if is_binary(path):
        net = binary.read(path, "NetParameter")
        if not net.has("layer") and not net.has("layers"):
            raise FormatError(f"{path}: a binary file without layers; expected a net, such as a .caffemodel")
        return net
    return blocks.read(path, type=_type_of_text(path))


def read_net(path: str) -> Message:
    """Read a net in the text or the binary form, in the present form; one without layers is refused, as a solver is."""
    net = read_message(path)
    if net.schema.name != "NetParameter":
        raise ArgumentError(f"{path}: expected a net, found a solver")
    upgrade.net(net, path)
    if not net.layer:
        raise NetError(f"{path}: no layer is in it; expected a net")
    return net


def _type_of_text(path: str) -> str:
    """Tell a solver from a net by the fields that only a solver has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaffebnWarning)  # they come with the second reading
        net = blocks.read(path)
    names = {unknown.name for unknown in net.unknown if isinstance(unknown, UnknownText)}
    is_solver = names & schema.messages["SolverParameter"].fields.keys()
    return "SolverParameter" if is_solver and not (net.has("layer") or net.has("layers")) else "NetParameter"
