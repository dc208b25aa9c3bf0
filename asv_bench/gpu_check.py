"""``make gpu-check``: tests on the GPU, a run under compute-sanitizer, and benchmarks; at most 9 minutes.

The benchmarks are written to ``asv_bench/results/gpu/<date>-<device>.json``, and as a table into the README.  Each
part has a time limit, and what does not fit into it is reported as not run.  Peers are measured in the same run: a copy
on the device for the kernels of the family channel, PyTorch with cuDNN for whole nets, where it is installed.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "asv_bench" / "results" / "gpu"
README = ROOT / "README.md"
BEGIN, END = "<!-- measured on a GPU: begin -->", "<!-- measured on a GPU: end -->"
NOT_YET = "Not yet measured on a GPU."

TESTS = ["tests/ops", "tests/layers", "tests/net", "tests/solvers/test_golden.py", "tests/test_blob.py"]

# Shapes of BatchNorm in ResNet-50, (N, C, S) with a batch of 32
SHAPES = [(32, 64, 112**2), (32, 256, 56**2), (32, 512, 28**2), (32, 1024, 14**2), (32, 2048, 7**2)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--skip-tests", action="store_true", help="benchmarks only")
    parser.add_argument(
        "--sanitize", action="store_true", help="what runs under compute-sanitizer: every kernel once"
    )
    options = parser.parse_args()
    if options.sanitize:
        run_every_kernel()
        return
    from caffebn import ops

    if why := ops.why_no_gpu():
        sys.exit(f"gpu-check: {why}")
    report: dict[str, Any] = {"facts": facts(), "checks": {}, "rows": []}
    if not options.skip_tests:
        report["checks"]["tests"] = run_tests(240)
        report["checks"]["compute-sanitizer"] = sanitize(60)
    benchmarks(report["rows"], perf_counter() + 200)
    write(report)
    if any("failed" in result for result in report["checks"].values()):
        sys.exit("gpu-check: failed")


def facts() -> dict[str, Any]:
    """Say what was measured, and with what."""
    import cupy

    import caffebn
    from caffebn import ops

    found = {
        "date": datetime.date.today().isoformat(),
        "device": ops.arrays("gpu").describe()[ops.arrays("gpu").selected()]["name"],
        "caffebn": caffebn.__version__,
        "cupy": cupy.__version__,
        "cuda": cupy.cuda.runtime.runtimeGetVersion(),
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "convolution": ops.get("gpu").convolution(),
        "python": platform.python_version(),
        "tf32": ops.arrays("gpu").ALLOW_TF32,
    }
    try:
        import torch

        found["torch"] = torch.__version__ if torch.cuda.is_available() else None
    except ImportError:
        found["torch"] = None
    return found


# -- checks ----------------------------------------------------------------------------------------------------


def run(command: list[str], limit: float) -> tuple[str, str]:
    """Run a command within a time limit; return how it ended and the end of what it printed."""
    environment = {**os.environ, "CAFFEBN_REQUIRE_GPU": "1", "OMP_WAIT_POLICY": "passive"}
    begin = perf_counter()
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            timeout=limit,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except subprocess.TimeoutExpired as e:
        text = e.stdout.decode() if isinstance(e.stdout, bytes) else e.stdout or ""
        return f"failed: not done within {limit:.0f} s", text[-3000:]
    result = "passed" if done.returncode == 0 else f"failed ({done.returncode})"
    return f"{result} in {perf_counter() - begin:.0f} s", done.stdout[-3000:]


def run_tests(limit: float) -> str:
    """Run all tests that need a GPU."""
    command = [
        str(Path(sys.executable).with_name("pytest")),
        "-q",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        "--maxfail=30",
        *TESTS,
    ]
    result, text = run([*command, "-n", "4"], limit)
    print(text)
    summary = re.findall(r"\d+ (?:passed|failed|skipped|error)[^\n]*", text)
    return f"{result}: {summary[-1] if summary else 'no summary'}"


def sanitize(limit: float) -> str:
    """Run every kernel under compute-sanitizer."""
    tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if tool is None:
        return "not run: there is no compute-sanitizer"
    command = [tool, "--error-exitcode", "9", "--leak-check", "no", sys.executable, __file__, "--sanitize"]
    result, text = run(command, limit)
    print(text)
    return result


def run_every_kernel() -> None:
    """Call each op once with small arrays, which the tests of the ops know how to make."""
    os.environ["CUPY_CACHE_DIR"] = os.environ.get("CUPY_CACHE_DIR", tempfile.mkdtemp())
    spec = importlib.util.spec_from_file_location("calls", ROOT / "tests" / "ops" / "conftest.py")
    assert spec and spec.loader
    calls = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(calls)
    on_device = calls.OnDevice()
    for op in calls.OPS:
        for dtype in ("float32", "float64"):
            for shape in calls.LARGE[calls.family_of(op)]:
                calls.outputs_of(on_device, op, calls.call_of(op, dtype, shape))


# -- benchmarks ------------------------------------------------------------------------------------------------


def seconds(
    work: Callable[[], Any], synchronize: Callable[[], Any], runs: int = 5, least: float = 0.05
) -> float:
    """Median time of a call, by runs of as many calls as take a while, after a warm-up."""
    work()
    synchronize()
    begin = perf_counter()
    work()
    synchronize()
    count = max(1, int(least / max(perf_counter() - begin, 1e-6)))
    found = []
    for _ in range(runs):
        begin = perf_counter()
        for _ in range(count):
            work()
        synchronize()
        found.append((perf_counter() - begin) / count)
    return median(found)


def benchmarks(rows: list[dict[str, Any]], deadline: float) -> None:
    """Fill in rows, until the time is up."""
    parts: list[Callable[[], list[dict[str, Any]]]] = [channel, mlp]
    parts += [lambda b=b: resnet("TEST", b) for b in (1, 32)] + [
        lambda b=b: resnet("TRAIN", b) for b in (32, 128)
    ]
    for part in parts:
        if perf_counter() > deadline:
            rows.append({"what": "the rest", "error": "not run: out of time"})
            return
        try:
            found = part()
        except Exception as e:  # one benchmark that fails must not cost the others
            found = [{"what": getattr(part, "__name__", "a net"), "error": f"{type(e).__name__}: {e}"}]
        for row in found:
            print(json.dumps(row), flush=True)
        rows += found


def channel() -> list[dict[str, Any]]:
    """Rate of the channel kernels, in bytes that have to move, against a copy on the device."""
    return [row for shape in SHAPES for row in channel_of(shape)]


def channel_of(shape: tuple[int, int, int]) -> list[dict[str, Any]]:
    """Rate of the channel kernels for one shape."""
    import cupy
    import numpy as np

    from caffebn import ops

    gpu, device = ops.get("gpu"), ops.arrays("gpu")
    rows = []
    N, C, S = shape
    x, y, dy = (cupy.random.standard_normal(shape, dtype=np.float32) for _ in range(3))
    vectors = [cupy.ones(C, np.float64) for _ in range(3)]
    scale = cupy.ones(C, np.float32)
    calls: dict[str, tuple[Callable[[], None], int]] = {
        "moments": (lambda: gpu.moments(x, vectors[0], vectors[1]), 1),
        "normalize": (lambda: gpu.normalize(x, vectors[0], vectors[2], y), 2),
        "affine": (lambda: gpu.affine(x, scale, scale, y), 2),
        "normalize_backward": (lambda: gpu.normalize_backward(dy, x, vectors[2], y), 3),
        "channel_dot": (lambda: gpu.channel_dot(x, dy, vectors[0]), 2),
        "relu": (lambda: gpu.relu(x, y, 0.0), 2),
    }
    if hasattr(gpu, "batch_norm"):
        mean, var, inv = vectors
        calls["batch_norm"] = (
            lambda: gpu.batch_norm(x, 1e-5, scale, scale, None, 0.0, y, mean, var, inv),
            2,
        )
        calls["batch_norm_backward"] = (
            lambda: gpu.batch_norm_backward(
                x, mean, inv, scale, scale, None, 0.0, False, dy, y, scale, scale, None
            ),
            3,
        )
    copy = 2 * x.nbytes / seconds(lambda: cupy.copyto(y, x), device.synchronize)
    for name, (call, tensors) in calls.items():
        rate = tensors * x.nbytes / seconds(call, device.synchronize)
        rows.append(
            {
                "what": f"{name} {N}x{C}x{S}",
                "GB/s": rate / 1e9,
                "copy GB/s": copy / 1e9,
                "ratio": rate / copy,
            }
        )
    return rows


def mlp() -> list[dict[str, Any]]:
    """Training iterations of 784-100-100-100-10 with BatchNorm, batch 60, with and without a graph."""
    import numpy as np

    from caffebn.net import TRAIN, Net

    def net() -> Net:
        text = (
            'layer { name: "in" type: "Input" top: "data" top: "label" '
            "input_param { shape { dim: 60 dim: 1 dim: 28 dim: 28 } shape { dim: 60 } } }\n"
            f'include: "{ROOT}/prototxt_examples/mnist_bn/net.prototxt"\n'
            'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }'
        )
        made = Net.from_text(text, TRAIN, device="gpu")
        made.blobs["data"].data[...] = np.random.default_rng(0).random((60, 1, 28, 28))
        return made

    plain = net()

    def step() -> None:
        plain.clear_param_diffs()
        plain.run_forward()
        plain.run_backward()

    recorded = net()
    graph = recorded.capture(backward=True)
    rows = [
        {
            "what": "MLP with BatchNorm, forward and backward, batch 60",
            "iterations/s": 1 / seconds(step, plain.synchronize),
        },
        {
            "what": "the same, recorded as a graph",
            "iterations/s": 1 / seconds(graph.launch, recorded.synchronize),
        },
    ]
    if torch := torch_with_cuda():
        layers: list[Any] = [torch.nn.Flatten()]
        for a, b in ((784, 100), (100, 100), (100, 100)):
            layers += [torch.nn.Linear(a, b), torch.nn.BatchNorm1d(b), torch.nn.ReLU()]
        model = torch.nn.Sequential(*layers, torch.nn.Linear(100, 10)).cuda()
        x, label = torch.rand(60, 1, 28, 28, device="cuda"), torch.zeros(60, dtype=torch.long, device="cuda")
        loss = torch.nn.CrossEntropyLoss()

        def peer() -> None:
            model.zero_grad(set_to_none=False)
            loss(model(x), label).backward()

        peer_rate = 1 / seconds(peer, torch.cuda.synchronize)
        for row in rows:
            row |= {"PyTorch iterations/s": peer_rate, "ratio": row["iterations/s"] / peer_rate}
    return rows


def resnet(phase: str, batch: int) -> list[dict[str, Any]]:
    """Images per second of ResNet-50: inference, or forward and backward."""
    import gc

    import cupy

    shapes = f"shape {{ dim: {batch} dim: 3 dim: 224 dim: 224 }}"
    training = phase == "TRAIN"
    text = (
        'layer { name: "in" type: "Input" top: "data" '
        + (
            f'top: "label" input_param {{ {shapes} shape {{ dim: {batch} }} }} }}'
            if training
            else f"input_param {{ {shapes} }} }}"
        )
        + f'\ninclude: "{ROOT}/prototxt_examples/resnet_50/net.prototxt"\n'
    )
    if training:
        text += 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc1000" bottom: "label" top: "loss" }'
    rows = own_resnet(text, phase, batch)
    gc.collect()
    cupy.get_default_memory_pool().free_all_blocks()
    if torch := torch_with_cuda():
        for layout in ("contiguous_format", "channels_last"):
            speed = batch / torch_resnet(torch, training, batch, layout)
            for row in rows:
                row[f"PyTorch {layout} images/s"] = speed
                row[f"ratio to {layout}"] = row["images/s"] / speed
    return rows


def own_resnet(text: str, phase: str, batch: int) -> list[dict[str, Any]]:
    """Images per second of a net in caffebn."""
    import numpy as np

    from caffebn.net import Net

    training = phase == "TRAIN"
    net = Net.from_text(text, phase, device="gpu")
    net.blobs["data"].data[...] = np.random.default_rng(0).random(net.blobs["data"].shape, np.float32)

    def step() -> None:
        if training:
            net.clear_param_diffs()
        net.run_forward()
        if training:
            net.run_backward()

    def rate(work: Callable[[], Any]) -> float:
        return batch / seconds(work, net.synchronize, 3, 0.3)

    what = f"ResNet-50 {'forward and backward' if training else 'inference'}, batch {batch}"
    rows = [{"what": what, "images/s": rate(step)}]
    if not training:
        rows.append({"what": f"{what}, recorded as a graph", "images/s": rate(net.capture().launch)})
    return rows


def torch_with_cuda() -> Any:
    """PyTorch, if it is there and finds the GPU; with the precision that caffebn has."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    from caffebn import ops

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = ops.arrays("gpu").ALLOW_TF32
    torch.backends.cudnn.benchmark = True
    return torch


