"""Who does the tasks of a preparation: this process, a pool of its own, or workers elsewhere.

A preparation has two rounds of independent tasks: every source is scanned, then every
record file is written from its share of the corpus. All executors leave the same bytes.
"""

import abc
import contextlib
import dataclasses
import functools
import glob
import itertools
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from etd_tf.errors import InputError
from etd_tf.progress import Tracker, track
from etd_tf.storage.atomic import write_atomically
from etd_tf.text.corpus import Corpus
from etd_tf.text.packing import Packer
from etd_tf.text.plan import Reader, Share, SourceScan, scan_source
from etd_tf.text.preparation_state import attempt_directory, summary_path_of
from etd_tf.text.records import index_path_of
from etd_tf.text.shard_writer import ShardSummary, write_shard
from etd_tf.text.sources import Source
from etd_tf.tokenization.encoding import Encoder, block_encoder
from etd_tf.tokenization.tokenizer import Tokenizer

_BLOCK = 1 << 20  # characters encoded at once
_CHARACTERS_A_WORKER = 8_000_000  # less is not worth starting a process
_LOOK_SECONDS = 1.0

Task: TypeAlias = tuple[Path, Any]
"""A file to make, and what to work on; plain values, as it is sent to a worker."""

Shards: TypeAlias = Sequence[tuple[Path, Share]]
"""Record files, and what goes into them, in corpus order within a split."""

