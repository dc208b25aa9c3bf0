"""``caffebn classify``: what is in pictures."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from caffebn import io
from caffebn.classifier import Classifier
from caffebn.cli import nets, show
from caffebn.errors import ArgumentError, FileError, FormatError
from caffebn.proto import binary

__all__ = ["command"]


class Numbers(click.ParamType):
    """Numbers with commas between them; `count` of them when given."""

    def __init__(self, kind: type, metavar: str, count: int | None = None):
        self.kind = kind
        self.name = metavar
        self.count = count

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple:
        """Read the numbers of a text."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(self.kind(part) for part in str(value).split(","))
        except ValueError:
            numbers = ()
        if not numbers or (self.count is not None and len(numbers) != self.count):
            self.fail(f'expected {self.name}, found "{value}"', param, ctx)
        return numbers


@click.command("classify")
@nets.net
@click.argument("weights", type=nets.File)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=nets.File)
@click.option(
    "--mean",
    metavar="FILE|V,V,V",
    help="What to subtract: a .npy or .binaryproto file, or a number for each channel, in the net's order "
    "of channels (mostly BGR).",
)
@click.option(
    "--raw-scale",
    type=float,
    default=255.0,
    show_default=True,
    help="Factor before the mean is subtracted; pictures are read as 0 to 1.",
)
@click.option(
    "--scale",
    "input_scale",
    type=float,
    default=1.0,
    show_default=True,
    help="Factor after the mean is subtracted.",
)
@click.option(
    "--channel-swap",
    type=Numbers(int, "C,C,C"),
    help="Order of channels; by default 2,1,0 (RGB to BGR) for nets with three.",
)
@click.option(
    "--image-dims",
    type=Numbers(int, "H,W", 2),
    help="Resize pictures to this, then crop the net's input size; by default resize to the latter.",
)
@click.option("--labels", type=nets.File, help="Names of the classes, one a line.")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="N",
    help="Show the N most probable classes.",
)
@click.option(
    "--oversample/--center-only",
    default=False,
    help="Average over ten crops (corners, centre, and mirrored), or take the centre alone (default).",
)
@nets.gpu
@click.option("--json", "as_json", is_flag=True, help="Print JSON (its keys are in the guide).")
def command(
    net: str,
    weights: str,
    images: tuple[str, ...],
    mean: str | None,
    raw_scale: float,
    input_scale: float,
    channel_swap: tuple[int, ...] | None,
    image_dims: tuple[int, int] | None,
    labels: str | None,
    top: int,
    oversample: bool,
    as_json: bool,
) -> None:
    """Classify each IMAGE by NET with WEIGHTS.

    A picture is read as RGB from 0 to 1, resized, cropped, put into the order of --channel-swap, multiplied
    by --raw-scale, reduced by --mean, multiplied by --scale.  What the net was trained with decides all of
    these.
    """
    classifier = Classifier(
        net, weights, image_dims, None if mean is None else read_mean(mean), input_scale, raw_scale, keep=[]
    )
    in_ = classifier.inputs[0]
    if len(classifier.outputs) != 1:
        raise ArgumentError(
            f"classify needs a net with one output, found {', '.join(classifier.outputs)}: "
            "remove the layers that lead to the others from the prototxt"
        )
    channels = classifier.blobs[in_].shape[1]
    if channel_swap is not None or channels == 3:
        classifier.transformer.set_channel_swap(in_, channel_swap or (2, 1, 0))
    pictures = [io.load_image(name, color=channels == 3) for name in images]
    answers = classifier.predict(pictures, oversample)
    names = read_labels(labels, answers.shape[1]) if labels else None
    found = [
        (image, [(int(i), float(answer[i])) for i in np.argsort(-answer, kind="stable")[:top]])
        for image, answer in zip(images, answers, strict=True)
    ]
    if as_json:
        show.as_json(
            [
                {
                    "image": image,
                    "classes": [
                        {"index": i, "value": value, **({"label": names[i]} if names else {})}
                        for i, value in classes
                    ],
                }
                for image, classes in found
            ]
        )
        return
    for image, classes in found:
        show.table(
            [">class", "label", ">value"] if names else [">class", ">value"],
            [[str(i), *([names[i]] if names else []), f"{value:.6f}"] for i, value in classes],
            title=image,
        )


def read_mean(text: str) -> np.ndarray:
    """Read a mean: numbers with commas, a .npy file, or a .binaryproto file."""
    path = Path(text)
    if path.suffix == ".binaryproto":
        mean = io.blobproto_to_array(binary.read(path, "BlobProto"))
        return mean[0] if mean.ndim == 4 and mean.shape[0] == 1 else mean
    if path.suffix == ".npy":
        try:
            with path.open("rb") as f:
                return np.lib.format.read_array(f, allow_pickle=False)
        except OSError as e:
            raise FileError(f"{path}: cannot read the mean: {e.strerror or e}") from e
        except (ValueError, EOFError) as e:
            raise FormatError(f"{path}: not an array in numpy's format: {e}") from e
    try:
        return np.array([float(part) for part in text.split(",")])
    except ValueError:
        raise ArgumentError(
            f'--mean: expected a .npy or .binaryproto file or numbers like 104,117,123, found "{text}"'
        ) from None


def read_labels(path: str, classes: int) -> list[str]:
    """Read the names of the classes, one a line."""
    try:
        names = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as e:
        raise FormatError(f"{path}: labels must be UTF-8 text: {e}") from e
    if len(names) != classes:
        raise ArgumentError(
            f"{path}: expected {classes} labels, one for each class of the net, found {len(names)}"
        )
    return names
