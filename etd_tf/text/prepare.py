"""Text to sharded TFRecords: streamed, resumable, the same bytes every time, and cached.

One engine: the corpus is scanned, a plan says which documents go into which file, an executor
writes the files that are missing, and a manifest completes them.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etd_tf.errors import InputError
from etd_tf.storage.holding import hold
from etd_tf.storage.home import DEFAULT_CACHE, expand
from etd_tf.text.corpus import Corpus, open_corpus
from etd_tf.text.executors import Executor, LocalExecutor, ScanJob, WriteJob
from etd_tf.text.options import RecordOptions
from etd_tf.text.plan import CorpusScan, Split
from etd_tf.text.preparation_state import PreparationState
from etd_tf.text.record_directories import is_record_path, open_records
from etd_tf.text.records import MANIFEST, VALIDATION, RecordSet
from etd_tf.tokenization.tokenizer import Tokenizer

_FORMAT = 1  # of the files; another one means another cache entry
_SHARD_CHARACTERS = 32_000_000  # of text, unless a number of shards is given


def prepare_records(
    corpus: str | Sequence[str],
    tokenizer: Tokenizer,
    output_dir: str | Path,
    *,
    options: RecordOptions | None = None,
    validation_corpus: str | Sequence[str] | None = None,
    overwrite: bool = False,
    workers: int = 1,
) -> RecordSet:
    """Turns text into TFRecords of equally long examples.

    Memory does not grow with the corpus. The bytes of the files depend only on text,
    tokenizer and options. If the process ends early, the same call goes on after the last
    finished file.

    Args:
        corpus: Text sources, see `open_corpus`.
        tokenizer: The tokenizer.
        output_dir: Directory for the files and `manifest.json`.
        options: Lengths, shards and the held-out share.
        validation_corpus: Text for the validation split; then no document is held out.
        overwrite: Replace finished records, or an unfinished preparation of other text.
        workers: Processes that tokenise, 0 for one a core; the files do not depend on it. A
            script that asks for other than 1 must guard its main part by
            `if __name__ == "__main__":`.

    Raises:
        InputError: The text cannot be read, is empty, or has too few documents to hold
            some out; or `output_dir` holds something else, or another process works in it.
    """
    job = Preparation.open(corpus, tokenizer, options, validation_corpus)
    directory = expand(output_dir)
    with hold(directory):
        return job.run(directory, LocalExecutor(workers), overwrite=overwrite)


def cached_records(
    corpus: str | Sequence[str],
    tokenizer: Tokenizer,
    *,
    options: RecordOptions | None = None,
    validation_corpus: str | Sequence[str] | None = None,
    cache_dir: str | Path = DEFAULT_CACHE,
    workers: int = 1,
) -> RecordSet:
    """Prepares text once and finds the result again later.

    The key is the content of the text, the tokenizer and the options, not file names. Two
    processes may ask at once: one prepares, the other waits for it. The arguments are those of
    `prepare_records`, but that `corpus` may be one directory of records, too, which is opened
    as it is.

    Raises:
        InputError: As `prepare_records` and `open_records`; or the records in `corpus`
            were made with another tokenizer.
    """
    options = options or RecordOptions()
    cache = expand(cache_dir)
    names = [corpus] if isinstance(corpus, str) else list(corpus)
    if any(map(is_record_path, names)):
        if len(names) > 1:
            raise InputError(
                f"Corpus {', '.join(names)} mixes records with something else. Give text only, "
                "or one directory or glob of records."
            )
        check_validation_corpus(names, validation_corpus)
        length = options.sequence_length
        records = open_records(names[0], sequence_length=length, cache_dir=cache)
        records.check_tokenizer(tokenizer.fingerprint())
        return dataclasses.replace(records, vocab_size=tokenizer.vocab_size)
    preparation = Preparation.open(corpus, tokenizer, options, validation_corpus)
    directory = cache / "records" / preparation.cache_key()
    with hold(directory, wait=True, name="cache_dir"):
        if (directory / MANIFEST).is_file():
            with contextlib.suppress(InputError):  # damaged: made again below
                return open_records(directory)
        return preparation.run(directory, LocalExecutor(workers), overwrite=True)


def check_validation_corpus(
    corpus: Sequence[str], validation_corpus: str | Sequence[str] | None
) -> None:
    """Refuses held-out text for records, which have their own.

    Raises:
        InputError: Records and held-out text are both given.
    """
    records = [name for name in corpus if is_record_path(name)]
    if records and validation_corpus:
        raise InputError(
            f"validation_corpus has no effect on the records in {records[0]}, whose validation "
            "split is their own. Leave it out, or give the corpus as text."
        )


@dataclasses.dataclass(frozen=True)
class Preparation:
    """One preparation: what goes in and how.

    Attributes:
        corpus: The text.
        options: Lengths, shards and the held-out share.
        validation: Text for the validation split, or None to hold documents out.
    """

    corpus: Corpus
    tokenizer: Tokenizer
    options: RecordOptions
    validation: Corpus | None = None

    @classmethod
    def open(
        cls,
        corpus: str | Sequence[str],
        tokenizer: Tokenizer,
        options: RecordOptions | None,
        validation_corpus: str | Sequence[str] | None = None,
    ) -> "Preparation":
        """Finds the text of `prepare_records`; reads nothing yet.

        Raises:
            InputError: No file matches.
        """
        validation = open_corpus(validation_corpus) if validation_corpus else None
        return cls(open_corpus(corpus), tokenizer, options or RecordOptions(), validation)

    def cache_key(self) -> str:
        """Names everything that the bytes of the files depend on; reads the text for it."""
        validation = self.validation.content_hash() if self.validation else None
        identity = self._identity(self.corpus.content_hash(), validation)
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]

    def _identity(self, corpus: str, validation: str | None) -> dict[str, Any]:
        """What the bytes of the files depend on, as JSON values."""
        return {**self._settings(), "corpus": corpus, "validation_corpus": validation}

    def _settings(self) -> dict[str, Any]:
        """The part of the identity that is known before the text is read."""
        return {
            "format": _FORMAT,
            "options": dataclasses.asdict(self.options),
            "tokenizer": self.tokenizer.fingerprint(),
        }

    def run(self, directory: Path, executor: Executor, *, overwrite: bool) -> RecordSet:
        """Writes the files, going on where an earlier run ended.

        Args:
            directory: The output directory; the caller holds it.
            executor: Does the work; the files do not depend on it.
            overwrite: Replace finished records, or an unfinished preparation of other text.

        Raises:
            InputError: See `prepare_records`.
        """
        state = PreparationState(directory)
        state.check(self._settings(), overwrite=overwrite)  # before long work
        corpus, validation = self._scan(executor)
        splits = corpus.splits()
        if validation:
            splits += [dataclasses.replace(s, name=VALIDATION) for s in validation.splits()]
        hash_ = validation.content_hash() if validation else None
        state.check(self._identity(corpus.content_hash(), hash_), overwrite=overwrite)
        state.begin()
        names = {split.name: self._shard_names(split) for split in splits}
        shards = [
            (directory / name, share)
            for split in splits
            for name, share in zip(
                names[split.name], split.shares(len(names[split.name])), strict=True
            )
            if name not in state.finished
        ]
        if shards:
            options = self.options
            job = WriteJob(self.tokenizer, options.sequence_length, options.packing)
            executor.write(job, shards, state.add)
        return self._complete(splits, names, state)

    def _scan(self, executor: Executor) -> tuple[CorpusScan, CorpusScan | None]:
        """Reads all text once, so that bad text is found before anything is written."""
        fraction = 0.0 if self.validation else self.options.held_out_fraction
        job = ScanJob(fraction, self.options.seed)
        scans = [
            CorpusScan(executor.reachable(corpus), fraction, self.options.seed)
            for corpus in (self.corpus, self.validation)
            if corpus
        ]
        # The sources of both in one go: workers elsewhere need not wait for each other.
        takers = iter([scan for scan in scans for _ in scan.corpus.sources])
        sources = [source for scan in scans for source in scan.corpus.sources]
        executor.scan(job, sources, lambda found: next(takers).add(found))
        return scans[0], (scans[1] if self.validation else None)

    def _shard_names(self, split: Split) -> list[str]:
        """Names of a split's files, in order."""
        wanted = -(-split.num_characters // _SHARD_CHARACTERS)
        if self.options.num_shards and split.name != VALIDATION:
            wanted = self.options.num_shards
        count = min(wanted, split.num_documents)
        return [f"{split.name}-{i:05d}-of-{count:05d}.tfrecord" for i in range(count)]

    def _complete(
        self, splits: Sequence[Split], names: Mapping[str, Sequence[str]], state: PreparationState
    ) -> RecordSet:
        """Writes the manifest of files that are all there."""
        for split in splits:
            if not sum(state.finished[name].records for name in names[split.name]):
                raise InputError(
                    f"The {split.name} split of corpus {self.corpus.description} gives no token. "
                    "Check that the tokenizer fits the text."
                )
        facts = {
            "description": self.corpus.description,
            "documents": {split.name: split.num_documents for split in splits},
        }
        state.finish(facts, names)
        return open_records(state.directory)
