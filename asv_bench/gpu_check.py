"""``make gpu-check``: tests on the GPU, a run under compute-sanitizer, and benchmarks; at most 9 minutes.

Each part runs in a process of its own and within a time of its own, which ends it, whatever it does: one that fails,
hangs or takes the GPU's context with it costs the others nothing.  What has been found is written after each part, to
``asv_bench/results/gpu/<date>-<device>.json`` and as a table into the README.  Peers are measured in the same run: a
copy on the device for the kernels of the family channel, PyTorch with cuDNN for whole nets, where it is installed.

    python asv_bench/gpu_check.py                        # all parts
    python asv_bench/gpu_check.py --parts kernels mlp    # some
    python asv_bench/gpu_check.py --out /tmp/found       # results and logs elsewhere, and the README as it is
    python asv_bench/gpu_check.py --readme found.json    # the README's table from a file that was brought back
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
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "asv_bench" / "results" / "gpu"
README = ROOT / "README.md"
BEGIN, END = "<!-- measured on a GPU: begin -->", "<!-- measured on a GPU: end -->"
NOT_YET = "Not yet measured on a GPU."

TOTAL = 525
"""Seconds for everything."""

SECONDS = {
    "facts": 40,
    "kernels": 90,
    "tests": 120,
    "channel": 40,
    "mlp": 25,
    "resnet-test-1": 35,
    "resnet-test-32": 35,
    "resnet-train-32": 45,
    "resnet-train-128": 45,
    "sanitizer": 50,
}
"""The parts in their order, and the seconds that each has; more, if others leave some, or few are asked for."""

AGAIN = 75
"""Exit status of a part that has to go on in another process."""

TESTS = [
    "tests/solvers/test_golden.py", "tests/net", "tests/test_blob.py", "tests/ops", "tests/layers",
]  # fmt: skip

# Shapes of BatchNorm in ResNet-50, (N, C, S) with a batch of 32
SHAPES = [(32, 64, 112**2), (32, 256, 56**2), (32, 512, 28**2), (32, 1024, 14**2), (32, 2048, 7**2)]

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=SECONDS, default=list(SECONDS), metavar="PART")
    parser.add_argument("--out", type=Path, help="folder of results and logs, instead of the project's")
    parser.add_argument("--readme", type=Path, help="write the table of that file of results into the README")
    parser.add_argument("--part", choices=SECONDS, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=float, default=60.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.readme:
        write_readme(json.loads(options.readme.read_text(encoding="utf-8")))
    elif options.part:
        work(options.part, options.rows, options.limit)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("gpu-check: stopped"))  # and the part, too
        sys.exit(check(["facts", *(p for p in options.parts if p != "facts")], options.out))


# -- all parts -------------------------------------------------------------------------------------------------


def check(parts: list[str], out: Path | None = None) -> str | None:
    """Run parts, and write what they have found after each; return what to say if some failed."""
    end = perf_counter() + TOTAL
    scratch = Path(tempfile.mkdtemp(prefix="gpu-check-"))
    folder = out or scratch
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "gpu-check.log"
    log.write_text("", encoding="utf-8")
    # kernels that one part has compiled, the others find
    os.environ.setdefault("CUPY_CACHE_DIR", str(scratch / "kernels"))
    report: dict[str, Any] = {"facts": {}, "checks": {}, "rows": []}
    for k, name in enumerate(parts):
        spare = end - perf_counter() - sum(SECONDS[later] for later in parts[k:])
        left = SECONDS[name] + min(spare, max(SECONDS[name], spare / (len(parts) - k)))
        say(f"{name}: up to {left:.0f} s")
        begin = perf_counter()
        result, rows = run_part(name, left, log, scratch)
        say(f"{name}: {result}, {perf_counter() - begin:.0f} s")
        if name == "facts":
            if not rows:
                return f"gpu-check: {result}"
            report["facts"] = rows[0]
        elif name in ("kernels", "tests", "sanitizer"):
            report["checks"][name] = result
        else:
            if result != "done":
                rows.append({"what": name, "error": result})
            for row in rows:
                say(json.dumps(row))
            report["rows"] += rows
        write(report, out)
    say(f"all that was printed: {log}")
    wrong = [
        name for name, result in report["checks"].items() if not result.startswith(("passed", "not run"))
    ]
    wrong += [row["what"] for row in report["rows"] if "error" in row]
    return f"gpu-check: failed: {', '.join(wrong)}" if wrong else None


def say(text: str) -> None:
    print(f"[{datetime.datetime.now():%H:%M:%S}] {text}", flush=True)


def run_part(name: str, limit: float, log: Path, scratch: Path) -> tuple[str, list[Row]]:
    """Run a part in a process of its own; return how it ended, and its rows."""
    rows = scratch / f"{name}.jsonl"
    begin = log.stat().st_size
    end = perf_counter() + limit
    command = [sys.executable, str(Path(__file__).resolve()), "--part", name, "--rows", str(rows)]
    if name == "tests":
        pytest = importlib.util.find_spec("pytest.__main__")
        assert pytest and pytest.origin
        command = [sys.executable, pytest.origin, "-v", "--tb=short", "-m", "gpu", "-p", "no:cacheprovider"]
        # those that compile for other GPUs need none
        command += [
            "--maxfail=60",
            "-n",
            str(min(8, os.cpu_count() or 1)),
            "-k",
            "not compiled_for_gpus",
            *TESTS,
        ]
    elif name == "sanitizer":
        tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
        if tool is None:
            return "not run: there is no compute-sanitizer", []
        # Python takes its time before it comes to CUDA
        options = ["--error-exitcode", "9", "--launch-timeout", "40"]
        command = [tool, *options, *command, "--limit", str(limit * 0.8)]
    status = run(command, limit, log)
    while status == AGAIN and end - perf_counter() > 5:
        status = run(command, end - perf_counter(), log)
    text = log.read_bytes()[begin:].decode("utf-8", errors="replace")
    found = read_rows(rows)
    ended = {0: "done", None: f"failed: not done within {limit:.0f} s"}.get(status, f"failed ({status})")
    if name == "tests":
        words = ("PASSED", "SKIPPED", "FAILED", "ERROR")
        counts = {word: len(re.findall(rf"^\[gw\d+\].* {word}", text, re.M)) for word in words}
        ended = ended.replace("done", "passed") + "".join(
            f", {n} {word.lower()}" for word, n in counts.items()
        )
        ended += "".join(f"; {line[:200]}" for line in re.findall(r"^(?:FAILED|ERROR) (.*)", text, re.M)[:20])
    elif name in ("kernels", "sanitizer"):
        bad = [row for row in found if row["result"] != "right"]
        good = len(found) - len(bad)
        ended = (
            "passed" if ended == "done" and not bad else ended.replace("done", "failed")
        ) + f": {good} calls right"
        ended += "".join(f"; {row['what']}: {row['result']}" for row in bad[:20])
    if "failed" in ended:
        say("what it printed last:\n" + "\n".join(text.splitlines()[-40:]))
        last = [line for line in text.splitlines() if re.match(r"\w[\w.]*(Error|Exception|Exit)\b", line)]
        if last and name not in ("tests", "kernels", "sanitizer"):
            ended += f": {last[-1][:300]}"
    return ended, found


def run(command: list[str], limit: float, log: Path) -> int | None:
    """Run a command, whose output goes into a file; return its exit status, None when it was not done in time."""
    environment = {
        **os.environ,
        "CAFFEBN_REQUIRE_GPU": "1",
        "OMP_WAIT_POLICY": "passive",
        "PYTHONUNBUFFERED": "1",
    }
    end = perf_counter() + limit
    start = log.stat().st_size if log.exists() else 0
    with open(log, "ab") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            while True:
                try:
                    return process.wait(min(10.0, max(end - perf_counter(), 0.01)))
                except subprocess.TimeoutExpired:
                    if perf_counter() >= end:
                        return None
                    lines = log.read_bytes()[start:].decode("utf-8", errors="replace").splitlines()
                    say(f"  ... {lines[-1][-150:] if lines else ''}")
        finally:  # with all that it has started
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)


def read_rows(path: Path) -> list[Row]:
    """Return the rows that a part has written; of rows of one thing, the last."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found: dict[str, Row] = {}
    for line in lines:
        with suppress(ValueError):  # cut off when the process was ended
            row = json.loads(line)
            found[row.get("what", "")] = row
    return list(found.values())


