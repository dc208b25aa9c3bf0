"""Calls of kernels: made at once, and written down for a net that will repeat them (``ops/recording.py``).

What is repeated are the same kernels with the same arguments, as memory views that the kernels take as they are (see
``pyx/views.pxi``).  What an op does beside calling kernels through a `Launcher` is not repeated, so an op in this
package does nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from caffebn.ops import recording

__all__ = ["Launcher"]


class Launcher:
    """A kernel, as the ops call it.

    Parameters
    ----------
    kernel : callable
        A compiled function, one form of it when there are several.
    """

    __slots__ = ("kernel", "module")

    def __init__(self, kernel: Callable):
        self.kernel = kernel
        self.module = kernel.__globals__

    def __call__(self, *arguments: Any) -> Any:
        tape = recording.current()
        if tape is not None:
            tape.calls.append((self.kernel, tuple(map(self._prepared, arguments))))
        return self.kernel(*arguments)

    def _prepared(self, argument: Any) -> Any:
        """Make a memory view of an array; what may not be written stays an array, which kernels take as well."""
        if isinstance(argument, np.ndarray) and argument.flags.writeable:
            forms = self.module.get(f"view{argument.ndim}")
            name = _C_NAMES[argument.dtype.char]
            if forms is not None and name in forms.__signatures__:
                return forms[name](argument)
        return argument


_C_NAMES = {"f": "float", "d": "double", "i": "int", "l": "int64_t", "B": "unsigned char"}
