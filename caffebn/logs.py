"""pycaffe's ``init_log`` and ``log``, on Python's `logging`.

caffebn itself tells what is odd by warnings (`caffebn.CaffebnWarning`); only a solver's progress goes to the log,
to the logger ``caffebn.solvers``.  These two are for scripts that mark their own steps, and show both.  Their logger is
``logging.getLogger("caffebn")``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffebn.errors import ArgumentError

if TYPE_CHECKING:
    import logging

__all__ = ["init_log", "log"]

_LEVELS = ("INFO", "WARNING", "ERROR", "CRITICAL")

_handler: logging.Handler | None = None


def init_log(level: int = 0, stderr: bool = True) -> None:
    """Choose what is logged, and show it.

    Parameters
    ----------
    level : {0, 1, 2, 3}
        The least severity, as Caffe numbers it: info, warning, error, fatal.
    stderr : bool
        Write to standard error; otherwise the records go where the program has told `logging`.

    Raises
    ------
    ArgumentError
        Another level.
    """
    global _handler
    if level not in range(len(_LEVELS)):
        raise ArgumentError(
            f"init_log: level: expected 0 (info), 1 (warning), 2 (error) or 3 (fatal), found {level!r}"
        )
    import logging  # takes its time to import, and few scripts log

    logger = logging.getLogger("caffebn")
    logger.setLevel(_LEVELS[level])
    if stderr and _handler is None:
        _handler = logging.StreamHandler()
        _handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.addHandler(_handler)
    elif not stderr and _handler is not None:
        logger.removeHandler(_handler)
        _handler = None


def log(message: str) -> None:
    """Log a message of severity info; without `init_log` it is not shown."""
    import logging

    logging.getLogger("caffebn").info("%s", message)
