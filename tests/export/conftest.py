"""A small net with all that is usual."""

from __future__ import annotations

import pytest

from caffebn import Net
from tests.export.nets import SMALL, fill_statistics


@pytest.fixture
def small() -> Net:
    """A net in the phase TEST with statistics in its BatchNorm."""
    return fill_statistics(Net.from_text(SMALL, "TEST"))
