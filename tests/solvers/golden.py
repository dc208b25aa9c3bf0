"""Repeat trainings that real Caffe made, as recorded in tests/golden/solvers.

A file holds the texts of a solver and of its net, what was fed in, and all parameters after each iteration:

==========================  =================================================================================
solver_prototxt             the solver; it names the net file train.prototxt and the snapshot prefix "snap"
net_prototxt                the net, with inputs "data" and "label" and the output "loss"
iterations, iter_size       numbers
data, label                 (iterations, iter_size, ...): put into the inputs before each forward pass
param_init_<layer>_<i>      parameters before the first iteration, param_it<k>_... after iteration k
grad_it0_<layer>_<i>        gradients of iteration 0, summed, as they are before anything is done to them
update_it0_<layer>_<i>      what is subtracted in iteration 0
loss                        (iterations, iter_size)
lr                          rate of each iteration, NaN where it was not recorded
history_end_<k>             the solver's history at the end, current_step_end its step counter
file_snap_iter_<n>...       bytes of Caffe's own snapshot after half of the iterations
rtol, atol                  tolerance, see `tests.layers.golden.compare`
==========================  =================================================================================
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from caffebn.net import Net
from caffebn.solvers import Solver, get_solver
from tests.layers.golden import compare

__all__ = ["FILES", "Record"]

FILES = sorted((Path(__file__).parents[1] / "golden" / "solvers").glob("*.npz"))


class Record:
    """A recorded training.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path):
        with np.load(path, allow_pickle=False) as z:
            self.arrays = dict(z)
        self.iterations, self.passes = int(self.arrays["iterations"]), int(self.arrays["iter_size"])
        self.tolerance = float(self.arrays["rtol"]), float(self.arrays["atol"])
        if path.stem.startswith(("SGD", "Nesterov")):
            self.tolerance = 1e-5, 1e-6

    def solver(self, **options: Any) -> Solver:
        """Make the solver, in the current directory, with the recorded first parameters."""
        Path("train.prototxt").write_text(str(self.arrays["net_prototxt"]))
        Path("solver.prototxt").write_text(str(self.arrays["solver_prototxt"]))
        solver = get_solver("solver.prototxt", **options)
        for name, value in self.named("param_init_"):
            parameter(solver.net, name).data[...] = value
        return solver

    def named(self, prefix: str) -> list[tuple[str, np.ndarray]]:
        """Arrays whose key has that prefix, by the rest of the key."""
        return [(key[len(prefix) :], value) for key, value in self.arrays.items() if key.startswith(prefix)]

    def compare(self, found: np.ndarray, expected: np.ndarray, what: str) -> None:
        compare(np.asarray(found), np.asarray(expected), *self.tolerance, what)

    def train(self, solver: Solver, begin: int, end: int) -> None:
        """Run iterations `begin` to `end` and compare losses, rates, and parameters after each.

        Parameters
        ----------
        solver : Solver
        begin, end : int
            First iteration, and the one behind the last.
        """
        feed = _Feed(self, solver.net)
        for it in range(begin, end):
            feed.at = it, 0
            solver.step(1)
            for name, value in self.named(f"param_it{it}_"):
                self.compare(parameter(solver.net, name).data, value, f"iteration {it}, {name}")
            if not np.isnan(self.arrays["lr"][it]):
                np.testing.assert_allclose(solver.rate, self.arrays["lr"][it], rtol=1e-6)
        self.compare(feed.losses[begin:end], self.arrays["loss"][begin:end], "loss")


class _Feed:
    """Puts the recorded inputs in before each pass, and keeps the losses."""

    def __init__(self, record: Record, net: Net):
        self.record = record
        self.net = net
        self.at = (0, 0)
        self.losses = np.zeros((record.iterations, record.passes))
        net.before_forward(self._before)
        net.after_forward(self._after)

    def _before(self, layer: int) -> None:
        if layer == 0:
            for name in ("data", "label"):
                self.net.blobs[name].data[...] = self.record.arrays[name][self.at]

    def _after(self, layer: int) -> None:
        if layer == len(self.net.layers) - 1:
            self.losses[self.at] = self.net.loss
            self.at = self.at[0], self.at[1] + 1


def parameter(net: Net, name: str) -> Any:
    """The blob of ``<layer>_<index>``."""
    layer, index = name.rsplit("_", 1)
    return net.params[layer][int(index)]
