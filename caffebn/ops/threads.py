"""How many threads the kernels use.  The number never changes a result, only the time it takes.

It is one number for the whole process.  Each thread of Python that runs a net has the kernels use as many
threads as it says: a program that runs several nets at once gives each fewer, often one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from caffebn.errors import ArgumentError

__all__ = ["MAX_THREADS", "default", "for_work", "get", "set"]

#: More threads than this are taken for a mistake.
MAX_THREADS = 1024

# Below so many elements, waking other threads costs more than they save.
_SMALL = 16384

_count: int | None = None


def get() -> int:
    """Return the number of threads in use: what `set` was given, else what `default` said when first asked."""
    global _count
    if _count is None:
        _count = default()
    return _count


def set(n: int) -> None:
    """Use `n` threads from now on, in the whole process.

    This is an order: unlike the environment variables, it is not cut to the processors there are.

    Parameters
    ----------
    n : int
        Threads of each kernel call, and so of each thread of Python that runs a net.

    Raises
    ------
    ArgumentError
        When `n` is not a whole number from 1 to `MAX_THREADS`.
    """
    global _count
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MAX_THREADS:
        raise ArgumentError(
            f"the number of threads must be a whole number from 1 to {MAX_THREADS}, not {n!r}"
        )
    _count = n


def for_work(size: int) -> int:
    """Return how many threads to use for light work on `size` elements: one when there is little to do."""
    return 1 if size < _SMALL else get()


def default() -> int:
    """Return the number of threads to use when nobody says otherwise.

    As many as there are processors that this process may run on, or as its share of them where a container
    limits it.  The environment variable ``CAFFEBN_NUM_THREADS``, else ``OMP_NUM_THREADS`` (its first number,
    when it lists one per nesting level), can ask for fewer, and not for more: a number that was meant for
    another machine would make the threads wait for each other.

    Raises
    ------
    ArgumentError
        When one of the variables holds something else than a number from 1 to `MAX_THREADS`.
    """
    available = min(_processors(), _container_limit(Path("/")), MAX_THREADS)
    for variable in ("CAFFEBN_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(variable, "").split(",")[0].strip()
        if text:
            if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_THREADS:
                raise ArgumentError(
                    f"the environment variable {variable} must be a whole number from 1 to {MAX_THREADS}, "
                    f"not {os.environ[variable]!r}"
                )
            return min(int(text), available)
    return available


def _processors() -> int:
    """Number of processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _container_limit(root: Path) -> int:
    """Processors' worth of time that the control groups of this process grant; `MAX_THREADS` without limit.

    Reads the files of both versions of Linux control groups below `root`.  A group is limited by all
    its ancestors as well; inside a container the group's own name may not exist below
    ``/sys/fs/cgroup``, where the container's group is then the root.
    """
    limit = math.inf
    for group, names in _control_groups(root):
        try:
            words = " ".join((group / name).read_text() for name in names).split()
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):
            continue  # no such file, or "max": this group sets no limit
        if quota > 0 and period > 0:
            limit = min(limit, quota / period)
    return max(1, math.ceil(limit)) if limit < MAX_THREADS else MAX_THREADS


def _control_groups(root: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield each folder of a control group of this process and the files that hold quota and period."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers == "":
            mount = root / "sys/fs/cgroup"
            names: tuple[str, ...] = ("cpu.max",)
        elif "cpu" in controllers.split(","):
            mount = root / "sys/fs/cgroup" / controllers
            if not mount.exists():
                mount = root / "sys/fs/cgroup/cpu"
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        else:
            continue
        group = mount / name.strip("/")
        yield group, names
        while group != mount:
            group = group.parent
            yield group, names
