"""Compare the gradients of a net with differences of its outputs.

The objective is ``phi = loss + sum over outputs of <w, output>``: the net's own weighted loss, and every
other output times fixed random weights w.  Backward gives d phi / d x for inputs and parameters; central
differences give it again from forward passes alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from caffebn.blob import Blob
from caffebn.errors import ArgumentError, GradientError
from caffebn.net import Net

__all__ = ["GradientReport", "check_gradients"]


@dataclass
class GradientReport:
    """What `check_gradients` did.

    Attributes
    ----------
    names : list of str
        Blobs, and parameters as ``layer[index]``, that were compared.
    compared : int
        Number of derivatives that agree.
    excluded : int
        Number of derivatives left out because phi has a kink there.
    worst : float
        Largest difference found, in tolerances.
    """

    names: list[str]
    compared: int = 0
    excluded: int = 0
    worst: float = 0.0


def check_gradients(
    net: Net,
    blobs: Iterable[str] | None = None,
    params: Iterable[tuple[str, int]] | None = None,
    *,
    elements: int | None = None,
    directions: int = 0,
    step: float = 1e-4,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    max_excluded: float = 0.1,
    seed: int = 0,
) -> GradientReport:
    """Compare the gradients of a net with central differences, at the values that its blobs hold.

    Inputs, parameters and the state of the random numbers are put back before each of the many forward
    passes and at the end, so layers may work in place, update their statistics and draw masks.

    Parameters
    ----------
    net : Net
        In float64, with values in its input blobs.  An input gets a gradient under ``force_backward: true``.
    blobs : iterable of str, optional
        Input blobs; by default all that get a gradient.
    params : iterable of (layer name, index), optional
        Parameters; by default all with a learning rate.
    elements : int, optional
        Compare so many elements of each, drawn at random; by default every one.
    directions : int
        Compare also the slope along so many random directions of each blob and parameter.
    step : float
        Half the distance of the central differences.
    rtol, atol : float
        Allowed is ``rtol * max(|found|, |expected|) + atol * max(1, largest gradient of the blob)``.
    max_excluded : float
        Largest share of derivatives that may lie at kinks, such as ReLU at 0.  One that disagrees counts as
        lying at a kink when the differences themselves do not settle as the step is halved.
    seed : int
        Of the weights w, the elements and the directions.

    Returns
    -------
    GradientReport

    Raises
    ------
    GradientError
        A derivative differs; or nothing, or too little, could be compared.
    ArgumentError
        The net is not in float64, or a name is unknown.

    Examples
    --------
    >>> net = Net.from_text(text, "TRAIN", dtype="float64")
    >>> net.blobs["x"].data[...] = np.random.default_rng(0).standard_normal(net.blobs["x"].shape)
    >>> check_gradients(net).compared
    24
    """
    if net.dtype != np.float64:
        raise ArgumentError(f"differences need Net(..., dtype='float64'), found a net in {net.dtype}")
    rng = np.random.default_rng(seed)
    objective = _Objective(net, rng)
    objective.run_backward()
    variables = list(_variables(objective, blobs, params))
    if not variables:
        raise GradientError("nothing to compare: nothing learns, and no input gets a gradient")
    report = GradientReport([v.name for v in variables])
    for variable in variables:
        floor = atol * max(1.0, np.abs(variable.gradient).max(initial=0.0))
        for where, direction in _directions(variable, elements, directions, rng):
            found = float(np.sum(variable.gradient * direction))
            expected, smooth = objective.slope(variable.value, direction, step), None
            error = _tolerances(found, expected, rtol, floor)
            if not error <= 1:
                expected, smooth = objective.careful_slope(variable.value, direction, step)
                error = _tolerances(found, expected, rtol, floor)
            if error <= 1:
                report.compared += 1
                report.worst = max(report.worst, error)
            elif smooth:
                raise GradientError(
                    f"gradient of {variable.name}{where}: expected {expected:.9g} from differences, "
                    f"found {found:.9g}"
                )
            else:
                report.excluded += 1
    objective.put()
    total = report.compared + report.excluded
    if report.excluded > max_excluded * total:
        raise GradientError(
            f"{report.excluded} of {total} derivatives lie at kinks, at most {max_excluded:.0%} may: "
            "use other values"
        )
    return report


def _tolerances(found: float, expected: float, rtol: float, floor: float) -> float:
    """How many tolerances the two are apart."""
    return abs(found - expected) / (rtol * max(abs(found), abs(expected)) + floor)


@dataclass
class _Variable:
    """A blob to differentiate by: `value` is what is put into it before each pass."""

    name: str
    value: np.ndarray
    gradient: np.ndarray


class _Objective:
    """phi, as a function of the inputs and parameters of a net."""

    def __init__(self, net: Net, rng: np.random.Generator):
        self.net = net
        self.blobs: dict[str | tuple[str, int], Blob] = {name: net.blobs[name] for name in net.inputs}
        self.blobs |= {(name, i): blob for name, blobs in net.params.items() for i, blob in enumerate(blobs)}
        self.values = {key: blob.data.copy() for key, blob in self.blobs.items()}
        generators = {id(layer.rng): layer.rng for layer in net.layers}.values()
        self.random_states = [(generator, generator.bit_generator.state) for generator in generators]
        self.weights: dict[str, np.ndarray] = {}
        self.phi()  # shapes the outputs
        for name in net.outputs:
            if not net.blob_loss_weights[name]:
                shape = net.blobs[name].shape
                self.weights[name] = rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape)

    def put(self, shifted: np.ndarray | None = None, shift: np.ndarray | float = 0.0) -> None:
        """Put inputs, parameters and random numbers back, one of the values shifted."""
        for key, value in self.values.items():
            self.blobs[key].data[...] = value + shift if value is shifted else value
        for generator, state in self.random_states:
            generator.bit_generator.state = state

    def phi(self, shifted: np.ndarray | None = None, shift: np.ndarray | float = 0.0) -> float:
        """Run forward, one of the values shifted, and return phi."""
        self.put(shifted, shift)
        self.net.forward()
        phi = self.net.loss + sum(float(np.sum(w * self.net.blobs[n].data)) for n, w in self.weights.items())
        if not np.isfinite(phi):
            raise GradientError("the outputs are not finite")
        return phi

    def run_backward(self) -> None:
        """Run both ways; an input that gets no gradient is left with NaN in its diff."""
        self.phi()
        self.net.clear_param_diffs()
        for name in self.net.inputs:
            self.net.blobs[name].diff[...] = np.nan
        for name, w in self.weights.items():
            self.net.blobs[name].diff[...] = w
        self.net.backward()

    def slope(self, value: np.ndarray, direction: np.ndarray, h: float) -> float:
        """Slope of phi along a direction of one of the values."""
        return (self.phi(value, h * direction) - self.phi(value, -h * direction)) / (2 * h)

    def careful_slope(self, value: np.ndarray, direction: np.ndarray, h: float) -> tuple[float, bool]:
        """Return the slope to a higher order, and whether phi is smooth there.

        Where it is smooth the slope settles as the step is halved, and what the slopes of the two sides
        differ by halves with the step; at a kink it stays.
        """
        here = self.phi()
        slopes, bends = [], []
        for t in (h, h / 2):
            ahead, behind = self.phi(value, t * direction), self.phi(value, -t * direction)
            slopes.append((ahead - behind) / (2 * t))
            bends.append(abs(ahead - 2 * here + behind) / t)
        noise = 1e-6 * max(1.0, abs(slopes[1]))
        settled = abs(slopes[1] - slopes[0]) <= 100 * noise
        straight = bends[1] <= max(0.75 * bends[0], noise)
        return (4 * slopes[1] - slopes[0]) / 3, settled and straight


def _variables(
    objective: _Objective, blobs: Iterable[str] | None, params: Iterable[tuple[str, int]] | None
) -> Iterator[_Variable]:
    net = objective.net
    for name in net.inputs if blobs is None else blobs:
        if name not in net.inputs:
            raise ArgumentError(f'"{name}" is no input; there are {", ".join(net.inputs)}')
        gradient = net.blobs[name].diff.copy()
        if not np.isnan(gradient).any():
            yield _Variable(name, objective.values[name], gradient)
        elif blobs is not None or not np.isnan(gradient).all():
            raise GradientError(f'the gradient of "{name}" is missing or NaN: is there force_backward: true?')
    if params is None:
        params = [(p.layer.name, p.index) for p in net.parameters if p.owner is None and p.lr_mult]
    for key in params:
        if key not in objective.values:
            raise ArgumentError(f'there is no parameter {key[1]} of layer "{key[0]}"')
        yield _Variable(f"{key[0]}[{key[1]}]", objective.values[key], objective.blobs[key].diff.copy())


def _directions(
    variable: _Variable, elements: int | None, directions: int, rng: np.random.Generator
) -> Iterator[tuple[str, np.ndarray]]:
    shape, count = variable.value.shape, variable.value.size
    everything = elements is None or elements >= count
    for flat in range(count) if everything else rng.choice(count, elements, replace=False):
        direction = np.zeros(shape)
        direction.reshape(-1)[flat] = 1
        yield f" at {[int(i) for i in np.unravel_index(flat, shape)]}", direction
    for k in range(directions if count else 0):
        direction = rng.standard_normal(shape)
        yield f" along random direction {k}", direction / np.sqrt(np.sum(direction**2))
