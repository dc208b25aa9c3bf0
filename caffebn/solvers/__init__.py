"""Solvers: rules, learning-rate policies, snapshots, the training loop and its hooks."""

from caffebn.solvers.events import Event, Progress, SnapshotWritten, TestResult
from caffebn.solvers.freeze import freeze_batch_norm, trainable
from caffebn.solvers.hooks import Hook
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
    "Event",
    "Hook",
    "NadamSolver",
    "NesterovSolver",
    "Progress",
    "RMSPropSolver",
    "SGDSolver",
    "SnapshotWritten",
    "Solver",
    "TestResult",
    "freeze_batch_norm",
    "get_solver",
    "trainable",
]