def torch_resnet(torch: Any, training: bool, batch: int, layout: str) -> float:
    """Seconds of a step of the same net in PyTorch."""
    nn = torch.nn

    def conv(a: int, b: int, kernel: int, stride: int = 1) -> list[Any]:
        return [nn.Conv2d(a, b, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(b)]

    class Block(nn.Module):
        def __init__(self, a: int, width: int, stride: int):
            super().__init__()
            self.long = nn.Sequential(
                *conv(a, width, 1, stride), nn.ReLU(True), *conv(width, width, 3), nn.ReLU(True),
                *conv(width, 4 * width, 1),
            )  # fmt: skip
            same = a == 4 * width and stride == 1
            self.short = nn.Identity() if same else nn.Sequential(*conv(a, 4 * width, 1, stride))

        def forward(self, x: Any) -> Any:
            return torch.relu_(self.long(x).add_(self.short(x)))

    layers = [*conv(3, 64, 7, 2), nn.ReLU(True), nn.MaxPool2d(3, 2, ceil_mode=True)]
    channels = 64
    for i, (width, repeat) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for k in range(repeat):
            layers.append(Block(channels, width, 2 if i and not k else 1))
            channels = 4 * width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000)]
    memory_format = getattr(torch, layout)
    model = nn.Sequential(*layers).cuda().to(memory_format=memory_format).train(training)
    x = torch.rand(batch, 3, 224, 224, device="cuda").to(memory_format=memory_format)
    label, loss = torch.zeros(batch, dtype=torch.long, device="cuda"), nn.CrossEntropyLoss()

    def step() -> None:
        if training:
            model.zero_grad(set_to_none=False)
            loss(model(x), label).backward()
        else:
            with torch.no_grad():
                model(x)

    return seconds(step, torch.cuda.synchronize, 3, 0.3)


