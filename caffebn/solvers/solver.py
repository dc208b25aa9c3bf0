"""Solvers: train a net by a SolverParameter, with pycaffe's interface.

The loop is in `Solver.step`; what one iteration computes is `Net.forward_backward` and `Updater.apply`; when to
test, to show progress and to write snapshots is decided by hooks.
"""

from __future__ import annotations

import math
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from caffebn import blocks, ops, seeding
from caffebn.errors import (
    ArgumentError,
    CaffebnError,
    CaffebnWarning,
    FileError,
    FormatError,
    SolverError,
    did_you_mean,
    some,
)
from caffebn.net import Net, default_device, set_device
from caffebn.net.captured import Captured
from caffebn.proto import Message, upgrade
from caffebn.solvers import policies
from caffebn.solvers.diagnosis import first_not_finite, single_item_batch_norms
from caffebn.solvers.events import Event, Progress, SnapshotWritten, TestResult, outputs_of
from caffebn.solvers.hooks import Display, Hook, Snapshots, Tests
from caffebn.solvers.nets import NetMaker
from caffebn.solvers.rules import RULES
from caffebn.solvers.snapshot import Resumption, State, find_weights, read_state, write_snapshot
from caffebn.solvers.updater import Updater
from caffebn.weights import h5py_package

__all__ = [
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "NadamSolver",
    "NesterovSolver",
    "RMSPropSolver",
    "SGDSolver",
    "Solver",
    "get_solver",
]

PathLike = str | os.PathLike[str]
Listener = Callable[[Event], Any]


