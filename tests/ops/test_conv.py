"""Convolution in any number of dimensions: definition, agreement, adjointness, threads, refusals."""

import ctypes
import mmap
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caffebn import ops
from caffebn.errors import ArgumentError
from caffebn.ops import level, threads
from caffebn.ops.cpu.checks import by_dtype
from caffebn.ops.geometry import DIRECTIONS, ConvGeometry

CPU, REFERENCE = ops.get("cpu"), ops.get("reference")
DTYPES = ("float32", "float64")


def use_level(monkeypatch, name):
    """Run the ops with the kernels of a level."""
    from caffebn.ops.cpu import conv

    kernel = level.kernels("conv", name)
    for function in (
        "forward", "backward_weight", "backward_data", "winograd", "winograd_backward_data", "winograd_backward_weight",
        "depthwise_forward", "depthwise_backward_data", "depthwise_backward_weight",
    ):  # fmt: skip
        monkeypatch.setattr(conv, f"_{function}", by_dtype(getattr(kernel, function)))
    monkeypatch.setattr(conv, "_kernel", kernel)


class Case:
    """Random operands of one geometry."""

    def __init__(self, geometry: ConvGeometry, batch: int, dtype: str, bias: bool = True, epilogue: str = ""):
        rng = np.random.default_rng(1)
        g = self.geometry = geometry
        self.x = rng.normal(size=(batch, g.channels, *g.spatial)).astype(dtype)
        self.w = rng.normal(size=g.weight_shape).astype(dtype)
        self.dy = rng.normal(size=(batch, g.num_output, *g.out_spatial)).astype(dtype)
        self.bias = rng.normal(size=g.num_output).astype(dtype) if bias else None
        self.epilogue = {
            "scale": rng.normal(size=g.num_output).astype(dtype) if "s" in epilogue else None,
            "residual": rng.normal(size=self.dy.shape).astype(dtype) if "r" in epilogue else None,
            "slope": 0.0 if "0" in epilogue else 0.25 if "a" in epilogue else None,
        }

    def run(self, backend):
        g = self.geometry
        scratch = np.full(backend.conv_scratch_size(g, len(self.x)), np.nan, self.x.dtype)
        y, dx, dw = np.full_like(self.dy, np.nan), np.full_like(self.x, np.nan), np.ones_like(self.w)
        backend.conv_forward(self.x, self.w, self.bias, y, g, scratch, **self.epilogue)
        if self.epilogue["residual"] is not None:
            replaced = self.epilogue["residual"].copy()
            more = self.epilogue | {"residual": replaced}
            backend.conv_forward(self.x, self.w, self.bias, replaced, g, scratch, **more)
            np.testing.assert_array_equal(replaced, y, err_msg="in the place of the residual")
        backend.conv_backward_data(self.dy, self.w, dx, g, scratch)
        backend.conv_backward_weight(self.x, self.dy, dw, g, scratch)
        return y, dx, dw

    def check(self):
        eps = np.finfo(self.x.dtype).eps
        g = self.geometry
        depths = (
            g.k_table.size,
            g.num_output // g.group * g.kernel_count,
            max(1, len(self.x) * g.places),
        )
        for found, expected, depth in zip(self.run(CPU), self.run(REFERENCE), depths, strict=True):
            np.testing.assert_allclose(
                found, expected, rtol=1e-5 if eps > 1e-10 else 1e-12, atol=16 * eps * (depth + 4)
            )


@st.composite
def geometries(draw):
    axes = draw(st.integers(0, 3))

    def each(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(axes))

    kernel, stride, pad, dilation = each(1, 3), each(1, 3), each(0, 2), each(1, 2)
    spatial = tuple(
        max(1, d * (k - 1) + 1 - 2 * p) + draw(st.integers(0, 4))
        for k, p, d in zip(kernel, pad, dilation, strict=True)
    )
    group = draw(st.sampled_from([1, 1, 2, 3]))
    channels, outputs = group * draw(st.integers(1, 4)), group * draw(st.integers(1, 4))
    return ConvGeometry(channels, spatial, outputs, kernel, stride, pad, dilation, group)


EPILOGUES = ("", "s", "r", "0", "a", "sr0", "sra")


