"""Types of pyx/wire.pyx."""

from collections.abc import Callable
from typing import Any

class Scanner:
    view: memoryview
    path: list[tuple[Any, Any]]

    def __init__(
        self, view: memoryview, most: int, new: Callable[[Any], Any], repeated: Callable[[Any], Any]
    ): ...
    def fields(self, message: Any, at: int, end: int) -> None: ...
    def varint(self, at: int, end: int) -> tuple[int, int]: ...
