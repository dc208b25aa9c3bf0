"""The dialects: which blobs a fork's batch normalisation stores, in which order, and what its numbers mean.

Orders are written with one letter a blob: M mean, V variance, I one over the deviation, Q second moment, f factor,
s scale, t shift, - unused.  Sources are the layers of the forks named; docs/dialects.md has the list.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from caffebn.dialects.signs import PLAIN
from caffebn.errors import ArgumentError, did_you_mean

__all__ = ["DIALECTS", "NUMBERS", "PLAIN", "Dialect", "dialect", "live_factor", "numbers"]


@dataclass(frozen=True)
class Dialect:
    """One way to write batch normalisation.

    Attributes
    ----------
    id : str
    title : str
        Who writes it.
    type : str
        Type string of the layer.
    orders : tuple of str
        The blobs, by their number; the longest first.
    live : bool
        The statistics are sums, to be divided by the factor.
    axes : int
        Axes of the blobs of one value a channel, as the fork writes them: (C), (1, C) or (1, C, 1, 1).
    number : int
        Number of its parameters in LayerParameter.
    eps : float
        Its default, or the fixed one.
    eps_field : str
        Name of the field; empty when eps is fixed.
    eps_least : float
        Smaller ones are raised to this.
    fraction : float
        Default of the part of the OLD average that is kept (already turned around where the fork weighs the new).
    fraction_field : str
    weighs_new : bool
        The field weighs the new batch.
    statistics : str
        What is used: "phase" (batch in TRAIN, stored in TEST, unless use_global_stats says otherwise), "phase only"
        (use_global_stats is not read), "batch" or "affine" (none).
    lost : tuple of str
        What a conversion to plain layers loses.
    """

    id: str
    title: str
    type: str
    orders: tuple[str, ...]
    live: bool = False
    axes: int = 1
    number: int = 139
    eps: float = 1e-5
    eps_field: str = "eps"
    eps_least: float = 0.0
    fraction: float = 0.999
    fraction_field: str = "moving_average_fraction"
    weighs_new: bool = False
    statistics: str = "phase"
    lost: tuple[str, ...] = ()

    @property
    def inverse(self) -> bool:
        """Whether one over the deviation is stored."""
        return any("I" in order for order in self.orders)

    def order(self, count: int) -> str | None:
        """The order of so many blobs, or None when it has none."""
        return next((order for order in self.orders if len(order) == count), None)


_ENGINE = "the choice of the implementation (engine)"
_BIASED = "training adds the unbiased variance of a batch, m/(m-1) times the biased one"
_AVERAGE = (
    "training goes on from the inverse of an averaged 1/deviation, which is not quite the averaged variance"
)

DIALECTS: dict[str, Dialect] = {
    d.id: d
    for d in (
        Dialect(PLAIN, "BVLC Caffe", "BatchNorm", ("MVf",), live=True),
        Dialect(
            "bvlc-2015", "BVLC Caffe of 22 October to 14 November 2015", "BatchNorm", ("MQf",), live=True
        ),
        Dialect(
            "intel",
            "Intel Caffe (MKL2017, MKLDNN)",
            "BatchNorm",
            ("MVfst", "MVfs", "MVf"),
            live=True,
            lost=("stats_batch_size",),
        ),
        Dialect(
            "happynear-ms",
            "happynear/caffe-windows, branch ms",
            "BatchNorm",
            ("MVf",),
            live=True,
            fraction=0.99,
        ),
        Dialect("synopsys", "synopsys-caffe", "BatchNorm", ("MVf",), live=True),
        Dialect(
            "nvcaffe-0.14",
            "NVCaffe 0.14 with cuDNN 5",
            "BatchNorm",
            ("st-MV",),
            axes=4,
            eps=1e-4,
            eps_field="",
            statistics="phase only",
            lost=(_ENGINE,),
        ),
        Dialect(
            "nvcaffe-0.14-inv",
            "NVCaffe 0.14 with cuDNN 4",
            "BatchNorm",
            ("st-MI",),
            axes=4,
            eps=1e-4,
            eps_field="",
            statistics="phase only",
            lost=(_ENGINE, _AVERAGE),
        ),
        Dialect(
            "nvcaffe-0.15",
            "NVCaffe 0.15",
            "BatchNorm",
            ("stMV-",),
            lost=(_ENGINE, "the clipping of variances", _BIASED),
        ),
        Dialect(
            "nvcaffe-0.16",
            "NVCaffe 0.16 and 0.17",
            "BatchNorm",
            ("MV-st", "MV-"),
            eps_least=1e-5,
            statistics="phase only",
            lost=(_ENGINE,),
        ),
        Dialect(
            "segnet-learn",
            "SegNet, ENet, BVLC pull request 1965 (statistics of the batch)",
            "BN",
            ("st",),
            axes=4,
            number=45,
            eps=1e-9,
            eps_field="",
            fraction_field="",
            statistics="batch",
        ),
        Dialect(
            "segnet-inference",
            "SegNet, ENet with bn_mode: INFERENCE",
            "BN",
            ("st",),
            axes=4,
            number=45,
            eps=1e-9,
            eps_field="",
            fraction_field="",
            statistics="affine",
        ),
        Dialect(
            "ducha-aiki",
            "ducha-aiki/caffe, branch elu",
            "BN",
            ("stMV",),
            axes=4,
            number=202,
            eps=1e-10,
            eps_field="var_eps",
            fraction=0.05,
            fraction_field="decay",
            weighs_new=True,
            lost=(_BIASED,),
        ),
        Dialect(
            "happynear",
            "happynear/caffe-windows, ChenglongChen, lim0606",
            "BN",
            ("stMV", "st"),
            axes=4,
            number=139,
            eps=1e-10,
            eps_field="var_eps",
            fraction=0.95,
            fraction_field="decay",
            lost=(_BIASED,),
        ),
        Dialect(
            "yjxiong-a",
            "yjxiong/caffe until December 2015",
            "BN",
            ("stMV", "st"),
            axes=2,
            number=137,
            eps=1e-7,
            fraction=0.9,
            fraction_field="momentum",
            lost=(_BIASED,),
        ),
        Dialect(
            "yjxiong-b",
            "yjxiong/caffe, December 2015 to April 2016 (1/deviation)",
            "BN",
            ("stMI",),
            axes=2,
            number=137,
            fraction=0.9,
            fraction_field="momentum",
            lost=(_ENGINE, _BIASED, _AVERAGE),
        ),
        Dialect(
            "yjxiong-c",
            "yjxiong/caffe from April 2016 on, TSN, P3D",
            "BN",
            ("stMV",),
            axes=2,
            number=137,
            fraction=0.9,
            fraction_field="momentum",
            lost=(_ENGINE, _BIASED),
        ),
        Dialect(
            "pspnet",
            "PSPNet, ICNet",
            "BN",
            ("stMV",),
            axes=4,
            number=152,
            fraction=0.9,
            fraction_field="momentum",
            lost=(_ENGINE, _BIASED),
        ),
        # orders that OpenCV's users have sent in; nothing is known of who writes them
        Dialect("mvfs", "unknown: mean, variance, factor, scale", "BatchNorm", ("MVfs",), live=True),
        Dialect("mvft", "unknown: mean, variance, factor, shift", "BatchNorm", ("MVft",), live=True),
        Dialect("mvst", "unknown: mean, variance, scale, shift", "BatchNorm", ("MVst",)),
        Dialect("mv", "unknown, perhaps BVLC before October 2015: mean, variance", "BatchNorm", ("MV",)),
    )
}
"""All dialects by id."""


def live_factor(fraction: float) -> np.float32:
    """The factor with which BatchNorm goes on as an average that keeps `fraction`: 1 / (1 - fraction).

    The next batch then weighs 1 - fraction from the start; 1 where there is no such factor.
    """
    short = float(np.format_float_positional(np.float32(fraction)))  # 0.999 and not 0.99900001
    return np.float32(1 / (1 - short)) if 0 < short < 1 else np.float32(1)


def dialect(id: str) -> Dialect:
    """Find a dialect.

    Raises
    ------
    ArgumentError
        There is none of that name.
    """
    if id not in DIALECTS:
        raise ArgumentError(
            f'there is no dialect "{id}"{did_you_mean(id, DIALECTS)} (known: {", ".join(DIALECTS)})'
        )
    return DIALECTS[id]


_Numbers = dict[str, tuple[int, type]]
_YJXIONG: _Numbers = {"momentum": (3, float), "eps": (4, float), "frozen": (5, bool), "engine": (6, int)}
_DUCHA: _Numbers = {"var_eps": (3, float), "moving_average": (4, bool), "decay": (5, float)}
_PLAIN: _Numbers = {"use_global_stats": (1, bool), "moving_average_fraction": (2, float), "eps": (3, float)}
_SEGNET: _Numbers = {"bn_mode": (3, int)}

NUMBERS: dict[str, _Numbers] = {
    "segnet-learn": _SEGNET,
    "segnet-inference": _SEGNET,
    "ducha-aiki": _DUCHA,
    "happynear": _DUCHA,
    "yjxiong-a": {
        "moving_average": (3, bool),
        "momentum": (4, float),
        "eps": (5, float),
        "frozen": (6, bool),
    },
    "yjxiong-b": _YJXIONG,
    "yjxiong-c": _YJXIONG,
    "pspnet": _YJXIONG,
    "nvcaffe-0.16": _PLAIN | {"scale_bias": (7, bool), "engine": (15, int)},
    "intel": _PLAIN
    | {
        "engine": (4, int),
        "use_weight_bias": (5, bool),
        "bias_term": (6, bool),
        "stats_batch_size": (9, int),
        "relu": (10, bool),
    },
    "happynear-ms": _PLAIN | {"disable_mean": (4, bool), "disable_variance": (5, bool)},
    "synopsys": _PLAIN | {"add_eps_before_sqrt": (4, bool), "update_global_stats": (6, bool)},
}
"""Numbers and kinds of the fields of each dialect's own message; of those not listed, `PLAIN`'s."""


def numbers(id: str) -> _Numbers:
    """Numbers and kinds of the fields of a dialect's parameters."""
    return NUMBERS.get(id, _PLAIN)
