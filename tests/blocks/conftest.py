"""Helpers for nets with blocks."""

from __future__ import annotations

import pytest

from caffebn import blocks
from caffebn.errors import ParseError

INPUT = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: [1, 3, 32, 32] } } }\n'


@pytest.fixture
def expand():
    """The layers of a net behind an input "data" of 3 channels."""

    def expand(text, **options):
        return blocks.parse(INPUT + text, **options).layer[1:]

    return expand


@pytest.fixture
def refusal():
    """The words of the error that a text ends in."""

    def refusal(text, filename="net.prototxt", **options):
        with pytest.raises(ParseError) as error:
            blocks.parse(text, filename, **options)
        assert len(str(error.value)) < 1000
        return str(error.value)

    return refusal
