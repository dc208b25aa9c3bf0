"""BatchNorm: zero mean and unit variance for each channel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer, ncs

__all__ = ["BatchNorm"]


@layer("BatchNorm", "batch_norm_param")
class BatchNorm(Layer):
    """Normalise each channel to zero mean and unit variance.

    bottom 0 (N, C, ...), at least 2 axes -> top 0 (same shape), in place or not.  There is no learned
    scale or shift: those are a Scale layer's.

    Blobs, all 0 at first, all with learning rate 0 and without gradient:

    ====  =====  ===============================================
    0     (C)    ``S_m``, the weighted sum of the means
    1     (C)    ``S_v``, the weighted sum of the variances
    2     (1)    ``f``, the sum of the weights
    ====  =====  ===============================================

    Stored statistics are ``mean = S_m / f`` and ``var = S_v / f``, and 0 when ``f`` is 0: a net that was
    never trained then puts out ``x / sqrt(eps)``.

    Batch statistics are used in TRAIN, stored ones in TEST, unless `use_global_stats` is given: true
    means stored ones and false batch ones, in both phases.

    Forward: ``y = (x - mean) / sqrt(var + eps)`` (`eps` 1e-5), with batch statistics taken over the
    ``m = N * S`` values of each channel; the variance divides by m.  Batch statistics are also
    accumulated, once for each forward pass and in TEST as well, with ``b = moving_average_fraction``
    (0.999)::

        f   <- b f   + 1
        S_m <- b S_m + mean
        S_v <- b S_v + k var,      k = m / (m - 1), or 1 when m is 1

    Backward, with ``s = sqrt(var + eps)``: batch statistics
    ``dx = (dy - mean(dy) - y * mean(dy * y)) / s``, because mean and s depend on every x of the channel:
    the two means are what the shift and the scale of the whole channel take away.  Stored statistics:
    ``dx = dy / s``.

    Raises
    ------
    NetError
        Fewer than 2 axes, another number of channels than at first, a `param` entry with a learning rate.

    Notes
    -----
    Statistics are computed and kept between passes in double precision, in two passes over the data.
    Sources: Caffe batch_norm_layer; Ioffe and Szegedy 2015; BVLC/caffe#4885 (the factor),
    BVLC/caffe#5120 (learning rates).
    """

    in_place = True
    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        return () if self.use_global_stats else ("top",)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) < 2:
            raise self.error(
                f"needs at least 2 axes, of which axis 1 is the channel, found {self.shown(bottom, 0)}",
                "bottom",
            )
        given = self.param.has("use_global_stats")
        self.use_global_stats = self.param.use_global_stats if given else self.phase == "TEST"
        self.channels = shape[1]
        for size in (self.channels, self.channels, 1):
            self.add_blob((size,))
        self._fix_rates()
        self.mean, self.var, self.inv_std = (self.scratch((self.channels,), np.float64) for _ in range(3))

    def _fix_rates(self) -> None:
        """The blobs are statistics: no solver may move them."""
        entries = self.spec.param
        for i, entry in enumerate(entries[: len(self.blobs)]):
            if entry.lr_mult != 0:
                raise self.error(
                    f"the statistics are not learned: param {i} must say lr_mult: 0, found {entry.lr_mult:g} "
                    "(1 is the default): write param { lr_mult: 0 } three times, or no param at all",
                    "param",
                    i,
                )
        while len(entries) < len(self.blobs):
            self.spec.add("param", lr_mult=0.0)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) < 2 or shape[1] != self.channels:
            raise self.error(
                f"has statistics of {self.channels} channels (axis 1), found {self.shown(bottom, 0)}",
                "bottom",
            )
        self.ncs = n, _, s = ncs(shape, 1)
        self.values_per_channel = n * s
        top[0].reshape(*shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if self.values_per_channel == 0:
            return
        x, y = bottom[0].data.reshape(self.ncs), top[0].data.reshape(self.ncs)
        sum_mean, sum_var, factor = (blob.data for blob in self.parameters)
        if self.use_global_stats:
            self.ops.stored_statistics(sum_mean, sum_var, factor, self.mean, self.var)
        else:
            self.ops.moments(x, self.mean, self.var)
            fraction, m = self.param.moving_average_fraction, self.values_per_channel
            self.ops.update_statistics(self.mean, self.var, m, fraction, sum_mean, sum_var, factor)
        self.ops.inv_std(self.var, self.param.eps, self.inv_std)
        self.ops.normalize(x, self.mean, self.inv_std, y)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if self.values_per_channel == 0 or not propagate_down[0]:
            return
        dy, dx = top[0].diff.reshape(self.ncs), bottom[0].diff.reshape(self.ncs)
        if self.use_global_stats:
            self.ops.affine(dy, self.inv_std, None, dx)
        else:
            self.ops.normalize_backward(dy, top[0].data.reshape(self.ncs), self.inv_std, dx)

    def macs(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> int:
        return bottom[0].count