# -- one part, in a process of its own -------------------------------------------------------------------------


def work(name: str, path: Path, limit: float) -> None:
    """Write the rows of a part, each as soon as it is known."""
    make: dict[str, Callable[[], Iterator[Row]]] = {
        "facts": facts,
        "kernels": partial(kernels, path),
        "sanitizer": partial(sanitized, path, perf_counter() + limit),
        "channel": channel,
        "mlp": mlp,
    }
    kind, *rest = name.split("-")
    rows = make[name]() if name in make else resnet(rest[0].upper(), int(rest[1]))
    with open(path, "a", encoding="utf-8") as file:
        for row in rows:
            print(json.dumps(row), file=file, flush=True)
            print(json.dumps(row), flush=True)


def facts() -> Iterator[Row]:
    """Say what is measured, and with what."""
    from caffebn import ops

    if why := ops.why_no_gpu():
        sys.exit(f"gpu-check: {why}")
    import cupy

    import caffebn

    device = ops.arrays("gpu")
    found = {
        "date": datetime.date.today().isoformat(),
        "device": device.describe()[device.selected()]["name"],
        "caffebn": caffebn.__version__,
        "cupy": cupy.__version__,
        "cuda": cupy.cuda.runtime.runtimeGetVersion(),
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "python": platform.python_version(),
        "tf32": device.ALLOW_TF32,
        "convolution": ops.get("gpu").convolution(),
        "torch": None,
    }
    yield found
    if torch := torch_with_cuda():
        yield found | {"torch": torch.__version__}


