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
from etd_tf.storage.atomic import remove_leftovers
from etd_tf.storage.json_files import read_json_object, write_json
from etd_tf.storage.workspace import Layout, Workspace
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
    *(
        f"{split}-*-of-*.{kind}"
        for split in (TRAIN, VALIDATION)
        for kind in ("tfrecord", "npy", "summary.json")
    ),
)
_READ = frozenset({"corpus", "validation_corpus"})  # of an identity: known once text is read
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
        self._workspace: Workspace  # made by `check`
        self._path = directory / PARTIAL_MANIFEST

    def check(self, identity: Mapping[str, Any], *, overwrite: bool) -> None:
        """Learns what an earlier run finished; changes nothing on disk.

        Args:
            identity: What the files' bytes depend on, as JSON values; as much as is known.
            overwrite: Accept another preparation, or finished records.

        Raises:
            InputError: As for `Workspace.check`.
        """
        self._identity, self.finished = dict(identity), {}
        layout = Layout(
            job="etd_prepare",
            mark=PARTIAL_MANIFEST,
            names=tuple(path.name for kind in _OURS for path in self.directory.glob(kind)),
            finished=MANIFEST,
            free=_READ - identity.keys(),
            record="identity",
        )
        self._workspace = Workspace(layout, self.directory, identity, overwrite)
        self._workspace.check()
        if self._workspace.continues():  # also with `overwrite`
            found = [*self._recorded(), *self._left_by_workers()]
            self.finished = {s.name: s for s in found if self._is_whole(s)}

    def begin(self) -> None:
        """Makes the directory, without files of another preparation."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self.finished:
            self._workspace.clear()
        remove_leftovers(self.directory)
        self._write()

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
        """Writes the manifest, with more facts in it: the records are complete."""
        shards = {split: [self.finished[name] for name in names[split]] for split in names}
        manifest = {
            **self._identity,
            **facts,
            "examples": {split: sum(s.records for s in shards[split]) for split in shards},
            "tokens": {split: sum(s.tokens for s in shards[split]) for split in shards},
            "shards": {split: list(map(dataclasses.asdict, shards[split])) for split in shards},
        }
        write_json(self.directory / MANIFEST, manifest)
        for path in self.directory.glob(_SUMMARIES):
            path.unlink()
        for path in self.directory.glob(_ATTEMPTS):  # of workers that were killed
            shutil.rmtree(path, ignore_errors=True)
        self._path.unlink()

    def _recorded(self) -> list[ShardSummary]:
        with contextlib.suppress(InputError, KeyError, TypeError):
            return [ShardSummary(**values) for values in read_json_object(self._path)["finished"]]
        return []

    def _write(self) -> None:
        state = {
            "identity": self._identity,
            "finished": [dataclasses.asdict(summary) for summary in self.finished.values()],
        }
        write_json(self._path, state)

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
