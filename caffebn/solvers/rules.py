"""The rules by which solvers change parameters: SGD, Nesterov, AdaGrad, RMSProp, AdaDelta, Adam, Nadam.

The arithmetic of a rule is one op, `caffebn.ops.reference.update` says which; here is what it is called with: a
function of the SolverParameter and the iteration, which gives a factor of the rate and the op's numbers.  Weight
decay is part of the gradient in every rule, as in Caffe; it is never decoupled.

Sources: Caffe sgd_solver, nesterov_solver, adagrad_solver, rmsprop_solver, adadelta_solver, adam_solver; Duchi
et al. 2011 (AdaGrad); Tieleman and Hinton 2012 (RMSProp); Zeiler, arXiv:1212.5701 (AdaDelta); Kingma and Ba,
arXiv:1412.6980 (Adam); Dozat, Incorporating Nesterov Momentum into Adam, ICLR workshop 2016 (Nadam).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from caffebn.errors import SolverError
from caffebn.proto import Message

__all__ = ["RULES", "Rule"]

Numbers = Callable[[Message, int], tuple[float, tuple[float, ...]]]
Check = Callable[[Message], None]


@dataclass(frozen=True)
class Rule:
    """A rule.

    Attributes
    ----------
    name : str
        Caffe's `type` of the solver.
    op : str
        Name of the op, which takes values, gradients, histories, the rate, the numbers below, and what is done
        to the gradient.
    numbers : callable
        Takes the SolverParameter and the number of the iteration (from 0); returns a factor of the rate and the
        op's numbers.
    histories : int
        Arrays of history it keeps, 1 or 2.
    check : callable
        Takes the SolverParameter and refuses what the rule cannot work with.
    """

    name: str
    op: str
    numbers: Numbers
    histories: int
    check: Check


RULES: dict[str, Rule] = {}
"""Rule by Caffe's name of the solver type."""


def _rule(
    name: str, op: str, histories: int = 1, check: Check = lambda p: None
) -> Callable[[Numbers], Numbers]:
    def register(numbers: Numbers) -> Numbers:
        RULES[name] = Rule(name, op, numbers, histories, check)
        return numbers

    return register


def _refuse_momentum(p: Message) -> None:
    if p.momentum != 0:
        raise SolverError(
            f'type: "{p.type}" has no momentum: expected momentum 0 or none, found {p.momentum:g}',
            p.where_of("momentum"),
        )


def _check_fractions(*fields: str) -> Callable[[Message], None]:
    """Make a check that those fields, decays of an average, are at least 0 and less than 1."""

    def check(p: Message) -> None:
        for field in fields:
            if not 0 <= getattr(p, field) < 1:
                raise SolverError(
                    f'{field}: type: "{p.type}" needs at least 0 and less than 1, found {getattr(p, field):g}',
                    p.where_of(field),
                )

    return check


def _check_rmsprop(p: Message) -> None:
    _refuse_momentum(p)
    _check_fractions("rms_decay")(p)


@_rule("SGD", "update_sgd")
def sgd(p: Message, i: int) -> tuple[float, tuple[float, ...]]:
    """``h <- momentum h + rate g``; ``w <- w - h``."""
    return 1.0, (p.momentum,)


@_rule("Nesterov", "update_nesterov")
def nesterov(p: Message, i: int) -> tuple[float, tuple[float, ...]]:
    """``h' = momentum h + rate g``; ``w <- w - ((1 + momentum) h' - momentum h)``."""
    return 1.0, (p.momentum,)


@_rule("AdaGrad", "update_adagrad", check=_refuse_momentum)
def adagrad(p: Message, i: int) -> tuple[float, tuple[float, ...]]:
    """``h <- h + g^2``; ``w <- w - rate g / (sqrt(h) + delta)``."""
    return 1.0, (p.delta,)


@_rule("RMSProp", "update_rmsprop", check=_check_rmsprop)
def rmsprop(p: Message, i: int) -> tuple[float, tuple[float, ...]]:
    """``h <- d h + (1 - d) g^2`` with ``d = rms_decay``; ``w <- w - rate g / (sqrt(h) + delta)``."""
    return 1.0, (p.rms_decay, p.delta)


@_rule("AdaDelta", "update_adadelta", histories=2, check=_check_fractions("momentum"))
def adadelta(p: Message, i: int) -> tuple[float, tuple[float, ...]]:
    """``q = g sqrt((delta + u) / (delta + h))``, averages of ``g^2`` in h and of ``q^2`` in u; ``w <- w - rate q``."""
    return 1.0, (p.momentum, p.delta)


@_rule("Adam", "update_adam", histories=2, check=_check_fractions("momentum", "momentum2"))
def adam(p: Message, i: int) -> tuple[float, tuple[float, ...]]:
    """``w <- w - rate sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + delta)``, ``t = i + 1``.

    `delta` is added to the root of the uncorrected v, as in Caffe; ``b1 = momentum`` is 0 by default.
    """
    b1, b2, t = p.momentum, p.momentum2, i + 1
    return math.sqrt(1 - b2**t) / (1 - b1**t), (b1, b2, p.delta)


@_rule("Nadam", "update_nadam", histories=2, check=_check_fractions("momentum", "momentum2"))
def nadam(p: Message, i: int) -> tuple[float, tuple[float, ...]]:
    """``w <- w - rate (b1 m / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t)) / (sqrt(b2 v / (1 - b2^t)) + delta)``.

    Adam whose momentum is one step ahead, as Dozat states it (with a constant ``b1 = momentum``, and with the
    factor b2 in front of v), and as forks of Caffe have it.  BVLC Caffe has no such solver.
    """
    b1, b2, t = p.momentum, p.momentum2, i + 1
    of_m, of_g, of_v = b1 / (1 - b1 ** (t + 1)), (1 - b1) / (1 - b1**t), b2 / (1 - b2**t)
    return 1.0, (b1, b2, of_m, of_g, of_v, p.delta)
