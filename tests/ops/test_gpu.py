"""The GPU back end beside what all back ends do: sources, order of sums, complaints that come later, memory, cuDNN."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import caffebn.ops
from caffebn.errors import ArgumentError, CaffebnWarning, DeviceError, MissingPackageError
from caffebn.ops.geometry import ConvGeometry
from caffebn.ops.labels import speaker
from tests import gpu_emulation

FOLDER = Path(caffebn.ops.__file__).parent / "gpu"
FAMILIES = sorted(path.stem for path in FOLDER.glob("*.cu"))
NVCC = shutil.which("nvcc")

pytestmark = pytest.mark.gpu


@pytest.fixture
def device() -> types.ModuleType:
    return caffebn.ops.arrays("gpu")


@pytest.fixture
def gpu() -> types.ModuleType:
    return caffebn.ops.get("gpu")


# -- sources ---------------------------------------------------------------------------------------------------


def test_every_family_of_kernels_has_a_module_of_its_name():
    assert FAMILIES
    for family in FAMILIES:
        assert importlib.import_module(f"caffebn.ops.gpu.{family}")


@pytest.mark.skipif(NVCC is None, reason="there is no nvcc")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("family", FAMILIES)
def test_sources_are_compiled_for_gpus(device, family, arch, tmp_path):
    source = device.source_of(family)
    names = [f"{name}" for real in ("float", "double") for name in device.expressions(source, real)]
    uses = "".join(f"void* use_{i}() {{ return (void*)&{n}; }}\n" for i, n in enumerate(dict.fromkeys(names)))
    path = tmp_path / f"{family}.cu"
    path.write_text(source + uses)
    flags = ["-std=c++17", "--fmad=false", f"-arch={arch}", "-cubin", "-Werror", "all-warnings"]
    done = subprocess.run(
        [str(NVCC), *flags, "-o", str(tmp_path / "out.cubin"), str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_choices_of_template_arguments_are_found(device):
    source = "template <typename real, int V>\n__global__ void f(int a)\n__global__ void g(\n"
    assert device.expressions(source, "float") == ["f<float, 1>", "f<float, 4>", "g"]
    assert device.expressions(source, "double") == ["f<double, 1>", "f<double, 2>", "g"]


# -- order -----------------------------------------------------------------------------------------------------


def test_any_order_of_threads_gives_the_same_bits(op, dtype, calls, on_device):
    """On a GPU, run to run; emulated, with blocks and threads from the first to the last and back."""
    for shape in calls.large[calls.family_of(op)]:
        found = []
        for backwards in (False, True):
            gpu_emulation.run_backwards(backwards)
            try:
                outputs = calls.outputs_of(on_device, op, calls.call_of(op, dtype, shape))
            finally:
                gpu_emulation.run_backwards(False)
            found.append({name: value.tobytes() for name, value in outputs.items()})
        assert found[0] == found[1], shape


@pytest.mark.parametrize("backwards", [False, True])
def test_masks_are_those_of_the_host(gpu, device, backwards):
    """Any numbers of either kind after each other, drawn on the device or by the user: the generators agree."""
    gpu_emulation.run_backwards(backwards)
    sizes = np.random.default_rng(0)
    host, other = np.random.default_rng(5), np.random.default_rng(5)
    try:
        for k in range(40):
            n = int(sizes.integers(0, 3000)) if k % 3 else int(sizes.integers(0, 5))
            dtype = np.dtype(np.float32 if sizes.random() < 0.7 else np.float64)
            expected, found = np.zeros(n, np.uint8), device.zeros(n, np.uint8)
            caffebn.ops.get("reference").KeepMask(host, dtype, expected).draw(0.3)
            gpu.KeepMask(other, dtype, found).draw(0.3)
            np.testing.assert_array_equal(device.to_host(found), expected)
            assert host.bit_generator.state == other.bit_generator.state
            if k % 7 == 0:
                assert host.random(dtype=dtype) == other.random(dtype=dtype)
    finally:
        gpu_emulation.run_backwards(False)


# -- complaints ------------------------------------------------------------------------------------------------


def test_a_bad_label_is_raised_with_the_next_copy_to_the_host(gpu, device):
    prob = device.from_host(np.full((3, 4, 1), 0.25, np.float32))
    label = device.from_host(np.array([0, 7, 9], np.float32))
    sums = device.zeros(2, np.float64)
    gpu.softmax_loss(prob, label, None, sums)
    with pytest.raises(
        ArgumentError, match=r"^softmax_loss: label must hold classes from 0 to 3; found 7 at index 1"
    ):
        device.to_host(sums)
    assert device.to_host(sums)[1] == 1  # the others were counted, and the complaint is made once


def test_the_layer_is_named(gpu, device):
    index = device.zeros(2, np.int32)
    token = speaker.set('layer "embed" (Embed)')
    gpu.row_indices(device.from_host(np.array([1, -4], np.float32)), 3, index)
    speaker.reset(token)
    with pytest.raises(
        ArgumentError, match=r'^layer "embed" \(Embed\): row_indices: expected indices from 0 to 2, found'
    ):
        device.synchronize()


def test_arrays_of_the_host_are_refused(gpu, device):
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(
        ArgumentError, match=r"^relu: x must be a C-contiguous .* on the GPU; found an array of the host"
    ):
        gpu.relu(x, x, 0.0)
    with pytest.raises(ArgumentError, match="^relu: y must be .*; found list"):
        gpu.relu(device.from_host(x), x.tolist(), 0.0)
    turned = device.zeros((3, 2), np.float32).T
    with pytest.raises(ArgumentError, match="^relu: x must be .*, not C-contiguous"):
        gpu.relu(turned, turned, 0.0)


# -- memory and devices ----------------------------------------------------------------------------------------


def test_out_of_memory_says_what_to_do(device):
    device.limit_memory(1 << 20)
    try:
        with pytest.raises(
            DeviceError, match=r"out of memory: 4\.0 MiB more .* make the batch smaller, raise the limit"
        ) as e:
            device.empty(1 << 20, np.float32)
        assert e.value.needed == 4 << 20
    finally:
        device.limit_memory(None)


def test_a_library_that_is_missing(device):
    with pytest.raises(
        DeviceError,
        match=r"^CUDA's library nvnothing is not found .*: install it, pip install \"caffebn\[gpu\]",
    ):
        device.library("nvnothing")


def test_what_cublas_refuses_is_raised(gpu, device):
    multiply = importlib.import_module("caffebn.ops.gpu.cublas").multiply
    a = device.zeros((2, 2), np.float32)
    at = device.address(a)
    with pytest.raises(
        DeviceError, match=r"^GPU 0: cuBLAS failed to multiply matrices: CUBLAS_STATUS_INVALID"
    ):
        multiply(a.dtype, 2, 2, 2, (at, 1, False), (at, 1, False), (at, 1), False)  # rows lie over each other


def test_scratch_grows_and_a_graph_keeps_what_it_uses(device):
    one = device.scratch(10, "test")
    assert device.scratch(20, "test") is one
    graph = device.Graph(lambda: device.scratch(30, "test").fill(1))
    assert device.scratch(one.size + 1, "test").size >= 2 * one.size
    one.fill(0)
    graph.launch()
    device.synchronize()
    assert (device.to_host(one) == 1).all()


def test_there_is_no_such_gpu(device):
    with pytest.raises(DeviceError, match=r"there is no GPU 99: found \d+, numbered from 0"):
        device.select(99)
    assert 0 <= device.selected() < device.count()


def test_without_cupy(no_gpu):
    with pytest.raises(MissingPackageError, match=r'needs the package "cupy": pip install "caffebn\[gpu\]"'):
        caffebn.ops.get("gpu")
    assert "cupy" in caffebn.ops.why_no_gpu()


@pytest.mark.gpu(emulated=True)
@pytest.mark.parametrize(
    ("devices", "said"), [(0, "finds no CUDA device"), (None, "no usable CUDA device .no driver.")]
)
def test_without_a_device(device, monkeypatch, devices, said):
    def count() -> int:
        if devices is None:
            raise device.cupy.cuda.runtime.CUDARuntimeError("no driver")
        return devices

    if getattr(device.cupy, "__version__", "") != "emulation":
        pytest.skip("there is a device")
    monkeypatch.setattr(device.cupy.cuda.runtime, "getDeviceCount", count)
    with pytest.raises(DeviceError, match=said):
        device.require.__wrapped__()
    assert device.count() == 0


def test_what_is_read_later_is_what_was_there(device):
    x = device.from_host(np.arange(3.0))
    later = device.read_later(x)
    x.fill(7)
    np.testing.assert_array_equal(later(), [0, 1, 2])


# -- convolution -----------------------------------------------------------------------------------------------

GEOMETRIES = [
    ConvGeometry(4, (7, 6), 6, (3, 2), (2, 1), (1, 0), (1, 2)),
    ConvGeometry(6, (5, 5), 9, (3, 3), (1, 1), (1, 1), (1, 1), group=3),
    ConvGeometry(8, (6,), 4, (3,), (1,), (1,), (1,), group=2),
    ConvGeometry(3, (4, 4, 3), 2, (2, 2, 2), (1, 2, 1), (1, 0, 0), (1, 1, 1)),
    ConvGeometry(5, (4, 3), 7, (1, 1), (1, 1), (0, 0), (1, 1)),
]


def convolve(ops, device, g: ConvGeometry, N: int = 3) -> list[np.ndarray]:
    """All three convolutions with random numbers."""
    rng = np.random.default_rng(0)
    shapes = [(N, g.channels, *g.spatial), g.weight_shape, (g.num_output,), (N, g.num_output, *g.out_spatial)]
    x, w, bias, y = (device.from_host(rng.standard_normal(shape)) for shape in shapes)
    dy, dx, dw = (
        device.from_host(rng.standard_normal(shapes[3])),
        device.zeros(shapes[0], float),
        device.zeros(shapes[1], float),
    )
    scratch = device.zeros(ops.conv_scratch_size(g, N), float)
    ops.conv_forward(x, w, bias, y, g, scratch)
    ops.conv_backward_data(dy, w, dx, g, scratch)
    for _ in range(2):
        ops.conv_backward_weight(x, dy, dw, g, scratch)
    return [np.asarray(getattr(device, "to_host", np.array)(a)) for a in (y, dx, dw)]


@pytest.fixture
def no_cudnn(gpu, monkeypatch):
    monkeypatch.setattr(importlib.import_module("caffebn.ops.gpu.cudnn_conv"), "_cudnn", lambda: None)


@pytest.mark.parametrize("limit", [1, 300, 1000, 1 << 24])
@pytest.mark.parametrize("g", GEOMETRIES, ids=lambda g: "x".join(map(str, g.weight_shape)))
def test_convolution_in_parts(gpu, device, no_cudnn, monkeypatch, g, limit):
    monkeypatch.setattr(importlib.import_module("caffebn.ops.gpu.conv"), "LIMIT", limit)
    expected = convolve(caffebn.ops.get("reference"), caffebn.ops.host, g)
    for found, value in zip(convolve(gpu, device, g), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-10, atol=1e-10)


class FakeCudnn(types.ModuleType):
    """A front end of cuDNN that computes with the reference ops."""

    class cudnnGraphNotSupportedError(Exception):  # noqa: N801
        pass

    data_type = types.SimpleNamespace(FLOAT=np.float32, DOUBLE=np.float64)
    heur_mode = types.SimpleNamespace(A="A", FALLBACK="FALLBACK")
    numerical_note = types.SimpleNamespace(NONDETERMINISTIC=1, TENSOR_CORE=2, DOWN_CONVERT_INPUTS=3)

    def __init__(self, refusal: Exception | None = None):
        super().__init__("cudnn")
        self.plans, self.tried, self.refusal = 0, [], refusal

    def create_handle(self) -> str:
        return "handle"

    def destroy_handle(self, handle: str) -> None:
        pass

    def set_stream(self, handle: str, stream: int) -> None:
        assert handle == "handle" and isinstance(stream, int)

    def backend_version(self) -> int:
        return 90900

    def pygraph(self, **types_) -> FakeGraph:
        return FakeGraph(self)


class FakeTensor:
    def __init__(self, dim=None, stride=None):
        self.dim, self.stride = dim, stride

    def set_output(self, on):
        return self

    def set_data_type(self, kind):
        self.kind = kind
        return self

    def set_dim(self, dim):
        self.dim = dim
        return self

    def set_stride(self, stride):
        self.stride = stride
        return self


class FakeGraph:
    def __init__(self, cudnn):
        self.cudnn = cudnn

    def tensor(self, name, dim, stride, data_type):
        made = FakeTensor(dim, stride).set_data_type(data_type)
        return made

    def _conv(self, kind, first, second, padding, stride, dilation):
        self.kind, self.inputs, self.made = kind, (first, second), FakeTensor()
        self.sizes = (stride, padding, dilation)
        return self.made

    def conv_fprop(self, image, weight, **sizes):
        return self._conv("conv_forward", image, weight, **sizes)

    def conv_dgrad(self, loss, filter, **sizes):
        return self._conv("conv_backward_data", loss, filter, **sizes)

    def conv_wgrad(self, image, loss, **sizes):
        return self._conv("conv_backward_weight", image, loss, **sizes)

    def validate(self):
        for t in (*self.inputs, self.made):
            assert t.stride == [int(np.prod(t.dim[i + 1 :])) for i in range(len(t.dim))] and len(t.dim) > 3

    build_operation_graph = validate

    def create_execution_plans(self, modes):
        assert modes

    def deselect_workspace_greater_than(self, size):
        assert size > 0

    def deselect_numeric_notes(self, notes):
        assert set(notes) == ({1, 2, 3} if self.made.kind == np.float32 else {1})

    def check_support(self):
        if self.cudnn.refusal is not None:
            raise self.cudnn.refusal

    def build_plans(self):
        self.cudnn.plans += 1

    def get_execution_plan_count(self):
        return 4

    def build_plan_at_index(self, index):
        if index == 0:
            raise RuntimeError("left out")
        self.cudnn.tried.append(index)

    def get_workspace_size(self):
        return 100

    def execute(self, pack, workspace, handle):
        import ctypes

        assert workspace and handle == "handle"

        def array(tensor):
            kind = ctypes.c_float if tensor.kind == np.float32 else ctypes.c_double
            pointer = ctypes.cast(pack[tensor], ctypes.POINTER(kind))
            return np.ctypeslib.as_array(pointer, (int(np.prod(tensor.dim)),)).reshape(tensor.dim)

        first, second, out = (array(t) for t in (*self.inputs, self.made))
        image, weight = {
            "conv_forward": (first, second),
            "conv_backward_data": (out, second),
            "conv_backward_weight": (first, out),
        }[self.kind]
        stride, pad, dilation = self.sizes
        g = ConvGeometry(
            image.shape[1], image.shape[2:], weight.shape[0], weight.shape[2:], stride, pad, dilation,
            image.shape[1] // weight.shape[1],
        )  # fmt: skip
        if self.kind == "conv_backward_weight":
            out[...] = 0
        arguments = (first, second, None, out) if self.kind == "conv_forward" else (first, second, out)
        getattr(caffebn.ops.get("reference"), self.kind)(*arguments, g, np.empty(0))


@pytest.fixture
def conv_module(gpu):
    module = importlib.import_module("caffebn.ops.gpu.cudnn_conv")
    if getattr(caffebn.ops.arrays("gpu").cupy, "__version__", "") != "emulation":
        pytest.skip("the stand-in for cuDNN reads memory of the host")

    def forget() -> None:
        module._cudnn.cache_clear()
        module._plan.cache_clear()
        module._warn.cache_clear()
        vars(module._local).clear()

    forget()
    yield module
    forget()


@pytest.mark.parametrize("g", GEOMETRIES, ids=lambda g: "x".join(map(str, g.weight_shape)))
def test_convolution_by_cudnn(gpu, device, conv_module, monkeypatch, g):
    cudnn = FakeCudnn()
    monkeypatch.setitem(sys.modules, "cudnn", cudnn)
    expected = convolve(caffebn.ops.get("reference"), caffebn.ops.host, g)
    for _ in range(2):
        for found, value in zip(convolve(gpu, device, g), expected, strict=True):
            np.testing.assert_allclose(found, value, rtol=1e-10, atol=1e-10)
    assert cudnn.plans == 3  # made once
    assert gpu.convolution() == "cuDNN 90900"


def test_the_fastest_of_several_plans(gpu, device, conv_module, monkeypatch):
    cudnn = FakeCudnn()
    monkeypatch.setitem(sys.modules, "cudnn", cudnn)
    monkeypatch.setattr(conv_module, "TUNED", 2)
    times = iter([2.0, 1.0, 1.0, 2.0, 1.0, 2.0])
    monkeypatch.setattr(device, "elapsed", lambda work: (work(), next(times))[1])
    expected = convolve(caffebn.ops.get("reference"), caffebn.ops.host, GEOMETRIES[0])
    for _ in range(2):
        for found, value in zip(convolve(gpu, device, GEOMETRIES[0]), expected, strict=True):
            np.testing.assert_allclose(found, value, rtol=1e-10, atol=1e-10)
    assert cudnn.tried == [1, 2, 2, 1, 2, 1, 1, 2, 1]  # forward, data, weights: two are tried, one is taken
    assert gpu.convolution() == "cuDNN 90900, the fastest of 2 plans"


def test_what_cudnn_does_not_do_is_done_by_cublas(gpu, device, conv_module, monkeypatch):
    monkeypatch.setitem(sys.modules, "cudnn", FakeCudnn(FakeCudnn.cudnnGraphNotSupportedError()))
    expected = convolve(caffebn.ops.get("reference"), caffebn.ops.host, GEOMETRIES[0])
    for found, value in zip(convolve(gpu, device, GEOMETRIES[0]), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-10, atol=1e-10)


def test_a_cudnn_that_fails_to_plan_is_worth_a_word(gpu, device, conv_module, monkeypatch):
    monkeypatch.setitem(sys.modules, "cudnn", FakeCudnn(TypeError("no such argument")))
    expected = convolve(caffebn.ops.get("reference"), caffebn.ops.host, GEOMETRIES[0])
    said = r"^cuDNN 90900 failed to plan convolutions \(TypeError: no such argument\): they run on cuBLAS"
    with pytest.warns(CaffebnWarning, match=said) as warned:
        found = convolve(gpu, device, GEOMETRIES[0])
    assert len(warned) == 1
    for array, value in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, value, rtol=1e-10, atol=1e-10)


def test_a_cudnn_that_cannot_be_loaded_is_worth_a_word(gpu, conv_module, monkeypatch, tmp_path):
    (tmp_path / "cudnn.py").write_text("raise OSError('libcudnn.so.9: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, "cudnn", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(CaffebnWarning, match=r"cuDNN cannot be used \(libcudnn.so.9: cannot open"):
        assert gpu.convolution() == "cuBLAS"


def test_a_cudnn_that_does_not_run_is_worth_a_word(gpu, conv_module, monkeypatch):
    cudnn = FakeCudnn()
    monkeypatch.setattr(cudnn, "create_handle", lambda: 1 / 0)
    monkeypatch.setitem(sys.modules, "cudnn", cudnn)
    with pytest.warns(
        CaffebnWarning, match="cuDNN cannot be used .*: convolutions run on cuBLAS.*nvidia-cudnn-cu12"
    ):
        assert gpu.convolution() == "cuBLAS"
    conv_module._cudnn.cache_clear()
    monkeypatch.setenv("CAFFEBN_CUDNN", "0")
    assert gpu.convolution() == "cuBLAS"
