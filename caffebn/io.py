"""Pictures and messages to arrays and back, with the interface of pycaffe's ``caffe.io``.

A picture is an array (height, width, channels), float32, 0 to 1, RGB.  A net
wants (channels, height, width), mostly BGR, 0 to 255, minus a mean:
`Transformer` goes from the one to the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np

from caffebn.errors import ArgumentError, FileError, FormatError, did_you_mean, missing_package
from caffebn.proto import Message, as_message, binary, blob_array, make_blob

__all__ = [
    "Transformer",
    "array_to_blobproto",
    "array_to_datum",
    "arraylist_to_blobprotovector_str",
    "blobproto_to_array",
    "blobprotovector_str_to_arraylist",
    "datum_to_array",
    "load_image",
    "oversample",
    "resize_image",
]

# Luminance of linear RGB with the primaries of Rec. 709, the weights that scikit-image uses.
_LUMINANCE = np.array([0.2125, 0.7154, 0.0721], dtype=np.float32)


def load_image(filename: str | os.PathLike[str] | BinaryIO, color: bool = True) -> np.ndarray:
    """Read a picture file.

    An alpha channel is dropped, a palette is looked up, and of several frames the
    first is read.  A rotation noted in the file (EXIF) is not applied; pycaffe does
    not apply it either.

    Parameters
    ----------
    filename : path or binary file object
        Any format that Pillow reads.
    color : bool, default True
        True: RGB, a grey picture gets three equal channels.  False: one channel of
        luminance, ``0.2125 R + 0.7154 G + 0.0721 B``.

    Returns
    -------
    ndarray of float32, (height, width, 3) or (height, width, 1)
        Values from 0 to 1; 16-bit grey pictures are divided by 65535.

    Raises
    ------
    FileError
        When the file does not exist or cannot be read.
    FormatError
        When it is not a picture, is damaged, or has pixels of an unknown kind.
    MissingPackageError
        Without Pillow.
    """
    try:
        from PIL import Image
    except ImportError as e:
        raise missing_package("Pillow", "data", "Reading a picture") from e
    name = filename if isinstance(filename, (str, os.PathLike)) else getattr(filename, "name", "<picture>")
    try:
        with Image.open(filename) as picture:
            pixels = _pixels(picture, name)
    except FormatError:
        raise
    # Pillow tells a damaged file by SyntaxError, ValueError, EOFError or an OSError without a number
    except OSError as e:
        if e.errno is None:
            raise FormatError(f"{name}: not a picture that Pillow can read: {e}") from e
        raise FileError(f"{name}: cannot read the picture: {e.strerror}") from e
    except (SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as e:
        raise FormatError(f"{name}: not a picture that Pillow can read: {e}") from e
    if color and pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    if not color and pixels.shape[2] == 3:
        return (pixels @ _LUMINANCE)[:, :, np.newaxis]
    return pixels


def _pixels(picture: Any, name: object) -> np.ndarray:
    """Give the pixels of a Pillow image as float32, (height, width, 1 or 3)."""
    mode = picture.mode
    # older versions of Pillow call the 16 bits of a PNG "I"
    if mode.startswith("I;16") or (mode == "I" and picture.format == "PNG"):
        return (np.asarray(picture) / 65535).astype(np.float32)[:, :, np.newaxis]
    if mode == "F":
        return np.array(picture, dtype=np.float32)[:, :, np.newaxis]
    if mode == "I":
        raise FormatError(
            f"{name}: expected pixels of 8 or 16 bits, found 32-bit integers; "
            "scale them yourself and hand over an array"
        )
    if mode in ("1", "L", "LA", "La"):
        return (np.asarray(picture.convert("L")) / 255).astype(np.float32)[:, :, np.newaxis]
    return (np.asarray(picture.convert("RGB")) / 255).astype(np.float32)


def resize_image(im: np.ndarray, new_dims: Sequence[int], interp_order: int = 1) -> np.ndarray:
    """Resize a picture by spline interpolation.

    For one or three channels this does what pycaffe gets from scikit-image (0.19 or
    later): pixels are little squares, whose centres are mapped; a picture that becomes
    smaller is first smoothed by a Gaussian with ``sigma = (factor - 1) / 2`` in each
    direction; what lies beyond the border counts as the smallest value of the picture;
    the result stays within the range of the input.

    For other numbers of channels pycaffe uses another routine, and so does this:
    the centres of the outermost pixels stay where they are, and nothing is smoothed.

    Parameters
    ----------
    im : array (height, width, channels)
        Any range of values.
    new_dims : (height, width)
    interp_order : int from 0 to 5, default 1
        0 takes the nearest pixel, 1 is bilinear, 3 cubic.

    Returns
    -------
    ndarray of float32, (new_dims[0], new_dims[1], channels)

    Raises
    ------
    ArgumentError
        When `im` has not three axes or is empty, or `new_dims` are not two sizes.
    """
    im = _picture(im, "resize_image")
    dims = _two_sizes(new_dims, "resize_image", "new_dims")
    if interp_order not in range(6):
        raise ArgumentError(
            f"resize_image: interp_order must be a whole number from 0 to 5, found {interp_order!r}"
        )
    # scipy takes long to import and is needed only here
    from scipy import ndimage

    zoom = (dims[0] / im.shape[0], dims[1] / im.shape[1], 1)
    if im.shape[2] not in (1, 3):
        return ndimage.zoom(im, zoom, order=interp_order)
    low, high = im.min(), im.max()
    if not low < high:
        return np.full((*dims, im.shape[2]), low, dtype=np.float32)
    unit = (im - low) / (high - low)
    sigma = [max(0.0, (1 / z - 1) / 2) for z in zoom]
    unit = ndimage.gaussian_filter(unit, sigma, mode="constant")
    unit = ndimage.zoom(unit, zoom, order=interp_order, mode="grid-constant", grid_mode=True)
    return np.clip(unit, 0, 1) * (high - low) + low


def oversample(images: Iterable[np.ndarray], crop_dims: Sequence[int]) -> np.ndarray:
    """Cut ten pieces out of each picture: corners, centre, and these five mirrored.

    Parameters
    ----------
    images : iterable of arrays (height, width, channels)
        All of one shape.
    crop_dims : (height, width)
        The size of a piece.

    Returns
    -------
    ndarray of float32, (10 * pictures, crop height, crop width, channels)
        For each picture: top left, top right, bottom left, bottom right, centre
        (rounded towards the top left), then the same five mirrored left to right.

    Raises
    ------
    ArgumentError
        When there is no picture, the shapes differ, or a piece does not fit.
    """
    pictures = [_picture(im, "oversample") for im in images]
    if not pictures:
        raise ArgumentError("oversample: expected at least one picture, found none")
    shape = pictures[0].shape
    for i, im in enumerate(pictures):
        if im.shape != shape:
            raise ArgumentError(
                f"oversample: all pictures must have one shape; the first has {shape}, "
                f"number {i} has {im.shape}; resize them first"
            )
    height, width = _two_sizes(crop_dims, "oversample", "crop_dims")
    if height > shape[0] or width > shape[1]:
        raise ArgumentError(
            f"oversample: pieces of {height} x {width} do not fit into pictures of {shape[0]} x {shape[1]}"
        )
    bottom, right = shape[0] - height, shape[1] - width
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    crops = np.empty((len(pictures), 2, 5, height, width, shape[2]), dtype=np.float32)
    for i, im in enumerate(pictures):
        for j, (y, x) in enumerate(corners):
            crops[i, 0, j] = im[y : y + height, x : x + width]
    crops[:, 1] = crops[:, 0, :, :, ::-1]
    return crops.reshape(-1, height, width, shape[2])


def _picture(im: Any, caller: str) -> np.ndarray:
    im = np.asarray(im, dtype=np.float32)
    if im.ndim != 3 or im.size == 0:
        raise ArgumentError(
            f"{caller}: a picture is an array (height, width, channels) with no axis of size 0, "
            f"found shape {im.shape}"
        )
    return im


def _two_sizes(dims: Sequence[int], caller: str, argument: str) -> tuple[int, int]:
    sizes = np.asarray(dims)
    if sizes.shape != (2,) or not np.issubdtype(sizes.dtype, np.integer) or sizes.min() < 1:
        raise ArgumentError(
            f"{caller}: {argument} must be two whole numbers (height, width) of 1 or more, found {dims!r}"
        )
    return int(sizes[0]), int(sizes[1])


class Transformer:
    """Bring pictures into the form that a net's inputs want, and back.

    Each step is made only when it has been set, in this order: resize to the input's
    height and width (always), transpose, swap channels, multiply by `raw_scale`,
    subtract `mean`, multiply by `input_scale`.

    Parameters
    ----------
    inputs : mapping from name to shape
        The shapes of the net's input blobs, batch axis included, for example
        ``{"data": net.blobs["data"].data.shape}``.

    Examples
    --------
    >>> t = Transformer({"data": (1, 3, 224, 224)})
    >>> t.set_transpose("data", (2, 0, 1))         # (H, W, C) to (C, H, W)
    >>> t.set_channel_swap("data", (2, 1, 0))      # RGB to BGR
    >>> t.set_raw_scale("data", 255)               # 0..1 to 0..255
    >>> t.set_mean("data", np.array([104, 117, 123]))
    >>> t.preprocess("data", np.zeros((256, 256, 3))).shape
    (3, 224, 224)
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]):
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self.transpose: dict[str, tuple[int, ...]] = {}
        self.channel_swap: dict[str, tuple[int, ...]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, np.ndarray] = {}
        self.input_scale: dict[str, float] = {}

    def preprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """Bring one picture into the form of the input `in_`; `data` is not changed.

        Parameters
        ----------
        in_ : str
            Name of the input.
        data : array (height, width, channels)

        Returns
        -------
        ndarray of float32, with the shape of the input without its batch axis

        Raises
        ------
        ArgumentError
            When the input is unknown or has not four axes, or when the transposed
            picture does not have the input's shape.
        """
        shape = self._shape(in_)[1:]
        if len(shape) != 3:
            raise ArgumentError(
                f'Transformer: input "{in_}" has shape {self.inputs[in_]}; only inputs of four '
                "axes (batch, channels, height, width) take pictures"
            )
        x = _picture(data, f'Transformer: input "{in_}"')
        x = resize_image(x, shape[1:]) if x.shape[:2] != shape[1:] else x.copy()
        if in_ in self.transpose:
            x = x.transpose(self.transpose[in_])
        if x.shape != shape:
            raise ArgumentError(
                f'Transformer: input "{in_}" wants {shape}, but the resized and transposed data has '
                f"shape {x.shape}; set_transpose({in_!r}, (2, 0, 1)) makes (channels, height, width) "
                "of a picture, and load_image(..., color=False) gives one channel"
            )
        if in_ in self.channel_swap:
            x = x[list(self.channel_swap[in_])]
        if in_ in self.raw_scale:
            x *= np.float32(self.raw_scale[in_])
        if in_ in self.mean:
            x -= self.mean[in_]
        if in_ in self.input_scale:
            x *= np.float32(self.input_scale[in_])
        return x

    def deprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """Undo `preprocess`, except for the resizing; `data` is not changed.

        Parameters
        ----------
        in_ : str
            Name of the input.
        data : array
            What `preprocess` returned, or a batch of one such item.

        Returns
        -------
        ndarray of float32, (height, width, channels)

        Raises
        ------
        ArgumentError
            When the input is unknown or `data` does not have its shape.
        """
        shape = self._shape(in_)[1:]
        x = np.array(data, dtype=np.float32)
        if x.shape == (1, *shape):
            x = x[0]
        if x.shape != shape:
            raise ArgumentError(f'Transformer: input "{in_}" holds items of shape {shape}, found {x.shape}')
        if in_ in self.input_scale:
            x /= np.float32(self.input_scale[in_])
        if in_ in self.mean:
            x += self.mean[in_]
        if in_ in self.raw_scale:
            x /= np.float32(self.raw_scale[in_])
        if in_ in self.channel_swap:
            x = x[np.argsort(self.channel_swap[in_])]
        if in_ in self.transpose:
            x = x.transpose(np.argsort(self.transpose[in_]))
        return x

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of axes: ``(2, 0, 1)`` makes (channels, height, width) of a picture."""
        self.transpose[in_] = _permutation(order, len(self._shape(in_)) - 1, in_, "set_transpose", "axes")

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of channels, counted after the transpose: ``(2, 1, 0)`` makes BGR of RGB."""
        self.channel_swap[in_] = _permutation(order, self._shape(in_)[1], in_, "set_channel_swap", "channels")

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """Set the factor applied before the mean is subtracted: 255 for nets trained on 0..255."""
        self._shape(in_)
        self.raw_scale[in_] = _factor(scale, in_, "set_raw_scale")

    def set_input_scale(self, in_: str, scale: float) -> None:
        """Set the factor applied after the mean is subtracted."""
        self._shape(in_)
        self.input_scale[in_] = _factor(scale, in_, "set_input_scale")

    def set_mean(self, in_: str, mean: np.ndarray) -> None:
        """Set the mean to subtract, in the range and order of channels that the net sees.

        Parameters
        ----------
        in_ : str
            Name of the input.
        mean : array (channels) or (channels, height, width), or (height, width) for one channel
            A mean picture of another height and width is resized, as pycaffe does.
            (Caffe's own data layers take the mean at the position of the crop instead.)

        Raises
        ------
        ArgumentError
            When `mean` has other channels or other axes than these.
        """
        shape = self._shape(in_)[1:]
        mean = np.asarray(mean, dtype=np.float32)
        found = mean.shape
        if mean.ndim == 1:
            mean = mean[:, np.newaxis, np.newaxis]
        elif mean.ndim == 2:
            mean = mean[np.newaxis]
        if mean.ndim != 3 or mean.size == 0 or mean.shape[0] != shape[0]:
            raise ArgumentError(
                f'Transformer: the mean of input "{in_}" must have shape ({shape[0]},) or '
                f"{shape}, found {found}" + ("; take mean[0]" if len(found) == 4 and found[0] == 1 else "")
            )
        if mean.shape[1:] not in ((1, 1), shape[1:]):
            mean = resize_image(mean.transpose(1, 2, 0), shape[1:]).transpose(2, 0, 1)
        self.mean[in_] = mean

    def _shape(self, in_: str) -> tuple[int, ...]:
        if in_ not in self.inputs:
            raise ArgumentError(
                f'Transformer: "{in_}" is not one of the inputs: {", ".join(self.inputs)}'
                + did_you_mean(in_, self.inputs)
            )
        return self.inputs[in_]


