"""Paths with `~`, with and without a home directory."""

import os
import pwd
import sys
from pathlib import Path

import pytest

from etd_tf.errors import InputError
from etd_tf.storage.home import DEFAULT_CACHE, expand


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """No HOME, no account, and a temporary directory of its own."""

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_the_home_directory_stands_for_its_sign(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand(DEFAULT_CACHE) == tmp_path / ".cache" / "etd_tf"
    assert expand("~/a") == tmp_path / "a"
    assert expand(Path("a/~b")) == Path("a/~b")


def test_the_default_cache_has_a_place_without_a_home_directory(homeless, caplog):
    cache = expand(Path(DEFAULT_CACHE))
    assert cache == homeless / f"etd_tf-{os.getuid()}"
    assert cache.stat().st_mode & 0o777 == 0o700
    assert expand(DEFAULT_CACHE) == cache  # also when it is there
    assert "no home directory" in caplog.text
    assert expand("a") == Path("a")


def test_other_places_are_asked_for_in_full(homeless):
    with pytest.raises(InputError, match=r"~/out: there is no home .* Give the whole path"):
        expand("~/out")


def test_a_cache_that_somebody_else_placed_is_not_used(homeless):
    (homeless / "theirs").mkdir()
    (homeless / f"etd_tf-{os.getuid()}").symlink_to(homeless / "theirs")
    with pytest.raises(InputError, match=r"belongs to another user\. Name a cache with cache_dir="):
        expand(DEFAULT_CACHE)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
