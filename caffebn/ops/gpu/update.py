"""Steps of solvers on flat arrays; see ops/reference/update.py for what is computed."""

from __future__ import annotations

import numpy as np

from caffebn.ops.gpu import device
from caffebn.ops.gpu.checks import DOUBLE, check, check_tensor

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

_kernel = device.Kernels("update")

# Elements that a block of the first kernel of a sum reads, and how many such blocks there are at most
_VALUES = 4096
_BLOCKS = 2048


def sum_of_squares(x: np.ndarray, out: np.ndarray) -> None:
    """Sum the squares of all values; see the reference op."""
    check_tensor("sum_of_squares", x, "x", 1)
    check("sum_of_squares", out, "out", (1,), DOUBLE)
    blocks = max(1, min(_BLOCKS, -(-x.size // _VALUES)))
    work = device.scratch(blocks)
    device.launch(_kernel("squares", x.itemsize, device.width(x)), blocks, x, x.size, work)
    device.launch(_kernel("add_up", 0), 1, work, blocks, out)


def _step(op: str, arrays: dict[str, np.ndarray], numbers: tuple[float, ...], l1: bool) -> None:
    """Check flat arrays of one length and run the kernel of that name."""
    (name, first), *others = arrays.items()
    check_tensor(op, first, name, 1)
    for name, array in others:
        check(op, array, name, first.shape, first.dtype)
    device.launch_each(
        _kernel(op, first.itemsize), first.size, *arrays.values(), first.size, *map(float, numbers), int(l1)
    )


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
    """Take a step of gradient descent with momentum; see the reference op."""
    _step("update_sgd", {"w": w, "dw": dw, "h": h}, (rate, momentum, scale, decay), l1)


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
    """Take a step with Nesterov's momentum; see the reference op."""
    _step("update_nesterov", {"w": w, "dw": dw, "h": h}, (rate, momentum, scale, decay), l1)


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
    _step("update_adagrad", {"w": w, "dw": dw, "h": h}, (rate, delta, scale, decay), l1)


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
    _step("update_rmsprop", {"w": w, "dw": dw, "h": h}, (rate, rms_decay, delta, scale, decay), l1)


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
    _step("update_adadelta", {"w": w, "dw": dw, "h": h, "u": u}, (rate, momentum, delta, scale, decay), l1)


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
    _step("update_adam", {"w": w, "dw": dw, "m": m, "v": v}, (rate, beta1, beta2, delta, scale, decay), l1)


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
    numbers = (rate, beta1, beta2, of_m, of_g, of_v, delta, scale, decay)
    _step("update_nadam", {"w": w, "dw": dw, "m": m, "v": v}, numbers, l1)
