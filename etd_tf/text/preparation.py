"""One preparation: which documents go where, file by file."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from etd_tf.errors import InputError
from etd_tf.progress import Tracker, track
from etd_tf.text.corpus import Corpus, open_corpus
from etd_tf.text.encoding_pool import BlockEncoder, block_encoder
from etd_tf.text.journal import Journal
from etd_tf.text.opening import open_records
from etd_tf.text.options import RecordOptions
from etd_tf.text.packing import Packer
from etd_tf.text.records import VALIDATION, RecordSet
from etd_tf.text.shard_writer import write_shard
from etd_tf.text.splitting import Split, split_documents
from etd_tf.tokenization.encoding import Encoded
from etd_tf.tokenization.tokenizer import Tokenizer

_FORMAT = 1  # of the files; another one means another cache entry
_SHARD_CHARACTERS = 32_000_000  # of text, unless a number of shards is given
_BLOCK = 1 << 20  # characters encoded at once
_CHARACTERS_A_WORKER = 8_000_000  # less is not worth starting a process


@dataclasses.dataclass(frozen=True)
class Preparation:
    """One preparation: what goes in and how.

    Attributes:
        corpus: The text.
        tokenizer: The tokenizer.
        options: Lengths, shards and the held-out share.
        validation: Text for the validation split, or None to hold documents out.
        workers: Processes that tokenise.
    """

    corpus: Corpus
    tokenizer: Tokenizer
    options: RecordOptions
    validation: Corpus | None = None
    workers: int = 1

    @classmethod
    def open(
        cls,
        corpus: str | Sequence[str],
        tokenizer: Tokenizer,
        options: RecordOptions | None,
        *,
        validation_corpus: str | Sequence[str] | None = None,
        workers: int = 1,
    ) -> "Preparation":
        """Finds the text; reads nothing yet.

        Args:
            corpus: See `open_corpus`.
            tokenizer: The tokenizer.
            options: Lengths, shards and the held-out share; None for the usual ones.
            validation_corpus: Text for the validation split, if any.
            workers: Processes that tokenise.

        Returns:
            The preparation.

        Raises:
            InputError: No file matches.
        """
        validation = open_corpus(validation_corpus) if validation_corpus else None
        options = options or RecordOptions()
        return cls(open_corpus(corpus), tokenizer, options, validation, workers)

    def identity(self) -> dict[str, Any]:
        """Everything that the bytes of the files depend on, as JSON values."""
        return {
            "format": _FORMAT,
            "options": dataclasses.asdict(self.options),
            "tokenizer": self.tokenizer.fingerprint(),
            "corpus": self.corpus.content_hash(),
            "validation_corpus": self.validation.content_hash() if self.validation else None,
        }

    def run(self, directory: Path, *, overwrite: bool) -> RecordSet:
        """Writes the files, going on where an earlier run ended; see `prepare_records`."""
        journal = Journal(directory, self.identity())
        journal.check_directory(overwrite=overwrite)
        splits = self.splits()  # reads everything once, so bad text is found before writing
        journal.begin()
        total = sum(split.num_characters for split in splits)
        workers = min(self.workers, 1 + total // _CHARACTERS_A_WORKER)
        with (
            block_encoder(self.tokenizer, workers) as encode,
            track("Preparing records", total // 1000, "kB") as progress,
        ):
            counter = _KiloCounter(progress)
            for split in splits:
                self._write_split(split, encode, journal, counter)
        return self.complete(splits, journal)

    def complete(self, splits: Sequence[Split], journal: Journal) -> RecordSet:
        """Writes the manifest of files that are all there.

        Raises:
            InputError: A split has no token.
        """
        for split in splits:
            if not sum(journal.finished[name].records for name in self.shard_names(split)):
                raise InputError(
                    f"The {split.name} split of corpus {self.corpus.description} gives no token. "
                    "Check that the tokenizer fits the text."
                )
        journal.finish(
            {
                "description": self.corpus.description,
                "documents": {split.name: split.num_documents for split in splits},
            },
            {split.name: self.shard_names(split) for split in splits},
        )
        return open_records(journal.directory)

    @property
    def held_out_fraction(self) -> float:
        """Share of the corpus that is held out: none beside a validation corpus."""
        return 0.0 if self.validation else self.options.held_out_fraction

    def splits(self) -> list[Split]:
        """Reads all text and decides which documents go into which split.

        Raises:
            InputError: See `split_documents`.
        """
        seed = self.options.seed
        splits = split_documents(self.corpus, self.held_out_fraction, seed=seed)
        if self.validation:
            (held_out,) = split_documents(self.validation, 0.0, seed=seed)
            splits.append(dataclasses.replace(held_out, name=VALIDATION))
        return splits

    def shard_names(self, split: Split) -> list[str]:
        """Names of a split's files, in order."""
        wanted = -(-split.num_characters // _SHARD_CHARACTERS)
        if self.options.num_shards and split.name != VALIDATION:
            wanted = self.options.num_shards
        count = min(wanted, split.num_documents)
        return [f"{split.name}-{i:05d}-of-{count:05d}.tfrecord" for i in range(count)]

    def _write_split(
        self, split: Split, encode: BlockEncoder, journal: Journal, counter: "_KiloCounter"
    ) -> None:
        names = self.shard_names(split)
        packer = Packer(self.tokenizer, self.options.sequence_length, self.options.packing)
        finished = {i for i, name in enumerate(names) if name in journal.finished}
        blocks = self._blocks(split, len(names), finished, counter)
        encoded = ((shard, counter.passing(size, block)) for (shard, size), block in encode(blocks))
        for shard, group in itertools.groupby(encoded, lambda pair: pair[0]):
            path = journal.directory / names[shard]
            journal.add(write_shard(path, (block for _, block in group), packer=packer))

    def _blocks(
        self, split: Split, num_shards: int, finished: set[int], counter: "_KiloCounter"
    ) -> Iterator[tuple[tuple[int, int], list[str]]]:
        """Yields (shard, characters) and texts; leaves out finished shards."""
        for shard, documents in split.shards(num_shards):
            if shard in finished:
                counter.add(sum(map(len, documents)))
                continue
            for block in grouped(documents):
                yield (shard, sum(map(len, block))), texts_of(block, self.options)


def texts_of(block: list[str], options: RecordOptions) -> list[str]:
    """What is encoded of some documents: each as a whole, or its lines."""
    if options.packing:
        return block
    return [line for text in block for line in text.split("\n")]


def grouped(documents: Iterable[str]) -> Iterator[list[str]]:
    """Yields documents by about a megabyte."""
    block: list[str] = []
    size = 0
    for document in documents:
        block.append(document)
        size += len(document)
        if size >= _BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


class _KiloCounter:
    """Reports thousands of characters without losing the remainders."""

    def __init__(self, progress: Tracker) -> None:
        self._progress, self._rest = progress, 0

    def add(self, characters: int) -> None:
        whole, self._rest = divmod(self._rest + characters, 1000)
        self._progress.advance(whole)

    def passing(self, characters: int, block: Encoded) -> Encoded:
        """Counts a block on its way."""
        self.add(characters)
        return block
