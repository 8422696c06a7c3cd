"""The directory of one run: one owner at a time, resumed when unfinished, never lost."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from etd_tf.errors import InputError
from etd_tf.files import write_atomically

FLAGS_FILE = "flags.txt"
FINISHED_FILE = "report.json"  # the last file a run writes
_LOCK_FILE = ".lock"
_CONTENT = (
    FLAGS_FILE,
    FINISHED_FILE,
    "report.html",
    "plan.json",
    "scores.npz",
    "metrics.jsonl",
    "tensorboard",
    "checkpoints",
    "student",
    "saved_model",
    "exports",
)

# Flags that may differ between an interrupted run and the one that continues it.
FREE_FLAGS = frozenset(
    {
        "overwrite",
        "output_dir",
        "cache_dir",
        "checkpoint_every",
        "keep_checkpoints",
        "log_every",
        "steps_per_call",
        "dry_run",
    }
)


@contextlib.contextmanager
def open_run_directory(
    path: str | Path,
    settings: Mapping[str, str],
    *,
    overwrite: bool = False,
    worker: int = 0,
) -> Iterator[Path]:
    """Takes hold of a run directory, for a new run or to continue an unfinished one.

    Of several worker processes only the first one (the chief) owns the directory; the
    others get a scratch folder inside it that is theirs alone.

    Args:
        path: The directory; made if missing.
        settings: Flag values by name, written to `flags.txt` for a new run and compared
            with it for an unfinished one.
        overwrite: Remove what an earlier run left. Other files in the directory stay.
        worker: Index of this worker process.

    Yields:
        The directory that this process may write to.

    Raises:
        InputError: It holds a finished run, or an unfinished one with other settings, and
            `overwrite` is false; it holds something that is no run; another process works
            in it; or it cannot be written.
    """
    path = Path(path).expanduser()
    if worker > 0:
        scratch = path / f".worker-{worker}"
        scratch.mkdir(parents=True, exist_ok=True)
        yield scratch
        return
    _make(path)
    with _locked(path):
        if overwrite:
            _clear(path)
        _check_unfinished(path, settings)
        if not (path / FLAGS_FILE).exists():
            text = "".join(f"--{name}={value}\n" for name, value in sorted(settings.items()))
            write_atomically(path / FLAGS_FILE, text)
        yield path


def _make(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise InputError(f"--output_dir={path} is a file; choose a directory.")
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"--output_dir={path} cannot be written ({error.strerror}). Choose another directory."
        ) from error
    foreign = [entry.name for entry in path.iterdir() if not entry.name.startswith(".")]
    if foreign and not any(name in _CONTENT for name in foreign):
        raise InputError(
            f"--output_dir={path} holds other files ({', '.join(sorted(foreign)[:3])}). Choose an "
            "empty or new directory."
        )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    # The kernel drops the lock with the process, so a killed run never blocks the next.
    with open(path / _LOCK_FILE, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"Another run is working in {path}. Wait for it, or choose another --output_dir."
            ) from error
        yield


def _clear(path: Path) -> None:
    for name in _CONTENT:
        target = path / name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)


def _check_unfinished(path: Path, settings: Mapping[str, str]) -> None:
    if (path / FINISHED_FILE).exists():
        raise InputError(
            f"{path} holds a finished run. Choose another --output_dir, or pass --overwrite to "
            "replace it."
        )
    if not (path / FLAGS_FILE).exists():
        return
    stored = _read_flags(path / FLAGS_FILE)
    changed = [
        f"--{name} was {stored.get(name, '')!r} and is now {settings.get(name, '')!r}"
        for name in sorted({*stored, *settings} - FREE_FLAGS)
        if stored.get(name, "") != settings.get(name, "")
    ]
    if changed:
        raise InputError(
            f"{path} holds an unfinished run with other settings: {'; '.join(changed)}. Use the "
            f"same flags to continue it (--flagfile={path / FLAGS_FILE}), or --overwrite."
        )


def _read_flags(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.removeprefix("--").partition("=") for line in lines if line.startswith("--"))
    return {name: value for name, _, value in pairs}
