"""What the tests of the ops share: back ends, dtypes, random arrays, and one call of every op."""

from __future__ import annotations

import functools
import importlib
import math
import sys
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

import caffebn.ops
from caffebn.ops import level, threads

GPU = pytest.param("gpu", marks=pytest.mark.gpu)


class OnDevice:
    """The gpu back end, for arrays of the host: they are copied to the device and back around each call."""

    def __init__(self) -> None:
        self._ops = caffebn.ops.get("gpu")
        self._device = importlib.import_module("caffebn.ops.gpu.device")

    def __getattr__(self, name: str) -> Callable:
        op = getattr(self._ops, name)
        if name == "ConvGeometry" or name == "conv_scratch_size":
            return op

        @functools.wraps(op)
        def call(*args: object, **kwargs: object) -> object:
            pairs: dict[int, tuple[np.ndarray, object]] = {}

            def moved(value: object) -> object:
                if not isinstance(value, np.ndarray):
                    return value
                if id(value) not in pairs:
                    pairs[id(value)] = value, self._device.from_host(value)
                return pairs[id(value)][1]

            found = op(*map(moved, args), **{k: moved(v) for k, v in kwargs.items()})
            self._device.synchronize()
            for host, array in pairs.values():
                if host.flags.writeable:
                    host[...] = self._device.to_host(array)
            return found

        return call


def backend(name: str) -> ModuleType | OnDevice:
    """A back end that takes arrays of the host."""
    return OnDevice() if name == "gpu" else caffebn.ops.get(name)


@pytest.fixture(params=["reference", "cpu", GPU])
def ops(request: pytest.FixtureRequest) -> ModuleType | OnDevice:
    """Each back end."""
    return backend(request.param)


@pytest.fixture
def on_device() -> OnDevice:
    """The gpu back end, for arrays of the host."""
    return OnDevice()


@pytest.fixture(params=["cpu", GPU])
def compiled(request: pytest.FixtureRequest) -> ModuleType | OnDevice:
    """Each back end with kernels, to be compared with the reference."""
    return backend(request.param)


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> np.dtype:
    """Each dtype of tensors."""
    return np.dtype(request.param)


@pytest.fixture(autouse=True)
def _same_threads_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what a test does to the number of threads."""
    monkeypatch.setattr(threads, "_count", threads._count)


@pytest.fixture
def use_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A function that makes every call use that many threads, however little there is to do."""
    monkeypatch.setattr(threads, "_SMALL", 0)
    return threads.set


