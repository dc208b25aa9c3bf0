"""What holds for every op of every back end."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys

import numpy as np
import pytest

import caffebn.ops
from caffebn.errors import ArgumentError
from caffebn.ops import level

GPU = pytest.param("gpu", marks=pytest.mark.gpu)

# Ops whose results are rounded once, or computed step by step in the tensors' dtype, on every back end
EXACT = {
    "normalize_act", "fold_statistics",
    "inv_std", "inv_deviation", "stored_statistics", "update_statistics", "normalize", "affine", "prelu",
    "prelu_backward", "elu_backward", "absolute", "sign", "threshold", "clip", "clip_backward",
    "power_backward", "log_backward",
    "relu", "relu_backward", "sigmoid_backward", "tanh_backward", "dropout", "scale_by", "scale_copy", "axpy",
    "weighted_sum", "multiply", "product_gradient", "maximum", "maximum_update", "select_gradient", "fill",
    "update_sgd", "update_nesterov", "update_adagrad", "update_rmsprop", "update_adadelta", "update_adam",
    "update_nadam",
    "mean_loss", "loss_scale", "shares", "places_as_numbers",
    "max_pool", "softmax_loss_backward", "accuracy", "arg_max", "contrastive_loss_backward",
    "multinomial_loss_backward", "hinge_loss_backward",
    "copy_into", "copy_from", "add_from", "copy_block", "paste_block", "row_indices", "gather_rows",
    "scatter_add_rows",
}  # fmt: skip

# Which output may be which input
IN_PLACE = [
    ("batch_norm", "y", "x"),
    ("batch_norm", "y", "residual"),
    ("batch_norm_backward", "dx", "dy"),
    ("batch_norm_backward", "dx", "x"),
    ("batch_norm_backward", "dresidual", "dy"),
    ("normalize_act", "y", "x"),
    ("normalize_act", "y", "residual"),
    ("inv_std", "out", "var"),
    ("inv_deviation", "out", "var"),
    ("normalize", "y", "x"),
    ("normalize_backward", "dx", "dy"),
    ("affine", "y", "x"),
    ("prelu", "y", "x"),
    ("prelu_backward", "dx", "dy"),
    *[
        (op, "y", "x")
        for op in ("elu", "bnll", "swish", "power", "exp", "log", "absolute", "sign", "threshold", "clip")
    ],
    *[(f"{op}_backward", "dx", "dy") for op in ("elu", "bnll", "swish", "power", "log", "clip")],
    ("relu", "y", "x"),
    ("relu_backward", "dx", "dy"),
    ("sigmoid", "y", "x"),
    ("sigmoid_backward", "dx", "dy"),
    ("tanh", "y", "x"),
    ("tanh_backward", "dx", "dy"),
    ("dropout", "y", "x"),
    ("scale_by", "y", "x"),
    ("scale_copy", "y", "x"),
    ("weighted_sum", "y", "a"),
    ("weighted_sum", "y", "b"),
    ("multiply", "y", "a"),
    ("multiply", "y", "b"),
    ("product_gradient", "dx", "dy"),
    ("maximum", "y", "a"),
    ("maximum", "y", "b"),
    ("select_gradient", "dx", "dy"),
    ("softmax", "y", "x"),
    ("softmax_backward", "dx", "dy"),
    ("softmax_loss_backward", "dx", "prob"),
    ("sigmoid_cross_entropy_backward", "dx", "x"),
    ("infogain_loss_backward", "dx", "prob"),
    ("hinge_loss_backward", "dx", "x"),
    ("contrastive_loss_backward", "dx", "difference"),
]

# Images, channels, places
NCS = [
    *[(1, 1, 1), (2, 3, 4), (60, 100, 1), (3, 5, 15), (3, 5, 16), (2, 7, 49), (2, 3, 5000), (40, 2, 17)],
    *[(1000, 2, 1), (257, 1, 3), (2, 1100, 1), (70, 300, 1), (0, 4, 5), (3, 4, 0), (3, 0, 5), (0, 4, 0)],
]

SHAPES = {
    "batch_norm": NCS,
    "channel": NCS,
    "elementwise": [(), (0,), (1,), (2, 3, 4), (3, 0, 2), (20001,)],
    "pool": [(2, 3, 5, 6), (1, 1, 1, 1), (2, 2, 6, 33), (0, 3, 4, 4), (2, 0, 4, 4)],
    "lrn": [(2, 7, 4, 5), (1, 1, 1, 1), (1, 3, 2, 600), (2, 4, 20, 30), (0, 3, 4, 4), (2, 3, 0, 4)],
    "softmax": [
        (2, 3, 4),
        (60, 10, 1),
        (3, 100, 1),
        (2, 5, 600),
        (1200, 3, 2),
        (1, 4, 1),
        (2, 3, 100),
        (0, 3, 4),
        (2, 3, 0),
    ],
    "loss": [(4, 3), (1, 2), (0, 4), (1100, 5)],
    "copy": [(2, 3), (1, 40000), (0, 3), (3, 0)],
    "update": [(0,), (1,), (7,), (8192,), (8193,), (30000,)],
}


def modules(backend: str) -> dict[str, object]:
    """The modules of a back end that hold ops."""
    package = caffebn.ops.get(backend)
    found = {
        m.name: importlib.import_module(f"{package.__name__}.{m.name}")
        for m in pkgutil.iter_modules(package.__path__)
    }
    families = [m.name for m in pkgutil.iter_modules(caffebn.ops.get("reference").__path__)]
    return {name: found.get(name) for name in families}


def signature(function) -> list[tuple[str, object, object]]:
    return [(p.name, p.default, p.annotation) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("backend", ["cpu", GPU])
def test_files_functions_and_signatures_are_the_same(backend):
    reference, other = modules("reference"), modules(backend)
    assert {
        "batch_norm",
        "channel",
        "elementwise",
        "pool",
        "loss",
        "im2col",
        "gemm",
        "conv",
    } <= reference.keys()
    for family, module in reference.items():
        assert other[family].__all__ == module.__all__, family
        assert [n for n in vars(module) if inspect.isfunction(vars(module)[n]) and n in module.__all__]
        for name in module.__all__:
            assert signature(getattr(other[family], name)) == signature(getattr(module, name)), name


@pytest.mark.parametrize("backend", ["cpu", "reference", GPU])
def test_a_backend_offers_what_its_files_hold(backend):
    package = caffebn.ops.get(backend)
    held = [name for module in modules(backend).values() for name in module.__all__]
    offered = [name for name in package.__all__ if inspect.isfunction(getattr(package, name))]
    assert sorted(held) == sorted(offered)
    assert len(set(held)) == len(held)


def test_the_reference_is_the_documentation():
    for module in modules("reference").values():
        for name in module.__all__:
            text = inspect.getdoc(getattr(module, name))
            assert "Parameters\n" in text, name
            for parameter in inspect.signature(getattr(module, name)).parameters:
                assert parameter in text.split("Parameters\n", 1)[1], (name, parameter)


def test_every_op_has_a_call_here(calls):
    held = {n for family in calls.families for n in modules("reference")[family].__all__}
    assert held == calls.outputs.keys()


def test_get_refuses_other_names():
    with pytest.raises(
        ArgumentError, match=r"no ops named 'cpus'; there are cpu, reference, gpu; did you mean \"cpu\""
    ):
        caffebn.ops.get("cpus")
    with pytest.raises(ArgumentError, match="no ops named 'cuda'"):
        caffebn.ops.get("cuda")


def test_backends_are_loaded_when_asked_for():
    code = (
        "import sys, caffebn.ops; assert 'caffebn.ops.cpu' not in sys.modules; caffebn.ops.get('cpu');"
        "assert 'caffebn.ops.reference' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_kernels_agree_with_reference(compiled, op, dtype, calls):
    tolerance = {"rtol": 2e-6, "atol": 2e-6} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-12}
    for shape in SHAPES[calls.family_of(op)]:
        expected = calls.outputs_of(caffebn.ops.get("reference"), op, calls.call_of(op, dtype, shape))
        found = calls.outputs_of(compiled, op, calls.call_of(op, dtype, shape))
        for name, value in expected.items():
            if op in EXACT:
                np.testing.assert_array_equal(found[name], value, err_msg=f"{name} {shape}")
            else:
                np.testing.assert_allclose(found[name], value, **tolerance, err_msg=f"{name} {shape}")


def test_any_number_of_threads_gives_the_same_bits(op, dtype, calls, use_threads):
    for shape in calls.large[calls.family_of(op)]:
        found = []
        for n in (1, 2, 3, 4):
            use_threads(n)
            outputs = calls.outputs_of(caffebn.ops.get("cpu"), op, calls.call_of(op, dtype, shape))
            found.append({name: value.tobytes() for name, value in outputs.items()})
        assert found[0] == found[1] == found[2] == found[3], shape


def test_any_place_in_memory_gives_the_same_bits(op, dtype, calls):
    cpu = caffebn.ops.get("cpu")
    for shape in calls.large[calls.family_of(op)]:
        call = calls.call_of(op, dtype, shape)
        shifted = {name: _shifted(v) if isinstance(v, np.ndarray) else v for name, v in call.items()}
        expected, found = calls.outputs_of(cpu, op, call), calls.outputs_of(cpu, op, shifted)
        for name, value in expected.items():
            assert found[name].tobytes() == value.tobytes(), (name, shape)


def _shifted(array: np.ndarray) -> np.ndarray:
    """A copy that starts one element later than memory from the allocator does."""
    copy = np.empty(array.size + 1, array.dtype)[1:].reshape(array.shape)
    copy[...] = array
    return copy


def test_all_levels_give_the_same_bits(dtype, calls, cpu_at_level):
    levels = level.available()
    if len(levels) == 1:
        pytest.skip(f"only the level {levels[0]} is available here")
    digests = {}
    for name in levels:
        cpu = cpu_at_level(name)
        for op in calls.outputs:
            for shape in calls.large[calls.family_of(op)]:
                outputs = calls.outputs_of(cpu, op, calls.call_of(op, dtype, shape))
                found = {argument: value.tobytes() for argument, value in outputs.items()}
                assert digests.setdefault((op, shape), found) == found, (op, shape, name)


@pytest.mark.parametrize(("op_in_place", "output", "source"), IN_PLACE)
def test_in_place(ops, dtype, calls, op_in_place, output, source):
    for shape in calls.large[calls.family_of(op_in_place)]:
        expected = calls.outputs_of(ops, op_in_place, calls.call_of(op_in_place, dtype, shape))
        call = calls.call_of(op_in_place, dtype, shape)
        call[output] = call[source]
        found = calls.outputs_of(ops, op_in_place, call)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=f"{name} {shape}")


def test_inputs_may_be_read_only_files(ops, op, dtype, calls, tmp_path):
    shape = calls.large[calls.family_of(op)][-1]
    expected = calls.outputs_of(ops, op, calls.call_of(op, dtype, shape))
    call = calls.call_of(op, dtype, shape)
    for name, value in call.items():
        if isinstance(value, np.ndarray) and name not in calls.outputs[op]:
            np.save(tmp_path / f"{name}.npy", value)
            call[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
            assert isinstance(call[name], np.memmap) and not call[name].flags.writeable
    found = calls.outputs_of(ops, op, call)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_inputs_stay_as_they_are(ops, op, dtype, calls):
    shape = calls.large[calls.family_of(op)][-1]
    before, call = calls.call_of(op, dtype, shape), calls.call_of(op, dtype, shape)
    calls.outputs_of(ops, op, call)
    for name in call.keys() - set(calls.outputs[op]):
        np.testing.assert_array_equal(call[name], before[name])


def array_arguments(calls, op: str, shape: tuple[int, ...]) -> list[str]:
    return [n for n, v in calls.call_of(op, "float32", shape).items() if isinstance(v, np.ndarray)]


def test_arrays_are_checked(op, calls):
    """Each array in turn is made unfit in each way.

    The error names the op, and the array itself or, where that sets shape or dtype, one that no longer goes
    with it.
    """
    shape = calls.large[calls.family_of(op)][-1]
    cpu = caffebn.ops.get("cpu")
    for name in array_arguments(calls, op, shape):
        for change, said in (
            (lambda a: a.astype(np.float16), "float16"),
            (lambda a: a.astype(">f4"), "f4"),
            (lambda a: np.stack([a, a], axis=-1)[..., 0], "C-contiguous"),
            (_unaligned, "not aligned in memory"),
            (lambda a: a.tolist(), "list"),
            (lambda a: a[None], f"shape {(1, *np.shape(calls.call_of(op, 'float32', shape)[name]))}"),
        ):
            call = calls.call_of(op, "float32", shape)
            call[name] = change(call[name])
            if op == "fill" and said.startswith("shape"):
                continue  # it takes any shape, and there is nothing it has to go with
            if said.startswith("C-cont") and call[name].size == 1:
                continue  # one element is contiguous, however it is laid out
            if said.startswith("not aligned") and call[name].itemsize == 1:
                continue  # bytes may lie anywhere
            with pytest.raises(ArgumentError) as e:
                getattr(cpu, op)(**call)
            assert str(e.value).startswith(f"{op}: "), (name, said)
            assert said in str(e.value) or f"{name} " not in str(e.value), (name, said, str(e.value))


def test_outputs_must_be_writable(op, calls):
    shape = calls.large[calls.family_of(op)][-1]
    for name in calls.outputs[op]:
        call = calls.call_of(op, "float32", shape)
        call[name].flags.writeable = False
        with pytest.raises(ArgumentError, match=f"^{op}: {name} must be a writable .*; found .*, read-only$"):
            getattr(caffebn.ops.get("cpu"), op)(**call)


def _unaligned(array: np.ndarray) -> np.ndarray:
    """A copy at an odd address."""
    memory = np.empty(array.nbytes + 1, np.uint8)[1:]
    copy = memory.view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
