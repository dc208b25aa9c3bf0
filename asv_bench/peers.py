"""The speed table: caffebn beside PyTorch, ONNX Runtime, OpenCV and plain copies, measured in one run.

    python asv_bench/peers.py                          # everything that is installed
    python asv_bench/peers.py --rows resnet --quick    # the rows whose names contain "resnet", in few rounds
    python asv_bench/peers.py --publish                # and write the tables into README.md and docs/performance.md

All sides of a row run in this process, in turns; a time is the median of the turns.  Before anything is timed, the
outputs are compared.  The process keeps memory that was freed (mallopt), or PyTorch, which allocates its tensors
anew, would pay for new pages each time: that makes PyTorch faster, by up to two times.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import sidebyside
import twins
from benchmarks.common import SHAPES
from benchmarks.net import make, perceptron, resnet50
from rich.console import Console
from rich.table import Table
from sidebyside import Case, Goal, Missing

import caffebn
from caffebn import ops
from caffebn.ops import level
from caffebn.ops.host import Graph

HERE = Path(__file__).parent
BATCH = 16  # of the tensors of the BatchNorm rows
EPS = 1e-5
PACKAGES = ["caffebn", "numpy", "torch", "onnxruntime", "onnx", "opencv-python-headless"]
NO_CAFFE = Missing("not installed: there is no package of Caffe 1.0 for this Python")

# mallopt(3): the kernel gets no memory back, so that no side pays for new pages
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


@dataclass
class Settings:
    """What a row needs to know."""

    threads: int
    quick: bool
    folder: Path


Row = Callable[[Settings], Iterator[Case]]


@dataclass
class Entry:
    work: str
    goals: dict[str, Goal]
    row: Row


ROWS: dict[str, Entry] = {}


def row(name: str, work: str, **goals: tuple[float, float]) -> Callable[[Row], Row]:
    """Register a row: its name, what is done, and for each peer what the ratio must be and aims to be at most."""

    def register(function: Row) -> Row:
        ROWS[name] = Entry(work, {PEERS[peer]: Goal(*bounds) for peer, bounds in goals.items()}, function)
        return function

    return register


PEERS = {
    "torch": "PyTorch eager",
    "onnxruntime": "ONNX Runtime",
    "opencv": "OpenCV 4 dnn",
    "caffe": "Caffe 1.0",
    "copy": "a parallel copy of the same bytes",
    "read": "reading the file",
    "readinto": "reading the file into memory that is there",
    "one": "one thread of Python",
}


def installed(package: str, name: str) -> Missing | None:
    """Return why a peer cannot be measured, or None when it can."""
    return None if importlib.util.find_spec(package) else Missing(f"not installed: pip install {name}")


def same(what: str, expected: np.ndarray, found: np.ndarray, tolerance: float = 2e-3) -> None:
    """Stop when a peer computes something else: times of different computations cannot be compared."""
    if expected.shape != found.shape:
        raise click.ClickException(f"{what}: expected shape {expected.shape}, found {found.shape}")
    error = float(np.abs(expected - found).max() / max(np.abs(expected).max(), 1e-30))
    if not error <= tolerance:
        raise click.ClickException(f"{what}: the outputs differ by {error:.2g} of the largest")


# -- BatchNorm + Scale + ReLU ----------------------------------------------------------------------


class Channels:
    """The tensors of one shape: N x C x S for caffebn, in memory as a net's, and PyTorch's views of copies."""

    def __init__(self, case: str):
        self.name = f"{BATCH}x{'x'.join(map(str, SHAPES[case]))}"
        channels, height, width = SHAPES[case]
        rng = np.random.default_rng(1701)
        self.image = (BATCH, channels, height, width)
        shape = (BATCH, channels, height * width)
        self.x, self.dy, self.y, self.dx = (caffebn.Blob(shape).data for _ in range(4))
        for a in self.x, self.dy:
            rng.standard_normal(dtype=np.float32, out=a)
        self.scale, self.shift = rng.uniform(0.5, 1.5, (2, channels)).astype("f")
        self.dscale, self.dshift = np.zeros((2, channels), "f")
        self.mean, self.var, self.inv_std = np.zeros((3, channels))
        self.ops = ops.get("cpu")

    def forward(self) -> None:
        self.ops.batch_norm(
            self.x, EPS, self.scale, self.shift, None, 0.0, self.y, self.mean, self.var, self.inv_std
        )

    def backward(self) -> None:
        self.ops.batch_norm_backward(
            self.x, self.mean, self.inv_std, self.scale, self.shift, None, 0.0, False,
            self.dy, self.dx, self.dscale, self.dshift, None,
        )  # fmt: skip

    def inference(self) -> None:
        self.ops.normalize_act(self.x, self.mean, self.inv_std, self.scale, self.shift, None, 0.0, self.y)

    def torch_forward(self) -> tuple[Callable[[], Any], list[Any]]:
        """Return PyTorch's forward pass, and the leaves whose gradients are wanted."""
        import torch
        from torch.nn import functional

        x, scale, shift = (
            torch.from_numpy(a.copy()).requires_grad_()
            for a in (self.x.reshape(self.image), self.scale, self.shift)
        )
        mean, var = torch.zeros(len(self.scale)), torch.ones(len(self.scale))

        def forward() -> Any:
            y = functional.batch_norm(x, mean, var, scale, shift, training=True, momentum=0.001, eps=EPS)
            return functional.relu(y, inplace=True)

        return forward, [x, scale, shift]


