"""Fixtures of the layer tests."""

from __future__ import annotations

import pytest

from caffebn import ops


@pytest.fixture(params=ops.BACKENDS)
def device(request: pytest.FixtureRequest) -> str:
    """Each back end in turn."""
    return request.param
