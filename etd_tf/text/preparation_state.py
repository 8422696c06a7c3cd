"""What a preparation has finished, kept on disk so that it can go on after an end."""

import contextlib
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etd_tf.errors import InputError
from etd_tf.storage.atomic import remove_leftovers, write_atomically
from etd_tf.storage.holding import visible_names
from etd_tf.storage.workspace import changes
from etd_tf.text.records import (
    MANIFEST,
    PARTIAL_MANIFEST,
    TRAIN,
    VALIDATION,
    index_path_of,
)
from etd_tf.text.shard_writer import ShardSummary

_OURS = (
    MANIFEST,  # first: without it the rest counts as unfinished
    PARTIAL_MANIFEST,
    *(
        f"{split}-*-of-*.{kind}"
        for split in (TRAIN, VALIDATION)
        for kind in ("tfrecord", "npy", "summary.json")
    ),
)
_SUMMARIES, _ATTEMPTS = "*-of-*.summary.json", ".*-of-*.attempt-*"


def summary_path_of(path: Path) -> Path:
    """The file in which a worker of many leaves a record file's summary."""
    return path.with_suffix(".summary.json")


def attempt_directory(path: Path) -> "tempfile.TemporaryDirectory[str]":
    """Makes a hidden place beside a record file, for one of several tries at it."""
    return tempfile.TemporaryDirectory(prefix=f".{path.stem}.attempt-", dir=path.parent)


class PreparationState:
    """What a preparation has finished, in its output directory.

    Args:
        directory: The output directory.

    Attributes:
        directory: The output directory.
        finished: Summaries of whole files by name.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.finished: dict[str, ShardSummary] = {}
        self._identity: dict[str, Any] = {}
        self._path = directory / PARTIAL_MANIFEST

    def check(self, identity: Mapping[str, Any], *, overwrite: bool) -> None:
        """Learns what an earlier run finished; changes nothing on disk.

        Args:
            identity: What the files' bytes depend on, as JSON values; as much as is known.
            overwrite: Accept another preparation, or finished records.

        Raises:
            InputError: The directory holds something else and `overwrite` is false.
        """
        self._identity, self.finished = dict(identity), {}
        if self.directory.exists() and not self.directory.is_dir():
            raise InputError(f"{self.directory} is a file. Choose another output directory.")
        if not visible_names(self.directory):
            return
        earlier = self._read()
        if not earlier:
            if not overwrite:
                raise self._occupied("exists already")
        elif changed := self._changed(earlier["identity"]):
            if not overwrite:
                raise self._occupied(
                    f"holds an unfinished preparation with other settings: {changed}"
                )
        else:
            found = [*earlier["finished"], *self._left_by_workers()]
            self.finished = {s.name: s for s in found if self._is_whole(s)}

    def _occupied(self, found: str) -> InputError:
        return InputError(
            f"{self.directory} {found}. Choose another directory or pass overwrite=True."
        )

    def begin(self) -> None:
        """Makes the directory, without files of another preparation.

        Raises:
            InputError: The directory cannot be written.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if not self.finished:
                for path in [p for pattern in _OURS for p in self.directory.glob(pattern)]:
                    path.unlink()
            remove_leftovers(self.directory)
            self._write()
        except OSError as error:
            raise InputError(f"Cannot write to {self.directory}: {error.strerror}.") from error

    def add(self, *summaries: ShardSummary) -> None:
        """Records finished files."""
        self.finished |= {summary.name: summary for summary in summaries}
        self._write()

    def _left_by_workers(self) -> list[ShardSummary]:
        found = []
        for path in sorted(self.directory.glob(_SUMMARIES)):
            with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
                found.append(ShardSummary(**json.loads(path.read_text("utf-8"))))
        return found

    def finish(self, facts: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> None:
        """Writes the manifest: the records are complete.

        Args:
            facts: More entries for the manifest.
            names: File names by split.
        """
        shards = {split: [self.finished[name] for name in names[split]] for split in names}
        manifest = {
            **self._identity,
            **facts,
            "examples": {split: sum(s.records for s in shards[split]) for split in shards},
            "tokens": {split: sum(s.tokens for s in shards[split]) for split in shards},
            "shards": {split: list(map(dataclasses.asdict, shards[split])) for split in shards},
        }
        write_atomically(self.directory / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        for path in self.directory.glob(_SUMMARIES):
            path.unlink()
        for path in self.directory.glob(_ATTEMPTS):  # of workers that were killed
            shutil.rmtree(path, ignore_errors=True)
        self._path.unlink()

    def _read(self) -> dict[str, Any] | None:
        try:
            state = json.loads(self._path.read_text("utf-8"))
            finished = [ShardSummary(**values) for values in state["finished"]]
            return {"identity": dict(state["identity"]), "finished": finished}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None  # no preparation of ours that could go on

    def _write(self) -> None:
        state = {
            "identity": self._identity,
            "finished": [dataclasses.asdict(summary) for summary in self.finished.values()],
        }
        write_atomically(self._path, json.dumps(state, indent=2) + "\n")

    def _is_whole(self, summary: ShardSummary) -> bool:
        path = self.directory / str(summary.name)
        try:
            return (
                path.name == summary.name  # in this directory
                and path.is_file()
                and path.stat().st_size == summary.bytes
                and index_path_of(path).is_file()
            )
        except OSError:  # a name that no file can have
            return False

    def _changed(self, earlier: Mapping[str, Any]) -> str:
        """Says in what an earlier identity differs from what is known of this one."""
        old, new = _flat(earlier), _flat(self._identity)
        return changes({name: old.get(name, "") for name in new}, new)


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of an identity by name, with the options among them and short hashes."""
    options = identity.get("options")
    values = {**identity, **(options if isinstance(options, dict) else {}), "options": ""}
    return {name: v[:12] if isinstance(v, str) else v for name, v in values.items()}
