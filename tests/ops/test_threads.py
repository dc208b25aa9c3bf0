"""How many threads the kernels use."""

from __future__ import annotations

import os

import pytest

from caffebn.errors import ArgumentError
from caffebn.ops import threads


def test_set_and_get():
    threads.set(3)
    assert threads.get() == 3
    assert threads.for_work(10**9) == 3
    assert threads.for_work(10) == 1


@pytest.mark.parametrize("n", [0, -1, threads.MAX_THREADS + 1, 2.0, "2", True, None])
def test_set_refuses(n):
    threads.set(2)
    with pytest.raises(ArgumentError, match=f"must be a whole number from 1 to 1024, not {n!r}"):
        threads.set(n)
    assert threads.get() == 2


@pytest.fixture
def environment(monkeypatch):
    """No variable set, nothing chosen yet."""
    monkeypatch.setattr(threads, "_count", None)
    monkeypatch.delenv("CAFFEBN_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return monkeypatch


def test_the_variables_decide(environment):
    environment.setenv("OMP_NUM_THREADS", "5,2")
    assert threads.default() == 5
    environment.setenv("CAFFEBN_NUM_THREADS", " 7 ")
    assert threads.default() == threads.get() == 7
    environment.setenv("CAFFEBN_NUM_THREADS", "9")
    assert threads.get() == 7, "the choice is made once"


def test_an_empty_variable_counts_as_absent(environment):
    environment.setenv("CAFFEBN_NUM_THREADS", "")
    environment.setenv("OMP_NUM_THREADS", "5")
    assert threads.default() == 5


@pytest.mark.parametrize("variable", ["CAFFEBN_NUM_THREADS", "OMP_NUM_THREADS"])
@pytest.mark.parametrize("text", ["0", "-2", "many", "1.5", "99999", "²"])
def test_a_variable_must_hold_a_number(environment, variable, text):
    environment.setenv(variable, text)
    with pytest.raises(
        ArgumentError, match=f"{variable} must be a whole number from 1 to 1024, not '{text}'"
    ):
        threads.default()


def test_the_processors_of_this_process_decide_otherwise(environment):
    environment.setattr(threads, "_container_limit", lambda root: 1024)
    environment.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 5}, raising=False)
    assert threads.default() == 3
    environment.setattr(threads, "_container_limit", lambda root: 2)
    assert threads.default() == 2


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("quota", "limit"),
    [("150000 100000", 2), ("100000 100000", 1), ("10000 100000", 1), ("max 100000", 1024), ("", 1024)],
)
def test_container_limit(tmp_path, quota, limit):
    """Control groups version 2; part of a processor counts as one."""
    write(tmp_path / "proc/self/cgroup", "0::/\n")
    write(tmp_path / "sys/fs/cgroup/cpu.max", quota + "\n")
    assert threads._container_limit(tmp_path) == limit


def test_an_outer_group_limits_too(tmp_path):
    write(tmp_path / "proc/self/cgroup", "0::/outer/inner\n")
    write(tmp_path / "sys/fs/cgroup/outer/inner/cpu.max", "800000 100000\n")
    assert threads._container_limit(tmp_path) == 8
    write(tmp_path / "sys/fs/cgroup/outer/cpu.max", "300000 100000\n")
    assert threads._container_limit(tmp_path) == 3


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_container_limit_of_version_1(tmp_path, mount):
    write(tmp_path / "proc/self/cgroup", "9:memory:/group\n4:cpu,cpuacct:/group\n")
    group = tmp_path / "sys/fs/cgroup" / mount
    write(group / "cpu.cfs_quota_us", "250000\n")
    write(group / "cpu.cfs_period_us", "100000\n")
    assert threads._container_limit(tmp_path) == 3
    write(group / "cpu.cfs_quota_us", "-1\n")
    assert threads._container_limit(tmp_path) == 1024


def test_without_control_groups(tmp_path):
    assert threads._container_limit(tmp_path) == 1024
