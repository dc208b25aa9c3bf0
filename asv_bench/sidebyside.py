"""Times of several programs side by side: alternating runs, medians, ratios, tables.

Nothing here knows what is measured; `peers.py` does.
"""

from __future__ import annotations

import datetime
import gc
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = [
    "Case",
    "Goal",
    "Missing",
    "Result",
    "Span",
    "alternate",
    "amount",
    "at_most",
    "compare",
    "load",
    "machine",
    "markdown",
    "merged",
    "number",
    "replace_between",
    "save",
    "spans",
    "summary",
    "today",
]

TURN_SECONDS = 0.03
"""A turn repeats a short run until it lasts about this long."""

REST_SECONDS = 0.06
"""Between two turns all rest for this long."""

LONG_SECONDS = 0.3
"""A run that takes longer needs no other before it."""

CASE_SECONDS = 40
"""Slow sides get fewer turns, but five, so that a case lasts about this long."""


@dataclass(frozen=True)
class Goal:
    """What a ratio (caffebn's time over the peer's) must be at most, and aims to be."""

    must: float
    aim: float


@dataclass(frozen=True)
class Missing:
    """Stands for a peer that cannot be measured here, and says why."""

    why: str


Side = Callable[[], object] | float


@dataclass
class Case:
    """One comparison: caffebn on one side, each peer in one or several variants on the others.

    Attributes
    ----------
    name : str
        Shape, batch ...
    ours : callable or float
        What is timed, or a number that was measured already.
    peers : dict of dict
        By the peer's name, then by variant; of the variants the fastest counts.  A peer may be `Missing`.
    unit : str
        "ms" for callables.
    per : int
        Runs in one call of a callable; times are divided by it.
    """

    name: str
    ours: Side
    peers: Mapping[str, Mapping[str, Side] | Missing]
    unit: str = "ms"
    per: int = 1


@dataclass
class Result:
    """One line of the table.

    Attributes
    ----------
    ours, theirs : float or None
        Medians in `unit`; None where there was nothing to measure.
    spread : float or None
        Quartile range of the ratios of neighbouring turns, as part of the ratio: what noise did.
    variant : str
        The peer's fastest variant.
    note : str
        Why there is no number.
    date : str
        When it was measured, UTC.
    """

    row: str
    work: str
    case: str
    peer: str
    unit: str = "ms"
    ours: float | None = None
    theirs: float | None = None
    spread: float | None = None
    must: float | None = None
    aim: float | None = None
    variant: str = ""
    note: str = ""
    date: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over theirs; below 1 is better than the peer."""
        if self.ours is None or self.theirs is None:
            return None
        return self.ours / self.theirs

    @property
    def verdict(self) -> str:
        """What became of the goal."""
        return _verdict(self.ratio, self.must, self.aim)


def _verdict(ratio: float | None, must: float | None, aim: float | None) -> str:
    if ratio is None or must is None or aim is None:
        return "-"
    return "aim" if ratio <= aim else "must" if ratio <= must else "missed"


def alternate(
    sides: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Run all sides in turns, A B A B, and return the seconds of a run in each turn.

    Before each turn all rest, for threads of some libraries go on spinning for 40 ms when their work is done.  A turn
    begins with a run that is not timed, as caches are full of what the others did; but for runs so long that this does
    not matter.
    """
    calls, untimed, cost = {}, {}, 0.0
    for name, run in sides.items():
        run()
        run()
        begin = clock()
        run()
        taken_once = max(clock() - begin, 1e-9)
        calls[name] = max(1, round(TURN_SECONDS / taken_once))
        untimed[name] = taken_once < LONG_SECONDS
        cost += (calls[name] + untimed[name]) * taken_once
    if sides:
        rounds = min(rounds, max(5, round(CASE_SECONDS / cost)))
    taken: dict[str, list[float]] = {name: [] for name in sides}
    collects = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, run in sides.items():
                time.sleep(REST_SECONDS)
                if untimed[name]:
                    run()
                begin = clock()
                for _ in range(calls[name]):
                    run()
                taken[name].append((clock() - begin) / calls[name])
            gc.collect()
    finally:
        if collects:
            gc.enable()
    return taken


def compare(
    row: str, work: str, goals: Mapping[str, Goal], case: Case, rounds: int, date: str
) -> list[Result]:
    """Measure one case and return a line for each peer."""
    sides: dict[tuple[str, str], Side] = {("", ""): case.ours}
    for peer, variants in case.peers.items():
        if not isinstance(variants, Missing):
            sides.update(((peer, variant), side) for variant, side in variants.items())
    keys = {f"{i}": key for i, (key, side) in enumerate(sides.items()) if callable(side)}
    samples = alternate({name: sides[key] for name, key in keys.items()}, rounds)  # type: ignore[misc]
    scale = 1e3 / case.per
    turns = {key: [scale * t for t in samples[name]] for name, key in keys.items()}
    value = {key: statistics.median(turns[key]) if key in turns else float(sides[key]) for key in sides}  # type: ignore[arg-type]

    results = []
    for peer, variants in case.peers.items():
        goal = goals.get(peer)
        result = Result(
            row, work, case.name, peer, case.unit,
            value["", ""], must=goal and goal.must, aim=goal and goal.aim, date=date,
        )  # fmt: skip
        if isinstance(variants, Missing):
            result.note = variants.why
        else:
            best = min(variants, key=lambda variant: value[peer, variant])
            result.theirs, result.variant = value[peer, best], best
            if ("", "") in turns and (peer, best) in turns:
                result.spread = _spread(
                    [a / b for a, b in zip(turns["", ""], turns[peer, best], strict=True)]
                )
        results.append(result)
    return results


