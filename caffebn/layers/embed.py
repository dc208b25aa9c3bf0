"""Embed: rows of a learned table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer

__all__ = ["Embed"]


@layer("Embed", "embed_param")
class Embed(Layer):
    """Look up rows of a learned table: ``y[i] = W[x[i]] + b``.

    bottom 0 (any shape), whole numbers from 0 to input_dim - 1 (a fraction is cut) -> top 0 (that shape,
    num_output).  Both phases alike.

    Blobs: 0: weights W (input_dim, num_output), filled by `weight_filler`; 1: bias b (num_output) unless
    `bias_term` is false, filled by `bias_filler`.  Both start at 0 when no filler is given.

    Backward: ``dW[x[i]] += dy[i]``, one after the other, ``db +=`` the sum of dy.  The bottom has no
    gradient.

    Raises
    ------
    NetError
        `num_output` or `input_dim` missing or 0; in the backward pass, when the bottom asks for a gradient.
    ArgumentError
        A number that is no row of the table.

    Notes
    -----
    Source: Caffe embed_layer.
    """

    repeatable = True

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def allow_force_backward(self, bottom: int) -> bool:
        return False

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param
        for field in ("num_output", "input_dim"):
            if getattr(p, field) == 0:
                raise self.error(f"{field} must be given and positive", field)
        self.add_blob((p.input_dim, p.num_output), self.filler("weight_filler"))
        if p.bias_term:
            self.add_blob((p.num_output,), self.filler("bias_filler"))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        top[0].reshape(*bottom[0].shape, self.param.num_output)
        self.index = self.scratch((bottom[0].count,), np.int32)
        self.rows = bottom[0].count, self.param.num_output

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        y = top[0].data.reshape(self.rows)
        with self.naming_itself():
            self.ops.row_indices(bottom[0].data.reshape(-1), self.param.input_dim, self.index)
        self.ops.gather_rows(self.parameters[0].data, self.index, y)
        if self.param.bias_term:
            y = y[:, :, None]
            self.ops.affine(y, None, self.parameters[1].data, y)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        self.refuse_gradient(propagate_down, 0, "indices")
        dy = top[0].diff.reshape(self.rows)
        if self.param_propagate_down[0]:
            self.ops.scatter_add_rows(dy, self.index, self.parameters[0].diff)
        if self.param.bias_term and self.param_propagate_down[1]:
            self.ops.channel_sum(dy[:, :, None], self.parameters[1].diff, accumulate=True)
