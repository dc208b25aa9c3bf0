"""Small databases, lists and pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caffebn.data import datum_bytes, write_database
from caffebn.net import Net


@pytest.fixture
def lmdb(here) -> Callable[..., np.ndarray]:
    """Write a database of random records, ``db`` by default, whose label is their number; return the values."""

    def write(n: int = 7, shape=(3, 6, 5), name: str = "db", seed: int = 0) -> np.ndarray:
        values = np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)
        write_database(name, ((b"%08d" % i, datum_bytes(v, i)) for i, v in enumerate(values)))
        return values

    return write


@pytest.fixture
def pictures(here) -> Callable[..., list[np.ndarray]]:
    """Write PNG pictures and a list of them; return their values, (3, height, width) BGR."""

    def write(sizes=((6, 5),) * 4, name: str = "list.txt") -> list[np.ndarray]:
        rng = np.random.default_rng(3)
        made, lines = [], []
        for i, (height, width) in enumerate(sizes):
            rgb = rng.integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(rgb).save(f"a picture {i}.png")
            lines.append(f"a picture {i}.png {10 + i}\n")
            made.append(rgb.transpose(2, 0, 1)[::-1])
        Path(name).write_text("".join(lines))
        return made

    return write


@pytest.fixture
def net() -> Callable[..., Net]:
    """Make a net of one layer."""

    def make(text: str, phase: str = "TRAIN", **options) -> Net:
        return Net.from_text(f"layer {{ {text} }}", phase, **options)

    return make
