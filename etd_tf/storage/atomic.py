"""Writing files so that a killed process leaves either the old state or the new one."""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from absl import logging

from etd_tf.errors import InputError
from etd_tf.storage.home import expand

_PARTIAL, _OLD = ".partial-", ".old-"
_FULL = (errno.ENOSPC, errno.EDQUOT)  # no mistake of the user's, and may pass
# What file systems answer that have no such thing (FUSE, mounted buckets, foreign disks).
_UNSUPPORTED = (errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


@contextlib.contextmanager
def atomic_directory(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a scratch directory that becomes `path` when the block ends without error.

    The scratch directory is a hidden sibling, so the final rename stays on one file
    system. On an error it is removed and `path` is as before.

    Args:
        path: The directory to create; its parents are made, `~` stands for the home.
        overwrite: Replace an existing directory. The old one is moved aside first and
            removed only after the new one is in place.

    Yields:
        The scratch directory.

    Raises:
        InputError: `path` exists, is not an empty directory, and `overwrite` is false;
            or it cannot be replaced by a rename, or its parent cannot be written.
    """
    path = _replaceable(path)
    occupied = path.exists() and not _is_empty_directory(path)
    if occupied and not overwrite:
        raise InputError(f"{path} exists already. Choose another directory or pass overwrite=True.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}{_PARTIAL}", dir=path.parent))
    except OSError as error:
        raise InputError(f"Cannot write to {path.parent}: {error.strerror}.") from error
    try:
        yield scratch
        _settle_tree(scratch)
        _swap_in(scratch, path)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _replaceable(path: str | Path) -> Path:
    """The directory behind a name, if a rename can put another one in its place."""
    named = expand(path)
    path = Path(os.path.realpath(named)) if named.is_symlink() else named
    if named.is_symlink() and not path.exists():
        raise InputError(f"{named} is a link to {path}, which does not exist. Make it first.")
    if path.exists() and (os.path.ismount(path) or path.samefile(Path.cwd())):
        kind = "a mount point" if os.path.ismount(path) else "the current directory"
        raise InputError(
            f"{named} is {kind}, which cannot be replaced as a whole. Name a directory inside it."
        )
    return path


def _is_empty_directory(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _swap_in(scratch: Path, path: Path) -> None:
    """Renames `scratch` to `path`, moving what is there out of the way until it is done."""
    if not path.exists() or _is_empty_directory(path):
        os.rename(scratch, path)  # in one step, also over an empty directory
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}{_OLD}", dir=path.parent))
    try:
        os.rename(path, aside / "old")
        os.rename(scratch, path)
    finally:  # whatever happened in between, also an interruption
        _put_back(aside, path)


def _put_back(aside: Path, path: Path) -> None:
    """Puts back what was moved aside where nothing took its place, else removes it."""
    if (aside / "old").exists() and not path.exists():
        os.rename(aside / "old", path)
    shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Ends the atomic writes of a killed process: puts old states back, removes halves.

    Args:
        folder: Where its files and directories were to appear; it need not exist.
    """
    for aside in folder.glob(f".*{_OLD}*"):
        name = aside.name[1:].rpartition(_OLD)[0]
        _put_back(aside, folder / name)
    for half in folder.glob(f".*{_PARTIAL}*"):
        remove_path(half)


def remove_path(path: Path) -> None:
    """Removes a directory with its content, a file or a link; nothing there is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _settle_tree(root: Path) -> None:
    """Puts all files on the disk and lets others read them, whatever their library does."""
    set_mode(root, 0o755)  # temporary directories are their owner's
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            set_mode(path, 0o644)
            with path.open("rb") as file:
                sync(file.fileno())


def sync(descriptor: int) -> None:
    """Puts a file's content on the disk; goes on with a warning where that is not supported."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        message = "The file system has no fsync (%s): a power cut may lose what was just written."
        logging.log_first_n(logging.WARNING, message, 1, error.strerror)


def set_mode(path: Path, mode: int) -> None:
    """Sets who may read a file; goes on with a warning where that is not supported."""
    try:
        path.chmod(mode)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        message = "%s: permissions cannot be set (%s); perhaps only you can read it."
        logging.log_first_n(logging.WARNING, message, 1, path, error.strerror)


def write_atomically(path: str | Path, content: bytes | str) -> None:
    """Writes one file through a temporary sibling and a rename.

    Args:
        path: The file; its directory must exist.
        content: Bytes, or text to be encoded as UTF-8.

    Raises:
        InputError: The directory does not exist or cannot be written.
    """
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        descriptor, scratch = tempfile.mkstemp(prefix=f".{path.name}{_PARTIAL}", dir=path.parent)
    except OSError as error:
        if error.errno in _FULL:
            raise
        raise InputError(
            f"Cannot write {path.name} into {path.parent}: {error.strerror}. Make that directory, "
            "or choose one that you can write to."
        ) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            sync(file.fileno())
        set_mode(Path(scratch), 0o644)
        os.replace(scratch, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(scratch)
        raise


def sha256(path: str | Path) -> str:
    """Returns the hexadecimal SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
