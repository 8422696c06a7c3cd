"""Writing files so that a killed process leaves either the old state or the new one."""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from etd_tf.errors import InputError

_PARTIAL, _OLD = ".partial-", ".old-"
_FULL = (errno.ENOSPC, errno.EDQUOT)  # no mistake of the user's, and may pass


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
        raise InputError(f"{path} exists already. Choose another directory or pass --overwrite.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}{_PARTIAL}", dir=path.parent))
    except OSError as error:
        raise InputError(f"Cannot write to {path.parent}: {error.strerror}.") from error
    try:
        yield scratch
        scratch.chmod(0o755)
        _sync_tree(scratch)
        _swap_in(scratch, path)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _replaceable(path: str | Path) -> Path:
    """The directory behind a name, if a rename can put another one in its place."""
    named = Path(path).expanduser()
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
        _settle(aside, path)


def _settle(aside: Path, path: Path) -> None:
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
        _settle(aside, folder / name)
    for half in folder.glob(f".*{_PARTIAL}*"):
        remove_path(half)


def remove_path(path: Path) -> None:
    """Removes a directory with its content, a file or a link; nothing there is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync_tree(root: Path) -> None:
    for folder, _, names in os.walk(root):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                os.fsync(file.fileno())


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
            os.fsync(file.fileno())
        os.chmod(scratch, 0o644)
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
