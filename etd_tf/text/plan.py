"""The plan of a preparation: which documents go into which file, and where they are read.

Every source is scanned once, on any worker. From the scans follow the splits and, file by
file, the share of the corpus that goes into it, which any worker can read on its own.
"""

import bisect
import dataclasses
import hashlib
import heapq
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from etd_tf.errors import InputError
from etd_tf.storage.text_files import BEGINNING, Mark
from etd_tf.text.corpus import Corpus, joint_hash
from etd_tf.text.records import TRAIN, VALIDATION
from etd_tf.text.sources import Source
from etd_tf.types import IntArray

_HASH_BYTES = 8
_MORE_CANDIDATES = 64
_MARK_EVERY = 4_000_000  # characters; a worker skips half as many before its first document


class Candidates:
    """Documents with low hashes: twice the share expected to be needed, and a few more.

    Which ones are kept does not depend on the order in which they are offered.

    Args:
        fraction: Share of the text to hold out.
        seed: Another seed gives other hashes.

    Attributes:
        fraction: Share of the text to hold out.
    """

    def __init__(self, fraction: float, seed: int) -> None:
        self.fraction = fraction
        self._limit = int(2 * fraction * 256**_HASH_BYTES)
        self._key = str(seed).encode()[:64]
        self._by_hash: dict[int, dict[int, int]] = {}  # hash -> number -> characters
        self._above: list[int] = []  # heap of negated hashes over the limit

    def offer(self, number: int, document: str) -> None:
        """Takes a document if its hash is low; none for a fraction of 0."""
        if not self.fraction:
            return
        text = document.encode("utf-8")
        digest = hashlib.blake2b(text, digest_size=_HASH_BYTES, key=self._key).digest()
        self.add(int.from_bytes(digest, "big"), number, len(document))

    def add(self, value: int, number: int, characters: int) -> None:
        """Takes a document by its hash, e.g. one that other candidates kept."""
        if value not in self._by_hash and value >= self._limit:
            heapq.heappush(self._above, -value)
            if len(self._above) > _MORE_CANDIDATES:
                largest = -heapq.heappop(self._above)
                self._by_hash.pop(largest, None)
                if value == largest:
                    return
        self._by_hash.setdefault(value, {})[number] = characters

    def kept(self) -> list[tuple[int, int, int]]:
        """Hash, number and characters of each candidate."""
        return [
            (value, number, characters)
            for value, equal in self._by_hash.items()
            for number, characters in equal.items()
        ]

    def choose(self, characters: float, num_documents: int) -> dict[int, int]:
        """Takes documents until they have so many characters, but never all documents."""
        chosen: dict[int, int] = {}
        size = 0
        for value in sorted(self._by_hash):
            equal = self._by_hash[value]
            if size >= characters or len(chosen) + len(equal) == num_documents:
                break
            chosen |= equal
            size += sum(equal.values())
        return chosen


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


