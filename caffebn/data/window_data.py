"""WindowData: batches of windows cut out of pictures, as R-CNN was trained."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from caffebn.data import picture
from caffebn.data.base import DataLayer, Source, array_like, random_numbers
from caffebn.data.lists import read_text
from caffebn.data.prefetch import Batch
from caffebn.data.transformer import Transformer
from caffebn.errors import CaffebnError, FormatError
from caffebn.layers.base import layer
from caffebn.proto import Message

__all__ = ["WindowData"]


@layer("WindowData", "window_data_param")
class WindowData(DataLayer):
    """Hand out random windows of pictures: background first, then things.

    no bottoms -> top 0 (batch_size, channels, crop_size, crop_size), BGR; top 1: the labels
    (batch_size, 1, 1, 1), 0 for background.  Both phases alike; no gradient.

    A window whose overlap with a thing is at least `fg_threshold` shows that thing; one whose overlap is below
    `bg_threshold` is background; others are not used.  ``int(batch_size * fg_fraction)`` windows of a batch show
    things.  A window is grown by a rim such that `context_pad` pixels of the crop on each side are context;
    with `crop_mode` ``square`` it is made square first.  It is resized to the crop; what lies outside of the
    picture is 0, which is the mean.

    The window file has for each picture, with any white space between::

        # number
        path channels height width windows
        label overlap x1 y1 x2 y2       (for each window; the last pixels belong to it)

    `cache_images` keeps the picture files in memory.  `root_folder` is put in front of paths as it is.

    Raises
    ------
    NetError
        No `source` or `crop_size`, `batch_size` 0, an unknown `crop_mode`, too large a `context_pad`, a mean that
        does not fit.
    FileError, FormatError
        The window file or a picture cannot be read; there are no windows of a kind that is needed; a window
        lies outside of its picture.
    MissingPackageError
        Without Pillow.

    Notes
    -----
    `scale`, `mirror`, `mean_file` (its centre, of the size of the crop, is used) and `mean_value` are those of
    `transform_param`.  Caffe takes the scale from `window_data_param` alone.  The file's picture numbers
    are not used: windows belong to the picture they follow.  Source: Caffe window_data_layer.
    """

    n_tops = 2

    def open(self, tops: int) -> Source:
        p, transform = self.param, self.spec.transform_param
        if not p.source:
            raise self.error("window_data_param must give source, a window file", "source")
        if not transform.crop_size:
            raise self.error(
                "transform_param must give crop_size, the size windows are resized to", "transform_param"
            )
        if p.crop_mode not in ("warp", "square"):
            raise self.error(f'crop_mode: expected "warp" or "square", found "{p.crop_mode}"', "crop_mode")
        if 2 * p.context_pad >= transform.crop_size:
            raise self.error(
                f"context_pad {p.context_pad} on both sides leaves nothing of crop_size {transform.crop_size}",
                "context_pad",
            )
        if not 0 <= p.fg_fraction <= 1:
            raise self.error(f"fg_fraction: expected 0 to 1, found {p.fg_fraction:g}", "fg_fraction")
        return _Windows(p, Transformer(transform, self.phase), self.dtype)


class _Picture(NamedTuple):
    path: str
    channels: int
    line: int


class _Window(NamedTuple):
    picture: int
    label: int
    box: tuple[int, int, int, int]
    line: int


class _Place(NamedTuple):
    """Where a window's pixels come from, and where in the crop they go."""

    rows: slice
    columns: slice
    top: int
    left: int
    height: int
    width: int


