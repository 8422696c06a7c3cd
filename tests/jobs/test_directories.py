"""Output directories: made, held by one process, and left as they were when refused."""

import sys

import pytest

from etd_tf.errors import InputError
from etd_tf.jobs.directories import open_directory


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
