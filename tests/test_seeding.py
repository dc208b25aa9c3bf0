"""The one random generator: its seed, and its state."""

from __future__ import annotations

import json

import pytest

from caffebn import seeding
from caffebn.errors import ArgumentError


@pytest.fixture(autouse=True)
def _same_state_after():
    state = seeding.get_state()
    yield
    seeding.set_state(state)


def draw() -> list[float]:
    generator = seeding.generator()
    return [generator.random(), int(generator.integers(100, dtype="u4")), generator.normal()]


def test_the_seed_repeats_what_follows():
    seeding.set_random_seed(5)
    first = draw()
    seeding.set_random_seed(5)
    assert draw() == first
    assert draw() != first


def test_the_state_goes_through_json():
    seeding.set_random_seed(5)
    draw()
    state = json.loads(json.dumps(seeding.get_state()))
    expected = [draw(), draw()]
    seeding.set_state(state)
    assert [draw(), draw()] == expected


@pytest.mark.parametrize(
    "change", [{"bit_generator": "MT19937"}, {"state": 5}, {"state": {"state": "x", "inc": 1}}, {"state": {}}]
)
def test_what_is_no_state_is_refused_and_changes_nothing(change):
    before = seeding.get_state()
    with pytest.raises(
        ArgumentError, match=r"not a state of the random generator: .*; expected what get_state"
    ):
        seeding.set_state(before | change)
    assert seeding.get_state() == before
    with pytest.raises(ArgumentError):
        seeding.set_state([])
