"""Whether what was exported computes what the net computes: the same inputs through both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from caffebn.errors import CaffebnError, NetError
from caffebn.export.graph import DYNAMIC, OPEN, Graph
from caffebn.export.preprocess import Preprocess
from caffebn.net import Net

__all__ = ["BATCHES", "TOLERANCE", "Difference", "Verification", "VerifyError", "random_inputs", "verify"]

BATCHES = (1, 2, 5)
"""Batch sizes that are tried."""
LARGER = ((0, 0), (32, 64), (7, 18), (13, 1))
"""By how much the pictures are larger than the net's own, where height and width are open."""
TOLERANCE = 1e-4
"""Largest difference that is allowed, as a part of the largest value of the output (at least 1)."""

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


class VerifyError(CaffebnError, AssertionError):
    """What was exported does not compute what the net computes."""


@dataclass
class Difference:
    """How far one output of one run is off.

    Attributes
    ----------
    output : str
    batch : int
        Number of items; 0 for a net without inputs.
    error : float
        The largest difference.
    size : float
        The largest value of the net's output.
    """

    output: str
    batch: int
    error: float
    size: float

    @property
    def relative(self) -> float:
        """The difference as a part of the largest value, or as it is when that is below 1."""
        return self.error / max(self.size, 1.0)


@dataclass
class Verification:
    """The runs that were compared.

    Attributes
    ----------
    against : str
        What ran the exported model.
    tolerance : float
    differences : list of Difference
    pictures : list of (height, width)
        The sizes that were tried, where they are open.
    """

    against: str
    tolerance: float
    differences: list[Difference] = field(default_factory=list)
    pictures: list[tuple[int, int]] = field(default_factory=list)

    @property
    def worst(self) -> Difference | None:
        """The largest difference; not a number counts as largest."""
        key = lambda d: (np.isnan(d.relative), d.relative)  # noqa: E731
        return max(self.differences, key=key, default=None)

    @property
    def agrees(self) -> bool:
        """Whether all outputs are within the tolerance."""
        return all(d.relative <= self.tolerance for d in self.differences)

    def __str__(self) -> str:
        worst = self.worst
        if worst is None:
            return f"{self.against}: nothing to compare"
        sizes = ", ".join(str(n) for n in dict.fromkeys(d.batch for d in self.differences))
        if self.pictures:
            sizes += f", pictures of {', '.join(f'{h}x{w}' for h, w in self.pictures)}"
        return (
            f"{self.against} and caffebn {'agree' if self.agrees else 'DIFFER'}: batch sizes {sizes}, largest "
            f'difference {worst.error:.3g} in "{worst.output}" (largest value {worst.size:.3g}, batch {worst.batch})'
        )


def random_inputs(
    graph: Graph,
    batch: int | None,
    rng: np.random.Generator,
    scale: float = 1.0,
    preprocess: Preprocess | None = None,
    larger: Sequence[int] = (0, 0),
) -> dict[str, np.ndarray]:
    """Draw inputs: normal numbers, pictures where there is preprocessing, rows where a table is looked up.

    Parameters
    ----------
    graph : Graph
    batch : int or None
        Number of items; None for the net's own.
    rng : Generator
    scale : float
        Deviation of the normal numbers.
    preprocess : Preprocess, optional
    larger : (height, width)
        By how much the pictures are larger than the net's own.
    """
    values = {}
    for value in graph.inputs:
        more = [0] * (len(value.shape) - 2) + list(larger)
        shape = tuple(
            batch if n == DYNAMIC and batch else m + d if n == OPEN else m
            for n, m, d in zip(value.sizes, value.shape, more, strict=False)
        )
        limit = _index_limit(graph, value)
        if preprocess is not None and preprocess.input == value.blob:
            pictures = rng.integers(0, 256, preprocess.shape(shape))
            values[value.blob] = pictures.astype(preprocess.dtype)
        elif limit is not None:
            values[value.blob] = rng.integers(0, limit, shape).astype(np.float32)
        else:
            values[value.blob] = np.asarray(scale * rng.standard_normal(shape), np.float32)
    return values


def _index_limit(graph: Graph, value: object) -> int | None:
    """The number of rows of the table, or items, in which an input is looked up, directly or behind a view."""
    for node in graph.nodes:
        if value not in node.bottoms:
            continue
        if node.type == "Embed":
            return node.layer.param.input_dim
        if node.type == "BatchReindex" and value is node.bottoms[1]:
            return 1  # there is an item 0 in a batch of any size
        if node.type in ("Flatten", "Reshape"):
            limit = _index_limit(graph, node.tops[0])
            if limit is not None:
                return limit
    return None


