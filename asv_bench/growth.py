"""How the time of nets grows with batch, image size, depth and threads: plots, with the floors drawn in.

    python asv_bench/growth.py                    # all plots, into docs/images/
    python asv_bench/growth.py --plots batch,size # some of them
    python asv_bench/growth.py --publish          # and their list into docs/performance.md
    python asv_bench/growth.py --quick --out DIR  # few points: shows that all is well

Two floors: the time that the multiply-adds take at the rate of a large matrix product, and the time that the bytes take
at the rate of a parallel copy, each value read once and written once; both rates are measured first.
"""

from __future__ import annotations

import gc
import json
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import sidebyside
from benchmarks.net import EXAMPLES, example, make
from rich.console import Console

import caffebn
from caffebn import ops
from caffebn.cli.info import layers
from caffebn.ops import level

HERE = Path(__file__).parent
PERFORMANCE = HERE.parent / "docs" / "performance.md"
ROUNDS = 7


@dataclass
class Line:
    """Seconds over what grows; `macs` and `bytes` of each point, where there is a floor."""

    name: str
    x: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    macs: list[float] = field(default_factory=list)
    bytes: list[float] = field(default_factory=list)

    def add(self, x: float, seconds: float, macs: float = 0, bytes: float = 0) -> None:
        """Add a point; without a floor, `macs` and `bytes` are 0."""
        self.x.append(x)
        self.seconds.append(seconds)
        self.macs.append(macs)
        self.bytes.append(bytes)


@dataclass
class Plot:
    """One picture. Lines whose points have no floor are compared with growth in proportion."""

    name: str
    title: str
    x: str
    lines: list[Line] = field(default_factory=list)


@dataclass
class Rates:
    """What the processor can do: multiply-adds a second, bytes (read and written) a second; on all threads."""

    macs: float
    bytes: float


@dataclass
class Settings:
    quick: bool
    threads: int


PLOTS: dict[str, tuple[str, str, Callable[[Settings], Iterator[Line]]]] = {}


def plot(name: str, title: str, x: str) -> Callable:
    """Register a function that yields the lines of a plot."""

    def register(function: Callable[[Settings], Iterator[Line]]) -> Callable:
        PLOTS[name] = (title, x, function)
        return function

    return register


def seconds(run: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Median time of a run, after warming up."""
    return statistics.median(sidebyside.alternate({"": run}, rounds)[""])


def rates() -> Rates:
    """Measure what the floors stand on."""
    cpu = ops.get("cpu")
    rng = np.random.default_rng(1)
    a, b, c = (rng.standard_normal((1536, 1536), dtype=np.float32) for _ in range(3))
    product = min(seconds(lambda: cpu.gemm(a, b, c)), seconds(lambda: np.matmul(a, b, out=c)))
    x = np.ones((16, 2**21), np.float32)
    y = np.zeros_like(x)
    copy = seconds(lambda: cpu.copy_into(x, y, 0))
    return Rates(1536**3 / product, 2 * x.nbytes / copy)


def cost(net: Any) -> tuple[float, float]:
    """Multiply-adds and bytes of a forward pass: every value is written and read, every parameter read."""
    rows = layers(net)
    macs = sum(row["macs"] for row in rows)
    values = sum(row["memory"] for row in rows)
    return macs, 2 * values + net.dtype.itemsize * sum(row["parameters"] for row in rows)


def measure(line: Line, x: float, net: Any, train: bool = False) -> None:
    """Add a point: a forward pass, or with `train` forward and backward, which cost three times as much."""
    macs, size = cost(net)
    run = net.forward_backward if train else net.forward
    line.add(x, seconds(run), macs * (3 if train else 1), size * (3 if train else 1))


@plot("batch", "ResNet-50 over the batch", "images in the batch")
def over_batch(settings: Settings) -> Iterator[Line]:
    resnet = example("resnet_50")
    for name, train, batches in (
        ("inference", False, [1, 2] if settings.quick else [1, 2, 4, 8, 16, 32, 64]),
        ("training, forward and backward", True, [1, 2] if settings.quick else [1, 2, 4, 8, 16]),
    ):
        line = Line(name)
        for batch in batches:
            measure(line, batch, make(resnet(batch, train), train), train)
            gc.collect()
        yield line


@plot("size", "ResNet-50 over the image size, one image", "side of the image")
def over_size(settings: Settings) -> Iterator[Line]:
    net = make(example("resnet_50")(1, False), train=False)
    line = Line("inference")
    for side in [64, 96] if settings.quick else [64, 96, 128, 160, 192, 224, 288, 320, 384, 448, 512]:
        net.blobs["data"].reshape(1, 3, side, side)
        net.reshape()
        measure(line, side, net)
    yield line


@plot("depth", "ResNets over their depth, one image", "layers, as in the name")
def over_depth(settings: Settings) -> Iterator[Line]:
    line = Line("inference")
    for depth in [50] if settings.quick else [50, 101, 152]:
        measure(line, depth, make(example(f"resnet_{depth}")(1, False), train=False))
        gc.collect()
    yield line


@plot(
    "building", "Making a ResNet for CIFAR over its depth, from its text in blocks", "layers, as in the name"
)
def over_building(settings: Settings) -> Iterator[Line]:
    text = (EXAMPLES / "cifar_resnet_20" / "net.prototxt").read_text()
    head = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: [1, 3, 32, 32] } } }\n'
    line = Line("text to net")
    for depth in [20, 56] if settings.quick else [20, 56, 110, 218, 434, 836, 1202]:
        deep = head + re.sub(r"repeat: \d+", f"repeat: {(depth - 2) // 6}", text)
        line.add(depth, seconds(lambda deep=deep: caffebn.Net.from_text(deep, caffebn.TEST), 3))
    yield line


@plot("threads", "ResNet-50 over the threads of the kernels", "threads")
def over_threads(settings: Settings) -> Iterator[Line]:
    resnet = example("resnet_50")
    for batch in [1] if settings.quick else [1, 8]:
        net = make(resnet(batch, False), train=False)
        macs, size = cost(net)
        line = Line(f"inference, batch {batch}")
        for threads in range(1, settings.threads + 1):
            caffebn.set_num_threads(threads)
            # the floors are of all threads: fewer do their share of it
            share = settings.threads / threads
            line.add(threads, seconds(net.forward), macs * share, size * share)
        caffebn.set_num_threads(settings.threads)
        yield line


def floors(line: Line, rate: Rates) -> dict[str, list[float]]:
    """Return the floors of a line, in seconds: the two, or the growth in proportion to its first point."""
    if not any(line.macs):
        return {"in proportion": [line.seconds[0] * x / line.x[0] for x in line.x]}
    return {
        "arithmetic": [macs / rate.macs for macs in line.macs],
        "memory": [size / rate.bytes for size in line.bytes],
    }


def draw(plot: Plot, rate: Rates, path: Path) -> None:
    """Draw a plot as SVG, the same bytes for the same numbers."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator

    matplotlib.rcParams["svg.hashsalt"] = plot.name
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.add_subplot(
        xscale="log", yscale="log", title=plot.title, xlabel=plot.x, ylabel="milliseconds"
    )
    styles = {"arithmetic": "--", "memory": ":", "in proportion": "--"}
    for i, line in enumerate(plot.lines):
        colour = f"C{i}"
        axes.plot(line.x, [1e3 * t for t in line.seconds], "o-", color=colour, label=line.name)
        for name, times in floors(line, rate).items():
            label = f"{line.name}: {name}" + ("" if name == "in proportion" else " alone")
            axes.plot(line.x, [1e3 * t for t in times], styles[name], color=colour, linewidth=1, label=label)
    ticks = sorted({x for line in plot.lines for x in line.x})
    axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None, "Creator": "caffebn"})