def _permutation(order: Sequence[int], n: int, in_: str, caller: str, what: str) -> tuple[int, ...]:
    if sorted(order) != list(range(n)):
        raise ArgumentError(
            f'Transformer.{caller}: input "{in_}" has {n} {what}; the order must name each of '
            f"0 to {n - 1} once, found {tuple(order)}"
        )
    return tuple(int(i) for i in order)


def _factor(scale: Any, in_: str, caller: str) -> float:
    if not isinstance(scale, int | float | np.integer | np.floating) or not np.isfinite(scale) or scale == 0:
        raise ArgumentError(
            f'Transformer.{caller}: the scale of input "{in_}" must be a number other than 0, found {scale!r}'
        )
    return float(scale)


# messages


def blobproto_to_array(blob: Any, return_diff: bool = False) -> np.ndarray:
    """Give the values of a BlobProto, such as a mean file, as an array.

    Parameters
    ----------
    blob : Message or protobuf message of type BlobProto
    return_diff : bool, default False
        Give the gradient part instead of the values.

    Returns
    -------
    ndarray
        Of the blob's shape; four axes when the old numbers (num, channels, height,
        width) are written.  It may be a read-only view on the message's memory.

    Raises
    ------
    FormatError
        When the number of values does not fit the shape.

    Examples
    --------
    >>> from caffebn.proto import binary
    >>> mean = blobproto_to_array(binary.read("mean.binaryproto", "BlobProto"))    # doctest: +SKIP
    """
    blob = as_message(blob, "BlobProto", "blobproto_to_array")
    return blob_array(_diff_as_data(blob) if return_diff else blob)


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> Message:
    """Make a BlobProto, in single precision, of an array and, if given, of its gradient (same shape)."""
    blob = make_blob(np.array(arr, dtype=np.float32))
    if diff is not None:
        diff = np.array(diff, dtype=np.float32)
        if diff.shape != tuple(blob.shape.dim):
            raise ArgumentError(
                f"array_to_blobproto: diff must have the shape of arr, {tuple(blob.shape.dim)}, "
                f"found {diff.shape}"
            )
        blob.diff = diff.ravel()
    return blob


