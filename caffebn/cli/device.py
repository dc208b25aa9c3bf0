"""``caffebn device``: what caffebn runs on here."""

from __future__ import annotations

import platform
import re
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np

import caffebn
from caffebn import ops
from caffebn._kernels import cpuid
from caffebn.cli import show
from caffebn.ops import level, threads

__all__ = ["command", "describe"]


def describe() -> dict[str, Any]:
    """Say what caffebn runs on here.

    Returns
    -------
    dict
        caffebn, python, numpy : str, versions
        processor : str
        level : str, the instruction-set level in use
        levels : list of str, those that could be used
        openmp : bool, whether the kernels can use several threads
        threads : int, how many they use
        gpus : list of str, the graphics cards that NVIDIA's driver knows; with CuPy, those that can be used, by number
        cupy : str or None, version of CuPy when it is installed
        convolution : str or None, what computes convolutions on a GPU, when there is one that can be used
    """
    version = cupy_version()
    usable = version is not None and not ops.why_no_gpu()
    return {
        "caffebn": caffebn.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "processor": processor(Path("/proc/cpuinfo")),
        "level": level.active(),
        "levels": list(level.available()),
        "openmp": cpuid.OPENMP,
        "threads": threads.get(),
        "gpus": usable_gpus() if usable else gpus(Path("/proc/driver/nvidia/gpus")),
        "cupy": version,
        "convolution": ops.get("gpu").convolution() if usable else None,
    }


def processor(cpuinfo: Path) -> str:
    """Give the name of the processor, from Linux's `cpuinfo` where there is one."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def gpus(folder: Path) -> list[str]:
    """Give the names of the cards that NVIDIA's driver lists in `folder`."""
    files = sorted(folder.glob("*/information"))
    return [name for file in files for name in re.findall(r"^Model:\s*(.+)$", file.read_text(), re.MULTILINE)]


def usable_gpus() -> list[str]:
    """Describe the cards that the GPU back end can use, by number."""
    return [
        f"{i}: {gpu['name']}, compute capability {gpu['capability']}, "
        f"{gpu['free'] / 2**30:.1f} of {gpu['total'] / 2**30:.1f} GiB free"
        for i, gpu in enumerate(ops.arrays("gpu").describe())
    ]


def cupy_version() -> str | None:
    """Give the version of CuPy, which is distributed under several names, without importing it."""
    if find_spec("cupy") is None:
        return None
    return version(packages_distributions()["cupy"][0])


@click.command("device")
@click.option("--json", "as_json", is_flag=True, help="Print JSON (its keys are in the guide).")
def command(as_json: bool) -> None:
    """Show what caffebn runs on here: processor, instruction-set level, threads, GPU.

    CAFFEBN_LEVEL in the environment chooses another level, CAFFEBN_NUM_THREADS another number of threads.
    """
    here = describe()
    if as_json:
        show.as_json(here)
        return
    lines = {
        "caffebn": here["caffebn"],
        "Python": here["python"],
        "NumPy": here["numpy"],
        "processor": here["processor"],
        "level": f"{here['level']} (available: {', '.join(here['levels'])})",
        "threads": f"{here['threads']} ({'OpenMP' if here['openmp'] else 'built without OpenMP'})",
        "GPU": "; ".join(here["gpus"]) or "none that NVIDIA's driver knows",
        "CuPy": here["cupy"] or "not installed",
    }
    if here["convolution"]:
        lines["on the GPU"] = f"convolution by {here['convolution']}"
    width = max(map(len, lines))
    for name, value in lines.items():
        click.echo(f"{name:{width}}  {value}")