def channel_shapes(settings: Settings) -> Iterator[Channels]:
    for case in list(SHAPES)[-2:] if settings.quick else SHAPES:
        yield Channels(case)


@row("bn-forward", "BatchNorm+Scale+ReLU, training, forward", torch=(1 / 4, 1 / 6))
def bn_forward(settings: Settings) -> Iterator[Case]:
    for c in channel_shapes(settings):
        c.forward()
        other: Any = installed("torch", "torch")
        if not other:
            forward, _ = c.torch_forward()
            same("batch_norm", c.y, forward().detach().numpy().reshape(c.y.shape), 1e-5)
            other = {"": forward}
        yield Case(c.name, Graph(c.forward).launch, {PEERS["torch"]: other})


@row("bn-backward", "the same, backward", torch=(1 / 2.5, 1 / 4))
def bn_backward(settings: Settings) -> Iterator[Case]:
    for c in channel_shapes(settings):
        c.forward()
        c.dscale[:] = c.dshift[:] = 0
        c.backward()
        other: Any = installed("torch", "torch")
        if not other:
            import torch

            forward, leaves = c.torch_forward()
            y, dy = forward(), torch.from_numpy(c.dy.reshape(c.image).copy())

            def backward(y: Any = y, leaves: list = leaves, dy: Any = dy) -> Any:
                return torch.autograd.grad(y, leaves, dy, retain_graph=True)

            dx, dscale, dshift = (g.numpy() for g in backward())
            same("batch_norm_backward, dx", c.dx, dx.reshape(c.dx.shape), 1e-4)
            same("batch_norm_backward, dscale", c.dscale, dscale, 1e-4)
            same("batch_norm_backward, dshift", c.dshift, dshift, 1e-4)
            other = {"": backward}
        yield Case(c.name, Graph(c.backward).launch, {PEERS["torch"]: other})


@row("bn-inference", "the same, inference", copy=(1.15, 1.05))
def bn_inference(settings: Settings) -> Iterator[Case]:
    for c in channel_shapes(settings):
        c.ops.inv_std(c.var + 1, EPS, c.inv_std)
        whole, target = c.x.reshape(BATCH, -1), c.y.reshape(BATCH, -1)
        copy = Graph(lambda c=c, a=whole, b=target: c.ops.copy_into(a, b, 0)).launch  # as a net repeats it
        copies: dict[str, Callable[[], object]] = {"OpenMP threads, memcpy": copy}
        if not installed("torch", "torch"):
            import torch

            of, to = torch.from_numpy(c.x), torch.from_numpy(c.y)
            copies["torch copy_"] = lambda of=of, to=to: to.copy_(of)
        yield Case(c.name, Graph(c.inference).launch, {PEERS["copy"]: copies})


