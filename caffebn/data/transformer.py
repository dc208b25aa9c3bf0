"""What ``transform_param`` says, done to whole batches: crop, mirror, subtract a mean, scale."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType

import numpy as np

from caffebn.errors import FormatError, NetError
from caffebn.layers.base import times
from caffebn.proto import Message, binary, blob_array

__all__ = ["Items", "Transformer"]

Items = np.ndarray | Sequence[np.ndarray]
"""A batch of records: one array of four axes, or an array of three for each."""

Window = tuple[EllipsisType, slice, slice]


class Transformer:
    """Bring records into the form a net wants: ``(value - mean) * scale``, cropped and mirrored.

    Parameters
    ----------
    param : Message
        A TransformationParameter.
    phase : {"TRAIN", "TEST"}
        A crop is taken anywhere in TRAIN, and at ``(size - crop_size) // 2`` in TEST.  A mirror is at random
        in both, as in Caffe.

    Attributes
    ----------
    mean : ndarray of float32 or None
        (channels or 1, 1, 1) of `mean_value`, or (channels, height, width) of `mean_file`.
    scale : float32
    crop_size : int
        0 for none.
    mirror : bool
    random : bool
        Whether it needs random numbers.

    Raises
    ------
    NetError
        Both `mean_file` and `mean_value`, or both `force_color` and `force_gray`.
    FileError, FormatError
        The mean file cannot be read, or is not one mean.

    Notes
    -----
    Source: Caffe data_transformer.
    """

    def __init__(self, param: Message, phase: str):
        self.param = param
        self.crop_size: int = param.crop_size
        self.mirror: bool = param.mirror
        self.scale = np.float32(param.scale)
        self.centred = phase == "TEST"
        self.random = self.mirror or (self.crop_size > 0 and not self.centred)
        if param.force_color and param.force_gray:
            raise self._error("give either force_color or force_gray, not both", "force_gray")
        if param.has("mean_file") and param.has("mean_value"):
            raise self._error("give either mean_file or mean_value, not both", "mean_value")
        self.mean: np.ndarray | None = None
        if param.has("mean_file"):
            self.mean = _read_mean(param.mean_file)
        elif param.has("mean_value"):
            self.mean = np.array(param.mean_value, np.float32).reshape(-1, 1, 1)

    @property
    def color(self) -> bool | None:
        """How to read pictures: True in colour, False in grey, None as they are."""
        return True if self.param.force_color else False if self.param.force_gray else None

    def shape(self, item: Sequence[int]) -> tuple[int, int, int]:
        """Return what becomes of a record of shape (channels, height, width).

        Raises
        ------
        NetError
            The record is smaller than the crop, or the mean is for other records.
        """
        channels, height, width = item
        crop = self.crop_size
        if crop > min(height, width):
            raise self._error(
                f"crop_size {crop} is larger than the record, {height} x {width} (height x width)",
                "crop_size",
            )
        if self.mean is not None:
            if self.param.has("mean_file") and self.mean.shape != (channels, height, width):
                raise self._error(
                    f'the mean in "{self.param.mean_file}" is {times(self.mean.shape)}, the record is {times(item)} (channels x '
                    "height x width): a mean file has the size of whole records, before they are cropped",
                    "mean_file",
                )
            if len(self.mean) not in (1, channels):
                raise self._error(
                    f"mean_value must be given once, or once for each of the {channels} channels of the record, "
                    f"found {len(self.mean)} times",
                    "mean_value",
                )
        return (channels, crop, crop) if crop else (channels, height, width)

    def __call__(self, items: Items, out: np.ndarray, rng: np.random.Generator | None) -> None:
        """Transform a batch.

        Parameters
        ----------
        items : sequence of ndarray (channels, height, width), or ndarray of four axes
            uint8 or float32.  With a crop they may differ in height and width.
        out : ndarray of float32 or float64, (items, channels, height, width)
            Filled.
        rng : Generator or None
            Needed when `random` is true.

        Raises
        ------
        NetError
            A record does not fit `out`, the crop, or the mean.
        """
        alike = isinstance(items, np.ndarray)
        for shape in dict.fromkeys(item.shape for item in (items[:1] if alike else items)):
            self._check_fits(shape, out)
        mean = self.mean
        if alike and not self.random:
            (window,) = self._windows(items[:1], None)
            values, mean = np.asarray(items)[window], self._mean_at(window)
        elif not self.crop_size and not self.mirror:
            values = np.stack(items)
        else:
            windows = self._windows(items, rng)
            values = np.stack([item[w] for item, w in zip(items, windows, strict=True)])
            if mean is not None and mean.shape[1:] != (1, 1):
                mean = np.stack([mean[w] for w in windows])
        if mean is None:
            np.multiply(values, self.scale, out=out)
        else:
            np.subtract(values, mean, out=out)
            if self.scale != 1:
                out *= self.scale

    def _check_fits(self, shape: Sequence[int], out: np.ndarray) -> None:
        made, expected = self.shape(shape), out.shape[1:]
        if made == expected:
            return
        remedy = "use force_color or force_gray" if made[0] != expected[0] else "give a crop_size"
        raise NetError(
            "the records of one batch must have one shape (channels x height x width), found "
            f"{times(expected)} and {times(made)}: resize them all, {remedy}, or take batch_size: 1"
        )

    def _mean_at(self, window: Window) -> np.ndarray | None:
        if self.mean is None or self.mean.shape[1:] == (1, 1):
            return self.mean
        return self.mean[window]

    def _windows(self, items: Items, rng: np.random.Generator | None) -> list[Window]:
        """Choose a window of each record, in the centre without `rng`; a mirrored one runs backwards."""
        n = len(items)
        sizes = np.array([item.shape[-2:] for item in items])
        mirrored = rng.integers(0, 2, n).tolist() if self.mirror and rng is not None else [0] * n
        size = np.full_like(sizes, self.crop_size) if self.crop_size else sizes
        room = sizes - size
        starts = room // 2 if self.centred or rng is None else rng.integers(0, room + 1)
        windows: list[Window] = []
        for (top, left), (height, width), flip in zip(starts.tolist(), size.tolist(), mirrored, strict=True):
            right = left + width
            columns = slice(right - 1, left - 1 if left else None, -1) if flip else slice(left, right)
            windows.append((..., slice(top, top + height), columns))
        return windows

    def _error(self, message: str, field: str) -> NetError:
        return NetError(message, self.param.where_of(field))


def _read_mean(path: str) -> np.ndarray:
    """Read a mean file: a BlobProto of one item, (channels, height, width)."""
    mean = blob_array(binary.read(path, "BlobProto"), path)
    shape = mean.shape
    if mean.ndim == 4 and shape[0] == 1:
        mean = mean[0]
    if mean.ndim != 3 or not mean.size:
        raise FormatError(
            f"{path}: a mean file holds one blob, 1 x channels x height x width, found "
            f"{' x '.join(map(str, shape)) or 'one value'}"
        )
    return np.array(mean, np.float32)
