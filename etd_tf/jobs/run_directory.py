"""The directory of one run: one owner at a time, resumed when unfinished, never lost."""

import contextlib
import dataclasses
import functools
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from etd_tf.errors import InputError
from etd_tf.jobs.safeguards import IDENTITY_FILE, changed_flags, keep_identity
from etd_tf.storage.atomic import remove_leftovers, remove_path, write_atomically
from etd_tf.storage.holding import check_directory, check_is_directory, open_directory
from etd_tf.training.options import FREE_OPTIONS

FLAGS_FILE = "flags.txt"
FINISHED_FILE = "report.json"  # the last file a run writes
# The first line of flags.txt: a directory without it is none of ours.
_MARK = "# Flags of one run of etd_distill; the same flags continue it while it is unfinished.\n"
# A network file system may show another machine's new files late, by default up to a minute.
_VISIBLE_SECONDS = 90.0
_TIMING_FILE = "timing.json"
_CONTENT = (
    FINISHED_FILE,
    "report.html",
    "plan.json",
    "scores.npz",
    "compensated",
    _TIMING_FILE,
    IDENTITY_FILE,
    "metrics.jsonl",
    "tensorboard",
    "checkpoints",
    "student",
    "saved_model",
    "exports",
    FLAGS_FILE,  # last: what is left after an interrupted removal is still known as a run
)
# What a damaged JSON file with numbers raises.
_UNREADABLE = (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)
# Flags that may differ between an interrupted run and the one that continues it.
FREE_FLAGS = frozenset({"output_dir", "cache_dir", *FREE_OPTIONS})


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """A directory that this process holds, or one that its chief does.

    Attributes:
        path: Where it is.
        settings: Flag values by name.
        overwrite: Remove what an earlier run left.
        is_chief: Whether this process writes to it.
    """

    path: Path
    settings: Mapping[str, str]
    overwrite: bool = False
    is_chief: bool = True

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Starts the run, or goes on with it; before this nothing of an old one is touched.

        Args:
            identity: What the names in the flags stand for, see `keep_identity`.

        Raises:
            InputError: The run was begun with another identity; or this is not the chief, and
                what the chief began is not to be seen.
        """
        if not self.is_chief:
            self._find_run()
            return
        if self.overwrite:
            for name in _CONTENT:
                remove_path(self.path / name)
        for folder in (self.path, self.path / "checkpoints", self.path / "exports"):
            remove_leftovers(folder)
        if not (self.path / FLAGS_FILE).exists():
            lines = [f"--{name}={value}\n" for name, value in sorted(self.settings.items())]
            write_atomically(self.path / FLAGS_FILE, _MARK + "".join(lines))
        keep_identity(self.path, identity)

    def _find_run(self) -> None:
        deadline = time.monotonic() + _VISIBLE_SECONDS
        while not _holds_run(self.path):
            if time.monotonic() > deadline:
                raise InputError(
                    f"The first worker has begun its run, but this one does not see it in "
                    f"--output_dir={self.path}. Give all workers one directory on a file system "
                    "that they share."
                )
            time.sleep(0.5)

    def keep_seconds(self, name: str, seconds: float) -> float:
        """Remembers over interruptions how long a stage took.

        Args:
            name: The stage.
            seconds: Its time just now; 0 where an earlier sitting did it.

        Returns:
            The time of the sitting that did it.
        """
        path = self.path / _TIMING_FILE
        known: dict[str, float] = {}
        with contextlib.suppress(*_UNREADABLE):
            values = json.loads(path.read_text(encoding="utf-8"))
            known = {stage: float(value) for stage, value in values.items()}
        if seconds > 0 and self.is_chief:
            known[name] = seconds
            write_atomically(path, json.dumps(known) + "\n")
        return known.get(name, 0.0)


def check_run_directory(
    path: str | Path, settings: Mapping[str, str], *, overwrite: bool = False
) -> None:
    """Checks that a run may use a directory; changes nothing.

    Args:
        path: The directory; it need not exist.
        settings: Flag values by name, compared with those of an unfinished run.
        overwrite: An earlier run there may be replaced.

    Raises:
        InputError: It holds a finished run, or an unfinished one with other settings, and
            `overwrite` is false; or it holds something that is no run.
    """
    path = Path(path).expanduser()
    check_is_directory(path)
    if not path.exists():
        return
    found = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    if not found:
        return
    if not _holds_run(path):
        raise InputError(
            f"--output_dir={path} holds files that no run of etd_distill made "
            f"({', '.join(found[:3])}). Choose an empty or new directory."
        )
    if overwrite:
        return
    if (path / FINISHED_FILE).exists():
        raise InputError(
            f"{path} holds a finished run. Choose another --output_dir, or pass --overwrite to "
            "replace it."
        )
    _check_settings(path / FLAGS_FILE, settings)


@contextlib.contextmanager
def open_run_directory(
    path: str | Path,
    settings: Mapping[str, str],
    *,
    overwrite: bool = False,
    is_chief: bool = True,
) -> Iterator[RunDirectory]:
    """Takes hold of a run directory, for a new run or to continue an unfinished one.

    Of several worker processes only the first one (the chief) owns the directory; the
    others read what it writes.

    Args:
        path: The directory; the chief makes it if it is missing.
        settings: Flag values by name, written to `flags.txt` for a new run and compared
            with it for an unfinished one.
        overwrite: Let `begin` remove what an earlier run left. Other files stay.
        is_chief: Whether this process is the only one or the chief.

    Yields:
        The directory; call `begin` when the work is known to be possible.

    Raises:
        InputError: As for `check_run_directory`; or another process works in it, or it
            cannot be written.
    """
    path = Path(path).expanduser()
    check = functools.partial(check_run_directory, path, settings, overwrite=overwrite)
    if is_chief:
        with open_directory(path, check):
            yield RunDirectory(path, settings, overwrite)
    else:
        check_directory(path, check)
        yield RunDirectory(path, settings, overwrite, is_chief=False)


def _holds_run(path: Path) -> bool:
    try:
        with open(path / FLAGS_FILE, encoding="utf-8", errors="replace") as file:
            return file.readline() == _MARK
    except OSError:
        return False


def _check_settings(path: Path, settings: Mapping[str, str]) -> None:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = (line.removeprefix("--").partition("=") for line in lines if line.startswith("--"))
    stored = {name: value for name, _, value in pairs}
    if changed := changed_flags(stored, settings, FREE_FLAGS):
        raise InputError(
            f"{path.parent} holds an unfinished run with other settings: {changed}. "
            f"Continue it with its own (--flagfile={path}), choose another --output_dir, or pass "
            "--overwrite to start again."
        )