def bn_net(case: str) -> Any:
    """The three layers as a net that goes backward to its input."""
    shape = " ".join(f"dim: {n}" for n in (BATCH, *SHAPES[case]))
    return caffebn.Net.from_text(
        f"""
        force_backward: true
        layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {shape} }} }} }}
        layer {{ name: "bn" type: "BatchNorm" bottom: "data" top: "bn" }}
        layer {{ name: "scale" type: "Scale" bottom: "bn" top: "bn" scale_param {{ bias_term: true }} }}
        layer {{ name: "relu" type: "ReLU" bottom: "bn" top: "bn" }}
        """,
        caffebn.TRAIN,
    )


@row("bn-net", "the same as a net, training, forward and backward", torch=(1 / 2.5, 1 / 4))
def bn_as_net(settings: Settings) -> Iterator[Case]:
    for case in ["res4"] if settings.quick else ["res2", "res4"]:
        c = Channels(case)
        net = bn_net(case)
        net.blobs["data"].data[...] = c.x.reshape(c.image)
        for blob, value in zip(net.params["scale"], (c.scale, c.shift), strict=True):
            blob.data[...] = value
        dy = c.dy.reshape(c.image)

        def ours(c: Channels = c, net: Any = net, dy: np.ndarray = dy) -> None:
            net.forward()
            # the layers in place have overwritten it; on all threads, as PyTorch copies
            c.ops.scale_copy(dy, 1.0, net.blobs["bn"].diff)
            net.clear_param_diffs()
            net.backward()

        ours()
        other: Any = installed("torch", "torch")
        if not other:
            import torch

            forward, leaves = c.torch_forward()
            gradient, given = torch.empty(c.image), torch.from_numpy(dy.copy())

            def theirs(
                forward: Any = forward, leaves: list = leaves, g: Any = gradient, of: Any = given
            ) -> Any:
                y = forward()
                g.copy_(of)  # as above
                return torch.autograd.grad(y, leaves, g)

            same("BatchNorm + Scale + ReLU", net.blobs["data"].diff, theirs()[0].numpy(), 1e-4)
            other = {"": theirs}
        yield Case(c.name, ours, {PEERS["torch"]: other})


# -- ResNet-50 -------------------------------------------------------------------------------------


def trained_resnet(batch: int) -> Any:
    """A ResNet-50 for testing whose statistics are those of a training pass, so that outputs are of normal size."""
    caffebn.set_random_seed(1)
    train = make(resnet50(2, train=True), train=True)
    net = make(resnet50(batch, train=False), train=False, keep=[])
    net.share_with(train)
    return net


@row(
    "resnet50-inference", "ResNet-50, inference",
    onnxruntime=(1.0, 0.8), torch=(1.0, 0.5), opencv=(1.0, 0.5), caffe=(1.0, 0.5),
)  # fmt: skip
def resnet_inference(settings: Settings) -> Iterator[Case]:
    for batch in (1,) if settings.quick else (1, 8):
        net = trained_resnet(batch)
        x = net.blobs["data"].data.copy()
        expected = net.forward()["prob"].copy()
        peers: dict[str, Any] = {}

        missing = installed("onnx", "onnx") or installed("onnxruntime", "onnxruntime")
        if missing:
            peers[PEERS["onnxruntime"]] = missing
        else:
            run = twins.onnx_session(net, settings.threads)
            same("ONNX Runtime", expected, run(x))
            peers[PEERS["onnxruntime"]] = {"": lambda run=run, x=x: run(x)}

        peers[PEERS["torch"]] = installed("torch", "torch") or torch_inference(net, x, expected)

        missing = installed("cv2", '"opencv-python-headless<5"')
        if missing:
            peers[PEERS["opencv"]] = missing
        else:
            run = twins.opencv_net(net, resnet50(batch, train=False), settings.folder, settings.threads)
            same("OpenCV", expected, run(x))
            peers[PEERS["opencv"]] = {"": lambda run=run, x=x: run(x)}

        peers[PEERS["caffe"]] = NO_CAFFE
        yield Case(f"batch {batch}", lambda net=net: net.forward(), peers)