def arraylist_to_blobprotovector_str(arraylist: Iterable[np.ndarray]) -> bytes:
    """Write arrays as the bytes of one BlobProtoVector."""
    vector = Message("BlobProtoVector")
    vector.blobs.extend(array_to_blobproto(arr) for arr in arraylist)
    return binary.dump(vector)


def blobprotovector_str_to_arraylist(data: bytes) -> list[np.ndarray]:
    """Read the arrays of a BlobProtoVector from its bytes."""
    return [blob_array(blob) for blob in binary.parse(data, "BlobProtoVector").blobs]


def array_to_datum(arr: np.ndarray, label: int | None = None) -> Message:
    """Make a Datum, the record of Caffe's databases, of one item.

    Parameters
    ----------
    arr : array (channels, height, width)
        uint8 is stored as bytes, everything else as float32.
    label : int, optional

    Raises
    ------
    ArgumentError
        When `arr` has not three axes.
    """
    arr = np.asarray(arr)
    if arr.ndim != 3:
        raise ArgumentError(
            f"array_to_datum: expected an array (channels, height, width), found shape {arr.shape}"
        )
    datum = Message("Datum", channels=arr.shape[0], height=arr.shape[1], width=arr.shape[2])
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data = arr.astype(np.float32).ravel()
    if label is not None:
        datum.label = int(label)
    return datum


