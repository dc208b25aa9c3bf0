"""pycaffe's log functions."""

from __future__ import annotations

import logging

import pytest

import caffebn
from caffebn.errors import ArgumentError


@pytest.fixture(autouse=True)
def as_before():
    logger = logging.getLogger("caffebn")
    level = logger.level
    yield
    caffebn.init_log(stderr=False)
    logger.setLevel(level)


def test_nothing_is_shown_before_init_log(capfd):
    caffebn.log("step 1")
    assert capfd.readouterr() == ("", "")


def test_init_log_shows_each_record_once(capsys):
    caffebn.init_log()
    caffebn.init_log(0)
    caffebn.log("100 % done")
    assert capsys.readouterr().err.count("100 % done\n") == 1


def test_level(capsys):
    caffebn.init_log(1, True)
    caffebn.log("step 1")
    logging.getLogger("caffebn").warning("careful")
    assert "careful" in (shown := capsys.readouterr().err) and "step 1" not in shown


def test_records_go_where_the_program_wants_them(caplog, capsys):
    caffebn.init_log(0, stderr=False)
    with caplog.at_level(logging.INFO, "caffebn"):
        caffebn.log("step 1")
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records] == [("caffebn", "INFO", "step 1")]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("level", [-1, 4, "info"])
def test_unknown_level(level):
    with pytest.raises(ArgumentError) as error:
        caffebn.init_log(level)
    assert str(error.value) == (
        f"init_log: level: expected 0 (info), 1 (warning), 2 (error) or 3 (fatal), found {level!r}"
    )
