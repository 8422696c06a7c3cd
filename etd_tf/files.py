"""Writing files so that a killed process leaves either the old state or the new one."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from etd_tf.errors import InputError


@contextlib.contextmanager
def atomic_directory(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a scratch directory that becomes `path` when the block ends without error.

    The scratch directory is a hidden sibling, so the final rename stays on one file
    system. On an error it is removed and `path` is as before.

    Args:
        path: The directory to create; its parents are made.
        overwrite: Replace an existing directory. The old one is moved aside first and
            removed only after the new one is in place.

    Yields:
        The scratch directory.

    Raises:
        InputError: `path` exists, is not an empty directory, and `overwrite` is false;
            or its parent cannot be written.
    """
    path = Path(path)
    occupied = path.exists() and not (path.is_dir() and not any(path.iterdir()))
    if occupied and not overwrite:
        raise InputError(f"{path} exists already. Choose another directory or pass --overwrite.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
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


def _swap_in(scratch: Path, path: Path) -> None:
    """Renames `scratch` to `path`, moving whatever is there out of the way first."""
    if not path.exists():
        os.rename(scratch, path)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.old-", dir=path.parent))
    os.rename(path, aside / "old")
    try:
        os.rename(scratch, path)
    except OSError:
        os.rename(aside / "old", path)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


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
        descriptor, scratch = tempfile.mkstemp(prefix=f".{path.name}.partial-", dir=path.parent)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
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
