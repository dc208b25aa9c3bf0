"""What is done to pictures before they reach a net, so that an exported model can do it itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caffebn.errors import ArgumentError

__all__ = ["Preprocess"]


@dataclass
class Preprocess:
    """The steps from pictures to one input of a net, in Caffe's order.

    To channels first, other order of channels, times `raw_scale`, minus `mean`, times `input_scale`: the steps of
    `caffebn.io.Transformer` without the change of size.

    Parameters
    ----------
    input : str, optional
        Name of the net's input; the only one when not given.
    layout : {"nchw", "nhwc"}
        How the pictures lie in memory.
    dtype : {"float32", "uint8"}
        What they are made of.
    channel_swap : sequence of int, optional
        Which channel of the picture each channel of the net is: ``(2, 1, 0)`` for RGB pictures and a BGR net.
    raw_scale : float
    mean : array, optional
        One value, one for each channel, or (C, H, W), in the net's order of channels.
    input_scale : float
    """

    input: str | None = None
    layout: str = "nchw"
    dtype: str = "float32"
    channel_swap: Sequence[int] | None = None
    raw_scale: float = 1.0
    mean: np.ndarray | Sequence[float] | None = None
    input_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.layout not in ("nchw", "nhwc"):
            raise ArgumentError(f"layout: expected nchw or nhwc, found {self.layout!r}")
        if self.dtype not in ("float32", "uint8"):
            raise ArgumentError(f"dtype: expected float32 or uint8, found {self.dtype!r}")

    def check(self, inputs: Sequence[str], shape: Sequence[int]) -> None:
        """Refuse what does not fit the input and its shape (N, C, H, W).

        Raises
        ------
        ArgumentError
        """
        if self.input not in inputs:
            raise ArgumentError(
                f"preprocessing: say which input takes pictures, one of {', '.join(inputs)}; found {self.input}"
            )
        if len(shape) != 4:
            raise ArgumentError(
                f'preprocessing: the input "{self.input}" must have 4 axes (N, C, H, W), found {len(shape)}'
            )
        channels = shape[1]
        if self.channel_swap is not None and sorted(self.channel_swap) != list(range(channels)):
            raise ArgumentError(
                f"channel_swap: expected the numbers 0 to {channels - 1} in some order, "
                f"found {','.join(map(str, self.channel_swap))}"
            )
        mean = self.mean_array()
        if mean is not None and mean.shape not in ((1, 1, 1), (channels, 1, 1), tuple(shape[1:])):
            raise ArgumentError(
                f"mean: expected one value, {channels} (one for each channel) or an array of "
                f"{' x '.join(map(str, shape[1:]))}, found {' x '.join(map(str, mean.shape))}"
            )

    def mean_array(self) -> np.ndarray | None:
        """The mean with three axes, ready to be subtracted from (N, C, H, W)."""
        if self.mean is None:
            return None
        mean = np.asarray(self.mean, np.float32)
        return mean if mean.ndim == 3 else mean.reshape(-1, 1, 1)

    def shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The pictures' shape for an input of the shape (N, C, H, W)."""
        n, c, h, w = shape
        return (n, h, w, c) if self.layout == "nhwc" else (n, c, h, w)

    def apply(self, pictures: np.ndarray) -> np.ndarray:
        """Do the steps with NumPy.

        Parameters
        ----------
        pictures : ndarray, (N, H, W, C) or (N, C, H, W) as `layout` says

        Returns
        -------
        ndarray of float32, (N, C, H, W)
        """
        x = pictures.astype(np.float32)
        if self.layout == "nhwc":
            x = x.transpose(0, 3, 1, 2)
        if self.channel_swap is not None:
            x = x[:, list(self.channel_swap)]
        if self.raw_scale != 1:
            x = x * np.float32(self.raw_scale)
        mean = self.mean_array()
        if mean is not None:
            x = x - mean
        if self.input_scale != 1:
            x = x * np.float32(self.input_scale)
        return np.ascontiguousarray(x)
