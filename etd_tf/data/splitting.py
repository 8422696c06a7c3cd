"""Which documents train and which are held out."""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator

from etd_tf.data.corpus import Corpus
from etd_tf.data.records import TRAIN, VALIDATION
from etd_tf.errors import InputError
from etd_tf.progress import track

_HASH_BYTES = 8


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
    """Reads a corpus once and decides by a hash of each document's text.

    So the choice depends on content and seed alone, and equal documents stay together.
    At least one document is held out if the fraction is above 0.

    Args:
        corpus: The text.
        held_out_fraction: Expected share of held-out documents, in [0, 1).
        seed: Another seed holds out others.

    Returns:
        The train split and, if anything is held out, the validation split.

    Raises:
        InputError: The corpus is empty, unreadable, or has no second document.
    """
    limit = int(held_out_fraction * 256**_HASH_BYTES)
    key = str(seed).encode()[:64]
    chosen: dict[int, int] = {}  # number -> characters
    lowest, lowest_hash = dict(chosen), 256**_HASH_BYTES
    count = characters = 0
    with track("Reading the corpus", None, "documents") as progress:
        for count, document in enumerate(corpus.documents(), start=1):
            characters += len(document)
            text = document.encode("utf-8")
            digest = hashlib.blake2b(text, digest_size=_HASH_BYTES, key=key).digest()
            value = int.from_bytes(digest, "big")
            if value < limit:
                chosen[count - 1] = len(document)
            elif value <= lowest_hash:
                lowest = {**(lowest if value == lowest_hash else {}), count - 1: len(document)}
                lowest_hash = value
            progress.advance()
    if not count:
        raise InputError(f"Corpus {corpus.description} holds no text. Name files that do.")
    if not held_out_fraction:
        return [Split(TRAIN, corpus, count, characters)]
    return _two_splits(corpus, chosen or lowest, count, characters)


def _two_splits(
    corpus: Corpus, held_out: dict[int, int], count: int, characters: int
) -> list[Split]:
    if len(held_out) == count:
        raise InputError(
            f"Corpus {corpus.description} is {count} document(s) all of which would be held out "
            "for validation. Separate its documents by blank lines, or give "
            "--validation_corpus, or --held_out_fraction=0."
        )
    listed, size = frozenset(held_out), sum(held_out.values())
    return [
        Split(TRAIN, corpus, count - len(listed), characters - size, listed),
        Split(VALIDATION, corpus, len(listed), size, listed, keeps_listed=True),
    ]
