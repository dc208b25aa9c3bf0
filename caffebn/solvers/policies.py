"""Learning-rate policies: the rate of an iteration.

Each policy is a function ``policy(p, i, k)`` of the SolverParameter `p`, the iteration number `i` (from 0) and the
step counter `k` that `step_counter` gives; only "step" and "multistep" look at the counter.

Source: Caffe sgd_solver.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from caffebn.errors import SolverError, did_you_mean
from caffebn.proto import Message

__all__ = ["POLICIES", "check", "learning_rate", "step_counter"]

Policy = Callable[[Message, int, int], float]

POLICIES: dict[str, Policy] = {}
"""Policy by its name in `lr_policy`."""

_NEEDS: dict[str, tuple[str, ...]] = {}


def _policy(name: str, *needs: str) -> Callable[[Policy], Policy]:
    """Register a policy and the fields that it needs beside `base_lr`."""

    def register(function: Policy) -> Policy:
        POLICIES[name] = function
        _NEEDS[name] = ("base_lr", *needs)
        return function

    return register


@_policy("fixed")
def fixed(p: Message, i: int, k: int) -> float:
    """``base_lr``."""
    return p.base_lr


@_policy("step", "gamma", "stepsize")
def step(p: Message, i: int, k: int) -> float:
    """``base_lr * gamma ** k``, ``k = floor(i / stepsize)``."""
    return p.base_lr * p.gamma**k


@_policy("exp", "gamma")
def exp(p: Message, i: int, k: int) -> float:
    """``base_lr * gamma ** i``."""
    return p.base_lr * p.gamma**i


@_policy("inv", "gamma", "power")
def inv(p: Message, i: int, k: int) -> float:
    """``base_lr * (1 + gamma * i) ** -power``."""
    return p.base_lr * (1 + p.gamma * i) ** -p.power


@_policy("multistep", "gamma", "stepvalue")
def multistep(p: Message, i: int, k: int) -> float:
    """``base_lr * gamma ** k``; the counter grows by one, at most, for each iteration."""
    return p.base_lr * p.gamma**k


@_policy("poly", "power", "max_iter")
def poly(p: Message, i: int, k: int) -> float:
    """``base_lr * (1 - i / max_iter) ** power``."""
    if i > p.max_iter:
        raise SolverError(
            f'lr_policy: "poly" ends with iteration {p.max_iter} (max_iter), this is iteration {i}: raise max_iter',
            p.where_of("max_iter"),
        )
    return p.base_lr * (1 - i / p.max_iter) ** p.power


@_policy("sigmoid", "gamma", "stepsize")
def sigmoid(p: Message, i: int, k: int) -> float:
    """``base_lr / (1 + exp(-gamma * (i - stepsize)))``."""
    small = math.exp(-abs(p.gamma * (i - p.stepsize)))
    return p.base_lr * (1 if i >= p.stepsize else small) / (1 + small)


def step_counter(p: Message, i: int, k: int) -> int:
    """Return the step counter for iteration `i`, given that of the iteration before.

    A solver state keeps it (`current_step`).  In "multistep" it grows by one if ``i >= stepvalue[k]``, and only
    once for each iteration: two equal values act in two successive iterations, as in Caffe.
    """
    if p.lr_policy == "step":
        return i // p.stepsize
    if p.lr_policy == "multistep" and k < len(p.stepvalue) and i >= p.stepvalue[k]:
        return k + 1
    return k


def learning_rate(p: Message, i: int, k: int) -> float:
    """Return the rate of iteration `i` by the policy that the text names.

    Raises
    ------
    SolverError
        The rate is no finite number, or iteration `i` lies beyond the end of the policy.
    """
    try:
        rate = POLICIES[p.lr_policy](p, i, k)
    except OverflowError:
        rate = math.inf
    if not math.isfinite(rate):
        raise SolverError(
            f'lr_policy: "{p.lr_policy}" gives no finite rate for iteration {i}', p.where_of("lr_policy")
        )
    return rate


def check(p: Message) -> None:
    """Refuse an unknown policy, and one that lacks a number it needs.

    Caffe takes a missing number as 0, which makes rates of 0, divisions by 0, or a policy without effect.

    Raises
    ------
    SolverError
    """
    name = p.lr_policy
    if name not in POLICIES:
        found = f'found "{name}"{did_you_mean(name, POLICIES)}' if name else "found none"
        raise SolverError(
            f"lr_policy: expected one of {', '.join(POLICIES)}; {found}", p.where_of("lr_policy") or p.where
        )
    for field in _NEEDS[name]:
        if not p.has(field):
            raise SolverError(
                f'{field} is missing: lr_policy: "{name}" needs {" and ".join(_NEEDS[name])}',
                p.where_of("lr_policy"),
            )
    for field, least in (("gamma", 0), ("stepsize", 1), ("max_iter", 1)):
        if field in _NEEDS[name] and getattr(p, field) < least:
            raise SolverError(
                f'{field}: lr_policy: "{name}" needs at least {least}, found {getattr(p, field):g}',
                p.where_of(field),
            )
    if name == "poly" and p.power < 0:
        raise SolverError(
            f'power: lr_policy: "poly" needs at least 0, found {p.power:g}: the rate would grow without bound',
            p.where_of("power"),
        )