def scan_source(
    source: Source, held_out_fraction: float, seed: int, advance: Callable[[], None] | None = None
) -> SourceScan:
    """Reads a source once; `advance` is called after every document.

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
        if advance:
            advance()
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


class Reader:
    """Reads stretches; goes on in the open source where the next one lies ahead in it.

    So a process that writes one file after another reads a gzipped source once, instead of
    unzipping it from its beginning for every file.
    """

    def __init__(self) -> None:
        self._open: tuple[Source, int, Iterator[tuple[Mark | None, str]]] | None = None

    def read(self, stretch: Stretch, first: int) -> Iterator[tuple[int, str]]:
        """Yields numbers and texts of a stretch, from document `first` on or from before."""
        number, texts = stretch.first, None
        if self._open and self._open[0] == stretch.source:
            _, position, texts_here = self._open
            if stretch.first <= position <= first:
                number, texts = position, texts_here
        self._open = None  # until all is read
        texts = texts or stretch.source.documents(stretch.start)
        numbers = range(number, stretch.stop)
        for number, (_, document) in zip(numbers, texts, strict=False):
            yield number, document
        self._open = stretch.source, stretch.stop, texts


@dataclasses.dataclass(frozen=True)
class Share:
    """The documents of one record file.

    Attributes:
        stretches: What has to be read for them.
        first: Number in the corpus of the first document.
        num_documents: How many.
        num_characters: About how long they are; exact in the sum over a split.
        listed: Document numbers in this part of the corpus.
        keeps_listed: Whether the share is the listed documents or all others.
    """

    stretches: tuple[Stretch, ...]
    first: int
    num_documents: int
    num_characters: int
    listed: frozenset[int]
    keeps_listed: bool

    def documents(self, reader: Reader | None = None) -> Iterator[str]:
        """Yields the documents in corpus order.

        Args:
            reader: One that has read what comes before, if any.

        Raises:
            InputError: The text is no longer what was scanned.
        """
        reader = reader or Reader()
        count = 0
        for stretch in self.stretches:
            for number, document in reader.read(stretch, max(self.first, stretch.first)):
                if number >= self.first and (number in self.listed) == self.keeps_listed:
                    count += 1
                    yield document
        if count != self.num_documents:
            raise InputError(
                f"The corpus changed while it was read: {count} documents where there were "
                f"{self.num_documents}. Run the command again, with overwrite=True."
            )


class CorpusScan:
    """What one reading of a corpus has found; the scans of its sources are added in order.

    Args:
        held_out_fraction: Share of its characters to hold out, in [0, 1).
        seed: Another seed holds out others.

    Attributes:
        num_characters: Length of the documents of all scans.
    """

    def __init__(self, corpus: Corpus, held_out_fraction: float, seed: int) -> None:
        self.corpus = corpus
        self.num_characters = 0
        self._candidates = Candidates(held_out_fraction, seed)
        self._firsts = [0]  # number in the corpus of each source's first document
        self._marks: list[Sequence[Sequence[int]]] = []
        self._hashes: list[str] = []

    def add(self, scan: SourceScan) -> None:
        """Takes the scan of the next source."""
        first = self._firsts[-1]
        for value, number, characters in scan.candidates:
            self._candidates.add(value, first + number, characters)
        self._firsts.append(first + scan.documents)
        self._marks.append(scan.marks)
        self._hashes.append(scan.content_hash)
        self.num_characters += scan.characters

    def content_hash(self) -> str:
        """As `Corpus.content_hash`."""
        return joint_hash(self._hashes)

    def splits(self) -> "list[Split]":
        """Holds documents out by a hash of their text.

        Documents are held out in the order of their hashes until they make up the share. So
        the choice depends on content and seed, not on order, and equal documents stay
        together. At least one document is held out, and one is left, if there are two.

        Returns:
            The train split and, if anything is held out, the validation split.

        Raises:
            InputError: The corpus is empty, or has no second document.
        """
        count, characters = self._firsts[-1], self.num_characters
        name, fraction = self.corpus.description, self._candidates.fraction
        if not count:
            raise InputError(f"Corpus {name} holds no text. Name files that do.")
        chosen = self._candidates.choose(fraction * characters, count) if fraction else {}
        if fraction and not chosen:
            raise InputError(
                f"Corpus {name} is a single document (or copies of one), so none can be held out "
                "for validation. Documents end at blank lines; where every line is a text of its "
                "own, run: sed G FILE > FILE.txt. Or give validation_corpus=..., or prepare the "
                "text by etd_prepare with held_out_fraction=0."
            )
        listed, size = np.array(sorted(chosen), np.int64), sum(chosen.values())
        splits = [Split(TRAIN, self, count - len(listed), characters - size, listed, False)]
        if fraction:
            splits.append(Split(VALIDATION, self, len(listed), size, listed, True))
        return splits

    def stretches(self, first: int, stop: int) -> Iterator[Stretch]:
        """Yields what to read for the documents from `first` to before `stop`."""
        source = bisect.bisect_right(self._firsts, first) - 1
        while first < stop:
            begin, end = self._firsts[source], self._firsts[source + 1]
            if first < end:
                marks = self._marks[source]
                before = bisect.bisect_right(marks, first - begin, key=lambda mark: mark[0])
                number, offset, line = marks[max(before - 1, 0)]
                place = self.corpus.sources[source], (offset, line)
                yield Stretch(*place, begin + number, min(stop, end))
                first = end
            source += 1


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Documents of a corpus by their number in it.

    Attributes:
        name: `"train"` or `"validation"`.
        scan: Of the corpus.
        num_documents: How many.
        num_characters: Their total length.
        listed: Int64 document numbers, sorted.
        keeps_listed: Whether the split is the listed documents or all others.
    """

    name: str
    scan: CorpusScan
    num_documents: int
    num_characters: int
    listed: IntArray
    keeps_listed: bool

    def shares(self, num_shards: int) -> Iterator[Share]:
        """Yields what goes into each of at most `num_documents` files, nearly equally many."""
        # Document i belongs to file i * num_shards // num_documents: where each one begins.
        begins = -(-np.arange(num_shards + 1) * self.num_documents // num_shards)
        sizes = np.diff([self.num_characters * i // self.num_documents for i in begins.tolist()])
        ranks = zip(begins[:-1].tolist(), begins[1:].tolist(), strict=True)
        for (low, high), size in zip(ranks, sizes.tolist(), strict=True):
            first, stop = self._number_of(low), self._number_of(high - 1) + 1
            inside = self.listed[slice(*np.searchsorted(self.listed, [first, stop]))]
            yield Share(
                tuple(self.scan.stretches(first, stop)),
                first,
                high - low,
                size,
                frozenset(inside.tolist()),
                self.keeps_listed,
            )

    def _number_of(self, rank: int) -> int:
        """Number in the corpus of the document that comes at a rank in the split."""
        if self.keeps_listed:
            return int(self.listed[rank])
        others_before = self.listed - np.arange(len(self.listed))  # of each listed document
        return rank + int(np.searchsorted(others_before, rank, side="right"))
