"""Which layers of a net run as one, and how.

Layers that follow each other are joined where nobody can see what passes between them: each works in place on the top
of the one before, or nobody else reads that top and the user does without it (``Net(..., keep=[...])``).  Then the
values in between need not be written, and a pass over memory serves all.

======================================  ===========================================================================
joined                                  runs as
======================================  ===========================================================================
BatchNorm [Scale] [Eltwise SUM] [ReLU]  one kernel forward, one backward.  Going backward only the input of BatchNorm
                                        is needed: the layer before writes it into memory of its own
Convolution or InnerProduct             the product, with the affine map, the sum (Convolution) and the ReLU while its
[BatchNorm] [Scale] [Eltwise SUM]       results are in a register: stored statistics, and no gradient asked for but
[ReLU]                                  through ReLU
Eltwise SUM, ReLU                       one kernel forward
======================================  ===========================================================================

An Eltwise never works in place, so it joins what comes before it only where the user does without that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from caffebn.blob import Blob
from caffebn.layers import Layer
from caffebn.net.plan import Version, Versions
from caffebn.net.steps import LayerStep, Step, stand_in_for

if TYPE_CHECKING:
    from caffebn.net.wiring import Wiring

__all__ = ["Again", "NormStep", "ProductStep", "SumStep", "fuse_steps"]


def fuse_steps(wiring: Wiring, versions: Versions) -> list[Step]:
    """Cut the layers of a net into steps, joining all that can be joined."""
    steps: list[Step] = []
    redirected: dict[int, dict[int, Blob]] = {}
    i = 0
    while i < len(wiring.layers):
        chain = Chain(wiring, versions, i)
        step = chain.product() or chain.norm(redirected) or chain.sum()
        steps.append(step or LayerStep(wiring, i))
        i = steps[-1].last + 1
    return [
        LayerStep(wiring, step.first, redirected[step.first]) if step.first in redirected else step
        for step in steps
    ]


class Addend(NamedTuple):
    """What an Eltwise adds to the values of a chain."""

    blob: Blob
    wanted: bool
    """Whether its gradient is."""


class Chain:
    """The layers from one on, as far as each works on what the one before it made and nobody else reads."""

    def __init__(self, wiring: Wiring, versions: Versions, first: int):
        self.wiring, self.versions = wiring, versions
        self.first = self.last = first

    def _take(
        self, type_name: str, fits: Callable[[Layer], bool] = lambda layer: True, quiet: bool = False
    ) -> Layer | None:
        """Let the chain go on with the next layer, if it is of that type, fits and hides what it reads.

        `quiet`: the layers have to run one by one going backward, so what is hidden has to be in place then.
        """
        i = self.last + 1
        if (
            i == len(self.wiring.layers)
            or self.wiring.layers[i].type != type_name
            or not fits(self.wiring.layers[i])
        ):
            return None
        if not self._hidden(self.last, i, quiet):
            return None
        self.last = i
        return self.wiring.layers[i]

    def _hidden(self, maker: int, reader: int, quiet: bool) -> bool:
        """Whether the only top of `maker` is read by `reader` alone, which overwrites it, or nobody wants to see it."""
        tops = self.versions.tops[maker]
        if len(tops) != 1 or len(self.versions.tops[reader]) != 1 or self.versions.tops[reader] == tops:
            return False
        alone = [i for i, _ in self.versions.read_by.get(tops[0], ())] == [reader]
        if not alone or self.versions.made_by[tops[0]] != [(maker, 0)]:
            return False
        if self.wiring.has_loss_weight(maker) or self.wiring.has_loss_weight(reader):
            return False
        if self.versions.overwritten.get(tops[0], (-1,))[0] == reader:
            return True
        return self.wiring.hides(maker) and not (
            quiet and any(self.wiring.need_backward[self.first : reader + 1])
        )

    def _epilogue(self, sums: bool, quiet: bool) -> tuple[Layer | None, Addend | None, Layer | None]:
        """Take a Scale, the sum with another blob (`sums`: if there may be one) and a ReLU."""
        scale = self._take("Scale", _per_channel, quiet)
        residual = None
        if sums and self._take("Eltwise", _adds_two, quiet):
            ((i, position),) = self.versions.read_by[self.versions.tops[self.last - 1][0]]
            other = 1 - position
            residual = Addend(self.wiring.bottoms[i][other], self.wiring.propagate_down[i][other])
        return scale, residual, self._take("ReLU", _keeps_sign, quiet)

    def product(self) -> Step | None:
        """Join a Convolution or InnerProduct with what follows."""
        layer = self.wiring.layers[self.first]
        if layer.type not in ("Convolution", "InnerProduct") or len(layer.spec.bottom) != 1:
            return None
        norm = self._take("BatchNorm", _stored, quiet=True)
        scale, residual, relu = self._epilogue(layer.type == "Convolution", quiet=True)
        joined = (norm is not None) + (scale is not None)
        again = any(self.wiring.need_backward[self.first + 1 : self.first + 1 + joined])
        if again and (
            self.wiring.phase == "TRAIN"
            or self.wiring.lean
            or self.versions.bottoms[self.first][0] in self.versions.overwritten
        ):
            # their gradients need what this step does not keep
            self.last = self.first
            return None
        if self.last == self.first:
            return None
        return ProductStep(self.wiring, self.first, self.last, norm, scale, residual, relu, again)

    def norm(self, redirected: dict[int, dict[int, Blob]]) -> Step | None:
        """Join a BatchNorm with what follows; the layer before it is told where else to write its top."""
        layer = self.wiring.layers[self.first]
        if layer.type != "BatchNorm" or self.wiring.has_loss_weight(self.first):
            return None
        scale, residual, relu = self._epilogue(True, quiet=False)
        in_place = self._works_in_place(self.first)
        backward = any(self.wiring.need_backward[self.first : self.last + 1])
        kept = self.wiring.new_blob().on(self.wiring.device) if in_place and backward else None
        if kept is None and self.last == self.first:
            return None
        maker = self._only_maker(self.versions.bottoms[self.first][0]) if kept is not None else None
        if kept is not None and maker is not None:
            redirected.setdefault(maker[0], {})[maker[1]] = kept
        return NormStep(self.wiring, self.first, self.last, scale, residual, relu, kept, maker is None)

    def _works_in_place(self, i: int) -> bool:
        return self.versions.overwritten.get(self.versions.bottoms[i][0], (-1,))[0] == i

    def _only_maker(self, version: Version) -> tuple[int, int] | None:
        """The layer that makes a version which nobody reads but BatchNorm, if it may write it elsewhere."""
        makers, readers = self.versions.made_by[version], self.versions.read_by[version]
        (i, j), layer = makers[0], self.wiring.layers[makers[0][0]]
        alone = len(makers) == 1 and readers == [(self.first, 0)] and version[1] == 0
        # not what the user fills, nor what a view shows, nor what Python code has been given
        if not alone or layer.shares_memory or not layer.spec.bottom or not layer.repeatable:
            return None
        return None if self.wiring.has_loss_weight(i) else (i, j)

    def sum(self) -> Step | None:
        """Join an Eltwise SUM of two bottoms with a ReLU."""
        layer = self.wiring.layers[self.first]
        if layer.type != "Eltwise" or layer.param.operation != "SUM" or len(layer.spec.bottom) != 2:
            return None
        relu = self._take("ReLU", _keeps_sign, quiet=True)
        return SumStep(self.wiring, self.first, self.last, relu) if relu else None


def _stored(layer: Any) -> bool:
    """Whether a BatchNorm uses stored statistics."""
    return layer.use_global_stats


def _per_channel(layer: Layer) -> bool:
    """Whether a Scale has one learned factor for each channel (axis 1)."""
    return len(layer.spec.bottom) == 1 and layer.param.axis == 1 and layer.param.num_axes == 1


def _adds_two(layer: Any) -> bool:
    """Whether an Eltwise is the plain sum of two bottoms."""
    return layer.operation == "SUM" and layer.coeff == [1.0, 1.0]


def _keeps_sign(layer: Layer) -> bool:
    """Whether the sign of a ReLU's output is that of its input."""
    return layer.param.negative_slope >= 0


