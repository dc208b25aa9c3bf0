"""The options by which several verbs are given something to run a net on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from caffebn import io
from caffebn.cli import nets
from caffebn.cli.classify import Numbers, read_mean
from caffebn.errors import ArgumentError, FormatError
from caffebn.net import Net

__all__ = ["picture_options", "read_arrays", "read_input", "read_inputs"]

_PICTURE_OPTIONS = [
    click.option("--mean", metavar="FILE|V,V,V", help="For pictures: what to subtract, as in classify."),
    click.option(
        "--raw-scale",
        type=float,
        default=255.0,
        show_default=True,
        help="For pictures: factor before the mean.",
    ),
    click.option(
        "--scale",
        "input_scale",
        type=float,
        default=1.0,
        show_default=True,
        help="For pictures: factor after the mean.",
    ),
    click.option(
        "--channel-swap",
        type=Numbers(int, "C,C,C"),
        help="For pictures: order of channels; by default 2,1,0 (RGB to BGR) for three.",
    ),
    click.option(
        "--image-dims",
        type=Numbers(int, "H,W", 2),
        help="For pictures: resize to this, then take the centre of the net's input size.",
    ),
]


def picture_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a verb with the options that prepare pictures; it gets them as one dict `pictures`."""

    def collected(*args: Any, **values: Any) -> Any:
        names = ("mean", "raw_scale", "input_scale", "channel_swap", "image_dims")
        return command(*args, pictures={name: values.pop(name) for name in names}, **values)

    collected.__name__, collected.__doc__ = command.__name__, command.__doc__
    collected.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    for option in reversed(_PICTURE_OPTIONS):
        option(collected)
    return collected


def read_inputs(
    net: Net, paths: Sequence[str], pictures: dict[str, Any]
) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Read what the words of ``--input`` name: pairs of a label and arrays by input name."""
    return [(path, read_input(net, path, pictures)) for path in paths]


def read_input(net: Net, path: str, pictures: dict[str, Any]) -> dict[str, np.ndarray]:
    """Read a .npz or .npy file, or prepare a picture, for the inputs of a net."""
    if not net.inputs:
        raise ArgumentError(f"--input {path}: the net has no inputs, it reads its own data")
    if Path(path).suffix in (".npz", ".npy"):
        arrays = read_arrays(path)
        return {net.inputs[0]: arrays[""]} if "" in arrays else arrays
    if len(net.inputs) != 1:
        raise ArgumentError(
            f"--input {path}: a picture can be given to a net with one input, this one has "
            f"{', '.join(net.inputs)}: write a .npz file with these names"
        )
    (name,) = net.inputs
    return {name: prepared(net.blobs[name].shape, path, pictures)[None]}


def read_arrays(path: str) -> dict[str, np.ndarray]:
    """Read the arrays of a .npz file by name, or that of a .npy file as ""."""
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {"": found}
        with found:
            return {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError) as e:
        raise FormatError(f"{path}: not arrays in numpy's format: {e}") from e


def prepared(shape: tuple[int, ...], path: str, pictures: dict[str, Any]) -> np.ndarray:
    """Return a picture as an input of a net wants it, without the batch axis.

    Parameters
    ----------
    shape : (batch, channels, height, width)
    """
    if len(shape) != 4:
        raise ArgumentError(
            f"--input {path}: pictures need an input of four axes (batch, channels, height, width), found {shape}"
        )
    transformer = io.Transformer({"data": shape})
    transformer.set_transpose("data", (2, 0, 1))
    swap = pictures["channel_swap"]
    if swap is not None or shape[1] == 3:
        transformer.set_channel_swap("data", swap or (2, 1, 0))
    if pictures["raw_scale"] != 1:
        transformer.set_raw_scale("data", pictures["raw_scale"])
    if pictures["mean"] is not None:
        transformer.set_mean("data", read_mean(pictures["mean"]))
    if pictures["input_scale"] != 1:
        transformer.set_input_scale("data", pictures["input_scale"])
    picture = io.load_image(path, color=shape[1] == 3)
    if pictures["image_dims"]:
        picture = io.resize_image(picture, pictures["image_dims"])
        height, width = shape[2:]
        top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
        if min(top, left) < 0:
            raise ArgumentError(
                f"--image-dims must be at least the size of the net's input, {height},{width}, found "
                f"{','.join(map(str, pictures['image_dims']))}"
            )
        picture = picture[top : top + height, left : left + width]
    return transformer.preprocess("data", picture)


input_option: Callable[[Any], Any] = click.option(
    "--input",
    "-i",
    "inputs",
    multiple=True,
    type=nets.File,
    metavar="FILE",
    help="A picture, a .npy or a .npz file (arrays by input name) to run on, beside a random input; may be repeated.",
)