class Solver:
    """Trains a net; the base of all solvers.

    Parameters
    ----------
    solver : path-like or Message
        A solver .prototxt, or a SolverParameter.
    device : {"cpu", "gpu", "reference"}
        Where to compute; by default as nets do.  Given, it overrides `solver_mode`.
    dtype : {"float32", "float64"}
        Type of all blobs.
    keep : sequence of str, optional
        Names of the blobs of the train net that will be looked at, beside inputs and outputs; the others then share
        memory, see `Net`.  The test nets keep their outputs alone.  By default every blob can be read.
    recompute : bool
        With `keep`: train in less memory and more time, see `Net`.

    Attributes
    ----------
    param : Message
        The SolverParameter.  Numbers in it may be changed between steps.
    net : Net
        The net that is trained.
    test_nets : list of Net
        They look at the parameters of `net`.
    iter : int
        Completed iterations.
    loss : float
        Averaged over `iter_size` passes and the last `average_loss` iterations.
    rate : float
        Learning rate of the last iteration.
    history : list of ndarray
        The rule's memory: one array for each parameter blob in net order, and a second set behind them for
        AdaDelta, Adam and Nadam.
    hooks : list of Hook
        Called before and after each iteration: tests, display, snapshots, and those you append.
    listeners : list of callable
        Called with each `Event`: progress, test results, snapshots.  At first there is one, which logs them to
        the logger "caffebn.solvers" at level INFO.

    Raises
    ------
    ParseError, FileError
        A text cannot be read.
    SolverError
        The solver cannot be made; the message names the field and its place.
    NetError, WeightsError
        A net cannot be made, or weights do not fit it.
    """

    type: ClassVar[str] = ""
    """Caffe's name of the rule."""

    def __init__(
        self,
        solver: PathLike | Message,
        *,
        device: str | None = None,
        dtype: DTypeLike = np.float32,
        keep: Sequence[str] | None = None,
        recompute: bool = False,
    ):
        self.param: Message = _read(solver)
        p = self.param
        if self.type not in RULES:
            raise ArgumentError(
                "Solver is the base of all solvers: use get_solver() or one of its subclasses"
            )
        if p.has("type") and p.type != self.type:
            warnings.warn(
                f'{p.where_of("type") or "solver"}: type: "{p.type}", but {type(self).__name__} was asked for: it '
                f'works by "{self.type}"; get_solver() would go by the text',
                CaffebnWarning,
                stacklevel=2,
            )
        p.type = self.type
        self._check()
        self._file = _file_of(p)
        self._prefix = self._snapshot_prefix()
        if p.snapshot:
            self._check_can_snapshot()
        if p.random_seed >= 0:
            seeding.set_random_seed(p.random_seed)
        if device is None:
            device = self._stated_device()
        folder = self._file.parent if self._file else None
        maker = NetMaker(p, folder, keep, recompute, device=device, dtype=dtype)
        self.net: Net = maker.train_net()
        weights = maker.weights()
        for path in weights:
            self.net.copy_from(path)
        self.test_nets: list[Net] = maker.test_nets()
        for net in self.test_nets:
            for path in weights:
                net.copy_from(path)
            net.share_with(self.net)
            net.debug_info = p.debug_info
        self._updater = Updater(self.net, RULES[self.type])
        self._iteration = self._first = 0  # the first of the running call of step
        self._step_counter = 0
        self._losses: list[float] = []
        self._stopping = False
        self.loss = 0.0
        self.rate = 0.0
        self._on_start: list[Callable[[], Any]] = []
        self._on_gradients_ready: list[Callable[[], Any]] = []
        self.listeners: list[Listener] = [_log]
        self.hooks: list[Hook] = [Tests(), Display(), Snapshots()]
        self._checked_batch = False
        self._captured: Captured | None = None

    # -- pycaffe's interface -----------------------------------------------------------------------

    @property
    def iter(self) -> int:
        """Number of completed iterations."""
        return self._iteration

    @property
    def history(self) -> list[np.ndarray]:
        """The rule's memory, as views: the order of a solver state."""
        return self._updater.history

    @property
    def snapshot_prefix(self) -> str:
        """What the names of snapshots begin with, up to ``_iter_<number>``.

        Raises
        ------
        SolverError
            None is given, and the solver was not read from a file whose name could serve.
        """
        if not self._prefix:
            raise SolverError(
                "snapshot_prefix is missing: it names the files of snapshots, up to _iter_<number>",
                self.param.where_of("snapshot") or self.param.where,
            )
        return self._prefix

    def step(self, n: int) -> None:
        """Run `n` iterations, with the tests, displays and snapshots that are due.

        One iteration, in Caffe's order: gradients are set to 0; tests; `iter_size` times forward and backward; the
        learning rate; clipping; division by `iter_size`; weight decay; the rule; display; snapshot.

        Parameters
        ----------
        n : int

        Raises
        ------
        SolverError
            The loss is not finite; the message names the layer where that begins.  No update is made.
        """
        if n < 0:
            raise ArgumentError(f"step: expected a number of iterations, at least 0, found {n}")
        self._begin()
        stop = self._iteration + n
        while self._iteration < stop and not self._stopping:
            self.net.clear_param_diffs()
            for hook in self.hooks:
                hook.before(self)
            for call in self._on_start:
                call()
            loss = sum(self._pass() for _ in range(self.param.iter_size)) / self.param.iter_size
            self._smooth(loss)
            for call in self._on_gradients_ready:
                call()
            self._apply_update()
            for hook in self.hooks:
                hook.after(self)

    def solve(self, resume: PathLike | None = None) -> None:
        """Train up to `max_iter`, with a last snapshot, display and test.

        Parameters
        ----------
        resume : path-like, optional
            A solver state to go on from, see `restore`.

        Raises
        ------
        SolverError
            `max_iter` is missing, or as `step`.
        FileError
            Snapshots could not be written; found out before training.
        """
        p = self.param
        if not p.has("max_iter"):
            raise SolverError(
                "max_iter is missing: solve() trains up to that iteration; step(n) needs none", p.where
            )
        if p.snapshot or p.snapshot_after_train:
            self._check_can_snapshot()
        if resume is not None:
            self.restore(resume)
        self.step(max(p.max_iter - self._iteration, 0))
        if p.snapshot_after_train and not (p.snapshot and self._iteration % p.snapshot == 0):
            self.snapshot()
        if self._stopping:
            return
        # the last display and test show what the last update has done
        if p.display and self._iteration % p.display == 0:
            self.net.forward()
            self._smooth(self.net.loss)
            self.tell(Progress(self._iteration, self.loss))
        if p.test_interval and self._iteration % p.test_interval == 0:
            self.test_all()

    def apply_update(self) -> None:
        """Change the parameters by the gradients that are in their diffs, as the last part of an iteration does.

        Afterwards the diffs hold what was subtracted, and `iter` has grown by one.
        """
        self._updater.prepare()
        self._apply_update()

    def snapshot(self) -> tuple[str, str]:
        """Write weights and solver state, ``<snapshot_prefix>_iter_<iter>`` with Caffe's endings.

        Returns
        -------
        model, state : str
            Paths of the two files.

        Raises
        ------
        FileError
            They cannot be written; older files of these names are untouched.
        SolverError
            There is no `snapshot_prefix`.
        """
        ending = ".h5" if self.param.snapshot_format == "HDF5" else ""
        stem = f"{self.snapshot_prefix}_iter_{self._iteration}"
        model, state = f"{stem}.caffemodel{ending}", f"{stem}.solverstate{ending}"
        write_snapshot(
            model,
            state,
            self.net,
            State(self._iteration, self._step_counter, history=self.history, resumption=self._resumption()),
            self.param.snapshot_diff,
        )
        self.tell(SnapshotWritten(self._iteration, model, state))
        return model, state

    def restore(self, path: PathLike) -> None:
        """Go on from a solver state, of Caffe's or of caffebn's: iteration, history, weights.

        The weights are those of the file that the state names, found from the current directory or else beside
        the state.  A state that caffebn wrote also brings back the random generator, which is that of the whole
        process, and the places of data layers: training goes on with the bits it would have had without the
        interruption.  When it fails, everything is as it was.

        Parameters
        ----------
        path : path-like
            A .solverstate, or .solverstate.h5.

        Raises
        ------
        FileError, FormatError
            A file cannot be read, or the weights file is not the one that was written with the state.
        SolverError
            The state belongs to another net, or to another type of solver.
        WeightsError
            The weights do not fit the net, or not all of its layers have some.
        """
        state = read_state(path)
        self._updater.check_history(state.history, str(path))
        weights = find_weights(path, state)
        before = self._resumption()
        try:
            if state.resumption is not None:
                self._resume(state.resumption, path)
            if weights:
                self.net.copy_from(weights, strict=True)
        except CaffebnError:
            self._resume(before, path)
            raise
        self._updater.set_history(state.history)
        self._iteration, self._step_counter = state.iteration, state.current_step

    def add_callback(self, on_start: Callable[[], Any], on_gradients_ready: Callable[[], Any]) -> None:
        """Call `on_start()` before the first pass of each iteration, `on_gradients_ready()` before the update."""
        self._on_start.append(on_start)
        self._on_gradients_ready.append(on_gradients_ready)

    # -- beyond pycaffe ----------------------------------------------------------------------------

    def stop(self) -> None:
        """Make `step` or `solve`, called meanwhile from a hook or a callback, end after the running iteration."""
        self._stopping = True

    def capture(self) -> None:
        """Record forward and backward pass as a CUDA graph, and launch it in each iteration from now on.

        An update is launched as a graph, too, when its numbers are those of the one before: as with a learning
        rate that stays, without `clip_gradients`, and by other rules than Adam and Nadam, whose factors change
        each time.  Call it again when shapes have changed.

        Raises
        ------
        SolverError
            `iter_size` is more than 1.
        ArgumentError
            The net cannot be recorded, see `Net.capture`.
        """
        if self.param.iter_size > 1:
            raise SolverError(
                f"capture: a recorded pass begins with gradients of 0, so iter_size has to be 1, "
                f"found {self.param.iter_size}: use a larger batch",
                self.param.where_of("iter_size"),
            )
        self._captured = self.net.capture(backward=True)
        self._updater.record()

    def test(self, index: int = 0) -> TestResult:
        """Run a test net `test_iter` times forward.

        Parameters
        ----------
        index : int
            Which of `test_nets`.

        Returns
        -------
        TestResult
            Outputs, averaged; the listeners get it, too.
        """
        if not 0 <= index < len(self.test_nets):
            raise ArgumentError(f"test: there are {len(self.test_nets)} test nets, found index {index}")
        net, n = self.test_nets[index], self.param.test_iter[index]
        net.share_with(self.net)
        sums: dict[str, np.ndarray] = {}
        loss = 0.0
        for _ in range(n):
            for hook in self.hooks:
                hook.before_test_pass(self)
            for name, value in net.forward().items():
                sums[name] = sums.get(name, 0.0) + value.astype(np.float64)
            loss += net.loss
        outputs, loss_weights = outputs_of(
            {name: total / n for name, total in sums.items()}, net.blob_loss_weights
        )
        result = TestResult(
            self._iteration, index, outputs, loss_weights, loss / n if self.param.test_compute_loss else None
        )
        self.tell(result)
        return result

    def test_all(self) -> list[TestResult]:
        """Run every test net, see `test`."""
        return [self.test(i) for i in range(len(self.test_nets))]

    def tell(self, event: Event) -> None:
        """Hand an event to all listeners."""
        for listener in self.listeners:
            listener(event)

    # -- parts of an iteration ---------------------------------------------------------------------

    def _begin(self) -> None:
        """What `step` starts with: losses are averaged anew."""
        self._stopping = False
        self._updater.prepare()
        self._losses.clear()
        self._first = self._iteration
        self.loss = 0.0

    def _pass(self) -> float:
        if self._captured is not None:
            self._captured.launch()
            loss = self.net.loss
        else:
            loss = self.net.forward_backward()
        if not math.isfinite(loss):
            raise SolverError(
                f"iteration {self._iteration}: the loss is {loss:g}; {first_not_finite(self.net)}"
            )
        if not self._checked_batch:
            self._checked_batch = True
            self._warn_of_single_items()
        return loss

    def _smooth(self, loss: float) -> None:
        """Keep the mean of the last losses."""
        size = self.param.average_loss
        if len(self._losses) < size:
            self._losses.append(loss)
        else:
            self._losses[(self._iteration - self._first) % size] = loss
        self.loss = sum(self._losses) / len(self._losses)

    def _apply_update(self) -> None:
        p, i = self.param, self._iteration
        self._step_counter = policies.step_counter(p, i, self._step_counter)
        self.rate = policies.learning_rate(p, i, self._step_counter)
        self._updater.apply(p, self.rate, i)
        self._iteration += 1

    def _warn_of_single_items(self) -> None:
        names = single_item_batch_norms(self.net)
        if names:
            warnings.warn(
                f"{len(names)} BatchNorm layers ({some(names, 3)}) take their statistics from a batch of one "
                "item: what the net learns hardly holds with the stored statistics in testing. Use a larger batch "
                "(iter_size makes it no larger), or keep the stored statistics: use_global_stats: true, "
                "freeze_batch_norm()",
                CaffebnWarning,
                stacklevel=5,
            )

    # -- making ------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Refuse numbers that make no sense."""
        p = self.param
        policies.check(p)
        RULES[self.type].check(p)
        for field in ("iter_size", "average_loss"):
            if getattr(p, field) < 1:
                raise SolverError(
                    f"{field}: expected at least 1, found {getattr(p, field)}", p.where_of(field)
                )
        if p.regularization_type not in ("L1", "L2"):
            raise SolverError(
                f'regularization_type: expected "L1" or "L2", found "{p.regularization_type}"',
                p.where_of("regularization_type"),
            )

    def _stated_device(self) -> str | None:
        """Where the text says that the training runs: on a GPU, if it says so and there is one."""
        p = self.param
        if default_device() == "gpu" or not (p.has("solver_mode") and p.solver_mode == "GPU"):
            return None
        if why := ops.why_no_gpu():
            warnings.warn(
                f"{p.where_of('solver_mode') or 'solver'}: solver_mode: GPU, but {why}: training runs on the CPU",
                CaffebnWarning,
                stacklevel=3,
            )
            return None
        if p.has("device_id"):
            set_device(p.device_id)
        return "gpu"

    def _snapshot_prefix(self) -> str:
        """The prefix as Caffe completes it: the solver's own name where none, or only a folder, is given."""
        prefix = self.param.snapshot_prefix
        if self._file is not None:
            if not prefix:
                return str(self._file.with_suffix(""))
            if os.path.isdir(prefix):
                return os.path.join(prefix, self._file.stem)
        return prefix

    def _check_can_snapshot(self) -> None:
        """Refuse to train when snapshots cannot be written."""
        if self.param.snapshot_format == "HDF5":
            h5py_package("snapshot_format: HDF5")
        folder = Path(f"{self.snapshot_prefix}_iter").parent
        where = self.param.where_of("snapshot_prefix")
        if not folder.is_dir():
            raise FileError(
                f'snapshot_prefix: there is no folder "{folder}": make it, or change the prefix', where
            )
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as e:
            raise FileError(
                f'snapshot_prefix: the folder "{folder}" cannot be written: {e.strerror or e}', where
            ) from None

    # -- what exact resumption needs ---------------------------------------------------------------

    def _resumption(self) -> Resumption:
        return Resumption(
            type=self.type,
            random=seeding.get_state(),
            layers=[
                {layer.name: kept for layer in net.layers if (kept := layer.get_state())}
                for net in (self.net, *self.test_nets)
            ],
        )

    def _resume(self, resumption: Resumption, path: PathLike) -> None:
        if resumption.type != self.type:
            warnings.warn(
                f'{path}: written by a "{resumption.type}" solver and read by "{self.type}": the history may mean '
                "another thing to it",
                CaffebnWarning,
                stacklevel=3,
            )
        try:
            seeding.set_state(resumption.random)
        except ArgumentError as e:
            raise FormatError(f"{path}: {e.message}") from None
        for net, kept in zip((self.net, *self.test_nets), resumption.layers, strict=False):
            for name, state in kept.items():
                if name in net.layer_dict:
                    net.layer_dict[name].set_state(state)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} iteration {self._iteration} of {self.net!r}>"