def page(plots: Sequence[Plot], rate: Rates, here: dict[str, Any], folder: str) -> str:
    """Return what docs/performance.md says of the plots."""
    parts = [
        f"{here['date']}, caffebn {here['commit']} (level {here['level']}), {here['processor']}, "
        f"{here['threads']} threads. A large matrix product: {2e-9 * rate.macs:.0f} billion operations (half as many "
        f"multiply-adds) a second; a copy: {1e-9 * rate.bytes:.1f} GB read and written a second."
    ]
    for p in plots:
        parts.append(f"![{p.title}]({folder}/growth-{p.name}.svg)")
    return "\n\n".join(parts)


@click.command(help=__doc__.partition("\n\n")[0])
@click.option("--plots", default="", help=f"Only these (a,b): {', '.join(PLOTS)}.")
@click.option("--quick", is_flag=True, help="Few points, to see that all is well.")
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of the kernels; by default all that are allowed."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=PERFORMANCE.parent / "images",
    help="Folder of the pictures.",
)
@click.option("--publish", is_flag=True, help="Write the list of the pictures into docs/performance.md.")
def main(plots: str, quick: bool, threads: int | None, out: Path, publish: bool) -> None:
    console = Console()
    words = [word.strip() for word in plots.split(",") if word.strip()]
    if unknown := [word for word in words if word not in PLOTS]:
        raise click.UsageError(f"no plot is called {', '.join(unknown)}; there are {', '.join(PLOTS)}")
    if publish and out.resolve() != (PERFORMANCE.parent / "images").resolve():
        raise click.UsageError(
            "--publish needs the pictures where the documentation finds them: leave --out out"
        )
    caffebn.set_num_threads(threads or caffebn.num_threads())
    settings = Settings(quick, caffebn.num_threads())
    here = sidebyside.machine(
        ["numpy"], threads=settings.threads, level=level.active(), date=sidebyside.today()
    )
    rate = rates()
    console.print(f"{2e-9 * rate.macs:.0f} GF/s, {1e-9 * rate.bytes:.1f} GB/s", highlight=False)
    drawn = []
    for name in words or PLOTS:
        title, x, function = PLOTS[name]
        with console.status(title):
            made = Plot(name, title, x, list(function(settings)))
        draw(made, rate, out / f"growth-{name}.svg")
        drawn.append(made)
        for line in made.lines:
            times = ", ".join(f"{x:g}: {1e3 * t:.3g} ms" for x, t in zip(line.x, line.seconds, strict=True))
            console.print(f"{name}, {line.name}: {times}", highlight=False)
    record = HERE / "results" / "growth.json"
    record.parent.mkdir(exist_ok=True)
    record.write_text(
        json.dumps({"machine": here, "rates": asdict(rate), "plots": [asdict(p) for p in drawn]}, indent=1)
    )
    if publish:
        text = page(drawn, rate, here, "images")
        PERFORMANCE.write_text(sidebyside.replace_between(PERFORMANCE.read_text(), "growth", text))


if __name__ == "__main__":
    main()
