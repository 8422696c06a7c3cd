"""Reading a corpus in parts, on any worker: sizes, held-out candidates and places to start."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np

from etd_tf.errors import InputError
from etd_tf.storage.lines import BEGINNING, Mark
from etd_tf.text.candidates import Candidates
from etd_tf.text.corpus import Corpus, joint_hash
from etd_tf.text.sources import Source
from etd_tf.text.splitting import Split
from etd_tf.types import IntArray

_MARK_EVERY = 4_000_000  # characters; a worker skips half as many before its first document


@dataclasses.dataclass(frozen=True)
class SourceScan:
    """What there is to know about one source; plain values, for JSON.

    Attributes:
        documents: How many.
        characters: Their total length.
        content_hash: Of the source.
        candidates: Hash, number in the source and characters of documents to hold out.
        marks: Number of a document in the source, and offset and line where it begins.
    """

    documents: int
    characters: int
    content_hash: str
    candidates: Sequence[Sequence[int]]
    marks: Sequence[Sequence[int]]


def scan_source(source: Source, held_out_fraction: float, seed: int) -> SourceScan:
    """Reads a source once.

    Args:
        source: The source.
        held_out_fraction: Share of the whole corpus' characters that is held out.
        seed: Seed of that choice.

    Returns:
        The scan.

    Raises:
        InputError: The source cannot be read as the text it should be; names the place.
    """
    candidates = Candidates(held_out_fraction, seed)
    count = characters = last = 0
    marks: list[Sequence[int]] = [(0, *BEGINNING)]
    for mark, document in source.documents():
        if mark and characters - last >= _MARK_EVERY:
            marks.append((count, *mark))
            last = characters
        candidates.offer(count, document)
        characters += len(document)
        count += 1
    return SourceScan(count, characters, source.content_hash(), candidates.kept(), marks)


@dataclasses.dataclass(frozen=True)
class Stretch:
    """A run of documents in one source.

    Attributes:
        source: Where they are.
        start: Where the first of them begins.
        first: Its number in the corpus.
        stop: Number in the corpus of the document after the last one.
    """

    source: Source
    start: Mark
    first: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Share:
    """The documents of one record file.

    Attributes:
        stretches: What has to be read for them.
        first: Number in the corpus of the first document.
        num_documents: How many.
        listed: Document numbers in this part of the corpus.
        keeps_listed: Whether the share is the listed documents or all others.
    """

    stretches: tuple[Stretch, ...]
    first: int
    num_documents: int
    listed: frozenset[int]
    keeps_listed: bool

    def documents(self) -> Iterator[str]:
        """Yields the documents in corpus order.

        Raises:
            InputError: The text is no longer what was scanned.
        """
        count = 0
        for stretch in self.stretches:
            numbers = range(stretch.first, stretch.stop)
            texts = stretch.source.documents(stretch.start)
            for number, (_, document) in zip(numbers, texts, strict=False):
                if number >= self.first and (number in self.listed) == self.keeps_listed:
                    count += 1
                    yield document
        if count != self.num_documents:
            raise InputError(
                f"The corpus changed while it was read: {count} documents where there were "
                f"{self.num_documents}. Run the command again, with --overwrite."
            )


@dataclasses.dataclass(frozen=True)
class ScannedCorpus(Corpus):
    """A corpus whose sources have been scanned, so that they need not be read to split it.

    Attributes:
        scans: One of each source, in order.
    """

    scans: tuple[SourceScan, ...]

    @functools.cached_property
    def firsts(self) -> IntArray:
        """Int64 `[sources + 1]`: number in the corpus of each source's first document."""
        return np.cumsum([0, *(scan.documents for scan in self.scans)])

    def content_hash(self) -> str:
        """As `Corpus.content_hash`."""
        return joint_hash(scan.content_hash for scan in self.scans)

    def survey(self, candidates: Candidates) -> tuple[int, int]:
        """As `Corpus.survey`, from the scans: these must have kept candidates of its kind."""
        for scan, first in zip(self.scans, self.firsts.tolist(), strict=False):
            for value, number, characters in scan.candidates:
                candidates.add(value, first + number, characters)
        return int(self.firsts[-1]), sum(scan.characters for scan in self.scans)

    def stretches(self, first: int, stop: int) -> Iterator[Stretch]:
        """Yields what to read for the documents from `first` to before `stop`."""
        for i, source in enumerate(self.sources):
            begin, end = int(self.firsts[i]), int(self.firsts[i + 1])
            if max(first, begin) < min(stop, end):
                before = [mark for mark in self.scans[i].marks if begin + mark[0] <= first]
                number, *place = before[-1] if before else self.scans[i].marks[0]
                yield Stretch(source, (place[0], place[1]), begin + number, min(stop, end))


def shares(split: Split, num_shards: int) -> Iterator[Share]:
    """Yields what `Split.shards` puts into each of its files.

    Args:
        split: One of a `ScannedCorpus`.
        num_shards: At most its number of documents.
    """
    corpus = cast(ScannedCorpus, split.corpus)
    listed = np.array(sorted(split.listed), np.int64)
    # Document i belongs to file i * num_shards // num_documents: where each one begins.
    begins = -(-np.arange(num_shards + 1) * split.num_documents // num_shards)
    for low, high in zip(begins[:-1].tolist(), begins[1:].tolist(), strict=True):
        first = _number_of(low, listed, split.keeps_listed)
        stop = _number_of(high - 1, listed, split.keeps_listed) + 1
        inside = listed[np.searchsorted(listed, first) : np.searchsorted(listed, stop)]
        yield Share(
            tuple(corpus.stretches(first, stop)),
            first,
            high - low,
            frozenset(inside.tolist()),
            split.keeps_listed,
        )


def _number_of(rank: int, listed: IntArray, keeps_listed: bool) -> int:
    """Number in the corpus of the document that comes at a rank in its split."""
    if keeps_listed:
        return int(listed[rank])
    others_before = listed - np.arange(len(listed))  # of each listed document
    return rank + int(np.searchsorted(others_before, rank, side="right"))