def torch_inference(net: Any, x: np.ndarray, expected: np.ndarray) -> dict[str, Callable[[], Any]]:
    import torch

    variants = {}
    for name, layout in (("NCHW", torch.contiguous_format), ("channels last", torch.channels_last)):
        module = twins.torch_net(net).eval().to(memory_format=layout)
        values = torch.from_numpy(x).to(memory_format=layout)

        def run(module: Any = module, values: Any = values) -> Any:
            with torch.inference_mode():
                return module(values)

        same(f"PyTorch, {name}", expected, run().numpy())
        variants[name] = run
    return variants


SGD = {"rate": 0.001, "momentum": 0.9, "decay": 1e-4}


def solver_of(prototxt: str) -> Any:
    """A solver on a net with fixed input, which stands in its input blobs."""
    from caffebn.proto import text

    p = text.parse(
        f'type: "SGD" base_lr: {SGD["rate"]} lr_policy: "fixed" momentum: {SGD["momentum"]} '
        f"weight_decay: {SGD['decay']} display: 0 random_seed: 1",
        "SolverParameter",
    )
    p.net_param = text.parse(prototxt, "NetParameter")
    solver = caffebn.get_solver(p, keep=[])
    rng = np.random.default_rng(1701)
    data, label = (solver.net.blobs[name].data for name in ("data", "label"))
    data[...] = rng.standard_normal(data.shape)
    label[...] = rng.integers(10, size=label.shape)
    return solver


def training(prototxt: str, threads: list[int], steps: int) -> tuple[Callable[[], Any], Any]:
    """Return `steps` steps of training in caffebn, and in PyTorch with each number of threads."""
    solver = solver_of(prototxt)
    other: Any = installed("torch", "torch")
    if not other:
        import torch

        data, label = (solver.net.blobs[name].data for name in ("data", "label"))
        other, losses = {}, {}
        for n in threads:
            for fused in (False, True):
                step = twins.torch_trainer(solver.net, data, label, **SGD, fused=fused)
                losses[n, fused] = [float(step()) for _ in range(2)]

                def run(step: Any = step, n: int = n) -> None:
                    torch.set_num_threads(n)
                    for _ in range(steps):
                        step()

                other[f"{n} thread{'s' * (n > 1)}{', fused SGD' * fused}"] = run
        ours = []
        for _ in range(2):
            solver.step(1)
            ours.append(solver.net.loss)
        for key, theirs in losses.items():
            same(f"first loss, {key}", np.array(ours[:1]), np.array(theirs[:1]), 1e-4)
            # one step of a deep net on few images makes much of the last bits
            same(f"second loss, {key}", np.array(ours[1:]), np.array(theirs[1:]), 2e-2)
    return (lambda: solver.step(steps)), other


@row("resnet50-training", "ResNet-50, a step of training", torch=(1 / 1.5, 1 / 2))
def resnet_training(settings: Settings) -> Iterator[Case]:
    for batch in (2,) if settings.quick else (8, 16):
        ours, other = training(resnet50(batch, train=True), [settings.threads], 1)
        yield Case(f"batch {batch}", ours, {PEERS["torch"]: other})


@row(
    "mnist-training",
    "MNIST 784-100-100-100-10 with BatchNorm, an iteration of training",
    torch=(1 / 2, 1 / 4),
)
def mnist_training(settings: Settings) -> Iterator[Case]:
    steps = 20
    ours, other = training(perceptron(60, train=True), [1, 2], steps)
    yield Case("batch 60", ours, {PEERS["torch"]: other}, per=steps)


