"""The directory of a job: begun, continued or refused, by one protocol for all jobs.

A job says with a `Layout` what its runs make. A `Workspace` is one such directory, with the
settings of the run that wants it:

    with Workspace(LAYOUT, path, settings).open() as workspace:  # held; nothing is changed
        ...  # load and check what the run reads
        workspace.begin(identity)  # from here on it is this run's
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from etd_tf.errors import InputError
from etd_tf.storage.atomic import remove_leftovers, remove_path, write_atomically
from etd_tf.storage.holding import hold, unusable, visible_names
from etd_tf.storage.json_files import read_json_object

IDENTITY_FILE = "identity.json"
_TIMING_FILE = "timing.json"
_CONTINUED = "the same flags continue it while it is unfinished"
_FORMAT = 2  # of the identity; earlier versions of etd_tf did not number it
# A network file system may show another machine's new files late, by default up to a minute.
_VISIBLE_SECONDS = 90.0
# What a damaged JSON file with numbers raises.
_UNREADABLE = (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the runs of a job make in their directory.

    Attributes:
        job: Name of the job, e.g. `"etd_distill"`.
        mark: File with the settings, a flagfile (`.txt`) or JSON. It is written first and
            removed last: a directory without it is none of this job's.
        names: What else runs make, in the order in which it is removed.
        finished: File or directory that a run writes last; empty where a run never ends,
            because more can be added to it at any time.
        folders: Folders of the directory in which files are written atomically.
        free: Settings that may differ when an unfinished run goes on.
        record: Of a job that writes the mark itself, as a JSON record of what is done: the
            entry that holds the settings. The run is finished when `finished` is there and
            the record is not; without such a file when the record's entry `finished` is
            true, and then other files may be beside what the job makes.
    """

    job: str
    mark: str
    names: tuple[str, ...] = ()
    finished: str = ""
    folders: tuple[str, ...] = ()
    free: frozenset[str] = frozenset()
    record: str = ""

    @property
    def ends(self) -> bool:
        """Whether a run can be finished."""
        return bool(self.record or self.finished)

    @property
    def head(self) -> str:
        """The first line of a flagfile: one without it was written by somebody else."""
        return f"# Flags of one run of {self.job}; {_CONTINUED}.\n"


