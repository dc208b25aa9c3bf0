"""Pooling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caffebn.errors import NetError
from tests.layers.nets import check_layer, make, outcome, refusal, values

POOL = 'layer {{ name: "p" type: "Pooling" bottom: "x" top: "y" pooling_param {{ {} }} }}'
MASK = POOL.replace('top: "y"', 'top: "y" top: "mask"')
LOWEST = -float(np.finfo(np.float32).max)


def pooled(size: int, kernel: int, stride: int, pad: int, floor: bool, padded: bool) -> int:
    """Number of windows along one direction: those that Caffe counts, found by counting."""
    n = 1
    while True:
        start = n * stride - pad
        overhang = start + kernel - (size + pad)
        # one more window fits whole, or for ceil would still have a part inside of the padded plane's last step
        if overhang > 0 and (floor or overhang >= stride):
            break
        n += 1
    if padded and (n - 1) * stride >= size + pad:
        n -= 1
    return n


def pool_by_hand(x, method, kernel, stride, pad, floor):
    """Walk over the windows and their places one by one."""
    n, c, h, w = x.shape
    out = [
        pooled(s, k, t, p, floor, any(pad)) for s, k, t, p in zip((h, w), kernel, stride, pad, strict=True)
    ]
    y, index = np.zeros((n, c, *out)), np.full((n, c, *out), -1.0)
    for i, j, a, b in np.ndindex(n, c, *out):
        top, left = a * stride[0] - pad[0], b * stride[1] - pad[1]
        total, best = 0.0, LOWEST
        area = (min(top + kernel[0], h + pad[0]) - top) * (min(left + kernel[1], w + pad[1]) - left)
        for u in range(top, top + kernel[0]):
            for v in range(left, left + kernel[1]):
                if 0 <= u < h and 0 <= v < w:
                    total += x[i, j, u, v]
                    if x[i, j, u, v] > best:
                        best, index[i, j, a, b] = x[i, j, u, v], u * w + v
        y[i, j, a, b] = best if method == "MAX" else total / area if area else np.nan
    return y, index


GEOMETRIES = [
    # H, W, parameters, kernel, stride, pad, floor
    (6, 4, "kernel_size: 2 stride: 2", (2, 2), (2, 2), (0, 0), False),
    (7, 6, "kernel_size: 3", (3, 3), (1, 1), (0, 0), False),
    (8, 6, "kernel_size: 3 stride: 2", (3, 3), (2, 2), (0, 0), False),
    (8, 6, "kernel_size: 3 stride: 2 round_mode: FLOOR", (3, 3), (2, 2), (0, 0), True),
    (8, 6, "kernel_size: 3 stride: 2 pad: 1", (3, 3), (2, 2), (1, 1), False),
    (8, 6, "kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR", (3, 3), (2, 2), (1, 1), True),
    (5, 7, "kernel_size: 2 stride: 2 pad: 1", (2, 2), (2, 2), (1, 1), False),
    (
        7,
        6,
        "kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0",
        (3, 2),
        (2, 1),
        (1, 0),
        False,
    ),
    (5, 5, "kernel_h: 2 kernel_w: 1 stride: 2 pad_h: 1 pad_w: 0", (2, 1), (2, 2), (1, 0), False),
    (4, 3, "kernel_h: 4 kernel_w: 3", (4, 3), (1, 1), (0, 0), False),
    (2, 2, "kernel_size: 3 stride: 2", (3, 3), (2, 2), (0, 0), False),
    (7, 8, "kernel_size: 2 stride: 3", (2, 2), (3, 3), (0, 0), False),
    (1, 1, "kernel_size: 1", (1, 1), (1, 1), (0, 0), False),
]


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize(("h", "w", "text", "kernel", "stride", "pad", "floor"), GEOMETRIES)
def test_geometries(h, w, text, kernel, stride, pad, floor, method, phase, device):
    text, x = f"pool: {method} {text}", values(2, 3, h, w)
    assert check_layer(POOL.format(text), device, phase, x=x).excluded == 0
    y, index = pool_by_hand(x, method, kernel, stride, pad, floor)
    found = outcome(make((MASK if method == "MAX" else POOL).format(text), {"x": x}, phase, device))
    name = "y 1" if method == "MAX" else "y 0"
    assert found[name].shape == y.shape
    np.testing.assert_allclose(found[name], y, rtol=1e-13, atol=1e-15)
    if method == "MAX":
        np.testing.assert_array_equal(found["mask 0"], index)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.booleans(),
    st.sampled_from(["MAX", "AVE"]),
)
def test_any_geometry(size, kernel, stride, pad, floor, method):
    pad = tuple(min(p, k - 1) for p, k in zip(pad, kernel, strict=True))
    rooms = [s + 2 * p - k for s, p, k in zip(size, pad, kernel, strict=True)]
    text = f"pool: {method} round_mode: {'FLOOR' if floor else 'CEIL'} " + " ".join(
        f"{name}_h: {h} {name}_w: {w}"
        for name, (h, w) in (("kernel", kernel), ("stride", stride), ("pad", pad))
    )
    x = values(1, 2, *size)
    if any(room < 0 and (floor or -room >= t) for room, t in zip(rooms, stride, strict=True)):
        assert "does not fit" in refusal(POOL.format(text), x=x.shape)
        return
    y, _ = pool_by_hand(x, method, kernel, stride, pad, floor)
    found = make(POOL.format(text), {"x": x}, device="cpu").forward()["y"]
    assert found.shape == y.shape
    np.testing.assert_allclose(found, y, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_global(method, device):
    text, x = POOL.format(f"pool: {method} global_pooling: true"), values(2, 3, 4, 5)
    check_layer(text, device, x=x)
    net = make(text, {"x": x}, device=device)
    reduce = np.max if method == "MAX" else np.mean
    np.testing.assert_allclose(net.forward()["y"], reduce(x, (2, 3), keepdims=True), rtol=1e-13)
    net.blobs["x"].reshape(1, 3, 7, 2)
    net.blobs["x"].data[...] = values(1, 3, 7, 2)
    np.testing.assert_allclose(
        net.forward()["y"], reduce(values(1, 3, 7, 2), (2, 3), keepdims=True), rtol=1e-13
    )


def test_defaults_are_max_stride_1_and_no_padding(device):
    net = make(POOL.format("kernel_size: 2"), {"x": np.arange(9.0).reshape(1, 1, 3, 3)}, device=device)
    assert net.forward()["y"].ravel().tolist() == [4, 5, 7, 8]


def test_ties_go_to_the_first(device):
    net = make(MASK.format("kernel_size: 2 stride: 2"), {"x": np.ones((1, 1, 4, 4))}, device=device)
    net.forward()
    assert net.blobs["mask"].data.ravel().tolist() == [0, 2, 8, 10]
    net.blobs["y"].diff[...] = 3
    net.blobs["mask"].diff[...] = 100
    net.backward()
    gradient = net.blobs["x"].diff.ravel()
    assert np.flatnonzero(gradient).tolist() == [0, 2, 8, 10]
    assert gradient.max() == 3, "the gradient of the second top is ignored"


def test_padding_never_wins(device):
    net = make(POOL.format("kernel_size: 3 pad: 1"), {"x": np.full((1, 1, 3, 3), -7.0)}, device=device)
    assert (net.forward()["y"] == -7).all()


def test_windows_outside_of_the_plane(device):
    """With stride 3, a plane of 5 and a kernel of 1, ceil counts a window that starts at 6."""
    x = np.ones((1, 1, 5, 5))
    for method, outside in (("MAX", LOWEST), ("AVE", 0)):
        net = make(POOL.format(f"pool: {method} kernel_size: 1 stride: 3"), {"x": x}, device=device)
        found = outcome(net)
        assert found["y 0"].shape == (1, 1, 3, 3)
        np.testing.assert_array_equal(found["y 0"][0, 0, 2], [outside] * 3)
        np.testing.assert_array_equal(found["y 0"][0, 0, :2, :2], np.ones((2, 2)))
        assert np.isfinite(found["gradient of x"]).all()


@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_empty_batch(method, device):
    net = make(POOL.format(f"pool: {method} kernel_size: 2"), {"x": np.zeros((0, 3, 4, 4))}, device=device)
    assert outcome(net)["y 0"].shape == (0, 3, 3, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs a kernel: write kernel_size, or kernel_h and kernel_w, or global_pooling: true"),
        (
            "kernel_size: 0",
            "needs a kernel: write kernel_size, or kernel_h and kernel_w, or global_pooling: true",
        ),
        ("kernel_h: 2", "kernel_h and kernel_w must be given together"),
        ("kernel_w: 2", "kernel_h and kernel_w must be given together"),
        (
            "kernel_size: 2 kernel_h: 2 kernel_w: 2",
            "give either kernel_size or kernel_h and kernel_w, not both",
        ),
        ("kernel_size: 2 stride_h: 2", "stride_h and stride_w must be given together"),
        (
            "kernel_size: 2 stride: 1 stride_h: 2 stride_w: 2",
            "give either stride or stride_h and stride_w, not both",
        ),
        ("kernel_size: 2 stride: 0", "stride must be positive"),
        ("kernel_size: 2 pad_w: 1", "pad_h and pad_w must be given together"),
        ("kernel_size: 2 pad: 1 pad_h: 1 pad_w: 1", "give either pad or pad_h and pad_w, not both"),
        ("kernel_size: 2 pad: 2", "pad must be smaller than the kernel, 2x2, found 2x2"),
        ("kernel_h: 3 kernel_w: 1 pad: 1", "pad must be smaller than the kernel, 3x1, found 1x1"),
        ("global_pooling: true kernel_size: 2", "global_pooling takes the whole plane: remove kernel_size"),
        ("global_pooling: true kernel_h: 2", "global_pooling takes the whole plane: remove kernel_h"),
        ("global_pooling: true pad: 1", "global_pooling needs pad 0 and stride 1"),
        ("global_pooling: true stride: 2", "global_pooling needs pad 0 and stride 1"),
        ("kernel_size: 7", 'the kernel 7x7 does not fit into "x" (2x3x5x6) with pad 0x0'),
        (
            "kernel_size: 2 pool: STOCHASTIC",
            "pool: STOCHASTIC is not supported (nor is it by Caffe's CPU): use MAX or AVE",
        ),
    ],
)
def test_refusals(text, said):
    assert refusal(POOL.format(text), x=(2, 3, 5, 6)) == f'layer "p" (Pooling): {said}'


@pytest.mark.parametrize(
    ("shape", "shown"), [((2, 3, 4), "2x3x4"), ((2, 3, 4, 5, 6), "2x3x4x5x6"), ((), "no axes")]
)
def test_other_than_four_axes_are_refused(shape, shown):
    for text in ("kernel_size: 2", "global_pooling: true"):
        message = refusal(POOL.format(text), x=shape)
        assert message == f'layer "p" (Pooling): needs exactly 4 axes (N, C, H, W), found "x" ({shown})'


def test_a_second_top_needs_a_maximum():
    message = refusal(MASK.format("pool: AVE kernel_size: 2"), x=(1, 1, 4, 4))
    assert (
        message == 'layer "p" (Pooling): a second top, the places of the maxima, needs pool: MAX, found AVE'
    )


def test_a_plane_that_became_too_small_is_refused():
    net = make(POOL.format("kernel_size: 3"), {"x": values(1, 1, 4, 4)})
    net.blobs["x"].reshape(1, 1, 2, 4)
    with pytest.raises(NetError, match=r'the kernel 3x3 does not fit into "x" \(1x1x2x4\)'):
        net.forward()


def test_in_place_is_refused():
    text = POOL.format("kernel_size: 1").replace('top: "y"', 'top: "x"')
    assert "cannot work in place" in refusal(text, x=(1, 1, 4, 4))