# -- files, memory, serving ------------------------------------------------------------------------


@row("loading", "102 MB of weights from a .caffemodel into a net", read=(1.5, 1.1), readinto=(1.5, 1.1))
def loading(settings: Settings) -> Iterator[Case]:
    net = make(resnet50(1, train=False), train=False)
    path = settings.folder / "resnet50.caffemodel"
    net.save(path)
    size = path.stat().st_size
    there = np.ones(size, np.uint8)

    def read() -> None:
        file = os.open(path, os.O_RDONLY)
        content = os.read(file, size)
        os.close(file)
        assert len(content) == size

    def read_into() -> None:
        file = os.open(path, os.O_RDONLY)
        assert os.preadv(file, [there], 0) == size
        os.close(file)

    yield Case(
        "ResNet-50",
        lambda: net.copy_from(path),
        {PEERS["read"]: {"": read}, PEERS["readinto"]: {"": read_into}},
    )


@row("memory", "ResNet-50, training, most memory of the process", torch=(1.0, 0.5))
def memory(settings: Settings) -> Iterator[Case]:
    batch = 2 if settings.quick else 16
    missing = installed("torch", "torch")
    other: Any = missing or {"": peak("torch", batch, settings)}
    for case, program in [("", "caffebn"), (", recompute", "caffebn-recompute")]:
        ours = peak(program, batch, settings)
        yield Case(f"batch {batch}{case}", ours, {PEERS["torch"]: other}, unit="MB")