@settings(max_examples=120, deadline=None)
@given(geometries(), st.integers(0, 3), st.sampled_from(DTYPES), st.booleans(), st.sampled_from(EPILOGUES))
def test_backends_agree(geometry, batch, dtype, bias, epilogue):
    Case(geometry, batch, dtype, bias, epilogue).check()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "geometry",
    [
        ConvGeometry(3, (23, 19), 16, (7, 7), (2, 2), (3, 3), (1, 1)),
        ConvGeometry(64, (7, 7), 72, (1, 1), (1, 1), (0, 0), (1, 1)),
        ConvGeometry(64, (7, 7), 20, (1, 1), (2, 2), (0, 0), (1, 1)),
        ConvGeometry(20, (30, 30), 70, (1, 1), (2, 2), (0, 0), (1, 1)),
        ConvGeometry(20, (40, 40), 70, (1, 1), (1, 1), (0, 0), (1, 1)),
        ConvGeometry(4, (40, 40), 6, (3, 3), (1, 1), (1, 1), (1, 1)),
        ConvGeometry(40, (9, 9), 33, (3, 3), (1, 1), (1, 1), (1, 1)),
        ConvGeometry(32, (12, 12), 32, (3, 3), (1, 1), (1, 1), (1, 1), 32),
        ConvGeometry(6, (11, 11), 12, (3, 3), (2, 2), (1, 1), (2, 2), 6),
        ConvGeometry(8, (6, 6), 8, (1, 1), (1, 1), (0, 0), (1, 1), 8),
        ConvGeometry(4, (19, 21), 4, (3, 3), (1, 1), (1, 1), (1, 1), 4),
        ConvGeometry(900, (7, 7), 30, (1, 1), (1, 1), (0, 0), (1, 1)),
        ConvGeometry(24, (10, 10), 24, (3, 3), (1, 1), (1, 1), (1, 1), 4),
        ConvGeometry(300, (3, 3), 9, (3, 3), (1, 1), (1, 1), (1, 1)),
        ConvGeometry(2, (40,), 5, (9,), (3,), (4,), (2,)),
        ConvGeometry(2, (3, 4, 5, 6), 3, (2, 2, 2, 2), (1, 2, 1, 2), (1, 0, 1, 0), (1, 1, 2, 1)),
    ],
    ids=lambda g: f"{g.channels}x{g.spatial}-{g.num_output}-k{g.kernel}-s{g.stride}-g{g.group}",
)
def test_shapes_of_real_nets(geometry, dtype):
    Case(geometry, 3, dtype).check()
    Case(geometry, 1, dtype, epilogue="sra").check()


WINOGRAD = [
    ((64, (14, 14), 64), (1, 1), 1),
    ((3, (7, 7), 5), (1, 1), 3),
    ((16, (8, 8), 20), (0, 0), 2),
    ((40, (9, 13), 33), (2, 1), 3),
    ((130, (28, 28), 50), (1, 1), 1),
    ((17, (5, 6), 14), (1, 2), 7),
    ((1, (3, 3), 1), (0, 0), 1),
    ((1, (1, 1), 2), (1, 1), 40),
    ((33, (20, 3), 29), (1, 0), 5),
    ((9, (50, 2), 15), (3, 4), 2),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("algorithm", ["gemm", "winograd2", "winograd4", "auto"])
@pytest.mark.parametrize(("sizes", "pad", "batch"), WINOGRAD)
def test_every_algorithm_computes_the_same(sizes, pad, batch, algorithm, dtype):
    """The greatest error stays below 1e-5 of the greatest number for float32, and 1e-13 for float64."""
    g = ConvGeometry(*sizes, (3, 3), (1, 1), pad, (1, 1), 1, algorithm)
    for epilogue in ("", "s", "sra"):
        case = Case(g, batch, dtype, epilogue=epilogue)
        exact = Case(g, batch, dtype, epilogue=epilogue)
        for name in ("x", "w", "dy", "bias"):
            setattr(exact, name, getattr(exact, name).astype("d"))
        exact.epilogue = {k: v.astype("d") if hasattr(v, "astype") else v for k, v in exact.epilogue.items()}
        for found, expected in zip(case.run(CPU), exact.run(REFERENCE), strict=True):
            bound = 1e-5 if dtype == "float32" else 1e-13
            np.testing.assert_allclose(found, expected, rtol=0, atol=bound * np.abs(expected).max())


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)), st.integers(0, 5), st.sampled_from(DTYPES),
    st.sampled_from(["winograd2", "winograd4"]), st.sampled_from(EPILOGUES),
)  # fmt: skip
def test_winograd_agrees(channels, outputs, spatial, pad, batch, dtype, algorithm, epilogue):
    g = ConvGeometry(channels, spatial, outputs, (3, 3), (1, 1), pad, (1, 1), 1, algorithm)
    case = Case(g, batch, dtype, epilogue=epilogue)
    for found, expected in zip(case.run(CPU), case.run(REFERENCE), strict=True):
        bound = 1e-5 if dtype == "float32" else 1e-13
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=bound * max(np.abs(expected).max(initial=0), 1)
        )


