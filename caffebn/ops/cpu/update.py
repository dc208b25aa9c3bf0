"""Steps of the solvers; see ops/reference/update.py for what is computed."""

from __future__ import annotations

import numpy as np

from caffebn.ops import threads
from caffebn.ops.cpu.checks import DOUBLE, by_dtype, check, check_tensor
from caffebn.ops.cpu.scratch import scratch
from caffebn.ops.level import kernels

__all__ = [
    "sum_of_squares",
    "update_adadelta",
    "update_adagrad",
    "update_adam",
    "update_nadam",
    "update_nesterov",
    "update_rmsprop",
    "update_sgd",
]


_kernel = kernels("update")
_scratch_size = _kernel.scratch_size
_sum_of_squares = by_dtype(_kernel.sum_of_squares)
_update_sgd = by_dtype(_kernel.update_sgd)
_update_nesterov = by_dtype(_kernel.update_nesterov)
_update_adagrad = by_dtype(_kernel.update_adagrad)
_update_rmsprop = by_dtype(_kernel.update_rmsprop)
_update_adadelta = by_dtype(_kernel.update_adadelta)
_update_adam = by_dtype(_kernel.update_adam)
_update_nadam = by_dtype(_kernel.update_nadam)


def sum_of_squares(x: np.ndarray, out: np.ndarray) -> None:
    """Sum the squares; see the reference op."""
    check_tensor("sum_of_squares", x, "x", 1)
    check("sum_of_squares", out, "out", (1,), DOUBLE, writable=True)
    work = scratch(_scratch_size(x.size), DOUBLE)
    _sum_of_squares[x.itemsize](x, out, work, threads.for_work(x.size))


def update_sgd(
    w: np.ndarray,
    dw: np.ndarray,
    h: np.ndarray,
    rate: float,
    momentum: float,
    scale: float,
    decay: float,
    l1: bool,
) -> None:
    """Descend with momentum; see the reference op."""
    _check("update_sgd", w, dw, h=h)
    _update_sgd[w.itemsize](w, dw, h, rate, momentum, scale, decay, l1, threads.for_work(w.size))


def update_nesterov(
    w: np.ndarray,
    dw: np.ndarray,
    h: np.ndarray,
    rate: float,
    momentum: float,
    scale: float,
    decay: float,
    l1: bool,
) -> None:
    """Descend with Nesterov's momentum; see the reference op."""
    _check("update_nesterov", w, dw, h=h)
    _update_nesterov[w.itemsize](w, dw, h, rate, momentum, scale, decay, l1, threads.for_work(w.size))


def update_adagrad(
    w: np.ndarray,
    dw: np.ndarray,
    h: np.ndarray,
    rate: float,
    delta: float,
    scale: float,
    decay: float,
    l1: bool,
) -> None:
    """Take a step of AdaGrad; see the reference op."""
    _check("update_adagrad", w, dw, h=h)
    _update_adagrad[w.itemsize](w, dw, h, rate, delta, scale, decay, l1, threads.for_work(w.size))


def update_rmsprop(
    w: np.ndarray,
    dw: np.ndarray,
    h: np.ndarray,
    rate: float,
    rms_decay: float,
    delta: float,
    scale: float,
    decay: float,
    l1: bool,
) -> None:
    """Take a step of RMSProp; see the reference op."""
    _check("update_rmsprop", w, dw, h=h)
    _update_rmsprop[w.itemsize](w, dw, h, rate, rms_decay, delta, scale, decay, l1, threads.for_work(w.size))


def update_adadelta(
    w: np.ndarray,
    dw: np.ndarray,
    h: np.ndarray,
    u: np.ndarray,
    rate: float,
    momentum: float,
    delta: float,
    scale: float,
    decay: float,
    l1: bool,
) -> None:
    """Take a step of AdaDelta; see the reference op."""
    _check("update_adadelta", w, dw, h=h, u=u)
    _update_adadelta[w.itemsize](
        w, dw, h, u, rate, momentum, delta, scale, decay, l1, threads.for_work(w.size)
    )


def update_adam(
    w: np.ndarray,
    dw: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    rate: float,
    beta1: float,
    beta2: float,
    delta: float,
    scale: float,
    decay: float,
    l1: bool,
) -> None:
    """Take a step of Adam; see the reference op."""
    _check("update_adam", w, dw, m=m, v=v)
    _update_adam[w.itemsize](
        w, dw, m, v, rate, beta1, beta2, delta, scale, decay, l1, threads.for_work(w.size)
    )


def update_nadam(
    w: np.ndarray,
    dw: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    rate: float,
    beta1: float,
    beta2: float,
    of_m: float,
    of_g: float,
    of_v: float,
    delta: float,
    scale: float,
    decay: float,
    l1: bool,
) -> None:
    """Take a step of Nadam; see the reference op."""
    _check("update_nadam", w, dw, m=m, v=v)
    _update_nadam[w.itemsize](
        w, dw, m, v, rate, beta1, beta2, of_m, of_g, of_v, delta, scale, decay, l1, threads.for_work(w.size)
    )


def _check(op: str, w: np.ndarray, dw: np.ndarray, **history: np.ndarray) -> None:
    """Check the arrays of a rule, all of which it writes."""
    check_tensor(op, w, "w", 1, writable=True)
    check(op, dw, "dw", w.shape, w.dtype, writable=True)
    for name, array in history.items():
        check(op, array, name, w.shape, w.dtype, writable=True)
