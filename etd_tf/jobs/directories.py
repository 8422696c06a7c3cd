"""Output directories: made, tried, and held by one process at a time."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from etd_tf.errors import InputError

_LOCK_FILE = ".lock"


@contextlib.contextmanager
def open_directory(path: Path, check: Callable[[], None]) -> Iterator[None]:
    """Takes hold of an output directory until the block ends.

    Args:
        path: The directory; made if missing, and removed again if nothing is left in it.
        check: Raises where the directory may not be used; called before anything is made,
            and again when nobody else can change it.

    Raises:
        InputError: `check` says so; or the directory cannot be written, or another process
            works in it.
    """
    check()
    is_new = make_writable(path)
    try:
        with _hold(path):
            check()
            yield
    finally:
        with contextlib.suppress(OSError):
            if is_new and [entry.name for entry in path.iterdir()] == [_LOCK_FILE]:
                (path / _LOCK_FILE).unlink()
                path.rmdir()


def make_writable(path: Path) -> bool:
    """Makes a directory and tries to write to it.

    Args:
        path: The directory.

    Returns:
        Whether it is new.

    Raises:
        InputError: It cannot be made or written.
    """
    is_new = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"--output_dir={path} cannot be written ({error.strerror}). Choose another directory."
        ) from error
    return is_new


def check_is_directory(path: Path) -> None:
    """Checks that nothing but a directory is at a path, if anything.

    Raises:
        InputError: A file is there.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"--output_dir={path} is a file; choose a directory.")


@contextlib.contextmanager
def _hold(path: Path) -> Iterator[None]:
    """Keeps other processes out of a directory until the block ends."""
    # The kernel drops the lock with the process, so a killed run never blocks the next.
    with open(path / _LOCK_FILE, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"Another run is working in {path}. Wait for it, or choose another --output_dir."
            ) from error
        yield
