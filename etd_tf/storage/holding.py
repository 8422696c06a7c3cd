"""Output directories: made, tried, and held by one process at a time."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from absl import logging

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
    check_directory(path, check)
    is_new = make_writable(path)
    with _hold(path):
        try:
            check_directory(path, check)
            yield
        finally:  # still held, so nobody else is in it
            with contextlib.suppress(OSError):
                if [entry.name for entry in path.iterdir()] == [_LOCK_FILE]:
                    (path / _LOCK_FILE).unlink()
                    if is_new:
                        path.rmdir()


def check_directory(path: Path, check: Callable[[], None]) -> None:
    """Runs a check of a directory's content.

    Args:
        path: The directory.
        check: Raises where it may not be used.

    Raises:
        InputError: `check` says so, or cannot look into the directory.
    """
    try:
        check()
    except OSError as error:
        raise _unusable(path, error, "read") from error


def _unusable(path: Path, error: OSError, what: str = "written") -> InputError:
    return InputError(
        f"--output_dir={path} cannot be {what} ({error.strerror}). Choose another directory."
    )


def make_writable(path: Path) -> bool:
    """Makes a directory and tries to write to it.

    Args:
        path: The directory.

    Returns:
        Whether it is new.

    Raises:
        InputError: It cannot be made or written.
    """
    try:
        is_new = _make(path)
        probe = path / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unusable(path, error) from error
    return is_new


def _make(path: Path) -> bool:
    try:
        path.mkdir(parents=True)
    except FileExistsError:  # of several processes, one makes it
        return False
    return True


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
    file = _locked(path)
    while not _is_in_place(file, path):  # its owner removed it just before it was locked
        file.close()
        make_writable(path)
        file = _locked(path)
    with file:
        yield


def _locked(path: Path) -> IO[str]:
    try:
        file = open(path / _LOCK_FILE, "a", encoding="utf-8")  # noqa: SIM115 - kept open
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise InputError(
            f"Another run is working in {path}. Wait for it, or choose another --output_dir."
        ) from error
    except OSError as error:
        logging.warning(
            "%s is on a file system without locks (%s): start no second run in it.",
            path,
            error.strerror,
        )
    return file


def _is_in_place(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path / _LOCK_FILE))
    except FileNotFoundError:
        return False
