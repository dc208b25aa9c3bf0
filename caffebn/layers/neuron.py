"""Activations without parameters to learn: one value in, one value out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, log, pow

from caffebn.blob import Blob
from caffebn.layers.base import Layer, layer

__all__ = [
    "BNLL",
    "ELU",
    "AbsVal",
    "Clip",
    "Exp",
    "Log",
    "Neuron",
    "Power",
    "ReLU",
    "Sigmoid",
    "Swish",
    "TanH",
    "Threshold",
]


class Neuron(Layer):
    """Base of the activations: the top has the bottom's shape and may be the bottom."""

    in_place = True
    repeatable = True

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


@layer("ELU", "elu_param")
class ELU(Neuron):
    """Exponential linear unit: ``y = x`` where x is positive, else ``alpha * (exp(x) - 1)``.

    bottom 0 (any shape) -> top 0 (same shape), in place or not.  `alpha` is 1 by default.  Both phases
    alike.

    Backward: ``dx = dy`` where x is positive, else ``dy * (alpha + y)``; 0 belongs to the negative side.
    For ``alpha >= 0`` x is positive where y is, and y alone is read; a negative alpha (which Caffe computes
    wrongly in place) needs x, too.

    Sources: Caffe elu_layer; Clevert et al. 2015.
    """

    @property
    def reads(self) -> Iterable[str]:
        return ("top",) if self.param.alpha >= 0 else ("bottom", "top")

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.ops.elu(bottom[0].data, top[0].data, self.param.alpha)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            alpha = self.param.alpha
            signed = top[0] if alpha >= 0 else bottom[0]
            self.ops.elu_backward(signed.data, top[0].data, top[0].diff, bottom[0].diff, alpha)


@layer("AbsVal")
class AbsVal(Neuron):
    """Absolute value: ``y = abs(x)``.

    bottom 0 (any shape) -> top 0 (same shape), not in place.  Both phases alike.

    Backward: ``dx = dy * sign(x)``, 0 where x is 0.

    Source: Caffe absval_layer, which refuses to work in place, too.
    """

    in_place = False

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.ops.absolute(bottom[0].data, top[0].data)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            dx = bottom[0].diff
            self.ops.sign(bottom[0].data, dx)
            self.ops.multiply(dx, top[0].diff, dx)


@layer("BNLL")
class BNLL(Neuron):
    """Binomial normal log likelihood, a smooth rectifier: ``y = log(1 + exp(x))``.

    bottom 0 (any shape) -> top 0 (same shape), in place or not.  Both phases alike.

    Backward: ``dx = dy * e / (e + 1)`` with ``e = exp(min(x, 50))``.

    Source: Caffe bnll_layer (whose gradient is wrong in place, where it takes y for x).
    """

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.ops.bnll(bottom[0].data, top[0].data)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            self.ops.bnll_backward(bottom[0].data, top[0].diff, bottom[0].diff)


@layer("Swish", "swish_param")
class Swish(Neuron):
    """Swish: ``y = x * sigmoid(beta * x)``.

    bottom 0 (any shape) -> top 0 (same shape), in place or not.  `beta` is 1 by default.  Both phases
    alike.

    Backward, with ``s = sigmoid(beta * x)``: ``dx = dy * (beta * y + s * (1 - beta * y))``.

    Sources: Caffe swish_layer; Ramachandran et al. 2017.
    """

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.ops.swish(bottom[0].data, top[0].data, self.param.beta)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            self.ops.swish_backward(bottom[0].data, top[0].diff, bottom[0].diff, self.param.beta)


