"""How many threads the kernels use."""

from __future__ import annotations

import os

import pytest

import caffebn
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
    """No variable set, nothing chosen yet, and eight processors."""
    monkeypatch.setattr(threads, "_count", None)
    monkeypatch.setattr(threads, "_processors", lambda: 8)
    monkeypatch.setattr(threads, "_container_limit", lambda root: 1024)
    monkeypatch.delenv("CAFFEBN_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return monkeypatch


def test_the_variables_decide(environment):
    environment.setenv("OMP_NUM_THREADS", "5,2")
    assert threads.default() == 5
    environment.setenv("CAFFEBN_NUM_THREADS", " 7 ")
    assert threads.default() == threads.get() == 7
    environment.setenv("CAFFEBN_NUM_THREADS", "6")
    assert threads.get() == 7, "the choice is made once"


@pytest.mark.parametrize("variable", ["CAFFEBN_NUM_THREADS", "OMP_NUM_THREADS"])
def test_the_variables_cannot_ask_for_more_than_there_is(environment, variable):
    environment.setenv(variable, "64")
    assert threads.default() == 8, "the processors"
    environment.setattr(threads, "_container_limit", lambda root: 3)
    assert threads.default() == 3, "the container's share of them"


def test_an_order_can(environment):
    threads.set(64)
    assert threads.get() == 64


def test_public_names():
    caffebn.set_num_threads(5)
    assert caffebn.num_threads() == threads.get() == 5


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
    assert threads.default() == 8
    environment.setattr(threads, "_container_limit", lambda root: 2)
    assert threads.default() == 2


def test_processors_that_this_process_may_run_on(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 5}, raising=False)
    assert threads._processors() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert threads._processors() == 4, "not on macOS: all there are"


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


FORK = """
import os, signal
import numpy as np
from caffebn.ops import get, threads

def work():
    x = np.ones((4, 8, 10000), np.float32)
    y = np.empty_like(x)
    get("cpu").affine(x, np.full(8, 2, np.float32), None, y)
    assert (y == 2).all()

threads.set(3)
work()
child = os.fork()
if not child:
    signal.alarm(20)
    work()
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
work()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_kernels_run_in_the_child_of_a_process_that_has_run_some(python):
    """GNU's OpenMP alone would wait forever: its threads are not in the child."""
    done = python(FORK)
    assert (done.returncode, done.stdout) == (0, "7\n"), done.stderr