# -- results ---------------------------------------------------------------------------------------------------


def table(report: dict[str, Any]) -> str:
    """Write a report as Markdown."""
    f = report["facts"]
    lines = [
        f"Measured on {f['date']} on one {f['device']}, single precision{' with TF32' if f['tf32'] else ''}, "
        f"convolution by {f['convolution']}, CuPy {f['cupy']}"
        + (f", beside PyTorch {f['torch']}" if f["torch"] else "")
        + " (`make gpu-check`).",
        "",
        "| what | caffebn | beside | ratio |",
        "|---|---|---|---|",
    ]
    for row in report["rows"]:
        if "error" in row:
            lines.append(f"| {row['what']} | {row['error']} | | |")
            continue
        numbers = [(key, value) for key, value in row.items() if key != "what" and "ratio" not in key]
        (unit, own), *peers = numbers
        ratios = [f"{value:.2f}" for key, value in row.items() if "ratio" in key]
        beside = ", ".join(f"{key.removesuffix(unit).strip()} {value:.4g}" for key, value in peers)
        lines.append(f"| {row['what']} | {own:.4g} {unit} | {beside} | {', '.join(ratios)} |")
    return "\n".join(lines)


def readme_section(text: str) -> str:
    """Return what the README says about GPUs."""
    return text.partition(BEGIN)[2].partition(END)[0].strip()


def write(report: dict[str, Any]) -> None:
    """Write the results, and the README's table."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    f = report["facts"]
    name = re.sub(r"[^a-z0-9]+", "-", f["device"].lower()).strip("-")
    path = RESULTS / f"{f['date']}-{name}.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, behind = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{table(report)}\n{END}{behind}", encoding="utf-8")
    for check, result in report["checks"].items():
        print(f"{check}: {result}")
    print(f"{path.relative_to(ROOT)} and README.md written")


if __name__ == "__main__":
    main()