AddScan: TypeAlias = Callable[[SourceScan], None]
"""Takes the scans of sources in their order."""


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
        sequence_length: Tokens an example (T).
        packing: Whether examples are filled with running text.
    """

    tokenizer: Tokenizer
    sequence_length: int
    packing: bool

    def packer(self) -> Packer:
        """Makes what turns ids into rows."""
        return Packer(self.tokenizer, self.sequence_length, self.packing)

    def blocks(self, documents: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
        """Yields about a megabyte of documents: its characters, and the texts to encode."""
        block: list[str] = []
        size = 0
        for document in documents:
            block.append(document)
            size += len(document)
            if size >= _BLOCK:
                yield size, self._texts(block)
                block, size = [], 0
        if block:
            yield size, self._texts(block)

    def _texts(self, block: list[str]) -> list[str]:
        """Each document as a whole, or its lines."""
        return block if self.packing else [line for text in block for line in text.split("\n")]

    def load(self) -> Callable[[tuple[Path, Share]], ShardSummary]:
        """Gives the function that writes a file of some documents."""
        encoder = Encoder(self.tokenizer)

        def write(item: tuple[Path, Share]) -> ShardSummary:
            path, share = item
            encoded = (encoder.encode(texts) for _, texts in self.blocks(share.documents()))
            # Two workers may be at one file at once, if an engine gave one of them up: each has
            # a place of its own, and both move the same bytes to where they belong.
            with attempt_directory(path) as scratch:
                made = Path(scratch) / path.name
                summary = write_shard(made, encoded, packer=self.packer())
                os.replace(index_path_of(made), index_path_of(path))
                os.replace(made, path)
            return summary

        return write


class Executor(abc.ABC):
    """Does the tasks of both rounds."""

    def reachable(self, corpus: Corpus) -> Corpus:
        """Gives a corpus as the workers find it."""
        return corpus

    @abc.abstractmethod
    def scan(self, job: ScanJob, sources: Sequence[Source], add: AddScan) -> None:
        """Scans sources.

        Raises:
            InputError: A source cannot be read as the text it should be.
        """

    @abc.abstractmethod
    def write(self, job: WriteJob, shards: Shards, add: Callable[..., None]) -> None:
        """Writes record files.

        Args:
            job: How.
            shards: The files.
            add: Takes the summaries of files that are there, one or several at once.

        Raises:
            InputError: The text is no longer what was scanned.
        """


@dataclasses.dataclass(frozen=True)
class LocalExecutor(Executor):
    """This process, which reads and writes; others may encode for it.

    The pool works on blocks of text, not on files: so it helps with a single file, too, and
    a gzipped source is unzipped by one process only.

    Attributes:
        workers: Processes that encode, where there is enough text; 1 for this one alone,
            0 for one a core.
    """

    workers: int = 1

    def scan(self, job: ScanJob, sources: Sequence[Source], add: AddScan) -> None:
        """As `Executor.scan`."""
        with track("Reading the corpus", None, "documents") as progress:
            for source in sources:
                add(scan_source(source, job.held_out_fraction, job.seed, progress.advance))

    def write(self, job: WriteJob, shards: Shards, add: Callable[..., None]) -> None:
        """As `Executor.write`; encodes ahead over the ends of files."""
        total = sum(share.num_characters for _, share in shards)
        workers = min(self.workers or os.cpu_count() or 1, 1 + total // _CHARACTERS_A_WORKER)
        reader = Reader()
        with (
            block_encoder(job.tokenizer, workers) as encode,
            track("Preparing records", total // 1000, "kB") as progress,
        ):
            counter = _KiloCounter(progress)
            blocks = (
                ((number, size), texts)
                for number, (_, share) in enumerate(shards)
                for size, texts in job.blocks(share.documents(reader))
            )
            encoded = ((tag, counter.passing(tag[1], block)) for tag, block in encode(blocks))
            for number, group in itertools.groupby(encoded, lambda pair: pair[0][0]):
                content = (block for _, block in group)
                add(write_shard(shards[number][0], content, packer=job.packer()))
            progress.advance(total // 1000 - progress.done)  # of some files it was a guess


class _KiloCounter:
    """Reports thousands of characters without losing the remainders."""

    def __init__(self, progress: Tracker) -> None:
        self._progress, self._characters = progress, 0

    def passing(self, characters: int, block: Any) -> Any:
        """Counts a block on its way."""
        self._characters += characters
        self._progress.advance(self._characters // 1000 - self._progress.done)
        return block


@dataclasses.dataclass(frozen=True)
class SharedFilesExecutor(Executor):
    """Workers that share a file system with this process; no text passes between them.

    Attributes:
        engine: Runs a job on tasks.
        directory: The output directory, at the same place for every worker, as the text.
    """

    engine: Engine
    directory: Path

    def reachable(self, corpus: Corpus) -> Corpus:
        """The same text for workers with another current directory."""
        sources = tuple(source.absolute() for source in corpus.sources)
        return dataclasses.replace(corpus, sources=sources)

    def scan(self, job: ScanJob, sources: Sequence[Source], add: AddScan) -> None:
        """As `Executor.scan`."""
        with _scratch(self.directory.absolute()) as scratch:
            tasks = [(scratch / f"{i:06d}.json", source) for i, source in enumerate(sources)]
            self._run(job, tasks, ("Reading the corpus", "sources"))
            for path, _ in tasks:
                add(SourceScan(**_result(path)))

    def write(self, job: WriteJob, shards: Shards, add: Callable[..., None]) -> None:
        """As `Executor.write`."""
        paths = [path.absolute() for path, _ in shards]
        tasks = [
            (summary_path_of(path), (path, share))
            for path, (_, share) in zip(paths, shards, strict=True)
        ]
        for result, _ in tasks:
            result.unlink(missing_ok=True)  # an error that may have been mended
        self._run(job, tasks, ("Preparing records", "files"))
        add(*(ShardSummary(**_result(result)) for result, _ in tasks))

    def _run(self, job: Job, tasks: Sequence[Task], description: tuple[str, str]) -> None:
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
                self.engine(job, tasks)
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
            "output_dir, and a corpus, on a file system that this machine and all workers "
            "mount at the same place."
        )
    values: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if "error" in values:
        raise InputError(values["error"])
    return values


@contextlib.contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """A directory beside the output that all workers see."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        for killed in directory.parent.glob(f".{glob.escape(directory.name)}.scan-*"):
            shutil.rmtree(killed, ignore_errors=True)  # whoever calls this holds `directory`
        path = tempfile.mkdtemp(prefix=f".{directory.name}.scan-", dir=directory.parent)
    except OSError as error:
        raise InputError(f"Cannot write to {directory.parent}: {error.strerror}.") from error
    try:
        yield Path(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)
