"""Solvers: rules, learning-rate policies, snapshots, the training loop and its hooks."""

from caffebn.solvers.events import Event, Progress, SnapshotWritten, TestResult
from caffebn.solvers.freeze import freeze_batch_norm, freeze_solver, trainable
from caffebn.solvers.hooks import Hook
from caffebn.solvers.keep import KeepSnapshots
from caffebn.solvers.log import CaffeFormatter, JsonLines, TextLog
from caffebn.solvers.signals import Signals
from caffebn.solvers.solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NadamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    Solver,
    get_solver,
)

__all__ = [
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "CaffeFormatter",
    "Event",
    "Hook",
    "JsonLines",
    "KeepSnapshots",
    "NadamSolver",
    "NesterovSolver",
    "Progress",
    "RMSPropSolver",
    "SGDSolver",
    "Signals",
    "SnapshotWritten",
    "Solver",
    "TestResult",
    "TextLog",
    "freeze_batch_norm",
    "freeze_solver",
    "get_solver",
    "trainable",
]
