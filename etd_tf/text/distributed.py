"""Preparation as independent tasks for workers that share a file system with this process.

Two rounds: every source is scanned, then every record file is written by the worker that
gets it, from the part of the corpus that its documents lie in. No text passes between
workers. An engine only has to run a job on every task, at least once each.
"""

import abc
import contextlib
import dataclasses
import functools
import itertools
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from etd_tf.errors import InputError
from etd_tf.progress import track
from etd_tf.storage.atomic import write_atomically
from etd_tf.text.journal import Journal, attempt_directory, summary_path_of
from etd_tf.text.options import RecordOptions
from etd_tf.text.packing import Packer
from etd_tf.text.preparation import Preparation, grouped, texts_of
from etd_tf.text.records import RecordSet, index_path_of
from etd_tf.text.scanning import ScannedCorpus, Share, SourceScan, scan_source, shares
from etd_tf.text.shard_writer import ShardSummary, write_shard
from etd_tf.text.sources import JsonLines, Source, TextFile
from etd_tf.text.splitting import Split
from etd_tf.tokenization.encoding import Encoder
from etd_tf.tokenization.tokenizer import Tokenizer

_LOOK_SECONDS = 1.0

Task: TypeAlias = tuple[Path, Any]
"""A file for the result, and what to work on; plain values, as it is sent to a worker."""


class Job(abc.ABC):
    """Work on tasks of one kind; it is sent to workers, so it holds plain values only."""

    @abc.abstractmethod
    def load(self) -> Callable[[Any], Any]:
        """Gives the function from what a task holds to a dataclass of JSON values."""

    def start(self) -> Callable[[Task], None]:
        """Called once in a worker: gives the function that does a task."""
        return functools.partial(_perform, self.load())


Engine: TypeAlias = Callable[[Job, Sequence[Task]], None]
"""Runs a job on every task, maybe twice and maybe at once, and returns when all are done."""


def _perform(work: Callable[[Any], Any], task: Task) -> None:
    result, item = task
    if not result.parent.is_dir():
        return  # another file system than the driver's, which misses the result and says so
    try:
        values = dataclasses.asdict(work(item))
    except InputError as error:  # as a result: engines would try again, then wrap it
        values = {"error": str(error)}
    write_atomically(result, json.dumps(values))


@dataclasses.dataclass(frozen=True)
class ScanJob(Job):
    """Scans sources.

    Attributes:
        held_out_fraction: Share of the characters held out.
        seed: Seed of that choice.
    """

    held_out_fraction: float
    seed: int

    def load(self) -> Callable[[Source], SourceScan]:
        """Gives the function that scans a source."""
        return functools.partial(
            scan_source, held_out_fraction=self.held_out_fraction, seed=self.seed
        )


@dataclasses.dataclass(frozen=True)
class WriteJob(Job):
    """Writes record files.

    Attributes:
        tokenizer_files: Of the tokenizer.
        options: Lengths and packing.
    """

    tokenizer_files: dict[str, bytes]
    options: RecordOptions

    def load(self) -> Callable[[tuple[Path, Share]], ShardSummary]:
        """Loads the tokenizer and gives the function that writes a file of some documents."""
        tokenizer = Tokenizer(self.tokenizer_files)
        encoder = Encoder(tokenizer)

        def write(item: tuple[Path, Share]) -> ShardSummary:
            path, share = item
            packer = Packer(tokenizer, self.options.sequence_length, self.options.packing)
            blocks = grouped(share.documents())
            encoded = (encoder.encode(texts_of(block, self.options)) for block in blocks)
            # Two workers may be at one file at once, if an engine gave one of them up: each has
            # a place of its own, and both move the same bytes to where they belong.
            with attempt_directory(path) as scratch:
                made = Path(scratch) / path.name
                summary = write_shard(made, encoded, packer=packer)
                os.replace(index_path_of(made), index_path_of(path))
                os.replace(made, path)
            return summary

        return write