def datum_to_array(datum: Any) -> np.ndarray:
    """Give the values of a Datum as an array (channels, height, width).

    Parameters
    ----------
    datum : Message or protobuf message of type Datum
        Its label is ``datum.label``.

    Returns
    -------
    ndarray of uint8 when the record holds bytes, else of float32

    Raises
    ------
    FormatError
        When the record holds a compressed picture (``encoded``), or another number of
        values than its sizes say.
    """
    datum = as_message(datum, "Datum", "datum_to_array")
    if datum.encoded:
        raise FormatError(
            "datum_to_array: the Datum holds a compressed picture; read it with "
            "load_image(io.BytesIO(datum.data))"
        )
    values = np.frombuffer(datum.data, np.uint8) if datum.data else np.asarray(datum.float_data, np.float32)
    shape = (datum.channels, datum.height, datum.width)
    if min(shape) < 0 or values.size != np.prod(shape, dtype=object):
        raise FormatError(
            f"datum_to_array: a Datum of channels, height, width {shape} holds {values.size} values"
        )
    return values.reshape(shape)


def _diff_as_data(blob: Message) -> Message:
    twin = blob.copy()
    twin.data, twin.double_data = blob.diff, blob.double_diff
    return twin


def __getattr__(name: str) -> Any:
    # scripts say caffe.io.caffe_pb2 as often as caffe.proto.caffe_pb2
    if name == "caffe_pb2":
        return import_module("caffebn.proto.caffe_pb2")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