class _Windows(Source):
    """Batches of random windows."""

    def __init__(self, param: Message, transformer: Transformer, dtype: np.dtype):
        self._param = param
        self._transformer = transformer
        self._dtype = dtype
        self._crop = transformer.crop_size
        self._pictures: list[_Picture] = []
        things: list[_Window] = []
        background: list[_Window] = []
        for window, overlap in self._read_windows():
            if overlap >= param.fg_threshold:
                if window.label <= 0:
                    raise FormatError(
                        f"{param.source}:{window.line}: a window that shows a thing needs a label above 0, found "
                        f"{window.label}"
                    )
                things.append(window)
            elif overlap < param.bg_threshold:
                background.append(window._replace(label=0))
        self.items = len(things) + len(background)
        n_things = int(np.float32(param.batch_size) * np.float32(param.fg_fraction))
        self._kinds = [(background, param.batch_size - n_things), (things, n_things)]
        for (windows, count), kind in zip(self._kinds, ("background", "things"), strict=True):
            if count and not windows:
                raise FormatError(
                    f"{param.source}: a batch takes {count} windows of {kind}, and there are none; see "
                    "fg_threshold, bg_threshold and fg_fraction"
                )
        self._channels = self._pictures[0].channels
        self._mean = self._central_mean()
        self._files: dict[str, bytes] = {}

    def _central_mean(self) -> np.ndarray | None:
        """Return what to subtract, (channels or 1, crop or 1, crop or 1)."""
        mean, crop = self._transformer.mean, self._crop
        if mean is None:
            return None
        if len(mean) not in (1, self._channels):
            raise FormatError(f"the mean has {len(mean)} channels, the pictures have {self._channels}")
        if mean.shape[1:] == (1, 1):
            return mean
        height, width = mean.shape[1:]
        # Caffe measures along the width for both
        start = (width - crop) // 2
        if start < 0 or start + crop > height:
            raise FormatError(
                f"the mean file is {height} x {width} (height x width), too small for crop_size {crop}"
            )
        return mean[:, start : start + crop, start : start + crop]

    def shapes(self, position: int, seed: int) -> list[tuple[int, ...]]:
        size = self._param.batch_size
        return [(size, self._channels, self._crop, self._crop), (size, 1, 1, 1)]

    def batch(self, position: int, seed: int, old: Batch) -> Batch:
        shapes = self.shapes(position, seed)
        data, labels = made = [array_like(old, i, shape, self._dtype) for i, shape in enumerate(shapes)]
        data[...] = 0
        rng = random_numbers(seed, position)
        i = 0
        for windows, count in self._kinds:
            for _ in range(count):
                window = windows[rng.integers(len(windows))]
                mirror = bool(self._transformer.mirror and rng.integers(2))
                self._cut(window, mirror, data[i])
                labels[i] = window.label
                i += 1
        return made

    def _cut(self, window: _Window, mirror: bool, out: np.ndarray) -> None:
        """Fill one crop."""
        values = self._picture(window)
        place = _place(
            window.box,
            (values.shape[1], values.shape[2]),
            self._crop,
            self._param.context_pad,
            self._param.crop_mode == "square",
            mirror,
        )
        if place is None:
            raise FormatError(
                f"{self._param.source}:{window.line}: the window {window.box} (x1, y1, x2, y2) lies outside of "
                f"its picture, which is {values.shape[1]} x {values.shape[2]} (height x width)"
            )
        if not (place.height and place.width):
            return
        pixels = picture.resize(values[:, place.rows, place.columns], place.height, place.width)
        if mirror:
            pixels = pixels[:, :, ::-1]
        target = (
            slice(None),
            slice(place.top, place.top + place.height),
            slice(place.left, place.left + place.width),
        )
        mean = self._mean
        if mean is not None and mean.shape[1:] != (1, 1):
            mean = mean[target]
        np.subtract(pixels, np.float32(0) if mean is None else mean, out=out[target])
        out[target] *= self._transformer.scale

    def _picture(self, window: _Window) -> np.ndarray:
        entry = self._pictures[window.picture]
        path = self._param.root_folder + entry.path
        color = self._channels != 1
        try:
            if not self._param.cache_images:
                return picture.read(path, color)
            if path not in self._files:
                self._files[path] = picture.read_file(path)
            return picture.decode(self._files[path], color, path)
        except CaffebnError as e:
            raise type(e)(f"{self._param.source}:{entry.line}: {e.message}") from e

    def _read_windows(self) -> Iterator[tuple[_Window, float]]:
        """Read the window file: windows with their overlaps; fills the list of pictures."""
        source = self._param.source
        words = (
            (word, number)
            for number, line in enumerate(read_text(source).splitlines(), 1)
            for word in line.split()
        )
        number = 0

        def word(what: str) -> str:
            nonlocal number
            try:
                found, number = next(words)
            except StopIteration:
                raise FormatError(f"{source}:{number}: the file ends where {what} should be") from None
            return found

        def whole(what: str) -> int:
            found = word(what)
            try:
                return int(found)
            except ValueError:
                raise FormatError(f'{source}:{number}: expected {what}, found "{found}"') from None

        for start, number in words:
            if start != "#":
                raise FormatError(f'{source}:{number}: expected "# number" before a picture, found "{start}"')
            word("the number of the picture")
            path, line = word("the path of the picture"), number
            channels, _, _, count = (
                whole(what) for what in ("its channels", "its height", "its width", "the number of windows")
            )
            if channels not in (1, 3) or (self._pictures and channels != self._pictures[0].channels):
                raise FormatError(
                    f"{source}:{number}: pictures must all have 3 channels, or all 1, found {channels}"
                )
            self._pictures.append(_Picture(path, channels, line))
            for _ in range(count):
                label = whole("the label of a window")
                text = word("the overlap of a window")
                try:
                    overlap = float(text)
                except ValueError:
                    raise FormatError(f'{source}:{number}: expected an overlap, found "{text}"') from None
                x1, y1, x2, y2 = (whole(f"{side} of a window") for side in ("x1", "y1", "x2", "y2"))
                yield _Window(len(self._pictures) - 1, label, (x1, y1, x2, y2), number), overlap
        if not self._pictures:
            raise FormatError(f"{source}: the window file is empty")


