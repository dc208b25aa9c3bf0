from __future__ import annotations

import pickle

import pytest

from caffebn import errors
from caffebn.errors import CaffebnError, Where, did_you_mean, missing_package


def test_an_error_shows_its_place():
    where = Where("net.prototxt", 12, 3)
    error = CaffebnError("no such layer", where)
    assert str(error) == "net.prototxt:12:3: no such layer"
    assert error.message == "no such layer"
    assert error.where == where == ("net.prototxt", 12, 3)


def test_an_error_without_place():
    error = CaffebnError("no such layer")
    assert str(error) == "no such layer"
    assert error.where is None


@pytest.mark.parametrize(("name", "builtin"), [
    ("ParseError", ValueError), ("FormatError", ValueError), ("NetError", ValueError),
    ("WeightsError", ValueError), ("ArgumentError", ValueError), ("SolverError", ValueError), ("FileError", OSError),
    ("LevelError", RuntimeError), ("MissingPackageError", ImportError),
])  # fmt: skip
def test_errors_are_also_the_builtin_ones(name, builtin):
    error = getattr(errors, name)("words", Where("file", 1, 2))
    assert isinstance(error, CaffebnError)
    assert isinstance(error, builtin)
    assert str(error) == "file:1:2: words"


def test_everything_public_is_listed():
    own = {
        name for name, value in vars(errors).items() if getattr(value, "__module__", "") == errors.__name__
    }
    assert set(errors.__all__) == own
    assert issubclass(errors.CaffebnWarning, UserWarning)


@pytest.mark.parametrize(("word", "hint"), [
    ("kernal_size", '; did you mean "kernel_size"?'),
    ("KERNEL_SIZE", '; did you mean "kernel_size"?'),
    ("Stride", '; did you mean "stride"?'),
    ("xyz", ""),
    ("", ""),
])  # fmt: skip
def test_did_you_mean(word, hint):
    assert did_you_mean(word, ["kernel_size", "stride", "pad"]) == hint
    assert did_you_mean(word, iter(["kernel_size", "stride", "pad"])) == hint
    assert did_you_mean(word, []) == ""


def test_did_you_mean_goes_by_the_letters_first():
    assert did_you_mean("adam", ["Nadam", "Adam"]) == '; did you mean "Adam"?'


def test_missing_package():
    error = missing_package("h5py", "data", "reading .h5 files")
    assert isinstance(error, ImportError)
    assert str(error) == 'reading .h5 files needs the package "h5py": pip install "caffebn[data]"'


def test_errors_cross_processes():
    # an error of a worker process arrives pickled
    error = pickle.loads(pickle.dumps(errors.NetError("words", Where("file", 1, 2))))
    assert isinstance(error, errors.NetError)
    assert str(error) == "file:1:2: words"
    assert error.where == ("file", 1, 2)


def test_names_in_short():
    assert errors.some([]) == "none"
    assert errors.some(iter("abcde")) == '"a", "b", "c", "d", "e"'
    assert errors.some("abcdefgh") == '"a", "b", "c", "d", "e" and 3 more'
    assert errors.some("abc", 1, quote="") == "a and 2 more"