def test_the_choice_can_be_read_and_forced():
    sizes = (64, (28, 28), 64, (3, 3), (1, 1), (1, 1), (1, 1))
    f, d = np.dtype("f"), np.dtype("d")
    for direction in DIRECTIONS:
        assert ConvGeometry(*sizes).choice(8, f, direction) == "winograd4"
        assert ConvGeometry(*sizes, winograd=False).choice(8, f, direction) == "gemm"
        assert ConvGeometry(*sizes).choice(8, d, direction) == "gemm"
        assert ConvGeometry(*sizes, 1, "winograd2").choice(8, d, direction) == "winograd2"
        assert ConvGeometry(*sizes, 64).choice(1, f, direction) == "depthwise"
    assert ConvGeometry(*sizes, 64, "gemm").choice(1, f) == "gemm"
    assert ConvGeometry(*sizes, 2).choice(1, f) == "gemm"
    assert ConvGeometry(64, (28, 28), 64, (3, 3), (2, 2), (1, 1), (1, 1)).choice(8, f) == "gemm"
    last = ConvGeometry(512, (7, 7), 512, (3, 3), (1, 1), (1, 1), (1, 1))
    assert [last.choice(1, f, direction) for direction in DIRECTIONS] == ["gemm", "gemm", "winograd4"]
    first = ConvGeometry(3, (56, 56), 64, (3, 3), (1, 1), (1, 1), (1, 1))
    assert first.choice(8, f, "backward_weight") == "gemm"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"algorithm": "winograd"}, "no convolution algorithm 'winograd'; there are auto, gemm, winograd2, "),
        (
            {"algorithm": "depthwise"},
            "depthwise is for groups of one channel .*found 4 channels and 4 outputs in 1 g",
        ),
        ({"algorithm": "winograd4", "group": 2}, "winograd4 is for 3x3 kernels .*found kernel .*2 groups"),
        ({"algorithm": "winograd2", "stride": (1, 2)}, r"winograd2 is for .*found .*stride \(1, 2\)"),
    ],
)
def test_algorithms_that_do_not_fit(change, said):
    fields = {"kernel": (3, 3), "stride": (1, 1), "pad": (1, 1), "dilation": (1, 1), "group": 1} | change
    with pytest.raises(ArgumentError, match=said):
        ConvGeometry(4, (5, 5), 4, **fields)


@pytest.mark.parametrize("group", [1, 6])
def test_depthwise_geometries_as_products(group):
    g = ConvGeometry(6, (9, 9), 12, (3, 3), (2, 2), (1, 1), (1, 1), group, "gemm")
    Case(g, 3, "float32", epilogue="sra").check()


def test_closed_form():
    g = ConvGeometry(1, (3, 3), 1, (2, 2), (1, 1), (1, 0), (1, 1))
    x = np.arange(9, dtype="f").reshape(1, 1, 3, 3)
    w = np.array([[1, 2], [3, 4]], "f").reshape(1, 1, 2, 2)
    expected = [[3 * 0 + 4 * 1, 3 * 1 + 4 * 2], [0 + 2 + 9 + 16, 1 + 4 + 12 + 20], [27, 0], [6 + 14, 7 + 16]]
    expected[2] = [3 + 8 + 18 + 28, 4 + 10 + 21 + 32]
    for backend in (CPU, REFERENCE):
        y = np.empty((1, 1, 4, 2), "f")
        backend.conv_forward(x, w, None, y, g, np.empty(backend.conv_scratch_size(g, 1), "f"))
        np.testing.assert_array_equal(y[0, 0], expected)


