"""``caffebn export``: a net as an ONNX model, a PyTorch module or arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from caffebn import export
from caffebn.bn.fold import fold
from caffebn.bn.opening import definition_of
from caffebn.cli import nets
from caffebn.cli.classify import Numbers, read_mean
from caffebn.errors import ArgumentError, did_you_mean
from caffebn.export.graph import needed
from caffebn.export.onnx_model import OPSET, OPSETS
from caffebn.export.verify import TOLERANCE
from caffebn.net import Net
from caffebn.proto import Message

__all__ = ["command"]

ENDINGS = {
    "onnx": (".onnx",),
    "torch": (".py",),
    "npz": (".npz",),
    "safetensors": (".safetensors",),
    "hdf5": (".h5", ".hdf5"),
}


@click.command("export")
@nets.net
@click.argument("weights", type=nets.File)
@click.option("--to", "target", type=click.Choice(list(ENDINGS)), required=True, help="What to make.")
@click.option("--out", "-o", "out", type=click.Path(dir_okay=False), required=True, help="File to write.")
@nets.batch
@click.option(
    "--output", "outputs", metavar="BLOB", multiple=True, help="End the net at this blob; may be given again."
)
@click.option(
    "--fold",
    is_flag=True,
    help="Fold BatchNorm, Scale and Bias into the layers beside them, as `caffebn fold` does.",
)
@click.option("--fixed-batch", is_flag=True, help="Write the net's own shapes as the only ones.")
@click.option(
    "--open-size",
    is_flag=True,
    help="ONNX: leave height and width open, too; for nets without layers that need one size.",
)
@click.option("--check/--no-check", default=True, help="Run what was made and compare (default), or do not.")
@click.option(
    "--tolerance", type=float, default=TOLERANCE, show_default=True, metavar="X",
    help="Largest difference allowed, as a part of the largest value of each output (at least 1).",
)  # fmt: skip
@click.option(
    "--opset", type=click.IntRange(OPSETS[0], OPSETS[-1]), default=OPSET, show_default=True, metavar="N",
    help="ONNX: version of the operators.",
)  # fmt: skip
@click.option("--nhwc", is_flag=True, help="ONNX: the model takes pictures as (N, H, W, C).")
@click.option("--uint8", is_flag=True, help="ONNX: the model takes bytes.")
@click.option(
    "--channel-swap", type=Numbers(int, "C,C,C"), help="ONNX: order of channels; 2,1,0 makes BGR of RGB."
)
@click.option("--raw-scale", type=float, default=1.0, help="ONNX: factor before the mean is subtracted.")
@click.option(
    "--mean", metavar="FILE|V,V,V", help="ONNX: what to subtract: a .npy or .binaryproto file, or numbers."
)
@click.option(
    "--scale", "input_scale", type=float, default=1.0, help="ONNX: factor after the mean is subtracted."
)
@click.option(
    "--picture", metavar="INPUT", help="ONNX: the input that the pictures go to, when there are several."
)
@click.option(
    "--batch-norm", type=click.Choice(["text", "train", "frozen"]), default="text", show_default=True,
    help="PyTorch: statistics in training: as the text says, the batch's, or the stored ones.",
)  # fmt: skip
@click.option("--class-name", metavar="NAME", help="PyTorch: name of the class.")
@click.option(
    "--state", type=click.Choice(["pt", "safetensors"]), default="pt", show_default=True,
    help="PyTorch: format of the state_dict that is written beside the source.",
)  # fmt: skip
def command(net: str, weights: str, target: str, out: str, batch: int | None, **options: Any) -> None:
    """Write NET with WEIGHTS for other programs.

    onnx and torch are run on random inputs and compared with caffebn, at several batch sizes; when they differ,
    nothing is written and the exit code is 1.  npz, safetensors and hdf5 hold the parameters alone, as
    <layer>/<index of the blob>.
    """
    if Path(out).suffix not in ENDINGS[target]:
        raise ArgumentError(f"{out}: --to {target} writes a file that ends in {' or '.join(ENDINGS[target])}")
    nets.refuse_input(out, net, weights)
    _refuse_others(target)
    made = _open(net, weights, batch, options["outputs"])
    if options["fold"]:
        made = _folded(made, options)
    if target == "onnx":
        _onnx(made, out, options)
    elif target == "torch":
        _torch(made, out, options)
    else:
        count = len(export.arrays(made, out))
        click.echo(f"{count} arrays written to {out}")


def _open(path: str, weights: str, batch: int | None, outputs: tuple[str, ...]) -> Net:
    """Make the net, or with --output the part of it that these blobs need: what is behind may be of unknown types."""
    if not outputs:
        return nets.open_net(path, "test", weights, batch, keep=[])
    definition = definition_of(path)
    blobs = {top for layer in definition.layer for top in layer.top}
    for name in outputs:
        if name not in blobs:
            raise ArgumentError(f'there is no blob "{name}" to end in{did_you_mean(name, blobs)}')
    definition.layer = needed(definition.layer, outputs)
    net = Net(definition, "TEST", weights=weights, keep=outputs)
    nets.check_weights(net)
    if batch is not None:
        nets.set_batch(net, batch)
    return net


def _folded(net: Net, options: dict[str, Any]) -> Net:
    """Fold the net, say what became of it, and compare it with what it was unless --no-check is given."""
    definition = Message("NetParameter", name=net.name)
    definition.layer = [layer.spec.copy() for layer in net.layers]
    arrays = {name: [blob.data for blob in blobs] for name, blobs in net.params.items()}
    done = fold(definition, arrays, check=options["check"])
    layers, worst = done.certificate.layers, done.certificate.worst
    if worst > options["tolerance"]:
        raise export.VerifyError(
            f"--fold: an output of the folded net differs by {worst:.2g} of its largest value; `caffebn fold` says more"
        )
    folded = done.to_net()
    for name in options["outputs"]:
        if name not in folded.blobs:
            raise ArgumentError(
                f"--output {name}: there is no such blob after --fold, which changes the layer that makes it: leave "
                "one of them out"
            )
    for name in net.inputs:
        folded.blobs[name].reshape(*net.blobs[name].shape)
    folded.reshape()
    count = sum(verdict.action == "folded" for verdict in layers)
    click.echo(f"{count} of {len(layers)} layers of BatchNorm, Scale and Bias folded into others")
    return folded


_COMMON = {"outputs", "fixed_batch", "check", "tolerance"}
_ONNX = {
    "opset",
    "open_size",
    "nhwc",
    "uint8",
    "channel_swap",
    "raw_scale",
    "mean",
    "input_scale",
    "picture",
}
_TORCH = {"batch_norm", "class_name", "state"}
_OF = {"onnx": _COMMON | _ONNX, "torch": _COMMON | _TORCH}


def _refuse_others(target: str) -> None:
    """Refuse options that belong to another target: they would have no effect."""
    for parameter in click.get_current_context().command.params:
        name = str(parameter.name)
        if _given(name) and name in _COMMON | _ONNX | _TORCH and name not in _OF.get(target, set()):
            raise ArgumentError(f"{parameter.opts[0]} has no effect on --to {target}: leave it out")


def _onnx(net: Net, out: str, options: dict[str, Any]) -> None:
    steps = None
    if any(_given(name) for name in _ONNX - {"opset", "open_size"}):
        steps = export.Preprocess(
            input=options["picture"],
            layout="nhwc" if options["nhwc"] else "nchw",
            dtype="uint8" if options["uint8"] else "float32",
            channel_swap=options["channel_swap"],
            raw_scale=options["raw_scale"],
            mean=None if options["mean"] is None else read_mean(options["mean"]),
            input_scale=options["input_scale"],
        )
    result = export.onnx(
        net, out, opset=options["opset"], open_size=options["open_size"], preprocess=steps, **_common(options)
    )
    _tell(result.notes, result.verification)
    click.echo(f"written to {out} (opset {options['opset']}, {len(result.model.graph.node)} operators)")


def _torch(net: Net, out: str, options: dict[str, Any]) -> None:
    result = export.torch(
        net, out, state=options["state"], class_name=options["class_name"], batch_norm=options["batch_norm"],
        **_common(options),
    )  # fmt: skip
    _tell(result.notes, result.verification)
    click.echo(
        f"class {result.class_name} written to {out}, its state_dict to {Path(out).with_suffix('.' + options['state'])}"
    )


def _common(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in _COMMON} | {"outputs": list(options["outputs"]) or None}


def _given(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _tell(notes: list[str], verification: export.Verification | None) -> None:
    for note in notes:
        click.echo(f"note: {note}")
    click.echo(str(verification) if verification is not None else "not compared (--no-check)")
