"""The group of verbs: help, errors, warnings, quick start."""

from __future__ import annotations

import subprocess
import sys
import warnings

import click
import pytest

import caffebn
from caffebn import cli
from caffebn.errors import CaffebnWarning, NetError


@pytest.fixture
def verb(monkeypatch):
    """Put a verb in place of `device` that runs the given function."""

    def put(function):
        module = type(sys)("caffebn.cli.device")
        module.command = click.command("device")(function)
        monkeypatch.setitem(sys.modules, "caffebn.cli.device", module)

    return put


def test_help_names_every_verb_with_its_line(run):
    result = run("--help")
    assert result.exit_code == 0
    for name, line in cli.VERBS.items():
        assert name in result.stdout
        assert line.split()[0] in result.stdout


@pytest.mark.parametrize("name", cli.VERBS)
def test_every_verb_has_help(run, name):
    result = run(name, "-h")
    assert result.exit_code == 0 and result.stdout.startswith(f"Usage: main {name}")


def test_version(run):
    assert run("--version").stdout == f"caffebn {caffebn.__version__}\n"


def test_unknown_verb_gets_the_nearest_named(run):
    result = run("inof")
    assert result.exit_code == 2
    assert 'there is no verb "inof"; did you mean "info"?' in result.stderr


def test_error_is_a_clean_message(run, verb):
    def fail():
        raise NetError('layer "a": no good [bracket]')

    verb(fail)
    result = run("device")
    assert result.exit_code == 1
    assert result.stderr == 'error: layer "a": no good [bracket]\n'
    assert result.stdout == ""


def test_long_error_is_not_broken_into_lines(run, verb):
    def fail():
        raise NetError("word " * 60)

    verb(fail)
    assert run("device").stderr.strip() == ("error: " + "word " * 60).strip()


def test_debugging_shows_the_error_itself(run, verb):
    def fail():
        raise NetError("no good")

    verb(fail)
    result = run("device", CAFFEBN_DEBUG="1")
    assert isinstance(result.exception, NetError)


def test_error_of_the_system_is_a_clean_message(run, verb):
    def fail():
        raise OSError(28, "No space left on device")

    verb(fail)
    result = run("device")
    assert result.exit_code == 1 and result.stderr == "error: [Errno 28] No space left on device\n"


def test_reader_that_has_seen_enough(net_file):
    code = (
        f"import sys; sys.argv = ['caffebn', 'info', {str(net_file)!r}]; from caffebn.cli import main; main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as done:
        done.stdout.close()
        assert done.stderr.read() == b""


def test_other_errors_are_not_hidden(run, verb):
    def fail():
        raise ZeroDivisionError

    verb(fail)
    assert isinstance(run("device").exception, ZeroDivisionError)


def test_warning_is_a_clean_line(run, verb):
    def warn():
        for _ in range(2):
            warnings.warn("mind the [gap]", CaffebnWarning, stacklevel=2)
        click.echo("done")

    verb(warn)
    before = warnings.showwarning
    result = run("device")
    assert result.exit_code == 0
    assert result.stderr == "warning: mind the [gap]\n" * 2
    assert result.stdout == "done\n"
    assert warnings.showwarning is before


def test_other_warnings_go_their_way(run, verb):
    def warn():
        warnings.warn("of another package", UserWarning, stacklevel=2)

    verb(warn)
    with pytest.warns(UserWarning, match="of another package"):
        run("device")


def test_starting_loads_no_verb_and_no_slow_package():
    code = (
        "import sys, caffebn.cli; "
        "print(*[m for m in sys.modules if m.startswith('caffebn.cli.')], "
        "*[m for m in ('rich', 'scipy', 'PIL', 'matplotlib', 'h5py', 'cupy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["caffebn.cli.show"]


def test_help_loads_no_verb():
    code = "import sys; sys.argv = ['caffebn', '--help']; from caffebn.cli import main; main()"
    check = (
        "import atexit, sys; atexit.register(lambda: print('loaded', 'caffebn.cli.info' in sys.modules)); "
    )
    done = subprocess.run([sys.executable, "-c", check + code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("loaded False\n")
