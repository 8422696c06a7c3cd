"""Which documents train and which are held out."""

import dataclasses
import hashlib
import heapq
import itertools
from collections.abc import Iterator

from etd_tf.data.corpus import Corpus
from etd_tf.data.records import TRAIN, VALIDATION
from etd_tf.errors import InputError
from etd_tf.progress import track

_HASH_BYTES = 8
_MORE_CANDIDATES = 64


@dataclasses.dataclass(frozen=True)
class Split:
    """Documents of a corpus by their number in it.

    Attributes:
        name: `"train"` or `"validation"`.
        corpus: Where they are.
        num_documents: How many.
        num_characters: Their total length.
        listed: Document numbers.
        keeps_listed: Whether the split is the listed documents or all others.
    """

    name: str
    corpus: Corpus
    num_documents: int
    num_characters: int
    listed: frozenset[int] = frozenset()
    keeps_listed: bool = False

    def documents(self) -> Iterator[str]:
        """Yields the split's documents in corpus order."""
        for number, document in enumerate(self.corpus.documents()):
            if (number in self.listed) == self.keeps_listed:
                yield document

    def shards(self, num_shards: int) -> Iterator[tuple[int, Iterator[str]]]:
        """Yields shard number and documents: runs of nearly equally many documents.

        Args:
            num_shards: At most `num_documents`.
        """

        def shard_of(numbered: tuple[int, str]) -> int:
            return numbered[0] * num_shards // self.num_documents

        for shard, group in itertools.groupby(enumerate(self.documents()), shard_of):
            yield shard, (document for _, document in group)


def split_documents(corpus: Corpus, held_out_fraction: float, *, seed: int) -> list[Split]:
    """Reads a corpus once and holds documents out by a hash of their text.

    Documents are held out in the order of their hashes until they make up the share. So
    the choice depends on content and seed, not on order, and equal documents stay
    together. At least one document is held out, and one is left, if there are two.

    Args:
        corpus: The text.
        held_out_fraction: Share of the characters, in [0, 1).
        seed: Another seed holds out others.

    Returns:
        The train split and, if anything is held out, the validation split.

    Raises:
        InputError: The corpus is empty, unreadable, or has no second document.
    """
    candidates = _Candidates(held_out_fraction, seed)
    count = characters = 0
    with track("Reading the corpus", None, "documents") as progress:
        for count, document in enumerate(corpus.documents(), start=1):
            characters += len(document)
            if held_out_fraction:
                candidates.offer(count - 1, document)
            progress.advance()
    if not count:
        raise InputError(f"Corpus {corpus.description} holds no text. Name files that do.")
    if not held_out_fraction:
        return [Split(TRAIN, corpus, count, characters)]
    held_out = candidates.choose(held_out_fraction * characters, count)
    if not held_out:
        raise InputError(
            f"Corpus {corpus.description} is a single document (or copies of one), so none can "
            "be held out for validation. Separate its documents by blank lines, or give "
            "--validation_corpus, or --held_out_fraction=0."
        )
    listed, size = frozenset(held_out), sum(held_out.values())
    return [
        Split(TRAIN, corpus, count - len(listed), characters - size, listed),
        Split(VALIDATION, corpus, len(listed), size, listed, keeps_listed=True),
    ]


class _Candidates:
    """Documents with low hashes: twice the share expected to be needed, and a few more."""

    def __init__(self, fraction: float, seed: int) -> None:
        self._limit = int(2 * fraction * 256**_HASH_BYTES)
        self._key = str(seed).encode()[:64]
        self._by_hash: dict[int, dict[int, int]] = {}  # hash -> number -> characters
        self._above: list[int] = []  # heap of negated hashes over the limit

    def offer(self, number: int, document: str) -> None:
        text = document.encode("utf-8")
        digest = hashlib.blake2b(text, digest_size=_HASH_BYTES, key=self._key).digest()
        value = int.from_bytes(digest, "big")
        if value not in self._by_hash and value >= self._limit:
            heapq.heappush(self._above, -value)
            if len(self._above) > _MORE_CANDIDATES:
                largest = -heapq.heappop(self._above)
                self._by_hash.pop(largest, None)
                if value == largest:
                    return
        self._by_hash.setdefault(value, {})[number] = len(document)

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