def _run(engine: Engine, job: Job, tasks: Sequence[Task], description: tuple[str, str]) -> None:
    """Runs tasks, counting results as they appear; `description` has the unit, too."""
    results, ended = [path for path, _ in tasks], threading.Event()
    with track(description[0], len(results), description[1]) as progress:

        def count() -> None:
            progress.advance(sum(path.exists() for path in results) - progress.done)

        def watch() -> None:
            while not ended.wait(_LOOK_SECONDS):
                count()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            engine(job, tasks)
        finally:
            ended.set()
            watcher.join()
        count()


def _result(path: Path) -> dict[str, Any]:
    """Reads what a task left.

    Raises:
        InputError: An error of the input, or nothing.
    """
    if not path.exists():
        raise InputError(
            f"The workers ended well, but what they made is not in {path.parent}. Give an "
            "--output_dir, and a --corpus, on a file system that this machine and all workers "
            "mount at the same place."
        )
    values: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if "error" in values:
        raise InputError(values["error"])
    return values


def run_distributed(
    preparation: Preparation, directory: Path, engine: Engine, *, overwrite: bool
) -> RecordSet:
    """Prepares records on the workers of an engine.

    The files are those of `Preparation.run`, byte by byte; and either one goes on where the
    other ended.

    Args:
        preparation: What goes in and how; `workers` is not used.
        directory: The output directory, at the same place for every worker, as the text.
        engine: Runs the tasks.
        overwrite: Replace finished records, or an unfinished preparation of other text.

    Returns:
        The records.

    Raises:
        InputError: As `prepare_records`; or workers do not see the same files.
    """
    directory = directory.absolute()
    Journal(directory, {}).check_place(overwrite=overwrite)
    preparation = _scanned(preparation, directory, engine)
    journal = Journal(directory, preparation.identity())
    journal.check_directory(overwrite=overwrite)
    splits = preparation.splits()
    journal.begin()
    tasks = list(_tasks(preparation, splits, journal))
    for result, _ in tasks:
        result.unlink(missing_ok=True)  # an error that may have been mended
    if tasks:
        job = WriteJob(preparation.tokenizer.files, preparation.options)
        _run(engine, job, tasks, ("Preparing records", "files"))
    journal.add(*(ShardSummary(**_result(result)) for result, _ in tasks))
    return preparation.complete(splits, journal)


def _scanned(preparation: Preparation, directory: Path, engine: Engine) -> Preparation:
    """Scans all text; gives the preparation of what was found."""
    corpora = [preparation.corpus, *filter(None, [preparation.validation])]
    sources = [_absolute(source) for corpus in corpora for source in corpus.sources]
    job = ScanJob(preparation.held_out_fraction, preparation.options.seed)
    with _scratch(directory) as scratch:
        tasks = [(scratch / f"{i:06d}.json", source) for i, source in enumerate(sources)]
        _run(engine, job, tasks, ("Reading the corpus", "sources"))
        scans = iter([SourceScan(**_result(path)) for path, _ in tasks])
    pairs = zip(sources, scans, strict=True)
    scanned = []
    for corpus in corpora:
        theirs, found = zip(*itertools.islice(pairs, len(corpus.sources)), strict=True)
        scanned.append(ScannedCorpus(theirs, corpus.description, found))
    validation = scanned[1] if preparation.validation else None
    return dataclasses.replace(preparation, corpus=scanned[0], validation=validation)


def _absolute(source: Source) -> Source:
    """The same source for workers with another current directory."""
    if isinstance(source, TextFile | JsonLines):
        return dataclasses.replace(source, path=source.path.absolute())
    return source


@contextlib.contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """A directory beside the output that all workers see."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        path = tempfile.mkdtemp(prefix=f".{directory.name}.scan-", dir=directory.parent)
    except OSError as error:
        raise InputError(f"Cannot write to {directory.parent}: {error.strerror}.") from error
    try:
        yield Path(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _tasks(preparation: Preparation, splits: Sequence[Split], journal: Journal) -> Iterator[Task]:
    """Yields the files that are not there yet."""
    for split in splits:
        names = preparation.shard_names(split)
        for name, share in zip(names, shares(split, len(names)), strict=True):
            if name not in journal.finished:
                path = journal.directory / name
                yield summary_path_of(path), (path, share)
