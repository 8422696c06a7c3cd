"""Output directories: made, tried, and held by one process at a time."""

import contextlib
import fcntl
import glob
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from absl import logging

from etd_tf.errors import InputError
from etd_tf.files import write_atomically
from etd_tf.modeling.config import read_json_object

_LOCK_FILE = ".lock"
IDENTITY_FILE = "identity.json"
"""What `keep_identity` writes."""

Inputs = Mapping[str, Iterable[str | Path | None]]
"""What a job reads, by flag: files, directories, globs, other names; None is nothing."""


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


def keep_identity(path: Path, identity: Mapping[str, Any]) -> None:
    """Notes what the names in a job's flags stand for, or checks that it is the same still.

    Args:
        path: The file in the output directory that says it.
        identity: Fingerprints and the like by name, as JSON values.

    Raises:
        InputError: The work was begun with something else, or the file is damaged.
    """
    if not path.exists():
        write_atomically(path, json.dumps(identity, indent=2) + "\n")
        return
    stored = read_json_object(path)
    changed = [name for name, value in identity.items() if stored.get(name) != value]
    if changed:
        raise InputError(
            f"{path.parent} was begun with another {' and another '.join(changed)} than the same "
            "flags name now. Choose another --output_dir, or put back what it was begun with."
        )


def check_spares_inputs(folder: Path, inputs: Inputs) -> None:
    """Checks that overwriting a directory would not delete what the same run reads.

    Args:
        folder: The directory that would be emptied.
        inputs: What the run reads.

    Raises:
        InputError: Some of it is in `folder`.
    """
    for flag, names in inputs.items():
        for name in names:
            if name is not None and any(_is_inside(path, folder) for path in _files(str(name))):
                raise InputError(
                    f"--overwrite would delete --{flag}={name}, which is in --output_dir. Copy it "
                    "elsewhere, or choose another --output_dir."
                )


def check_cache_is_apart(folder: Path, cache_dir: Path) -> None:
    """Checks that what runs share is not kept in the directory of one of them.

    Args:
        folder: The output directory.
        cache_dir: Where prepared corpora are kept.

    Raises:
        InputError: It is.
    """
    if _is_inside(cache_dir, folder):
        raise InputError(
            f"--cache_dir={cache_dir} is in --output_dir={folder}, which is for what one run "
            "makes. Choose a cache outside of it, which later runs can use, too."
        )


def _files(name: str) -> list[Path]:
    """What a name stands for on disk, if anything."""
    name = os.path.expanduser(name)
    found = [name] if os.path.lexists(name) else glob.glob(name, recursive=True)
    # Google's checkpoints are named without the ends of their files.
    return [Path(path) for path in (*found, *glob.glob(f"{glob.escape(name)}.index"))]


def _is_inside(path: Path, folder: Path) -> bool:
    return path.expanduser().resolve().is_relative_to(folder.expanduser().resolve())


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