def kernels(path: Path, deadline: float = float("inf")) -> Iterator[Row]:
    """Call each op with arrays that the tests of the ops make, and compare with the reference.

    An op after which the GPU's context cannot be used any more ends the process; the next one goes on behind it.
    """
    import numpy as np

    import caffebn.ops

    spec = importlib.util.spec_from_file_location("calls", ROOT / "tests" / "ops" / "conftest.py")
    assert spec and spec.loader
    calls = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(calls)
    on_device, reference = calls.OnDevice(), caffebn.ops.get("reference")
    done = {row["what"] for row in read_rows(path)}
    for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-11)):
        for op in calls.OPS:
            what = f"{op} {dtype}"
            if what in done:
                continue
            if perf_counter() > deadline:
                return
            yield {"what": what, "result": "ended the process"}
            try:
                for shape in calls.LARGE[calls.family_of(op)]:
                    found = calls.outputs_of(on_device, op, calls.call_of(op, dtype, shape))
                    expected = calls.outputs_of(reference, op, calls.call_of(op, dtype, shape))
                    for name, value in expected.items():
                        np.testing.assert_allclose(
                            found[name], value, tolerance, tolerance, err_msg=f"{name}, {shape}"
                        )
            except Exception as e:
                traceback.print_exc()
                yield {"what": what, "result": f"{type(e).__name__}: {' '.join(str(e).split())[:300]}"}
                try:
                    caffebn.ops.arrays("gpu").synchronize()
                except Exception:
                    sys.exit(AGAIN)
            else:
                yield {"what": what, "result": "right"}


def sanitized(path: Path, deadline: float) -> Iterator[Row]:
    """The same with memory of its own for each array, so that nothing is written behind one unnoticed."""
    import cupy

    cupy.cuda.set_allocator(None)
    yield from kernels(path, deadline)


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


def device_seconds(calls: list[Callable[[], Any]], runs: int = 5, least: float = 0.02) -> float:
    """Median time of one of some calls on the device, without the time that the host takes for them."""
    from caffebn import ops

    device = ops.arrays("gpu")
    graph = device.Graph(lambda: [call() for call in calls])

    def launch(count: int) -> float:
        return device.elapsed(graph.launch, count) / 1e3 / len(calls)

    launch(1)
    count = max(1, int(least / max(launch(1) * len(calls), 1e-6)))
    return median(launch(count) for _ in range(runs))


def channel() -> Iterator[Row]:
    """Rates of the channel kernels, of the bytes that they move, against a copy on the device.

    Each is called on several sets of arrays in turn, which together do not fit into the device's cache.
    """
    for shape in SHAPES:
        yield from channel_of(shape)