@layer("Clip", "clip_param")
class Clip(Neuron):
    """Limit to a range: ``y = x`` within `min` and `max`, else the nearer of the two.

    bottom 0 (any shape) -> top 0 (same shape), in place or not.  `min` and `max` have to be given.  Both
    phases alike.

    Backward: ``dx = dy`` where ``min <= x <= max``, the bounds included, else 0.

    Raises
    ------
    NetError
        `min` or `max` missing, or `min` larger than `max`.

    Notes
    -----
    Source: Caffe clip_layer (whose gradient is wrong in place, where it takes y for x).
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        for field in ("min", "max"):
            if not self.param.has(field):
                raise self.error(f"clip_param must give {field}", "clip_param")
        if self.param.min > self.param.max:
            raise self.error(f"min {self.param.min:g} is larger than max {self.param.max:g}", "min")

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.ops.clip(bottom[0].data, top[0].data, self.param.min, self.param.max)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            x, dy, dx = bottom[0].data, top[0].diff, bottom[0].diff
            self.ops.clip_backward(x, dy, dx, self.param.min, self.param.max)


@layer("Threshold", "threshold_param")
class Threshold(Neuron):
    """Compare with a number: ``y = 1`` where ``x > threshold``, else 0.

    bottom 0 (any shape) -> top 0 (same shape), in place or not.  `threshold` is 0 by default.  Both phases
    alike; no gradient.

    Source: Caffe threshold_layer.
    """

    has_backward = False

    @property
    def reads(self) -> Iterable[str]:
        return ()

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.ops.threshold(bottom[0].data, top[0].data, self.param.threshold)


@layer("Power", "power_param")
class Power(Neuron):
    """Power of a linear function: ``y = (shift + scale * x) ^ power``.

    bottom 0 (any shape) -> top 0 (same shape), in place or not.  Defaults `power` 1, `scale` 1, `shift` 0.
    Both phases alike.

    When ``power * scale`` is 0 the top is constant, 1 for the power 0 and else ``shift ^ power``, whatever
    x is.

    Backward: ``dx = dy * power * scale * y / (shift + scale * x)``, as Caffe computes it, so that the
    gradient is not a number where the divisor is 0.  For the powers 1 and 2 it is ``dy * scale`` and
    ``dy * 2 * scale * (shift + scale * x)``, and for a constant top 0.

    Raises
    ------
    NetError
        A scale of 0 with a shift that has no such power.

    Notes
    -----
    Source: Caffe power_layer (whose gradients are wrong in place).
    """

    @property
    def reads(self) -> Iterable[str]:
        p = self.param
        if p.power * p.scale == 0 or p.power == 1:
            return ()
        return ("bottom",) if p.power == 2 else ("bottom", "top")

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param
        self.constant: float | None = None
        if p.power == 0:
            self.constant = 1.0
        elif p.scale == 0:
            try:
                self.constant = pow(p.shift, p.power)
            except (ValueError, OverflowError):
                raise self.error(
                    f"with scale 0 the top is shift to the power, but there is no number that is {p.shift:g} "
                    f"to the power {p.power:g}",
                    "scale",
                ) from None

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param
        if self.constant is None:
            self.ops.power(bottom[0].data, top[0].data, p.power, p.scale, p.shift)
        else:
            self.ops.fill(top[0].data, self.constant)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        p, dy, dx = self.param, top[0].diff, bottom[0].diff
        if self.constant is None:
            self.ops.power_backward(bottom[0].data, top[0].data, dy, dx, p.power, p.scale, p.shift)
        else:
            self.ops.fill(dx, 0.0)


@layer("Exp", "exp_param")
class Exp(Neuron):
    """Exponential of a linear function: ``y = base ^ (shift + scale * x)``.

    bottom 0 (any shape) -> top 0 (same shape), in place or not.  Defaults `base` -1, which means e, `scale`
    1, `shift` 0.  Both phases alike.

    Backward: ``dx = dy * y * scale * log(base)``.

    Raises
    ------
    NetError
        A base that is neither positive nor -1, a shift that gives too large a factor.

    Notes
    -----
    Source: Caffe exp_layer.
    """

    @property
    def reads(self) -> Iterable[str]:
        return ("top",)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        logarithm = log_of_base(self)
        self.inner = logarithm * self.param.scale
        try:
            self.outer = exp(logarithm * self.param.shift)
        except OverflowError:
            raise self.error(f"base to the power {self.param.shift:g} is too large", "shift") from None

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.ops.exp(bottom[0].data, top[0].data, self.inner, self.outer)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            dx = bottom[0].diff
            self.ops.multiply(top[0].diff, top[0].data, dx)
            self.ops.scale_copy(dx, self.inner, dx)


@layer("Log", "log_param")
class Log(Neuron):
    """Logarithm of a linear function: ``y = log(shift + scale * x) / log(base)``.

    bottom 0 (any shape) -> top 0 (same shape), in place or not.  Defaults `base` -1, which means e, `scale`
    1, `shift` 0.  Both phases alike.

    Backward: ``dx = dy * scale / (log(base) * (shift + scale * x))``.

    Raises
    ------
    NetError
        A base that is neither positive nor -1, or that is 1.

    Notes
    -----
    Source: Caffe log_layer (whose gradient is wrong in place, where it takes y for x).
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if self.param.base == 1:
            raise self.error("there is no logarithm to the base 1", "base")
        self.factor = 1 / log_of_base(self)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param
        self.ops.log(bottom[0].data, top[0].data, p.scale, p.shift, self.factor)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            p = self.param
            self.ops.log_backward(bottom[0].data, top[0].diff, bottom[0].diff, p.scale, p.shift, self.factor)


def log_of_base(layer: Layer) -> float:
    """Return the natural logarithm of a layer's `base`, where -1 stands for e."""
    base = layer.param.base
    if base != -1 and base <= 0:
        raise layer.error(f"base must be positive, or -1 for e, found {base:g}", "base")
    return 1.0 if base == -1 else log(base)
