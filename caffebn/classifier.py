"""Nets that take pictures, and classify them, with the interface of pycaffe's ``caffe.Classifier``."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from caffebn import io
from caffebn.errors import ArgumentError, NetError
from caffebn.net import Net

__all__ = ["Classifier", "PictureNet"]


class PictureNet(Net):
    """A net in TEST phase whose first input takes pictures, with the preparation that they need.

    Parameters
    ----------
    model_file, pretrained_file : path
        The net (.prototxt) and its weights (.caffemodel).
    mean, input_scale, raw_scale, channel_swap : optional
        Steps of the preparation; see `caffebn.io.Transformer`.
    keep : sequence of str, optional
        As for `Net`.

    Attributes
    ----------
    transformer : Transformer

    Raises
    ------
    NetError
        When the net's first input has not four axes (batch, channels, height, width).
    ArgumentError
        When a step does not fit the input.
    """

    def __init__(
        self,
        model_file: str | os.PathLike[str],
        pretrained_file: str | os.PathLike[str],
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        keep: Sequence[str] | None = None,
    ):
        super().__init__(model_file, "TEST", weights=pretrained_file, keep=keep)
        shape = self.blobs[self.inputs[0]].shape if self.inputs else ()
        if len(shape) != 4:
            found = f'"{self.inputs[0]}" of shape {shape}' if self.inputs else "none"
            raise NetError(
                f"{model_file}: to take pictures, the first input must have four axes (batch, channels, height, "
                f"width), found {found}"
            )
        in_ = self.inputs[0]
        self.transformer = io.Transformer({in_: shape})
        self.transformer.set_transpose(in_, (2, 0, 1))
        if mean is not None:
            self.transformer.set_mean(in_, mean)
        if input_scale is not None:
            self.transformer.set_input_scale(in_, input_scale)
        if raw_scale is not None:
            self.transformer.set_raw_scale(in_, raw_scale)
        if channel_swap is not None:
            self.transformer.set_channel_swap(in_, channel_swap)


class Classifier(PictureNet):
    """A net in TEST phase that prepares pictures, runs them and gives class probabilities.

    Parameters
    ----------
    model_file, pretrained_file : path
        The net (.prototxt) and its weights (.caffemodel).
    image_dims : (height, width), optional
        The size that a picture gets before it is cropped; by default the size of the net's input,
        so that nothing is cropped.
    mean, input_scale, raw_scale, channel_swap : optional
        Steps of the preparation; see `caffebn.io.Transformer`.
    keep : sequence of str, optional
        As for `Net`.

    Attributes
    ----------
    transformer : Transformer
    image_dims, crop_dims : tuple of int
        (height, width) of the resized picture, and of the piece of it that the net sees.

    Raises
    ------
    NetError
        When the net's first input has not four axes (batch, channels, height, width).
    ArgumentError
        When `image_dims` is smaller than the net's input, or a step does not fit it.
    """

    def __init__(
        self,
        model_file: str | os.PathLike[str],
        pretrained_file: str | os.PathLike[str],
        image_dims: Sequence[int] | None = None,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        keep: Sequence[str] | None = None,
    ):
        super().__init__(model_file, pretrained_file, mean, input_scale, raw_scale, channel_swap, keep)
        self.crop_dims = tuple(self.blobs[self.inputs[0]].shape[2:])
        self.image_dims = self.crop_dims if image_dims is None else tuple(int(n) for n in image_dims)
        if len(self.image_dims) != 2 or any(
            i < c for i, c in zip(self.image_dims, self.crop_dims, strict=True)
        ):
            raise ArgumentError(
                f"Classifier: image_dims must be (height, width) of at least {self.crop_dims}, the "
                f"size of the net's input, found {image_dims}"
            )

    def predict(self, inputs: Sequence[np.ndarray], oversample: bool = True) -> np.ndarray:
        """Classify pictures.

        Parameters
        ----------
        inputs : sequence of arrays (height, width, channels)
            As from `caffebn.io.load_image`; each is resized to `image_dims`.
        oversample : bool, default True
            True: the mean of the net's answers to ten pieces of each picture (corners, centre,
            and these mirrored).  False: its answer to the centre alone.

        Returns
        -------
        ndarray (pictures, classes)
            The net's first output.

        Raises
        ------
        ArgumentError
            When there is no picture, or one does not have the net's number of channels.
        """
        pictures = [io.resize_image(im, self.image_dims) for im in inputs]
        if not pictures:
            raise ArgumentError("Classifier.predict: expected at least one picture, found none")
        if oversample:
            pieces = list(io.oversample(pictures, self.crop_dims))
        else:
            top, left = ((i - c) // 2 for i, c in zip(self.image_dims, self.crop_dims, strict=True))
            pieces = [im[top : top + self.crop_dims[0], left : left + self.crop_dims[1]] for im in pictures]
        in_ = self.inputs[0]
        prepared = np.stack([self.transformer.preprocess(in_, piece) for piece in pieces])
        answers = self.forward_all(None, **{in_: prepared})[self.outputs[0]].reshape(len(pieces), -1)
        return answers.reshape(len(pictures), 10, -1).mean(1) if oversample else answers
