"""Activations without parameters to learn: one value in, one value out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer

__all__ = ["Neuron", "ReLU", "Sigmoid", "TanH"]


class Neuron(Layer):
    """Base of the activations: the top has the bottom's shape and may be the bottom."""

    in_place = True

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        top[0].reshape(*bottom[0].shape)


@layer("ReLU", "relu_param")
class ReLU(Neuron):
    """Rectified linear unit: ``y = max(x, 0) + negative_slope * min(x, 0)``.

    bottom 0 (any shape) -> top 0 (same shape), in place or not.  Both phases alike.  The field
    ``engine`` chose between Caffe's implementations and has no effect.

    Backward: ``dx = dy`` where ``x > 0``, else ``negative_slope * dy``; at 0 the gradient is
    `negative_slope`.  For ``negative_slope >= 0`` the sign of x is that of y, so y is read; a
    negative slope (which Caffe computes wrongly in place) reads x.

    Sources: Caffe relu_layer; Nair and Hinton 2010; BVLC/caffe#2015 (in-place chains).
    """

    @property
    def reads(self) -> Iterable[str]:
        return ("top",) if self.param.negative_slope >= 0 else ("bottom",)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.ops.relu(bottom[0].data, top[0].data, self.param.negative_slope)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            slope = self.param.negative_slope
            signed = top[0] if slope >= 0 else bottom[0]
            self.ops.relu_backward(signed.data, top[0].diff, bottom[0].diff, slope)


@layer("Sigmoid", "sigmoid_param")
class Sigmoid(Neuron):
    """Logistic function: ``y = 1 / (1 + exp(-x))``.

    bottom 0 (any shape) -> top 0 (same shape), in place or not.  Both phases alike.  The field
    ``engine`` has no effect.

    Backward: ``dx = dy * y * (1 - y)``.

    Source: Caffe sigmoid_layer (computed as ``0.5 * tanh(0.5 * x) + 0.5``, which cannot overflow).
    """

    @property
    def reads(self) -> Iterable[str]:
        return ("top",)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.ops.sigmoid(bottom[0].data, top[0].data)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            self.ops.sigmoid_backward(top[0].data, top[0].diff, bottom[0].diff)


@layer("TanH", "tanh_param")
class TanH(Neuron):
    """Hyperbolic tangent: ``y = tanh(x)``.

    bottom 0 (any shape) -> top 0 (same shape), in place or not.  Both phases alike.  The field
    ``engine`` has no effect.

    Backward: ``dx = dy * (1 - y^2)``.

    Source: Caffe tanh_layer.
    """

    @property
    def reads(self) -> Iterable[str]:
        return ("top",)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.ops.tanh(bottom[0].data, top[0].data)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            self.ops.tanh_backward(top[0].data, top[0].diff, bottom[0].diff)