@settings(max_examples=30, deadline=None)
@given(geometries(), st.integers(1, 3))
def test_the_three_directions_are_adjoint(geometry, batch):
    """<y, dy> = <x, dx> = <w, dw>: the backward passes are the transposes of the forward pass."""
    case = Case(geometry, batch, "float64", bias=False)
    y, dx, dw = case.run(CPU)
    expected = np.vdot(y, case.dy)
    scale = 1 + np.abs(y).sum() * np.abs(case.dy).max()
    assert abs(np.vdot(case.x, dx) - expected) < 1e-12 * scale
    assert abs(np.vdot(case.w, dw - 1) - expected) < 1e-12 * scale


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("group", "algorithm"),
    [(1, "gemm"), (1, "winograd2"), (1, "winograd4"), (2, "gemm"), (8, "depthwise"), (8, "gemm")],
)
def test_any_number_of_threads_gives_the_same_bits(dtype, group, algorithm):
    same_bits_for_any_number_of_threads(
        ConvGeometry(8, (9, 9), 16, (3, 3), (1, 1), (1, 1), (1, 1), group, algorithm), 20, dtype
    )


@pytest.mark.parametrize("algorithm", ["winograd2", "winograd4"])
def test_blocks_of_tiles_give_the_same_bits(algorithm):
    """Many channels: the tiles are cut into blocks, by the number of threads."""
    same_bits_for_any_number_of_threads(
        ConvGeometry(200, (13, 9), 20, (3, 3), (1, 1), (1, 1), (1, 1), 1, algorithm), 9, "float32"
    )


@pytest.mark.parametrize(
    ("sizes", "batch"),
    [((24, (40, 41), 30), 6), ((150, (20, 22), 130), 12), ((260, (14, 14), 250), 20)],
    ids=["16 groups", "4 groups", "slabs of all threads"],
)
def test_slabs_of_tiles(sizes, batch):
    """Many places: the sums of the weights' gradient are cut into slabs, in groups where weights are few."""
    g = ConvGeometry(*sizes, (3, 3), (1, 1), (1, 1), (1, 1), 1, "winograd4")
    case, before = Case(g, batch, "float32"), threads.get()
    plain = ConvGeometry(*sizes, (3, 3), (1, 1), (1, 1), (1, 1), 1, "gemm")
    expected = np.ones(g.weight_shape)
    CPU.conv_backward_weight(case.x.astype("d"), case.dy.astype("d"), expected, plain, np.empty(0))
    try:
        results = []
        for n in (1, 2, 3, 7):
            threads.set(n)
            results.append(np.ones_like(case.w))
            CPU.conv_backward_weight(case.x, case.dy, results[-1], g, np.empty(0, "f"))
    finally:
        threads.set(before)
    np.testing.assert_allclose(results[0], expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


@pytest.mark.parametrize("places", [(7, 7), (14, 14), (40, 40)])
def test_pointwise_kernels_give_the_same_bits(places):
    same_bits_for_any_number_of_threads(
        ConvGeometry(420, places, 40, (1, 1), (1, 1), (0, 0), (1, 1)), 1, "float32"
    )


def same_bits_for_any_number_of_threads(geometry, batch, dtype):
    case = Case(geometry, batch, dtype, epilogue="sra")
    before = threads.get()
    try:
        results = []
        for n in (1, 2, 3, 7):
            threads.set(n)
            results.append(case.run(CPU))
    finally:
        threads.set(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_batches_change_an_image_by_rounding_at_most():
    g = ConvGeometry(5, (7, 7), 9, (3, 3), (1, 1), (1, 1), (1, 1))
    case = Case(g, 6, "float32")
    whole = case.run(CPU)[0]
    for i in range(6):
        y = np.empty_like(whole[:1])
        CPU.conv_forward(
            case.x[i : i + 1], case.w, case.bias, y, g, np.empty(CPU.conv_scratch_size(g, 1), "f")
        )
        np.testing.assert_allclose(y[0], whole[i], rtol=0, atol=1e-6 * np.abs(whole).max())


@pytest.mark.parametrize("name", level.available())
@pytest.mark.parametrize("group", [1, 20])
def test_every_level(name, group, monkeypatch):
    use_level(monkeypatch, name)
    for dtype in DTYPES:
        Case(ConvGeometry(20, (9, 9), 40, (3, 3), (2, 2), (1, 1), (1, 1), group), 3, dtype).check()
        Case(ConvGeometry(20, (9, 9), 40, (3, 3), (1, 1), (1, 1), (1, 1), group), 3, dtype).check()


def test_read_only_operands():
    case = Case(ConvGeometry(3, (5, 5), 4, (3, 3), (1, 1), (1, 1), (1, 1)), 2, "float32", epilogue="sr")
    for array in (
        case.x,
        case.w,
        case.dy,
        case.bias,
        *(v for v in case.epilogue.values() if hasattr(v, "flags")),
    ):
        array.flags.writeable = False
    case.check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"x": lambda x: x[:, :2].copy()},
            r"conv_forward: x must be .*\(2, 3, 5, 5\); found .*\(2, 2, 5, 5\)",
        ),
        ({"x": lambda x: x.astype("d")}, r"conv_forward: w must be .*float64"),
        ({"w": lambda w: w[:1].copy()}, r"conv_forward: w must be .*\(4, 3, 3, 3\)"),
        ({"bias": lambda b: b[:3].copy()}, r"conv_forward: bias must be .*\(4,\)"),
        ({"x": lambda x: np.asfortranarray(x)}, "conv_forward: x must be .*not C-contiguous"),
    ],
)
def test_refusals(change, message):
    case = Case(ConvGeometry(3, (5, 5), 4, (3, 3), (1, 1), (1, 1), (1, 1)), 2, "float32")
    for name, how in change.items():
        setattr(case, name, how(getattr(case, name)))
    y = np.empty((2, 4, 5, 5), "f")
    scratch = np.empty(CPU.conv_scratch_size(case.geometry, 2), "f")
    with pytest.raises(ArgumentError, match=message):
        CPU.conv_forward(case.x, case.w, case.bias, y, case.geometry, scratch)


