from __future__ import annotations

import os
import stat

import pytest

from caffebn.errors import FileError
from caffebn.files import replacing, write_whole


def test_write_whole_makes_a_file(tmp_path):
    path = tmp_path / "é file"
    with write_whole(path) as f:
        f.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["é file"]


def test_write_whole_replaces_a_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with write_whole(str(path)) as f:
        f.write(b"new")
        f.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_old_content_stays_when_the_block_raises(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), write_whole(path) as f:
        f.write(b"half")
        raise KeyError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_no_file_appears_when_the_block_raises(tmp_path):
    with pytest.raises(KeyboardInterrupt), write_whole(tmp_path / "file"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_replacing_gives_a_name_beside_the_file(tmp_path):
    path = tmp_path / "file.h5"
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary != path
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_a_failing_disk_is_reported_with_the_name_of_the_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(FileError) as error, replacing(path):
        raise OSError(28, "No space left on device")
    assert str(error.value) == f"{path}: not written, any old file is untouched: No space left on device"
    assert os.listdir(tmp_path) == ["file"]


def test_an_error_of_ours_is_passed_on(tmp_path):
    with pytest.raises(FileError, match="^mine$"), replacing(tmp_path / "file"):
        raise FileError("mine")


def test_a_missing_folder(tmp_path):
    path = tmp_path / "none" / "file"
    with pytest.raises(FileError) as error, write_whole(path):
        pytest.fail("the block must not run")
    assert str(error.value) == f"{path}: cannot write here: No such file or directory"


def test_a_folder_in_the_place_of_the_file(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(FileError, match="file: not written"), write_whole(tmp_path / "file") as f:
        f.write(b"new")
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_without_permission(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("caffebn.files.tempfile.mkstemp", refuse)
    with pytest.raises(FileError, match="file: cannot write here: Permission denied"):
        with write_whole(tmp_path / "file"):
            pytest.fail("the block must not run")


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_a_new_file_has_the_mode_of_an_ordinary_one(tmp_path):
    umask = os.umask(0o027)
    try:
        with write_whole(tmp_path / "file"):
            pass
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
