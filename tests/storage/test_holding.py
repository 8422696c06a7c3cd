"""Holding directories: by one process, waiting or refusing, and left as they were when refused."""

import concurrent.futures
import errno
import fcntl
import sys

import pytest

from etd_tf.errors import InputError
from etd_tf.storage import holding
from etd_tf.storage.holding import hold, visible_names


def test_a_directory_is_kept_with_what_was_written(tmp_path):
    out = tmp_path / "a" / "b"
    with hold(out):
        (out / "file").touch()
        assert visible_names(out) == ["file"]
    assert [path.name for path in out.iterdir()] == ["file"]
    assert visible_names(tmp_path / "missing") == []


def test_nothing_is_left_of_a_refused_one(tmp_path):
    (tmp_path / "old").mkdir()
    for name in ("new", "old"):
        with pytest.raises(InputError, match="no text"), hold(tmp_path / name):
            raise InputError("no text")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert not list((tmp_path / "old").iterdir())


def test_a_directory_has_one_owner(tmp_path):
    with (
        hold(tmp_path),
        pytest.raises(InputError, match=r"Another run is working .* choose another cache_dir"),
        hold(tmp_path, name="cache_dir"),
    ):
        pass
    with hold(tmp_path):
        pass


def test_others_can_wait(tmp_path, capsys):
    order = []

    def wait():
        with hold(tmp_path, wait=True):
            order.append("second")

    with concurrent.futures.ThreadPoolExecutor() as pool:
        with hold(tmp_path):
            waiting = pool.submit(wait)
            with pytest.raises(TimeoutError):
                waiting.result(0.3)
            order.append("first")
        waiting.result(30)
    assert order == ["first", "second"]
    assert "waiting for it" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_refused_process_leaves_the_owners_directory(tmp_path):
    """Both saw a new directory; the second finds only the first one's lock in it."""
    out = tmp_path / "out"
    with hold(out):
        with pytest.raises(InputError, match="Another run"), hold(out):
            pass
        (out / "file").touch()
    assert (out / "file").exists()


def test_a_lock_that_was_removed_is_made_again(tmp_path, monkeypatch):
    opened, lock = [], holding._locked

    def removed_at_first(path, *options):
        opened.append(lock(path, *options))
        if len(opened) == 1:
            (path / ".lock").unlink()
        return opened[-1]

    monkeypatch.setattr(holding, "_locked", removed_at_first)
    with hold(tmp_path):
        assert (tmp_path / ".lock").exists()
    assert [file.closed for file in opened] == [True, True]


def test_file_systems_without_locks_are_used_with_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with hold(tmp_path):
        pass
    assert "without locks (No locks available)" in caplog.text


def test_errors_of_the_system_are_told(tmp_path):
    (tmp_path / ".lock").mkdir()
    with (
        pytest.raises(InputError, match=r"cannot be written \(Is a directory\)"),
        hold(tmp_path),
    ):
        pass


def test_what_cannot_be_a_directory_is_named(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="cannot be written"), hold(path):
            pass


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
