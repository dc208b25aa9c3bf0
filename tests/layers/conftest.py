"""Fixtures of the layer tests."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["cpu", "reference", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Each back end in turn."""
    return request.param