@pytest.fixture
def at_the_end():
    """A function that copies an array to memory behind which nothing can be read."""
    libc = ctypes.CDLL(None)
    kept = []

    def copy(array: np.ndarray) -> np.ndarray:
        size = -(-max(array.nbytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        memory = mmap.mmap(-1, size + mmap.PAGESIZE)
        guard = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + size
        assert libc.mprotect(ctypes.c_void_p(guard), mmap.PAGESIZE, 0) == 0
        kept.append(memory)
        moved = np.frombuffer(memory, array.dtype, array.size, size - array.nbytes).reshape(array.shape)
        moved[...] = array
        return moved

    return copy


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mprotect")
@pytest.mark.parametrize("name", level.available())
@pytest.mark.parametrize("algorithm", ["auto", "gemm", "winograd2", "winograd4"])
def test_nothing_is_read_behind_an_array(name, algorithm, at_the_end, monkeypatch):
    """Rows are copied by whole vectors, but not where they are the last; a failure ends the process."""
    use_level(monkeypatch, name)
    for sizes, stride, pad, group in [
        ((3, (23, 19), 16), (2, 2), (2, 3), 1),
        ((17, (14, 14), 31), (1, 1), (1, 1), 1),
        ((8, (5, 33), 8), (2, 2), (0, 0), 8),
        ((8, (12, 12), 16), (1, 1), (1, 1), 8),
        ((6, (10, 10), 6), (1, 3), (1, 0), 2),
    ]:
        if algorithm.startswith("winograd") and (stride, group) != ((1, 1), 1):
            continue
        g = ConvGeometry(*sizes, (3, 3), stride, pad, (1, 1), group, algorithm)
        for dtype in DTYPES:
            case = Case(g, 2, dtype, epilogue="sr")
            for field in ("x", "w", "dy", "bias"):
                setattr(case, field, at_the_end(getattr(case, field)))
            case.epilogue = {k: at_the_end(v) if hasattr(v, "dtype") else v for k, v in case.epilogue.items()}
            case.check()