def _place(
    box: tuple[int, int, int, int],
    size: tuple[int, int],
    crop: int,
    context_pad: int,
    square: bool,
    mirror: bool,
) -> _Place | None:
    """Say what part of a picture of `size` (height, width) a window takes, and where in the crop it goes.

    None when the window lies outside of the picture.
    """
    x1, y1, x2, y2 = box
    height, width = size
    if not (context_pad or square):
        if not (0 <= x1 <= x2 < width and 0 <= y1 <= y2 < height):
            return None
        return _Place(slice(y1, y2 + 1), slice(x1, x2 + 1), 0, 0, crop, crop)
    grow = crop / (crop - 2 * context_pad)
    half_w, half_h = (x2 - x1 + 1) / 2, (y2 - y1 + 1) / 2
    if square:
        half_w = half_h = max(half_w, half_h)
    columns, before_x, after_x, new_width = _span(x1 + (x2 - x1 + 1) / 2, half_w * grow, width, crop)
    rows, before_y, _, new_height = _span(y1 + (y2 - y1 + 1) / 2, half_h * grow, height, crop)
    if columns.start >= columns.stop or rows.start >= rows.stop:
        return None
    left = after_x if mirror else before_x
    # rounding may have made a pixel too many
    return _Place(
        rows, columns, before_y, left, min(new_height, crop - before_y), min(new_width, crop - left)
    )


def _span(centre: float, half: float, size: int, crop: int) -> tuple[slice, int, int, int]:
    """Clip a grown window to the picture along one axis.

    Returns the part that is in the picture, and in pixels of the crop what is missing before and behind it,
    and its size.
    """
    start, end = _round(centre - half), _round(centre + half)
    scale = crop / (end - start + 1)
    before, behind = max(0, -start), max(0, end - size + 1)
    inside = slice(start + before, end - behind + 1)
    return (
        inside,
        _round(before * scale),
        _round(behind * scale),
        _round((inside.stop - inside.start) * scale),
    )


def _round(value: float) -> int:
    """Round half away from zero, as C does."""
    return math.floor(value + 0.5) if value >= 0 else math.ceil(value - 0.5)