@dataclasses.dataclass(frozen=True)
class Workspace:
    """The directory of one run.

    Attributes:
        layout: What runs of this job make.
        path: The directory.
        settings: Settings by name, as JSON values (in a flagfile: texts); kept in the mark
            file, and compared with it.
        overwrite: Remove what an earlier run made.
        is_chief: Whether this process writes; others only read what their chief writes.
    """

    layout: Layout
    path: Path
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    overwrite: bool = False
    is_chief: bool = True

    def check(self) -> None:
        """Checks that the run may use the directory; changes nothing.

        Raises:
            InputError: It holds a finished run, or an unfinished one with other settings,
                and `overwrite` is false; or it holds something that is no run of this job.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"output_dir={self.path} is a file; choose a directory.")
        try:
            found = visible_names(self.path)
        except OSError as error:
            raise unusable(self.path, error, "output_dir", "read") from error
        if not found:
            return
        if not self._is_ours(found):
            self._refuse_foreign(found)
        elif not self.overwrite:
            self._check_unfinished()

    def _refuse_foreign(self, found: Sequence[str]) -> None:
        layout = self.layout
        if layout.record and not layout.finished:
            return
        raise InputError(
            f"output_dir={self.path} holds files that no run of {layout.job} made "
            f"({', '.join(found[:3])}). Choose an empty or new directory."
        )

    def _of_earlier_version(self) -> InputError:
        return InputError(
            f"The run in {self.path} was begun by an earlier version of etd_tf. Finish it with "
            "that version, choose another output_dir, or pass overwrite=True to start again."
        )

    def _check_unfinished(self) -> None:
        layout = self.layout
        if self._is_finished():
            raise InputError(
                f"{self.path} holds a finished run. Choose another output_dir, or pass "
                "overwrite=True to replace it."
            )
        changed = changes(self._stored_settings(), self.settings, layout.free)
        if changed:
            kind, again = "a run", ""
            if layout.ends:
                kind, again = "an unfinished run", ", or pass overwrite=True to start again"
            raise InputError(
                f"{self.path} holds {kind} of {layout.job} with other settings: {changed}. Go on "
                f"with its own, which are in {self.path / layout.mark}, choose another "
                f"output_dir{again}."
            )

    def continues(self) -> bool:
        """Whether the directory holds an unfinished run with the same settings.

        Raises:
            InputError: Its settings cannot be read, and `overwrite` is false.
        """
        if not self._is_ours(visible_names(self.path)):
            return False
        try:
            if self._is_finished():
                return False
            return not changes(self._stored_settings(), self.settings, self.layout.free)
        except InputError:  # damaged
            if not self.overwrite:
                raise
            return False

    @contextlib.contextmanager
    def open(self) -> Iterator["Workspace"]:
        """Takes hold of the directory, for a new run or to go on with an unfinished one.

        Of several worker processes only the chief owns the directory.

        Yields:
            This workspace; call `begin` when the work is known to be possible. A directory
            that is new then and in which nothing was begun is removed again.

        Raises:
            InputError: As for `check`; or another process works in the directory, or it
                cannot be written.
        """
        self.check()
        if not self.is_chief:
            yield self
            return
        with hold(self.path):
            self.check()  # again, now that nobody else can change it
            yield self

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Starts the run, or goes on with it; before this nothing of an old one is touched.

        Args:
            identity: What tells the things that the settings name from others of the same
                names: fingerprints and the like, as JSON values by name.

        Raises:
            InputError: The run was begun with another identity; or this is not the chief, and
                what the chief began is not to be seen.
        """
        if not self.is_chief:
            self._find_run()
            return
        layout = self.layout
        if self.overwrite:
            self.clear()
        for folder in (self.path, *(self.path / name for name in layout.folders)):
            remove_leftovers(folder)
        if not layout.finished or not (self.path / layout.mark).exists():
            self._write_mark()
        self._keep_identity(identity)

    def clear(self) -> None:
        """Removes what runs made; other files stay."""
        layout = self.layout
        for name in (*layout.names, IDENTITY_FILE, _TIMING_FILE, layout.mark):
            remove_path(self.path / name)

    def _find_run(self) -> None:
        deadline = time.monotonic() + _VISIBLE_SECONDS
        while not self._is_ours(visible_names(self.path)):
            if time.monotonic() > deadline:
                raise InputError(
                    f"The first worker has begun its run, but this one does not see it in "
                    f"output_dir={self.path}. Give all workers one directory on a file system "
                    "that they share."
                )
            time.sleep(0.5)

    def _is_ours(self, found: Sequence[str]) -> bool:
        mark, layout = self.path / self.layout.mark, self.layout
        if mark.suffix != ".txt":
            return mark.exists() or (bool(layout.record) and layout.finished in found)
        try:
            with open(mark, encoding="utf-8", errors="replace") as file:
                first = file.readline()
        except OSError:
            return False
        # Extractions of earlier versions have no head, and nothing but what they made.
        return first == layout.head or (
            layout.finished in found and {*found} <= {*layout.names, layout.mark}
        )

    def _is_finished(self) -> bool:
        layout, mark = self.layout, self.path / self.layout.mark
        if layout.record and mark.exists():
            return read_json_object(mark).get("finished") is True
        return bool(layout.finished) and (self.path / layout.finished).exists()

    def _stored_settings(self) -> dict[str, Any]:
        mark = self.path / self.layout.mark
        if mark.suffix != ".txt":
            values = read_json_object(mark)
            settings = values.get(self.layout.record) if self.layout.record else values
            return settings if isinstance(settings, dict) else {}
        lines = mark.read_text(encoding="utf-8", errors="replace").splitlines()
        pairs = (line.removeprefix("--").partition("=") for line in lines if line[:2] == "--")
        return {name: value for name, _, value in pairs}

    def _write_mark(self) -> None:
        layout = self.layout
        if layout.mark.endswith(".txt"):
            lines = [f"--{name}={value}\n" for name, value in sorted(self.settings.items())]
            text = layout.head + "".join(lines)
        else:
            fixed = {k: value for k, value in self.settings.items() if k not in layout.free}
            text = json.dumps(fixed, indent=2) + "\n"
        write_atomically(self.path / layout.mark, text)

    def _keep_identity(self, identity: Mapping[str, Any]) -> None:
        path = self.path / IDENTITY_FILE
        text = json.dumps({"format": _FORMAT, **identity}, indent=2) + "\n"
        if not path.exists():
            write_atomically(path, text)
            return
        stored, now = read_json_object(path), json.loads(text)
        changed = [name for name in identity if stored.get(name) != now[name]]
        if changed and stored.get("format") != _FORMAT:  # a fingerprint may be made otherwise
            raise self._of_earlier_version()
        if changed:
            raise InputError(
                f"{self.path} was begun with another {' and another '.join(changed)} than the same "
                "settings name now. Choose another output_dir, or put back what it was begun with."
            )

    def keep_seconds(self, stage: str, seconds: float) -> float:
        """Remembers over interruptions how long a stage took.

        Args:
            stage: The stage's name.
            seconds: Its time just now; 0 where an earlier sitting did it.

        Returns:
            The time of the sitting that did it.
        """
        path = self.path / _TIMING_FILE
        known: dict[str, float] = {}
        with contextlib.suppress(*_UNREADABLE):
            values = json.loads(path.read_text(encoding="utf-8"))
            known = {name: float(value) for name, value in values.items()}
        if seconds > 0 and self.is_chief:
            known[stage] = seconds
            write_atomically(path, json.dumps(known) + "\n")
        return known.get(stage, 0.0)


def changes(
    stored: Mapping[str, Any], settings: Mapping[str, Any], free: frozenset[str] = frozenset()
) -> str:
    """Says which settings differ from those that work was begun with.

    Args:
        stored: Settings by name, as they were.
        settings: Settings by name, as they are; one that is left out is empty, and a
            mapping among them counts by its own names.
        free: Settings that may differ.

    Returns:
        The differences; empty where there are none.
    """
    stored, settings = _spread(stored, free), _spread(settings, free)
    return "; ".join(
        f"{name} was {stored.get(name, '')!r} and is now {settings.get(name, '')!r}"
        for name in sorted({*stored, *settings})
        if stored.get(name, "") != settings.get(name, "")
    )


def _spread(settings: Mapping[str, Any], free: frozenset[str]) -> dict[str, Any]:
    kept = [(name, value) for name, value in settings.items() if name not in free]
    inner = [item for _, value in kept if isinstance(value, Mapping) for item in value.items()]
    return dict([item for item in kept if not isinstance(item[1], Mapping)] + inner)