def peak(program: str, batch: int, settings: Settings) -> float:
    """Megabytes that two steps of training add to a fresh process; see peak_memory.py."""
    done = subprocess.run(
        [sys.executable, HERE / "peak_memory.py", program, str(batch), str(settings.threads)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise click.ClickException(f"peak_memory.py {program}: {done.stderr.strip()}")
    return json.loads(done.stdout)["megabytes"]


@row("serving", "ResNet-50, an image, two nets that share weights in two threads of Python")
def serving(settings: Settings) -> Iterator[Case]:
    first = trained_resnet(1)
    second = trained_resnet(1)
    second.share_with(first)
    images = 4

    def serve(nets: list[Any]) -> Callable[[], None]:
        def work(net: Any) -> None:
            for _ in range(images // len(nets)):
                net.forward()

        def run() -> None:
            before = caffebn.num_threads()
            caffebn.set_num_threads(1)
            helpers = [threading.Thread(target=work, args=[net]) for net in nets]
            for helper in helpers:
                helper.start()
            for helper in helpers:
                helper.join()
            caffebn.set_num_threads(before)

        return run

    yield Case(
        "one kernel thread each", serve([first, second]), {PEERS["one"]: {"": serve([first])}}, per=images
    )


# -- the command -----------------------------------------------------------------------------------


def keep_memory() -> bool:
    """Have the C library keep what is freed; False where it cannot be told to."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # not glibc
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def described(here: dict[str, Any], date: str) -> str:
    """Return the line under a table."""
    versions = ", ".join(
        f"{name} {v or 'not installed'}" for name, v in here["packages"].items() if name != "caffebn"
    )
    environment = ", ".join(f"{name}={value}" for name, value in here["environment"].items())
    return (
        f"{date}, caffebn {here['commit'] or here['packages']['caffebn']} (level {here['level']}), "
        f"{here['processor']}, {here['threads']} threads, {here['system']}, Python {here['python']}, {versions}"
        + (f"; environment: {environment}" if environment else "")
        + (f"; freed memory kept: {'yes' if here['keeps_memory'] else 'no'}")
        + "."
    )


def shown(results: list[sidebyside.Result]) -> Table:
    """Return the table for the terminal."""
    table = Table("work", "case", "against", title="caffebn beside others")
    for name in ("caffebn", "other", "ratio", "noise", "must", "aim"):
        table.add_column(name, justify="right")
    table.add_column("held")
    colours = {"aim": "green", "must": "yellow", "missed": "red", "-": ""}
    for r in results:
        peer = f"{r.peer} ({r.variant})" if r.variant else r.peer
        if r.ratio is None:
            table.add_row(r.row, r.case, peer, sidebyside.amount(r.ours, r.unit), r.note)
            continue
        table.add_row(
            r.row, r.case, peer, sidebyside.amount(r.ours, r.unit), sidebyside.amount(r.theirs, r.unit),
            f"{r.ratio:.2f}", "" if r.spread is None else f"{r.spread:.0%}",
            sidebyside.at_most(r.must), sidebyside.at_most(r.aim),
            f"[{colours[r.verdict]}]{r.verdict}" if colours[r.verdict] else r.verdict,
        )  # fmt: skip
    return table


def publish(here: dict[str, Any], results: list[sidebyside.Result]) -> None:
    """Write the tables between their marks in README.md and docs/performance.md."""
    dates = sorted({r.date for r in results})
    note = described(here, " to ".join(dict.fromkeys([dates[0], dates[-1]])))
    for path, table in (("README.md", sidebyside.summary), ("docs/performance.md", sidebyside.markdown)):
        file = HERE.parent / path
        try:
            text = sidebyside.replace_between(file.read_text(), "speed", f"{table(results)}\n\n{note}")
        except ValueError as e:
            raise click.ClickException(f"{path}: {e}") from None
        file.write_text(text)


@click.command(help=__doc__.partition("\n\n")[0])
@click.option("--rows", default="", help="Only rows whose names contain one of these words (a,b,c).")
@click.option(
    "--quick", is_flag=True, help="Few rounds and small cases: shows that all is well, not how fast it is."
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of every side; by default all that are allowed."
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=HERE / "results" / "peers.json",
    help="JSON; rows not measured now are kept.  The tables go beside it, with the ending .md.",
)  # fmt: skip
@click.option(
    "--publish", "publishing", is_flag=True, help="Write the tables into README.md and docs/performance.md."
)
@click.option("--from", "given", is_flag=True, help="Measure nothing: show (and publish) what --out holds.")
def main(rows: str, quick: bool, threads: int | None, out: Path, publishing: bool, given: bool) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=180)
    if given:
        here, results = sidebyside.load(out)
        console.print(shown(results))
        if publishing:
            publish(here, results)
        return
    words = [word.strip() for word in rows.split(",") if word.strip()]
    chosen = [name for name in ROWS if not words or any(word in name for word in words)]
    if not chosen:
        raise click.UsageError(f"no row is called like {rows!r}; there are {', '.join(ROWS)}")
    caffebn.set_num_threads(threads or caffebn.num_threads())
    threads = caffebn.num_threads()
    keeps = keep_memory()
    if not installed("torch", "torch"):
        import torch

        torch.set_num_threads(threads)
    here = sidebyside.machine(PACKAGES, threads=threads, level=level.active(), keeps_memory=keeps)
    date, results, failed = sidebyside.today(), [], []
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(threads, quick, Path(folder))
        for name in chosen:
            entry = ROWS[name]
            with console.status(f"{name}: {entry.work}"):
                try:
                    for case in entry.row(settings):
                        rounds = 2 if quick else 15
                        results += sidebyside.compare(name, entry.work, entry.goals, case, rounds, date)
                except Exception as e:  # the other rows are still worth having
                    failed.append(name)
                    console.print(f"[red]{name}: {type(e).__name__}: {e}", highlight=False)
            if not installed("torch", "torch"):
                torch.set_num_threads(threads)
    console.print(shown(results))
    if not quick:
        try:
            results = sidebyside.merged(out, here, results)
        except ValueError as e:
            raise click.ClickException(str(e)) from None
        sidebyside.save(out, here, results)
        out.with_suffix(".md").write_text(f"{sidebyside.markdown(results)}\n\n{described(here, date)}\n")
        console.print(f"written to {out} and {out.with_suffix('.md').name}")
        if publishing:
            publish(here, results)
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