def _spread(ratios: Sequence[float]) -> float:
    if len(ratios) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(ratios, n=4)
    return (high - low) / middle


# -- where it was measured ----------------------------------------------------------------------------


def machine(packages: Sequence[str], **more: object) -> dict[str, object]:
    """Describe the machine and the versions; a package that is not installed has the version None."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "commit": _commit(),
        "packages": found,
        "environment": {
            name: os.environ[name] for name in sorted(os.environ) if name.startswith(_THREADS_AND_LEVELS)
        },
        **more,
    }


_THREADS_AND_LEVELS = ("OMP_", "GOMP_", "OPENBLAS_", "MKL_", "DNNL_", "ONEDNN_", "CAFFEBN_")


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def today() -> str:
    """Return the date, UTC."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")


def merged(path: Path, here: dict[str, object], results: Sequence[Result]) -> list[Result]:
    """Return the results in a file but for the rows measured anew, and these.

    Raises
    ------
    ValueError
        The file was measured elsewhere: times of two machines do not belong in one table.
    """
    if not path.exists():
        return list(results)
    there, old = load(path)
    for key in ("processor", "cores", "threads"):
        if there.get(key) != here.get(key):
            raise ValueError(
                f"{path}: measured with {key} {there.get(key)!r}, here it is {here.get(key)!r}: "
                "give another file to --out"
            )
    anew = {result.row for result in results}
    return [result for result in old if result.row not in anew] + list(results)


def load(path: Path) -> tuple[dict[str, object], list[Result]]:
    """Read what `save` wrote: the machine, the results."""
    content = json.loads(path.read_text())
    names = [f.name for f in fields(Result)]
    return content["machine"], [Result(**{n: values[n] for n in names}) for values in content["results"]]


def save(path: Path, here: dict[str, object], results: Sequence[Result]) -> None:
    """Write machine and results as JSON; the ratios and verdicts are there for other readers."""
    lines = [asdict(r) | {"ratio": r.ratio, "verdict": r.verdict} for r in results]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": here, "results": lines}, indent=1) + "\n")


# -- tables --------------------------------------------------------------------------------------------


@dataclass
class Span:
    """All cases of one row against one peer: from the best ratio to the worst, which decides."""

    row: str
    work: str
    peer: str
    must: float | None
    aim: float | None
    ratios: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def ratio(self) -> str:
        """The ratios in words."""
        if not self.ratios:
            return self.note
        low, high = f"{min(self.ratios):.2f}", f"{max(self.ratios):.2f}"
        return low if low == high else f"{low} - {high}"

    @property
    def verdict(self) -> str:
        """What became of the goal, in the worst case."""
        return _verdict(max(self.ratios, default=None), self.must, self.aim)


def spans(results: Sequence[Result]) -> list[Span]:
    """Put the cases of each row and peer together, in the order of their first appearance."""
    found: dict[tuple[str, str], Span] = {}
    for r in results:
        span = found.setdefault((r.row, r.peer), Span(r.row, r.work, r.peer, r.must, r.aim))
        if r.ratio is None:
            span.note = r.note
        else:
            span.ratios.append(r.ratio)
    return list(found.values())


VERDICTS = {"aim": "yes, the aim too", "must": "yes", "missed": "**no**", "-": ""}


def number(value: float) -> str:
    """Write a time or a size with three digits or so: 0.0123, 1.23, 12.3, 123, 1234."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def amount(value: float | None, unit: str) -> str:
    """Write a number with its unit; nothing for None."""
    return "" if value is None else f"{number(value)} {unit}"


def markdown(results: Sequence[Result]) -> str:
    """Return the table of all cases."""
    lines = [
        "| work | case | against | caffebn | the other | ratio | must | aim | held |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    before = ""
    for r in results:
        peer = f"{r.peer} ({r.variant})" if r.variant else r.peer
        work, before = "" if r.work == before else r.work, r.work
        if r.ratio is None:
            cells = [
                work,
                r.case,
                peer,
                amount(r.ours, r.unit),
                r.note,
                "",
                at_most(r.must),
                at_most(r.aim),
                "",
            ]
        else:
            cells = [
                work, r.case, peer, amount(r.ours, r.unit), amount(r.theirs, r.unit),
                f"{r.ratio:.2f}", at_most(r.must), at_most(r.aim), VERDICTS[r.verdict],
            ]  # fmt: skip
        lines.append(_line(cells))
    return "\n".join(lines)


def summary(results: Sequence[Result]) -> str:
    """Return the short table: one line for each row and peer."""
    lines = ["| work | against | time, as part of theirs | must | aim | held |", "|---|---|---|---|---|---|"]
    before = ""
    for s in spans(results):
        work, before = "" if s.work == before else s.work, s.work
        lines.append(_line([work, s.peer, s.ratio, at_most(s.must), at_most(s.aim), VERDICTS[s.verdict]]))
    return "\n".join(lines)


def at_most(bound: float | None) -> str:
    """Write a goal: 0.17, 0.4, 1.15."""
    return "" if bound is None else f"{round(bound, 2):g}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def replace_between(text: str, name: str, new: str) -> str:
    """Replace what stands between ``<!-- name -->`` and ``<!-- /name -->``.

    Raises
    ------
    ValueError
        When the two do not stand in the text once each, in this order.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"expected {begin} and behind it {end}, once each")
    head, rest = text.split(begin)
    return f"{head}{begin}\n{new.strip()}\n{end}{rest.split(end)[1]}"
