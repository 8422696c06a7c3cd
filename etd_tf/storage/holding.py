"""Holding a directory: one process at a time works in it, the others wait or are refused."""

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from absl import logging

from etd_tf.errors import InputError

_LOCK_FILE = ".lock"


@contextlib.contextmanager
def hold(path: Path, *, wait: bool = False, name: str = "output_dir") -> Iterator[None]:
    """Keeps other processes out of a directory until the block ends.

    The kernel drops the lock with the process, so a killed run never blocks the next.

    Args:
        path: The directory; made if missing, and removed again if nothing is put in it.
        wait: Wait until another process is done, instead of refusing.
        name: The argument that named the directory, for messages.

    Raises:
        InputError: The directory cannot be made or written, or another process works in it
            and `wait` is false.
    """
    is_new = _make_writable(path, name)
    file = _locked(path, wait, name)
    while not _is_in_place(file, path):  # its owner removed it just before it was locked
        file.close()
        is_new = _make_writable(path, name) or is_new
        file = _locked(path, wait, name)
    with file:
        try:
            yield
        finally:  # still held, so nobody else is in it
            with contextlib.suppress(OSError):
                (path / _LOCK_FILE).unlink()
                if is_new:
                    path.rmdir()  # only where it is empty


def visible_names(path: Path) -> list[str]:
    """Lists what is in a directory, sorted, without hidden files; it need not exist."""
    try:
        return sorted(name for name in os.listdir(path) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def unusable(path: Path, error: OSError, name: str, what: str = "written") -> InputError:
    """The error for a directory, named by an argument, that the system refuses to use.

    Returns:
        The error, to be raised.
    """
    return InputError(
        f"{name}={path} cannot be {what} ({error.strerror}). Choose another directory."
    )


def _make_writable(path: Path, name: str) -> bool:
    """Makes a directory and tries to write to it; says whether it is new."""
    try:
        is_new = _make(path)
        probe = path / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise unusable(path, error, name) from error
    return is_new


def _make(path: Path) -> bool:
    try:
        path.mkdir(parents=True)
    except FileExistsError:  # of several processes, one makes it
        return False
    return True


def _locked(path: Path, wait: bool, name: str) -> IO[str]:
    try:
        file = open(path / _LOCK_FILE, "a", encoding="utf-8")  # noqa: SIM115 - kept open
    except OSError as error:
        raise unusable(path, error, name) from error
    try:
        _lock(file, path, wait, name)
    except OSError as error:
        logging.warning(
            "%s is on a file system without locks (%s): start no second run in it.",
            path,
            error.strerror,
        )
    except BaseException:
        file.close()
        raise
    return file


def _lock(file: IO[str], path: Path, wait: bool, name: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        if not wait:
            raise InputError(
                f"Another run is working in {path}. Wait for it, or choose another {name}."
            ) from error
        sys.stderr.write(f"Another process is working in {path}; waiting for it.\n")
        fcntl.flock(file, fcntl.LOCK_EX)


def _is_in_place(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path / _LOCK_FILE))
    except FileNotFoundError:
        return False
