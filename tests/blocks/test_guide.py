"""The guide to blocks: its nets are made, its errors are those that are given, and it leaves nothing out."""

from __future__ import annotations

import re

import pytest

from caffebn import Net, blocks
from caffebn.errors import ParseError


@pytest.fixture(scope="module")
def guide(checkout):
    return (checkout / "docs" / "blocks.md").read_text(encoding="utf-8")


def test_its_nets_are_made(guide):
    nets = re.findall(r"^```prototxt\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    assert len(nets) == 5
    for text in nets:
        Net.from_text(text, "TEST", strict=True)


def test_its_error_is_the_one_that_is_given(guide):
    with pytest.raises(ParseError) as error:
        blocks.parse(
            "\n" * 6
            + 'block { type: "ResidualBottleneck" name: "res3" width: 4 bottom: "x" shortcut: "none" }',
            "net.prototxt",
        )
    said, words = (
        re.sub(r"prototxt:\d+:\d+", "prototxt", s) for s in (str(error.value), " ".join(guide.split()))
    )
    assert said in words


def test_it_names_every_template_and_parameter(guide):
    for name, template in blocks.builtin().items():
        assert re.search(rf"\b{name}\b", guide)
        assert [p for p in template.parameters if f"`{p}`" not in guide] == []


def test_it_says_the_limits(guide):
    words = " ".join(guide.split())
    for limit in ("64 deep", "16 deep", "16 million characters", "300 characters"):
        assert limit in words