def _slope(relu: Layer | None) -> float | None:
    return None if relu is None else relu.param.negative_slope


def _addend(residual: Addend | None) -> list[Blob]:
    return [] if residual is None else [residual.blob]


def _learned(scale: Layer | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Factor and bias of a Scale."""
    if scale is None:
        return None, None
    return scale.parameters[0].data, scale.parameters[1].data if scale.param.bias_term else None


class NormStep(Step):
    """BatchNorm, perhaps Scale, perhaps the sum with another blob, perhaps ReLU.

    Parameters
    ----------
    wiring, first, last
        As for `Step`.
    scale, relu : Layer or None
    residual : Addend or None
        What an Eltwise adds.
    kept : Blob or None
        Memory for the input, where the layers work in place and their backward pass needs it.
    copies : bool
        Nobody writes the input into `kept`: it has to be copied.
    """

    def __init__(
        self,
        wiring: Wiring,
        first: int,
        last: int,
        scale: Layer | None,
        residual: Addend | None,
        relu: Layer | None,
        kept: Blob | None,
        copies: bool,
    ):
        super().__init__(wiring, first, last)
        self.norm = cast(Any, wiring.layers[first])
        self.scale, self.residual, self.relu, self.kept, self.copies = scale, residual, relu, kept, copies
        self.seen = wiring.bottoms[first][0]
        (self.top,), (self.output,) = wiring.tops[last], wiring.backward_tops(last)
        self.input = self.seen if kept is None else kept

    def prepare(self) -> None:
        super().prepare()
        if self.kept is not None:
            stand_in_for(self.seen, self.kept)

    def forward(self) -> None:
        norm, ops, stored = self.norm, self.norm.ops, self.norm.use_global_stats
        if norm.values_per_channel == 0:
            return
        if self.kept is not None and self.copies:
            self.wiring.keep_before(self.first)
            ops.scale_copy(self.seen.data, 1.0, self.kept.data)
        shape = norm.ncs
        x, y = self.input.data.reshape(shape), self.top.data.reshape(shape)
        residual = None if self.residual is None else self.residual.blob.data.reshape(shape)
        mean, var, inv_std = norm.mean, norm.var, norm.inv_std
        factor, bias = _learned(self.scale)
        sums = [blob.data for blob in norm.parameters]
        if stored:
            ops.stored_statistics(*sums, mean, var)
            ops.inv_std(var, norm.param.eps, inv_std)
            ops.normalize_act(x, mean, inv_std, factor, bias, residual, _slope(self.relu), y)
        else:
            ops.batch_norm(
                x, norm.param.eps, factor, bias, residual, _slope(self.relu), y, mean, var, inv_std
            )
            fraction = norm.param.moving_average_fraction
            ops.update_statistics(mean, var, norm.values_per_channel, fraction, *sums)

    def backward(self) -> None:
        norm, scale = self.norm, self.scale
        if norm.values_per_channel == 0:
            return
        shape, stored = norm.ncs, norm.use_global_stats
        x, dy = self.input.data.reshape(shape), self.top.diff.reshape(shape)
        y = self.output.data.reshape(shape) if self.reads_output else None
        dx = self.seen.diff.reshape(shape) if self.wiring.propagate_down[self.first][0] else None
        dresidual = None
        if self.residual is not None and self.residual.wanted:
            dresidual = self.residual.blob.diff.reshape(shape)
        factor, bias = _learned(scale)
        gradients: list[np.ndarray | None] = [None, None]
        if scale is not None:
            for k, (blob, wanted) in enumerate(
                zip(scale.parameters, scale.param_propagate_down, strict=True)
            ):
                gradients[k] = blob.diff if wanted else None
        norm.ops.batch_norm_backward(
            x, norm.mean, norm.inv_std, factor, bias, y, _slope(self.relu), stored, dy, dx, *gradients, dresidual
        )  # fmt: skip

    @property
    def reads_output(self) -> bool:
        """Whether the gradient of ReLU reads its output; else the sign is found again from x, which is read anyway."""
        return self.relu is not None and self.residual is not None

    def values(self) -> list[Blob]:
        copied = (
            self.wiring.copies_before(self.first) + [self.seen]
            if self.copies and self.kept is not None
            else []
        )
        return [*copied, self.input, *_addend(self.residual), self.top]

    def written(self) -> list[Blob]:
        return [self.top]

    def values_going_backward(self) -> list[Blob]:
        if not self.needs_backward:
            return []
        return [self.input, self.output] if self.reads_output else [self.input]

    def gradients(self) -> list[Blob]:
        down = [self.seen] if self.wiring.propagate_down[self.first][0] else []
        added = _addend(self.residual) if self.residual is not None and self.residual.wanted else []
        return [self.top, *down, *added] if self.needs_backward else []

    def expose(self) -> None:
        if self.kept is not None:
            self.norm.ops.scale_copy(self.kept.data, 1.0, self.seen.data)
        elif self.seen is self.top:
            return  # in place, and nothing goes backward
        statistics = [blob.data.copy() for blob in self.norm.parameters]
        for i in range(self.first, self.last + 1):
            self.wiring.forward_layer(i)
        for blob, values in zip(self.norm.parameters, statistics, strict=True):
            blob.data[...] = values


class Again(Step):
    """A part of the backward pass: what a NormStep had written is computed from its input once more."""

    def __init__(self, step: NormStep):
        super().__init__(step.wiring, step.first, step.last)
        self.step = step
        self.top = step.top

    def values_going_backward(self) -> list[Blob]:
        return [self.step.input, self.top]

    def gradients(self) -> list[Blob]:
        return []

    def backward(self) -> None:
        norm, step = self.step.norm, self.step
        if norm.values_per_channel == 0:
            return
        shape = norm.ncs
        x, y = step.input.data.reshape(shape), self.top.data.reshape(shape)
        norm.ops.normalize_act(x, norm.mean, norm.inv_std, *_learned(step.scale), None, _slope(step.relu), y)


class ProductStep(Step):
    """Convolution or InnerProduct, and the affine map, the sum and the ReLU that follow it.

    Parameters
    ----------
    wiring, first, last
        As for `Step`.
    norm, scale, relu : Layer or None
        A BatchNorm with stored statistics, and what follows it.
    residual : Addend or None
        What an Eltwise adds before the ReLU.
    again : bool
        Gradients need what this step does not keep: a net in the test phase has a loss, and hardly ever goes backward.
        Then the layers run once more, one by one.
    """

    def __init__(
        self,
        wiring: Wiring,
        first: int,
        last: int,
        norm: Layer | None,
        scale: Layer | None,
        residual: Addend | None,
        relu: Layer | None,
        again: bool,
    ):
        super().__init__(wiring, first, last)
        self.again = again
        self.product = cast(Any, wiring.layers[first])
        self.norm, self.scale, self.residual, self.relu = norm, scale, residual, relu
        (self.bottom,), (self.top,) = wiring.bottoms[first], wiring.tops[last]
        outputs = self.product.param.num_output
        self.mean, self.var = (self.product.scratch((outputs,), np.float64) for _ in range(2))
        self.var.fill(1)
        self.a, self.b = (self.product.scratch((outputs,)) for _ in range(2))

    def forward(self) -> None:
        product, ops = self.product, self.product.ops
        a, b = None, product.parameters[1].data if product.param.bias_term else None
        if self.norm is not None or self.scale is not None:
            eps = 0.0
            if self.norm is not None:
                eps = self.norm.param.eps
                ops.stored_statistics(*(blob.data for blob in self.norm.parameters), self.mean, self.var)
            factor, bias = _learned(self.scale)
            ops.fold_statistics(self.mean, self.var, eps, factor, bias, b, self.a, self.b)
            a, b = self.a, self.b
        added = self.residual.blob.data if self.residual is not None else None
        residual = (added,) if product.type == "Convolution" else ()
        product.forward_joined(self.bottom, self.top, a, b, *residual, _slope(self.relu))

    def values(self) -> list[Blob]:
        return [self.bottom, *_addend(self.residual), self.top]

    def written(self) -> list[Blob]:
        return [self.top]

    def may_replace(self) -> list[Blob]:
        return _addend(self.residual)

    def expose(self) -> None:
        if self.again:
            for i in range(self.first, self.last + 1):
                self.wiring.forward_layer(i)

    def backward(self) -> None:
        self.expose()
        super().backward()


class SumStep(Step):
    """Eltwise SUM of two bottoms, and the ReLU that follows it."""

    def __init__(self, wiring: Wiring, first: int, last: int, relu: Layer):
        super().__init__(wiring, first, last)
        self.sum = cast(Any, wiring.layers[first])
        self.relu = relu
        (self.a, self.b), (self.top,) = wiring.bottoms[first], wiring.tops[last]

    def values(self) -> list[Blob]:
        return [self.a, self.b, self.top]

    def written(self) -> list[Blob]:
        return [self.top]

    def may_replace(self) -> list[Blob]:
        return [self.a, self.b]

    def forward(self) -> None:
        c = self.sum.coeff
        slope = _slope(self.relu)
        self.sum.ops.weighted_sum(self.a.data, c[0], self.b.data, c[1], self.top.data, slope)
