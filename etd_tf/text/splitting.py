"""Which documents train and which are held out."""

import dataclasses
import itertools
from collections.abc import Iterator

from etd_tf.errors import InputError
from etd_tf.text.candidates import Candidates
from etd_tf.text.corpus import Corpus
from etd_tf.text.records import TRAIN, VALIDATION


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
    candidates = Candidates(held_out_fraction, seed)
    count, characters = corpus.survey(candidates)
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