def channel_of(shape: tuple[int, int, int], memory: int = 512 << 20) -> Iterator[Row]:
    """Rates for one shape."""
    import cupy
    import numpy as np

    from caffebn import ops

    gpu, device = ops.get("gpu"), ops.arrays("gpu")
    N, C, S = shape
    x = device.from_host(np.random.default_rng(0).standard_normal(shape, np.float32))
    sets = [[x.copy() for _ in range(3)] for _ in range(max(2, min(16, memory // (3 * x.nbytes))))]
    mean, var, inv = (device.from_host(np.ones(C)) for _ in range(3))
    scale, shift, dscale, dshift = (device.from_host(np.ones(C, np.float32)) for _ in range(4))

    def normalize_all(x: Any, y: Any, _: Any) -> None:
        gpu.batch_norm(x, 1e-5, scale, shift, None, 0.0, y, mean, var, inv)

    def back(x: Any, dx: Any, dy: Any) -> None:
        gpu.batch_norm_backward(
            x=x, mean=mean, inv_std=inv, scale=scale, shift=shift, y=None, slope=0.0, frozen=False, dy=dy, dx=dx,
            dscale=dscale, dshift=dshift, dresidual=None,
        )  # fmt: skip

    # tensors that its kernels read and write, and those that any kernels have to
    calls: dict[str, tuple[Callable[[Any, Any, Any], None], int, int]] = {
        "copy": (lambda x, y, _: cupy.copyto(y, x), 2, 2),
        "moments": (lambda x, y, _: gpu.moments(x, mean, var), 1, 1),
        "channel_dot": (lambda x, y, _: gpu.channel_dot(x, y, mean), 2, 2),
        "normalize": (lambda x, y, _: gpu.normalize(x, mean, inv, y), 2, 2),
        "normalize_backward": (lambda x, y, dy: gpu.normalize_backward(dy, x, inv, y), 5, 3),
        "affine": (lambda x, y, _: gpu.affine(x, scale, shift, y), 2, 2),
        "relu": (lambda x, y, _: gpu.relu(x, y, 0.0), 2, 2),
        "batch_norm": (normalize_all, 3, 2),
        "batch_norm_backward": (back, 5, 3),
    }
    copy = 0.0
    for name, (call, moved, least) in calls.items():
        time = device_seconds([partial(call, *arrays) for arrays in sets])
        rate = moved * x.nbytes / time
        if name == "copy":
            copy = rate
            continue
        yield {
            "what": f"{name} {N}x{C}x{S}",
            "GB/s": rate / 1e9,
            "copy GB/s": copy / 1e9,
            "ratio": rate / copy,
            "times the least": time / (least * x.nbytes / copy),
        }


def mlp() -> Iterator[Row]:
    """Training iterations of 784-100-100-100-10 with BatchNorm, batch 60, with and without graphs."""
    import numpy as np

    from caffebn import blocks
    from caffebn.proto import text
    from caffebn.solvers import get_solver

    net = (
        'layer { name: "in" type: "Input" top: "data" top: "label" '
        "input_param { shape { dim: 60 dim: 1 dim: 28 dim: 28 } shape { dim: 60 } } }\n"
        f'include: "{ROOT}/prototxt_examples/mnist_bn/net.prototxt"\n'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }'
    )
    p = text.parse('base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005', "SolverParameter")
    p.net_param = blocks.parse(net)
    solver = get_solver(p, device="gpu")
    solver.net.blobs["data"].data[...] = np.random.default_rng(0).random((60, 1, 28, 28))
    rows: list[Row] = []
    for what in ("MLP with BatchNorm, training, batch 60", "the same, recorded as graphs"):
        speed = 1 / seconds(lambda: solver.step(1), solver.net.synchronize)
        rows.append({"what": what, "iterations/s": speed})
        yield rows[-1]
        if len(rows) == 1:
            solver.capture()
    if torch := torch_with_cuda():
        layers: list[Any] = [torch.nn.Flatten()]
        for a, b in ((784, 100), (100, 100), (100, 100)):
            layers += [torch.nn.Linear(a, b), torch.nn.BatchNorm1d(b), torch.nn.ReLU()]
        model = torch.nn.Sequential(*layers, torch.nn.Linear(100, 10)).cuda()
        x, label = torch.rand(60, 1, 28, 28, device="cuda"), torch.zeros(60, dtype=torch.long, device="cuda")
        loss = torch.nn.CrossEntropyLoss()
        rule = torch.optim.SGD(model.parameters(), 0.01, 0.9, weight_decay=5e-4)

        def peer() -> None:
            rule.zero_grad()
            loss(model(x), label).backward()
            rule.step()

        peer_rate = 1 / seconds(peer, torch.cuda.synchronize)
        for row in rows:
            yield row | {"PyTorch iterations/s": peer_rate, "ratio": row["iterations/s"] / peer_rate}


def resnet(phase: str, batch: int) -> Iterator[Row]:
    """Images per second of ResNet-50: inference, or forward and backward."""
    import gc

    import cupy

    training = phase == "TRAIN"
    rows = []
    for row in own_resnet(resnet_text(batch, training), phase, batch):
        rows.append(row)
        yield row
    gc.collect()
    cupy.get_default_memory_pool().free_all_blocks()
    if torch := torch_with_cuda():
        for layout in ("contiguous_format", "channels_last"):
            speed = batch / torch_resnet(torch, training, batch, layout)
            for row in rows:
                row |= {f"PyTorch {layout} images/s": speed, f"ratio to {layout}": row["images/s"] / speed}
                yield row


def resnet_text(batch: int, training: bool, side: int = 224) -> str:
    """The net with inputs of that size."""
    shapes = f"shape {{ dim: {batch} dim: 3 dim: {side} dim: {side} }}"
    label = f'top: "label" input_param {{ {shapes} shape {{ dim: {batch} }} }} }}'
    text = 'layer { name: "in" type: "Input" top: "data" '
    text += label if training else f"input_param {{ {shapes} }} }}"
    text += f'\ninclude: "{ROOT}/prototxt_examples/resnet_50/net.prototxt"\n'
    if training:
        text += 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc1000" bottom: "label" top: "loss" }'
    return text


def own_resnet(text: str, phase: str, batch: int) -> Iterator[Row]:
    """Images per second of a net in caffebn, and the memory that it takes."""
    import cupy
    import numpy as np

    from caffebn.net import Net

    training = phase == "TRAIN"
    net = Net.from_text(text, phase, device="gpu", keep=[])
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
    speed = rate(step)
    yield {"what": what, "images/s": speed, "GiB": cupy.get_default_memory_pool().used_bytes() / 2**30}
    graph = net.capture(backward=training)
    yield {"what": f"{what}, recorded as a graph", "images/s": rate(graph.launch)}


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
        *(
            f"\nNot right: {name}: {result}"
            for name, result in report["checks"].items()
            if "failed" in result
        ),
        "",
        "| what | caffebn | beside | ratio |",
        "|---|---|---|---|",
    ]
    for row in report["rows"]:
        if "error" in row:
            lines.append(f"| {row['what']} | {row['error'].replace('|', '/')} | | |")
            continue
        numbers = [
            (key, value) for key, value in row.items() if key != "what" and not key.startswith("ratio")
        ]
        (unit, own), *peers = numbers
        ratios = [f"{value:.2f}" for key, value in row.items() if key.startswith("ratio")]
        beside = ", ".join(f"{key.removesuffix(unit).strip()} {value:.4g}" for key, value in peers)
        lines.append(f"| {row['what']} | {own:.4g} {unit} | {beside} | {', '.join(ratios)} |")
    return "\n".join(lines)


def readme_section(text: str) -> str:
    """Return what the README says about GPUs."""
    return text.partition(BEGIN)[2].partition(END)[0].strip()


def write(report: dict[str, Any], out: Path | None = None) -> None:
    """Write the results, and unless they go to a folder of their own the README's table."""
    folder = out or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    f = report["facts"]
    name = re.sub(r"[^a-z0-9]+", "-", f["device"].lower()).strip("-")
    path = folder / f"{f['date']}-{name}.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if out is None:
        write_readme(report)


def write_readme(report: dict[str, Any]) -> None:
    """Write the table of a report into the README."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, behind = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{table(report)}\n{END}{behind}", encoding="utf-8")


if __name__ == "__main__":
    main()