def _read(solver: PathLike | Message) -> Message:
    p = solver.copy() if isinstance(solver, Message) else blocks.read(solver, type="SolverParameter")
    if p.schema.name != "SolverParameter":
        raise ArgumentError(f"expected a SolverParameter or the path of one, found a {p.schema.name}")
    upgrade.solver(p)
    return p


def _file_of(p: Message) -> Path | None:
    """The file that a message was read from."""
    path = Path(p.where.file) if p.where else None
    return path if path is not None and path.is_file() else None


def _log(event: Event) -> None:
    import logging  # takes its time to import, and is needed late

    logger = logging.getLogger("caffebn.solvers")
    for line in str(event).splitlines():
        logger.info("%s", line)


# -- one class for each rule, as pycaffe has them ------------------------------------------------------


class SGDSolver(Solver):
    """Gradient descent with momentum."""

    type = "SGD"


class NesterovSolver(Solver):
    """Nesterov's accelerated gradient."""

    type = "Nesterov"


class AdaGradSolver(Solver):
    """AdaGrad."""

    type = "AdaGrad"


class RMSPropSolver(Solver):
    """RMSProp."""

    type = "RMSProp"


class AdaDeltaSolver(Solver):
    """AdaDelta."""

    type = "AdaDelta"


class AdamSolver(Solver):
    """Adam."""

    type = "Adam"


class NadamSolver(Solver):
    """Nadam, which BVLC Caffe does not have."""

    type = "Nadam"


_SOLVERS: dict[str, type[Solver]] = {cls.type: cls for cls in Solver.__subclasses__()}


def get_solver(solver: PathLike | Message, **options: Any) -> Solver:
    """Make the solver that a text describes, of the type that it names.

    Parameters
    ----------
    solver : path-like or Message
        A solver .prototxt, or a SolverParameter.
    **options
        As for `Solver`.

    Raises
    ------
    SolverError
        Unknown type; otherwise as `Solver`.
    """
    p = _read(solver)
    if p.type not in _SOLVERS:
        raise SolverError(
            f'type: expected one of {", ".join(_SOLVERS)}; found "{p.type}"{did_you_mean(p.type, _SOLVERS)}',
            p.where_of("type"),
        )
    return _SOLVERS[p.type](p, **options)