def verify(
    graph: Graph,
    run: Run,
    against: str,
    batches: Sequence[int] | None = BATCHES,
    tolerance: float = TOLERANCE,
    preprocess: Preprocess | None = None,
    seed: int = 0,
) -> Verification:
    """Run the net and its export on the same random inputs and compare all outputs.

    Small and large inputs take turns.  The net has its own shapes again afterwards.

    Parameters
    ----------
    graph : Graph
    run : callable
        Runs the export: from inputs by name to outputs by name.
    against : str
        What `run` is, for the report.
    batches : sequence of int or None
        Batch sizes; None for the net's own.
    tolerance : float
    preprocess : Preprocess, optional
        What the export does itself before the net's input.
    seed : int

    Raises
    ------
    VerifyError
        An output of another shape, or further off than `tolerance`, or without a single number in the net itself;
        or the export does not run.
    """
    net, result = graph.net, Verification(against, tolerance)
    own = {name: net.blobs[name].shape for name in net.inputs}
    rng = np.random.default_rng(seed)
    try:
        for i, (batch, larger) in enumerate(_cases(graph, batches)):
            inputs = random_inputs(graph, batch, rng, (1.0, 60.0)[i % 2], preprocess, larger)
            try:
                expected = run_net(net, graph.outputs, inputs, preprocess)
            except NetError:
                if larger == (0, 0):
                    raise
                continue  # not each size fits each net: sums of what was halved and doubled need even ones
            try:
                found = run(inputs)
            except Exception as e:  # each runtime has its own
                raise VerifyError(f"{against} does not run what was made: {e}") from e
            size = batch if batch is not None else next((len(v) for v in inputs.values() if v.ndim), 0)
            if (picture := _picture(graph, larger)) and picture not in result.pictures:
                result.pictures.append(picture)
            for name, value in expected.items():
                result.differences.append(_compare(name, size, found[name], value))
    finally:
        for name, shape in own.items():
            net.blobs[name].reshape(*shape)
        net.reshape()
    if not result.agrees:
        raise VerifyError(f"{result}; allowed is {tolerance:g} of the largest value")
    return result


def _cases(graph: Graph, batches: Sequence[int] | None) -> list[tuple[int | None, tuple[int, int]]]:
    """Batch sizes, and by how much pictures are larger: all of both, not all pairs."""
    sizes: Sequence[int | None] = batches or [None]
    if _picture(graph, (0, 0)) is None:
        return [(size, (0, 0)) for size in sizes]
    return [(sizes[i % len(sizes)], LARGER[i % len(LARGER)]) for i in range(max(len(sizes), len(LARGER)))]


def _picture(graph: Graph, larger: tuple[int, int]) -> tuple[int, int] | None:
    """Height and width of the first input where they are open."""
    shape = next((value.shape for value in graph.inputs if OPEN in value.sizes), None)
    return None if shape is None else (shape[2] + larger[0], shape[3] + larger[1])


def run_net(
    net: Net,
    outputs: Sequence[str] | Mapping[str, object],
    inputs: Mapping[str, np.ndarray],
    preprocess: Preprocess | None,
) -> dict[str, np.ndarray]:
    """Run the net on such inputs; return copies of the outputs."""
    for name, value in inputs.items():
        if preprocess is not None and preprocess.input == name:
            value = preprocess.apply(value)
        net.blobs[name].reshape(*value.shape)
        net.blobs[name].data[...] = value
    net.forward()
    return {name: net.blobs[name].data.copy() for name in outputs}


def _compare(name: str, batch: int, found: np.ndarray, expected: np.ndarray) -> Difference:
    if found.shape != expected.shape:
        raise VerifyError(
            f'output "{name}": the net gives the shape {expected.shape}, the export {found.shape}'
        )
    if not expected.size:
        return Difference(name, batch, 0.0, 0.0)
    if not np.isfinite(expected).any():
        raise VerifyError(
            f'output "{name}": the net itself gives not one number on random input, so that nothing can be compared: '
            "`caffebn lint --weights` says whether the weights are the reason"
        )
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    equal = (found == expected) | (np.isnan(found) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        error = np.where(equal, 0.0, np.abs(found - expected))
    finite = np.abs(expected[np.isfinite(expected)])
    return Difference(name, batch, float(error.max()), float(finite.max(initial=0.0)))
