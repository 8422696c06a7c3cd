"""Output directories: made, held by one process, and left as they were when refused."""

import errno
import fcntl
import sys

import pytest

from etd_tf.errors import InputError
from etd_tf.storage import holding as directories
from etd_tf.storage.holding import open_directory


def test_a_directory_is_kept_with_what_was_written(tmp_path):
    out = tmp_path / "a" / "b"
    with open_directory(out, lambda: None):
        (out / "file").touch()
    assert (out / "file").exists()


def test_nothing_is_left_of_a_refused_one(tmp_path):
    def fail():
        raise InputError("no text")

    with pytest.raises(InputError, match="no text"), open_directory(tmp_path / "new", fail):
        pass
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError, match="no text"), open_directory(tmp_path / "new", lambda: None):
        fail()
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with pytest.raises(InputError, match="no text"), open_directory(tmp_path / "old", lambda: None):
        fail()
    assert (tmp_path / "old").is_dir()


def test_a_directory_has_one_owner(tmp_path):
    with (
        open_directory(tmp_path, lambda: None),
        pytest.raises(InputError, match="Another run is working"),
        open_directory(tmp_path, lambda: None),
    ):
        pass
    with open_directory(tmp_path, lambda: None):
        pass


def test_a_refused_process_leaves_the_owners_directory(tmp_path):
    """Both saw a new directory; the second finds only the first one's lock in it."""
    out = tmp_path / "out"
    with open_directory(out, lambda: None):
        with (
            pytest.raises(InputError, match="Another run"),
            open_directory(out, lambda: None),
        ):
            pass
        (out / "file").touch()
    assert (out / "file").exists()


def test_a_lock_that_was_removed_is_made_again(tmp_path, monkeypatch):
    opened, lock = [], directories._locked

    def removed_at_first(path):
        opened.append(lock(path))
        if len(opened) == 1:
            (path / ".lock").unlink()
        return opened[-1]

    monkeypatch.setattr(directories, "_locked", removed_at_first)
    with open_directory(tmp_path, lambda: None):
        assert (tmp_path / ".lock").exists()
    assert [file.closed for file in opened] == [True, True]


def test_file_systems_without_locks_are_used_with_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with open_directory(tmp_path, lambda: None):
        pass
    assert "without locks (No locks available)" in caplog.text


def test_errors_of_the_system_are_told(tmp_path, monkeypatch):
    def check():
        raise PermissionError(errno.EACCES, "Permission denied")

    with (
        pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"),
        open_directory(tmp_path, check),
    ):
        pass
    (tmp_path / ".lock").mkdir()
    with (
        pytest.raises(InputError, match=r"cannot be written \(Is a directory\)"),
        open_directory(tmp_path, lambda: None),
    ):
        pass


def test_an_empty_directory_stays_empty(tmp_path):
    with open_directory(tmp_path, lambda: None):
        pass
    assert not list(tmp_path.iterdir())


def test_it_is_checked_again_once_it_is_held(tmp_path):
    checks = []

    def check():
        checks.append((tmp_path / ".lock").exists())

    with open_directory(tmp_path, check):
        pass
    assert checks == [False, True]


def test_what_cannot_be_a_directory_is_named(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with (
            pytest.raises(InputError, match="cannot be written"),
            open_directory(path, lambda: None),
        ):
            pass


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
