"""A net that says what is in windows of pictures, with the interface of pycaffe's ``caffe.Detector``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NoReturn

import numpy as np

from caffebn import io
from caffebn.classifier import PictureNet
from caffebn.errors import ArgumentError

__all__ = ["Detector"]


class Detector(PictureNet):
    """A net in TEST phase that is shown windows of pictures, each warped to the size of its input.

    Parameters
    ----------
    model_file, pretrained_file : path
        The net (.prototxt) and its weights (.caffemodel).
    mean, input_scale, raw_scale, channel_swap : optional
        Steps of the preparation; see `caffebn.io.Transformer`.
    context_pad : int, optional
        Width, in pixels of the net's input, of a border that shows what surrounds the window (Girshick et al.,
        Rich feature hierarchies, 2014); beyond the picture it shows the mean.
    keep : sequence of str, optional
        As for `Net`.

    Attributes
    ----------
    transformer : Transformer
    context_pad : int
    crop_dims : tuple of int
        (height, width, channels) of the net's input as a picture.
    crop_mean : ndarray, shape crop_dims
        The mean as a picture, that is in the range and the order of channels that `load_image` gives.

    Raises
    ------
    NetError
        When the net's first input has not four axes (batch, channels, height, width).
    ArgumentError
        When a step or `context_pad` does not fit it.
    """

    def __init__(
        self,
        model_file: str | os.PathLike[str],
        pretrained_file: str | os.PathLike[str],
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
        keep: Sequence[str] | None = None,
    ):
        super().__init__(model_file, pretrained_file, mean, input_scale, raw_scale, channel_swap, keep)
        self.configure_crop(context_pad)

    def configure_crop(self, context_pad: int | None) -> None:
        """Set the border of context; call it again when the mean has been changed in `transformer`.

        Raises
        ------
        ArgumentError
            When nothing of the input would be left for the window.
        """
        in_ = self.inputs[0]
        channels, height, width = self.blobs[in_].shape[1:]
        self.context_pad = context_pad or 0
        if not 0 <= 2 * self.context_pad < min(height, width):
            raise ArgumentError(
                f"Detector: context_pad must leave room for the window in the net's input of {height} x {width}, "
                f"found {context_pad}"
            )
        self.crop_dims = (height, width, channels)
        self.crop_mean = self.transformer.deprocess(in_, np.zeros((channels, height, width)))

    def detect_windows(
        self, images_windows: Iterable[tuple[str | os.PathLike[str], Iterable[Sequence[int]]]]
    ) -> list[dict[str, Any]]:
        """Show windows of pictures to the net.

        Parameters
        ----------
        images_windows : iterable of (filename, windows)
            A window is (ymin, xmin, ymax, xmax), in pixels.

        Returns
        -------
        list of dict
            For each window, in order: ``window`` and ``filename`` as they were given, ``prediction``, the
            net's first output for it.

        Raises
        ------
        FileError, FormatError
            When a picture cannot be read.
        ArgumentError
            When a window is not four whole numbers, is empty, or lies outside of its picture.
        """
        in_ = self.inputs[0]
        detections: list[dict[str, Any]] = []
        windows = self._cut(images_windows)
        # as many as the net takes at once, so that thousands of windows need no more memory than that
        while batch := list(islice(windows, self.blobs[in_].shape[0])):
            prepared = np.stack([self.transformer.preprocess(in_, piece) for _, _, piece in batch])
            predictions = self.forward_all(None, **{in_: prepared})[self.outputs[0]]
            detections += (
                {"window": window, "prediction": prediction, "filename": filename}
                for (filename, window, _), prediction in zip(batch, predictions, strict=True)
            )
        return detections

    def _cut(
        self, images_windows: Iterable[tuple[Any, Iterable[Any]]]
    ) -> Iterator[tuple[Any, Any, np.ndarray]]:
        for filename, windows in images_windows:
            picture = io.load_image(filename, color=self.crop_dims[2] != 1)
            for window in windows:
                try:
                    yield filename, window, self.crop(picture, window)
                except ArgumentError as e:
                    raise ArgumentError(f"{filename}: {e.message}") from None

    def crop(self, im: np.ndarray, window: Sequence[int]) -> np.ndarray:
        """Cut a window out of a picture, with its context when `context_pad` is set.

        Parameters
        ----------
        im : array (height, width, channels)
        window : (ymin, xmin, ymax, xmax)

        Returns
        -------
        ndarray of float32
            Without context the window as it is, without row ymax and column xmax; with context an array of
            shape `crop_dims`, in which the window, then with row ymax and column xmax, fills what the border
            leaves.

        Raises
        ------
        ArgumentError
            When the window is not four whole numbers, is empty, or lies outside of the picture.
        """
        corners = np.asarray(window)
        if corners.shape != (4,) or corners.dtype.kind not in "iuf" or (corners != np.round(corners)).any():
            raise ArgumentError(f"a window is four whole numbers (ymin, xmin, ymax, xmax), found {window!r}")
        top, left, bottom, right = (int(n) for n in corners)
        height, width = im.shape[:2]
        if not (max(top, 0) < min(bottom, height) and max(left, 0) < min(right, width)):
            raise ArgumentError(
                f"window (ymin, xmin, ymax, xmax) = ({top}, {left}, {bottom}, {right}) covers nothing of the picture "
                f"of {height} x {width}"
            )
        if not self.context_pad:
            return im[max(top, 0) : bottom, max(left, 0) : right]
        rows, y = self._with_context(top, bottom, height, self.crop_dims[0])
        columns, x = self._with_context(left, right, width, self.crop_dims[1])
        piece = np.array(self.crop_mean, dtype=np.float32)
        sizes = y.stop - y.start, x.stop - x.start
        piece[y, x] = io.resize_image(im[rows, columns], sizes)
        return piece

    def _with_context(self, start: int, end: int, length: int, size: int) -> tuple[slice, slice]:
        """Say, along one axis, which part of the picture to take, and which part of the input it fills.

        These are pycaffe's roundings: the window is taken to include `end`, the part of the picture is not.
        """
        scale = size / (size - 2 * self.context_pad)
        half = (end - start + 1) / 2
        low = round(start + half - scale * half)
        high = round(start + half + scale * half)
        zoom = size / (high - low + 1)
        before = min(round(max(0, -low) * zoom), size - 1)
        low, high = max(low, 0), min(high, length)
        filled = max(1, min(round((high - low + 1) * zoom), size - before))
        return slice(low, high), slice(before, before + filled)

    def detect_selective_search(self, image_fnames: Sequence[str]) -> NoReturn:
        """Refuse: pycaffe calls a MATLAB program here, which caffebn does not bring.

        Raises
        ------
        ArgumentError
            Always; it says what to do instead.
        """
        raise ArgumentError(
            "detect_selective_search needs the MATLAB program of Selective Search, which caffebn does not run; "
            "find windows by another tool and call detect_windows([(filename, windows), ...])"
        )