@pytest.fixture
def cpu_at_level(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A function that returns a copy of the cpu back end that runs the kernels of another level."""

    def load(name: str) -> ModuleType:
        monkeypatch.setattr(level, "_ACTIVE", name)
        monkeypatch.setattr(caffebn.ops, "cpu", None, raising=False)
        for module in [m for m in sys.modules if f"{m}.".startswith("caffebn.ops.cpu.")]:
            monkeypatch.delitem(sys.modules, module)
        copy = importlib.import_module("caffebn.ops.cpu")
        assert copy.channel._kernel.__name__ == f"caffebn._kernels.{name}.channel"
        return copy

    return load


class Make:
    """Makes the arrays of one call.

    Outputs are filled with what no op writes, so that an element left out is noticed.
    """

    def __init__(self, dtype: np.dtype, seed: int = 0):
        self.dtype = np.dtype(dtype)
        self.rng = np.random.default_rng(seed)

    def tensor(self, *shape: int, dtype: np.dtype | None = None) -> np.ndarray:
        """Random numbers, normal."""
        return self._varied(self.rng.standard_normal(shape).astype(dtype or self.dtype))

    def positive(self, *shape: int, dtype: np.dtype | None = None) -> np.ndarray:
        """Random numbers from 0.5 to 2."""
        return self._varied(self.rng.uniform(0.5, 2, shape).astype(dtype or self.dtype))

    def integers(self, below: int, *shape: int, dtype: np.dtype | None = None) -> np.ndarray:
        """Random integers from 0."""
        values = self.rng.integers(0, max(below, 1), shape).astype(dtype or self.dtype)
        return self._varied(values) if below > 1 and values.size > 30 else values

    def out(self, *shape: int, dtype: np.dtype | None = None) -> np.ndarray:
        """An array to be filled."""
        dtype = np.dtype(dtype or self.dtype)
        return np.full(shape, math.nan if dtype.kind == "f" else -77, dtype)

    @staticmethod
    def _varied(values: np.ndarray) -> np.ndarray:
        assert values.size < 2 or values.min() < values.max()
        return values


@pytest.fixture
def make(dtype: np.dtype) -> Make:
    """A maker of arrays of the dtype under test."""
    return Make(dtype)


@pytest.fixture
def make_for() -> type[Make]:
    """The class of makers, for tests that choose dtype and seed themselves."""
    return Make


Call = dict[str, object]

DOUBLE = np.float64
INDEX = np.int32


def channel_calls(m: Make, N: int, C: int, S: int) -> dict[str, Callable[[], Call]]:
    """How to make one call of each op of the family channel."""
    shape = (N, C, S)
    return {
        "channel_sum": lambda: {"x": m.tensor(*shape), "out": m.tensor(C), "accumulate": True},
        "channel_dot": lambda: {"x": m.tensor(*shape), "y": m.tensor(*shape), "out": m.out(C, dtype=DOUBLE)},
        "moments": lambda: {
            "x": m.tensor(*shape) + m.dtype.type(3),
            "mean_out": m.out(C, dtype=DOUBLE),
            "var_out": m.out(C, dtype=DOUBLE),
        },
        "inv_std": lambda: {"var": m.positive(C, dtype=DOUBLE), "eps": 1e-5, "out": m.out(C, dtype=DOUBLE)},
        "inv_deviation": lambda: {
            "var": m.positive(C, dtype=DOUBLE),
            "eps": 1e-3,
            "out": m.out(C, dtype=DOUBLE),
        },
        "stored_statistics": lambda: {
            "sum_mean": m.tensor(C),
            "sum_var": m.positive(C),
            "factor": np.array([1.7], m.dtype),
            "mean_out": m.out(C, dtype=DOUBLE),
            "var_out": m.out(C, dtype=DOUBLE),
        },
        "update_statistics": lambda: {
            "mean": m.tensor(C, dtype=DOUBLE),
            "var": m.positive(C, dtype=DOUBLE),
            "count": N * S,
            "fraction": 0.9,
            "sum_mean": m.tensor(C),
            "sum_var": m.positive(C),
            "factor": np.array([1.7], m.dtype),
        },
        "normalize": lambda: {
            "x": m.tensor(*shape),
            "mean": m.tensor(C, dtype=DOUBLE),
            "inv_std": m.positive(C, dtype=DOUBLE),
            "y": m.out(*shape),
        },
        "normalize_backward": lambda: {
            "dy": m.tensor(*shape),
            "y": m.tensor(*shape),
            "inv_std": m.positive(C, dtype=DOUBLE),
            "dx": m.out(*shape),
        },
        "affine": lambda: {
            "x": m.tensor(*shape),
            "scale": m.tensor(C),
            "shift": m.tensor(C, dtype=DOUBLE),
            "y": m.out(*shape),
        },
        "prelu": lambda: {"x": m.tensor(*shape), "slope": m.tensor(C), "y": m.out(*shape)},
        "prelu_backward": lambda: {
            "x": m.tensor(*shape),
            "dy": m.tensor(*shape),
            "slope": m.tensor(C),
            "dx": m.out(*shape),
        },
    }


def batch_norm_calls(m: Make, N: int, C: int, S: int) -> dict[str, Callable[[], Call]]:
    """How to make one call of each op of the family batch_norm."""
    shape = (N, C, S)
    return {
        "batch_norm": lambda: {
            "x": m.tensor(*shape) + m.dtype.type(3),
            "eps": 1e-3,
            "scale": m.tensor(C),
            "shift": m.tensor(C),
            "residual": m.tensor(*shape),
            "slope": 0.25,
            "y": m.out(*shape),
            "mean_out": m.out(C, dtype=DOUBLE),
            "var_out": m.out(C, dtype=DOUBLE),
            "inv_std_out": m.out(C, dtype=DOUBLE),
        },
        "batch_norm_backward": lambda: {
            "x": m.tensor(*shape),
            "mean": m.tensor(C, dtype=DOUBLE),
            "inv_std": m.positive(C, dtype=DOUBLE),
            "scale": m.tensor(C),
            "shift": m.tensor(C),
            "y": m.tensor(*shape),
            "slope": 0.25,
            "frozen": False,
            "dy": m.tensor(*shape),
            "dx": m.out(*shape),
            "dscale": m.tensor(C),
            "dshift": m.tensor(C),
            "dresidual": m.out(*shape),
        },
        "normalize_act": lambda: {
            "x": m.tensor(*shape),
            "mean": m.tensor(C, dtype=DOUBLE),
            "inv_std": m.positive(C, dtype=DOUBLE),
            "scale": m.tensor(C),
            "shift": m.tensor(C),
            "residual": m.tensor(*shape),
            "slope": 0.25,
            "y": m.out(*shape),
        },
        "fold_statistics": lambda: {
            "mean": m.tensor(C, dtype=DOUBLE),
            "var": m.positive(C, dtype=DOUBLE),
            "eps": 1e-3,
            "scale": m.tensor(C),
            "shift": m.tensor(C),
            "bias": m.tensor(C),
            "a_out": m.out(C),
            "b_out": m.out(C),
        },
    }


def elementwise_calls(m: Make, *shape: int) -> dict[str, Callable[[], Call]]:
    """How to make one call of each op of the family elementwise."""

    def forward(**numbers: float) -> Call:
        return {"x": m.tensor(*shape), "y": m.out(*shape), **numbers}

    def backward(**numbers: float) -> Call:
        return {"x": m.tensor(*shape), "dy": m.tensor(*shape), "dx": m.out(*shape), **numbers}

    linear = {"scale": 0.3, "shift": 2.5}
    return {
        "elu": lambda: forward(alpha=0.7),
        "elu_backward": lambda: {**backward(alpha=0.7), "y": m.tensor(*shape)},
        "bnll": forward,
        "bnll_backward": backward,
        "swish": lambda: forward(beta=1.3),
        "swish_backward": lambda: backward(beta=1.3),
        "power": lambda: forward(power=1.7, **linear),
        "power_backward": lambda: {**backward(power=1.7, **linear), "y": m.tensor(*shape)},
        "exp": lambda: forward(inner=0.6, outer=1.5),
        "log": lambda: forward(factor=0.4, **linear),
        "log_backward": lambda: backward(factor=0.4, **linear),
        "absolute": forward,
        "sign": forward,
        "threshold": lambda: forward(threshold=0.1),
        "clip": lambda: forward(low=-0.6, high=0.3),
        "clip_backward": lambda: backward(low=-0.6, high=0.3),
        "relu": lambda: {"x": m.tensor(*shape), "y": m.out(*shape), "slope": 0.1},
        "relu_backward": lambda: {
            "y": m.tensor(*shape),
            "dy": m.tensor(*shape),
            "dx": m.out(*shape),
            "slope": 0.1,
        },
        "sigmoid": lambda: {"x": m.tensor(*shape), "y": m.out(*shape)},
        "sigmoid_backward": lambda: {"y": m.positive(*shape), "dy": m.tensor(*shape), "dx": m.out(*shape)},
        "tanh": lambda: {"x": m.tensor(*shape), "y": m.out(*shape)},
        "tanh_backward": lambda: {"y": m.positive(*shape), "dy": m.tensor(*shape), "dx": m.out(*shape)},
        "dropout": lambda: {
            "x": m.tensor(*shape),
            "mask": m.integers(2, *shape, dtype=np.uint8),
            "scale": 1 / 0.7,
            "y": m.out(*shape),
        },
        "scale_by": lambda: {"x": m.tensor(*shape), "scale": np.array([0.3]), "y": m.out(*shape)},
        "scale_copy": lambda: {"x": m.tensor(*shape), "alpha": 0.3, "y": m.out(*shape)},
        "axpy": lambda: {"x": m.tensor(*shape), "alpha": 0.3, "y": m.tensor(*shape)},
        "weighted_sum": lambda: {
            "a": m.tensor(*shape),
            "alpha": 0.3,
            "b": m.tensor(*shape),
            "beta": -1.1,
            "y": m.out(*shape),
        },
        "multiply": lambda: {"a": m.tensor(*shape), "b": m.tensor(*shape), "y": m.out(*shape)},
        "product_gradient": lambda: {
            "y": m.tensor(*shape),
            "x": m.positive(*shape),
            "dy": m.tensor(*shape),
            "dx": m.out(*shape),
        },
        "maximum": lambda: {
            "a": m.integers(5, *shape),
            "b": m.integers(5, *shape),
            "index_a": 0,
            "index_b": 1,
            "y": m.out(*shape),
            "index": m.out(*shape, dtype=INDEX),
        },
        "maximum_update": lambda: {
            "x": m.integers(5, *shape),
            "index_x": 2,
            "y": m.integers(5, *shape),
            "index": m.integers(2, *shape, dtype=INDEX),
        },
        "select_gradient": lambda: {
            "index": m.integers(3, *shape, dtype=INDEX),
            "which": 1,
            "dy": m.tensor(*shape),
            "dx": m.out(*shape),
        },
        "fill": lambda: {"x": m.out(*shape), "value": 0.1},
    }


def pool_calls(m: Make, N: int, C: int, H: int, W: int) -> dict[str, Callable[[], Call]]:
    """How to make one call of each op of the family pool."""
    rows, columns = (H + 2) // 2, W + 1  # the first and the last windows hang over
    window = {"kernel": (3, 2), "stride": (2, 1), "pad": (1, 1)}
    return {
        "max_pool": lambda: {
            "x": m.tensor(N, C, H, W),
            "y": m.out(N, C, rows, columns),
            "index": m.out(N, C, rows, columns, dtype=INDEX),
            **window,
        },
        "places_as_numbers": lambda: {
            "index": m.integers(H * W, N, C, rows, columns, dtype=INDEX),
            "y": m.out(N, C, rows, columns),
        },
        "max_pool_backward": lambda: {
            "dy": m.tensor(N, C, rows, columns),
            "index": m.integers(H * W, N, C, rows, columns, dtype=INDEX),
            "dx": m.out(N, C, H, W),
        },
        "ave_pool": lambda: {"x": m.tensor(N, C, H, W), "y": m.out(N, C, rows, columns), **window},
        "ave_pool_backward": lambda: {"dy": m.tensor(N, C, rows, columns), "dx": m.out(N, C, H, W), **window},
    }


def lrn_calls(m: Make, *shape: int) -> dict[str, Callable[[], Call]]:
    """How to make one call of each op of the family lrn."""
    numbers = {"size": 5, "alpha": 0.4, "beta": 0.75}

    def forward() -> Call:
        return {"x": m.tensor(*shape), "scale": m.out(*shape), "y": m.out(*shape)}

    def backward() -> Call:
        return {
            "x": m.tensor(*shape),
            "y": m.tensor(*shape),
            "scale": m.positive(*shape),
            "dy": m.tensor(*shape),
            "dx": m.out(*shape),
        }

    return {
        "lrn_across": lambda: {**forward(), **numbers, "k": 2.0},
        "lrn_across_backward": lambda: {**backward(), **numbers},
        "lrn_within": lambda: {**forward(), **numbers, "beta": 0.6},
        "lrn_within_backward": lambda: {**backward(), **numbers, "beta": 0.6},
    }


def softmax_calls(m: Make, N: int, C: int, S: int) -> dict[str, Callable[[], Call]]:
    """How to make one call of each op of the family softmax."""
    return {
        "softmax": lambda: {"x": m.tensor(N, C, S), "y": m.out(N, C, S)},
        "softmax_backward": lambda: {"y": m.positive(N, C, S), "dy": m.tensor(N, C, S), "dx": m.out(N, C, S)},
        "softmax_loss": lambda: {
            "prob": m.positive(N, C, S),
            "label": m.integers(C, N * S),
            "ignore": 1,
            "out": m.out(2, dtype=DOUBLE),
        },
        "softmax_loss_backward": lambda: {
            "prob": m.positive(N, C, S),
            "label": m.integers(C, N * S),
            "ignore": 1,
            "scale": np.array([0.3]),
            "dx": m.out(N, C, S),
        },
        "accuracy": lambda: {
            "x": m.integers(9, N, C, S),
            "label": m.integers(C, N * S),
            "ignore": 1,
            "top_k": 2,
            "out": m.out(2, dtype=DOUBLE),
            "class_hits": m.out(C, dtype=DOUBLE),
            "class_counts": m.out(C, dtype=DOUBLE),
        },
        "shares": lambda: {
            "part": m.positive(C, dtype=DOUBLE),
            "whole": m.integers(5, C, dtype=DOUBLE),
            "y": m.out(C),
        },
        "arg_max": lambda: {"x": m.integers(9, N, C, S), "index": m.out(N, 2, S), "value": m.out(N, 2, S)},
    }


def loss_calls(m: Make, N: int, C: int) -> dict[str, Callable[[], Call]]:
    """How to make one call of each op of the family loss."""

    def scores(**arguments: object) -> Call:
        return {"x": m.tensor(N, C), "label": m.integers(C, N), **arguments}

    def probabilities(**arguments: object) -> Call:
        return {"prob": m.positive(N, C), "label": m.integers(C, N), **arguments}

    def places(**arguments: object) -> Call:
        S = 3
        return {
            "prob": m.positive(N, C, S),
            "label": m.integers(C, N * S),
            "ignore": 1,
            "matrix": m.tensor(C, C),
            **arguments,
        }

    def targets(**arguments: object) -> Call:
        return {"x": m.tensor(N, C), "target": m.integers(3, N, C), "ignore": 2, **arguments}

    def pairs(**arguments: object) -> Call:
        return {
            "square": m.positive(N, dtype=DOUBLE),
            "similar": m.integers(2, N),
            "margin": 1.1,
            "legacy": False,
            **arguments,
        }

    return {
        "mean_loss": lambda: {
            "sums": m.positive(2, dtype=DOUBLE),
            "divisor": None,
            "z": m.out(1, dtype=DOUBLE),
            "loss": m.out(1),
        },
        "loss_scale": lambda: {
            "weight": m.tensor(1),
            "z": m.positive(1, dtype=DOUBLE),
            "factor": -2.0,
            "scale": m.out(1, dtype=DOUBLE),
        },
        "sigmoid_cross_entropy": lambda: targets(out=m.out(2, dtype=DOUBLE)),
        "sigmoid_cross_entropy_backward": lambda: targets(scale=np.array([0.3]), dx=m.out(N, C)),
        "infogain_loss": lambda: places(out=m.out(2, dtype=DOUBLE)),
        "infogain_loss_backward": lambda: places(scale=np.array([0.3]), dx=m.out(N, C, 3)),
        "multinomial_loss": lambda: probabilities(out=m.out(1, dtype=DOUBLE)),
        "multinomial_loss_backward": lambda: probabilities(scale=np.array([0.3]), dx=m.out(N, C)),
        "hinge_loss": lambda: scores(squared=True, out=m.out(1, dtype=DOUBLE)),
        "hinge_loss_backward": lambda: scores(squared=False, scale=np.array([0.3]), dx=m.out(N, C)),
        "contrastive_loss": lambda: pairs(out=m.out(1, dtype=DOUBLE)),
        "contrastive_loss_backward": lambda: {
            "difference": m.tensor(N, C),
            **pairs(scale=np.array([0.3]), dx=m.out(N, C)),
        },
    }


def copy_calls(m: Make, outer: int, columns: int) -> dict[str, Callable[[], Call]]:
    """How to make one call of each op of the family copy."""
    total = columns + 5
    return {
        "copy_into": lambda: {"src": m.tensor(outer, columns), "dst": m.tensor(outer, total), "offset": 2},
        "copy_from": lambda: {"src": m.tensor(outer, total), "offset": 2, "dst": m.out(outer, columns)},
        "add_from": lambda: {"src": m.tensor(outer, total), "offset": 2, "dst": m.tensor(outer, columns)},
        "copy_block": lambda: {
            "src": m.tensor(outer + 2, 3, total),
            "offset": (1, 2, 3),
            "dst": m.out(outer, 1, columns),
        },
        "paste_block": lambda: {
            "src": m.tensor(outer, 1, columns),
            "dst": m.tensor(outer + 2, 3, total),
            "offset": (1, 2, 3),
        },
        "row_indices": lambda: {
            "x": m.integers(outer, 5 * outer),
            "limit": outer,
            "index": m.out(5 * outer, dtype=INDEX),
        },
        "gather_rows": lambda: {
            "src": m.tensor(outer, columns),
            "index": m.integers(outer, 2 * outer, dtype=INDEX),
            "dst": m.out(2 * outer, columns),
        },
        "scatter_add_rows": lambda: {
            "src": m.tensor(3 * outer, columns),
            "index": m.integers(outer, 3 * outer, dtype=INDEX),
            "dst": m.tensor(outer, columns),
        },
    }


def update_calls(m: Make, n: int) -> dict[str, Callable[[], Call]]:
    """How to make one call of each op of the family update."""

    def step(*history: str, **numbers: float) -> Callable[[], Call]:
        return lambda: {
            "w": m.tensor(n),
            "dw": m.tensor(n),
            **{name: m.positive(n) for name in history},
            "rate": 0.1,
            **numbers,
            "scale": 0.3,
            "decay": 0.2,
            "l1": False,
        }

    adam = {"beta1": 0.9, "beta2": 0.999}
    return {
        "sum_of_squares": lambda: {"x": m.tensor(n), "out": m.out(1, dtype=DOUBLE)},
        "update_sgd": step("h", momentum=0.9),
        "update_nesterov": step("h", momentum=0.9),
        "update_adagrad": step("h", delta=1e-3),
        "update_rmsprop": step("h", rms_decay=0.98, delta=1e-3),
        "update_adadelta": step("h", "u", momentum=0.95, delta=1e-3),
        "update_adam": step("m", "v", **adam, delta=1e-3),
        "update_nadam": step("m", "v", **adam, of_m=4.7, of_g=0.5, of_v=300.0, delta=1e-3),
    }


FAMILIES = {
    "batch_norm": batch_norm_calls,
    "channel": channel_calls,
    "elementwise": elementwise_calls,
    "pool": pool_calls,
    "lrn": lrn_calls,
    "softmax": softmax_calls,
    "loss": loss_calls,
    "copy": copy_calls,
    "update": update_calls,
}

#: Arguments that an op writes.
OUTPUTS = {
    "batch_norm": ["y", "mean_out", "var_out", "inv_std_out"],
    "batch_norm_backward": ["dx", "dscale", "dshift", "dresidual"],
    "normalize_act": ["y"],
    "fold_statistics": ["a_out", "b_out"],
    "channel_sum": ["out"],
    "channel_dot": ["out"],
    "moments": ["mean_out", "var_out"],
    "inv_std": ["out"],
    "inv_deviation": ["out"],
    "stored_statistics": ["mean_out", "var_out"],
    "update_statistics": ["sum_mean", "sum_var", "factor"],
    "normalize": ["y"],
    "normalize_backward": ["dx"],
    "affine": ["y"],
    "prelu": ["y"],
    "prelu_backward": ["dx"],
    "elu": ["y"],
    "elu_backward": ["dx"],
    "bnll": ["y"],
    "bnll_backward": ["dx"],
    "swish": ["y"],
    "swish_backward": ["dx"],
    "power": ["y"],
    "power_backward": ["dx"],
    "exp": ["y"],
    "log": ["y"],
    "log_backward": ["dx"],
    "absolute": ["y"],
    "sign": ["y"],
    "threshold": ["y"],
    "clip": ["y"],
    "clip_backward": ["dx"],
    "relu": ["y"],
    "relu_backward": ["dx"],
    "sigmoid": ["y"],
    "sigmoid_backward": ["dx"],
    "tanh": ["y"],
    "tanh_backward": ["dx"],
    "dropout": ["y"],
    "scale_by": ["y"],
    "scale_copy": ["y"],
    "axpy": ["y"],
    "weighted_sum": ["y"],
    "multiply": ["y"],
    "product_gradient": ["dx"],
    "maximum": ["y", "index"],
    "maximum_update": ["y", "index"],
    "select_gradient": ["dx"],
    "fill": ["x"],
    "max_pool": ["y", "index"],
    "max_pool_backward": ["dx"],
    "places_as_numbers": ["y"],
    "ave_pool": ["y"],
    "ave_pool_backward": ["dx"],
    "lrn_across": ["scale", "y"],
    "lrn_across_backward": ["dx"],
    "lrn_within": ["scale", "y"],
    "lrn_within_backward": ["dx"],
    "softmax": ["y"],
    "softmax_backward": ["dx"],
    "softmax_loss": ["out"],
    "softmax_loss_backward": ["dx"],
    "accuracy": ["out", "class_hits", "class_counts"],
    "arg_max": ["index", "value"],
    "shares": ["y"],
    "mean_loss": ["z", "loss"],
    "loss_scale": ["scale"],
    "sigmoid_cross_entropy": ["out"],
    "sigmoid_cross_entropy_backward": ["dx"],
    "infogain_loss": ["out"],
    "infogain_loss_backward": ["dx"],
    "multinomial_loss": ["out"],
    "multinomial_loss_backward": ["dx"],
    "hinge_loss": ["out"],
    "hinge_loss_backward": ["dx"],
    "contrastive_loss": ["out"],
    "contrastive_loss_backward": ["dx"],
    "copy_into": ["dst"],
    "copy_from": ["dst"],
    "add_from": ["dst"],
    "sum_of_squares": ["out"],
    "update_sgd": ["w", "dw", "h"],
    "update_nesterov": ["w", "dw", "h"],
    "update_adagrad": ["w", "dw", "h"],
    "update_rmsprop": ["w", "dw", "h"],
    "update_adadelta": ["w", "dw", "h", "u"],
    "update_adam": ["w", "dw", "m", "v"],
    "update_nadam": ["w", "dw", "m", "v"],
    "copy_block": ["dst"],
    "paste_block": ["dst"],
    "row_indices": ["index"],
    "gather_rows": ["dst"],
    "scatter_add_rows": ["dst"],
}

#: Every op that the families above hold.
OPS = list(OUTPUTS)

#: A shape for each family, large enough that work is cut among threads in every way there is.
LARGE = {
    "batch_norm": [(2, 15, 4200), (300, 37, 1), (3, 40, 49), (40, 300, 2), (130, 2, 3)],
    "channel": [(2, 15, 4200), (300, 37, 1), (3, 40, 49), (40, 300, 2), (130, 2, 3)],
    "elementwise": [(3, 1001)],
    "pool": [(2, 3, 13, 19), (30, 3, 5, 7), (1, 2, 40, 130)],
    "lrn": [(2, 7, 9, 70)],
    "softmax": [(3, 6, 50), (2, 5, 700), (40, 300, 1), (30, 3, 3)],
    "loss": [(700, 9)],
    "copy": [(3, 20000)],
    "update": [(40001,)],
}


def family_of(op: str) -> str:
    """The family that an op belongs to."""
    (family,) = (f for f, calls in FAMILIES.items() if op in calls(Make("float32"), *LARGE[f][0]))
    return family


def call_of(op: str, dtype: np.dtype, shape: tuple[int, ...], seed: int = 0) -> Call:
    """Fresh arguments for one op; equal seeds give equal arguments."""
    return FAMILIES[family_of(op)](Make(dtype, seed), *shape)[op]()


def outputs_of(ops: ModuleType, op: str, call: Call) -> dict[str, np.ndarray]:
    """Run an op and return what it wrote, by name of argument."""
    assert getattr(ops, op)(**call) is None
    return {name: call[name] for name in OUTPUTS[op]}


class Calls:
    """The functions and tables above, for tests."""

    families = FAMILIES
    outputs = OUTPUTS
    large = LARGE
    family_of = staticmethod(family_of)
    call_of = staticmethod(call_of)
    outputs_of = staticmethod(outputs_of)


@pytest.fixture
def calls() -> type[Calls]:
    """One call of every op: see `Calls`."""
    return Calls


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `op` for every op."""
    if "op" in metafunc.fixturenames:
        metafunc.parametrize("op", OPS)
