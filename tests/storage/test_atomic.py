"""Tests of atomic writing: after any failure the old state is there, whole."""

import errno
import hashlib
import os
import sys
import tempfile

import pytest

from etd_tf.errors import InputError
from etd_tf.storage.atomic import atomic_directory, remove_leftovers, sha256, write_atomically


def tree(path):
    return {p.relative_to(path).as_posix(): p.read_text() for p in path.rglob("*") if p.is_file()}


def fill(path, error=None, **options):
    """Writes a file `new` into an atomic directory and then fails, if asked to."""
    with atomic_directory(path, **options) as scratch:
        (scratch / "new").write_text("new")
        if error is not None:
            raise error


def test_a_directory_appears_complete(tmp_path):
    target = tmp_path / "new" / "model"
    with atomic_directory(target) as scratch:
        (scratch / "a").write_text("1")
        (scratch / "sub").mkdir()
        (scratch / "sub" / "b").write_text("2")
        assert not target.exists()
        assert scratch.parent == target.parent  # one file system, so the rename is atomic
    assert tree(target) == {"a": "1", "sub/b": "2"}
    assert os.listdir(target.parent) == ["model"]
    assert target.stat().st_mode & 0o777 == 0o755


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "model", KeyboardInterrupt)
    assert os.listdir(tmp_path) == []


def test_an_existing_directory_is_refused_before_work(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").write_text("old")
    with pytest.raises(InputError, match=r"exists already\. .*pass overwrite=True"):
        fill(tmp_path / "model", AssertionError("the block must not run"))
    assert tree(tmp_path) == {"model/old": "old"}


def test_an_empty_directory_may_be_filled(tmp_path):
    (tmp_path / "model").mkdir()
    fill(tmp_path / "model")
    assert tree(tmp_path) == {"model/new": "new"}


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "model").write_text("old")
    with pytest.raises(InputError, match="exists already"):
        fill(tmp_path / "model", AssertionError("the block must not run"))


@pytest.mark.parametrize("fails", [False, True])
def test_overwriting_replaces_all_or_nothing(tmp_path, fails):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").write_text("old")
    if fails:
        with pytest.raises(RuntimeError):
            fill(tmp_path / "model", RuntimeError, overwrite=True)
    else:
        fill(tmp_path / "model", overwrite=True)
    assert tree(tmp_path) == ({"model/old": "old"} if fails else {"model/new": "new"})
    assert os.listdir(tmp_path) == ["model"]


def test_a_failing_last_rename_brings_the_old_directory_back(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").write_text("old")
    rename = os.rename

    def broken(source, target):
        if ".partial-" in os.fspath(source):
            raise OSError("disk is gone")
        rename(source, target)

    monkeypatch.setattr(os, "rename", broken)
    with pytest.raises(OSError, match="disk is gone"):
        fill(tmp_path / "model", overwrite=True)
    assert tree(tmp_path) == {"model/old": "old"}


@pytest.mark.parametrize("after", [1, 2])
def test_an_interruption_between_renames_loses_nothing(after, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    rename, calls = os.rename, []

    def interrupted(source, target):
        rename(source, target)
        calls.append(source)
        if len(calls) == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "out", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == [["old"], ["new"]][after - 1]


def test_leftovers_of_a_killed_process(tmp_path):
    for name in (".kept.old-x1/old", ".kept.old-x1", "kept", ".gone.old-x2/old", ".new.partial-x"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / ".gone.old-x2/old/a").write_text("precious")
    (tmp_path / "kept/b").write_text("new")
    (tmp_path / ".file.partial-x").write_text("half")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gone", "kept"]
    assert (tmp_path / "gone/a").read_text() == "precious"
    assert (tmp_path / "kept/b").read_text() == "new"
    remove_leftovers(tmp_path / "missing")


def test_what_a_rename_cannot_replace_is_refused_before_work(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match="the current directory"):
        fill(".")
    with pytest.raises(InputError, match=r"does not exist\. Make it first"):
        fill(tmp_path / "link")
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="a mount point"):
        fill(tmp_path / "here")
    assert tree(tmp_path / "here") == {}


def test_a_linked_directory_stays_linked(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    fill(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk/new").is_file()
    monkeypatch.setenv("HOME", str(tmp_path))
    fill("~/below")
    assert (tmp_path / "below/new").is_file()


def test_a_parent_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"Cannot write to .*file: "):
        fill(tmp_path / "file" / "model", AssertionError("the block must not run"))


def test_a_file_is_replaced_at_once(tmp_path):
    path = tmp_path / "metrics.json"
    write_atomically(path, "ä")
    write_atomically(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert os.listdir(tmp_path) == ["metrics.json"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_failing_replacement_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    write_atomically(path, "old")

    def broken(source, target):
        raise OSError("disk is gone")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk is gone"):
        write_atomically(path, "new")
    assert tree(tmp_path) == {"metrics.json": "old"}


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(InputError, match=r"metrics.json into .*nowhere: .*Make that directory"):
        write_atomically(tmp_path / "nowhere" / "metrics.json", "text")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"into .*file: Not a directory"):
        write_atomically(tmp_path / "file" / "metrics.json", "text")
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_is_no_bad_input(tmp_path, monkeypatch):
    def full(**_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "mkstemp", full)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write_atomically(tmp_path / "metrics.json", "text")


@pytest.mark.parametrize("name", ["fsync", "chmod"])
def test_a_file_system_that_refuses_what_is_not_essential_is_used(tmp_path, monkeypatch, name):
    for number in (errno.EINVAL, errno.EPERM, errno.ENOTSUP):

        def refuse(*_, number=number, **__):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, name, refuse)
        write_atomically(tmp_path / "file", "new")
        fill(tmp_path / "model", overwrite=True)
        assert tree(tmp_path) == {"file": "new", "model/new": "new"}

    def broken(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, name, broken)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        write_atomically(tmp_path / "file", "newer")
    assert tree(tmp_path) == {"file": "new", "model/new": "new"}


def test_others_may_read_what_a_library_kept_for_its_owner(tmp_path):
    with atomic_directory(tmp_path / "model") as scratch:
        (scratch / "weights").touch(0o600)
    assert (tmp_path / "model" / "weights").stat().st_mode & 0o777 == 0o644


def test_sha256_reads_in_blocks(tmp_path):
    content = bytes(range(256)) * 10_000  # more than two blocks
    (tmp_path / "f").write_bytes(content)
    assert sha256(tmp_path / "f") == hashlib.sha256(content).hexdigest()


def test_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with (
        pytest.raises(InputError, match="which does not exist"),
        atomic_directory(tmp_path / "loop"),
    ):
        pass


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
