"""Entities in the tags of words: schemes, and scores as the field computes them.

Entities are found as `conlleval` and `seqeval` (in its default mode) find them, and F1 is their
micro average. `seqeval` itself is no dependency: its one release of 2020 is a source archive that
older versions of pip cannot build any more.

Source: Ramshaw and Marcus 1995 (arXiv cmp-lg/9505040) for IOB1, Tjong Kim Sang and De Meulder
2003 (arXiv cs/0306050) for the scores.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator, Sequence

OUTSIDE = "O"
IOB1, IOB2, IOBES, IO = "IOB1", "IOB2", "IOBES", "IO"
_PREFIXED = re.compile(r"([BIESLU])-(.+)")
_SAME = {"L": "E", "U": "S"}  # BILOU's letters of IOBES
_RULES = {
    IOB2: "an entity begins with B-",
    IOB1: "B- only parts two neighbours of one type",
    IOBES: "an entity is B- I- E-, or one S-",
    IO: "tags have no B- or I-",
}

Entity = tuple[str, int, int]
"""Type, first word and the word behind the last one."""


@dataclasses.dataclass(frozen=True)
class Break:
    """A tag that a scheme does not allow.

    Attributes:
        sentence: Number of its sentence.
        word: Number of its word; behind the last one where the sentence ends too early.
        text: What is wrong.
    """

    sentence: int
    word: int
    text: str


@functools.lru_cache(maxsize=4096)
def split_tag(tag: str) -> tuple[str, str]:
    """Parts a tag into the letter of its place and its type: `B-PER` into `B` and `PER`.

    Args:
        tag: The tag.

    Returns:
        One of `BIESO` and the type; a tag without a letter is `I` of its type.
    """
    if tag == OUTSIDE:
        return OUTSIDE, ""
    found = _PREFIXED.fullmatch(tag)
    return (_SAME.get(found[1], found[1]), found[2]) if found else ("I", tag)


def is_prefixed(tag: str) -> bool:
    """Whether a tag says where in an entity its word is."""
    return _PREFIXED.fullmatch(tag) is not None


def find_entities(tags: Sequence[str]) -> list[Entity]:
    """Finds the entities of a sentence.

    Args:
        tags: Its tags, of any scheme, also where they break it.

    Returns:
        The entities in their order.
    """
    found: list[Entity] = []
    last = OUTSIDE, ""
    for place, tag in enumerate(tags):
        part = split_tag(tag)
        if _continues(last, part):
            kind, start, _ = found[-1]
            found[-1] = kind, start, place + 1
        elif part[0] != OUTSIDE:
            found.append((part[1], place, place + 1))
        last = part
    return found


def _continues(last: tuple[str, str], part: tuple[str, str]) -> bool:
    return last[0] in "BI" and part[0] in "IE" and last[1] == part[1]


def first_break(sentences: Iterable[Sequence[str]], scheme: str) -> Break | None:
    """Finds the first tag that a scheme does not allow.

    Args:
        sentences: Tags of each sentence.
        scheme: `IOB1`, `IOB2`, `IOBES` (or BILOU) or `IO`.

    Returns:
        Its place; None where the scheme is kept.
    """
    for number, tags in enumerate(sentences):
        last, before = (OUTSIDE, ""), OUTSIDE
        ended = [OUTSIDE] if scheme == IOBES and tags else []
        for place, tag in enumerate([*tags, *ended]):
            part = split_tag(tag)
            if not _allowed(scheme, last, part, is_prefixed(tag) or tag == OUTSIDE):
                shown = tag if place < len(tags) else "the end of the sentence"
                text = f"{shown} after {before if place else 'the beginning of the sentence'}"
                return Break(number, place, f"{text}; in {scheme} {_RULES[scheme]}")
            last, before = part, tag
    return None


def _allowed(scheme: str, last: tuple[str, str], part: tuple[str, str], prefixed: bool) -> bool:
    continues, letter = _continues(last, part), part[0]
    if scheme == IO:
        return not prefixed or letter == OUTSIDE
    if not prefixed:
        return False
    if scheme == IOBES:
        return continues == (letter in "IE") and continues >= (last[0] in "BI")
    if letter in "ES":
        return False
    if scheme == IOB2:
        return letter != "I" or continues
    return letter != "B" or (last[0] in "BI" and last[1] == part[1])


def complete_names(tags: Iterable[str], scheme: str) -> tuple[str, ...]:
    """Classes of a training file: of each type all tags that the scheme has.

    Args:
        tags: Tags that occur.
        scheme: Their scheme.

    Returns:
        `O` first, then by type, and by place.
    """
    names = set(tags)
    if scheme != IO:
        bilou = any(tag.startswith(("L-", "U-")) for tag in names)
        letters = ("BILU" if bilou else "BIES") if scheme == IOBES else "BI"
        types = {split_tag(tag)[1] for tag in names if tag != OUTSIDE}
        names |= {f"{letter}-{kind}" for kind in types for letter in letters}
    places = "OBIESLU"
    return tuple(sorted(names, key=lambda tag: (split_tag(tag)[1], places.find(tag[0]), tag)))


@dataclasses.dataclass
class Count:
    """Entities of a type: found right, found, and there."""

    right: int = 0
    found: int = 0
    there: int = 0

    def scores(self) -> dict[str, float]:
        """Precision, recall and F1, 0 where they are not defined."""
        precision = self.right / self.found if self.found else 0.0
        recall = self.right / self.there if self.there else 0.0
        both = precision + recall
        f1 = 2 * precision * recall / both if both else 0.0
        return {"precision": precision, "recall": recall, "f1": f1}


def count_entities(
    gold: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]]
) -> dict[str, Count]:
    """Counts entities by type.

    Args:
        gold: Right tags of each sentence.
        predicted: Predicted tags, as many.

    Returns:
        The counts, in ABC order of the types.
    """
    counts: dict[str, Count] = {}
    for right, ours in zip(gold, predicted, strict=True):
        there, found = set(find_entities(right)), set(find_entities(ours))
        for entity in there | found:
            count = counts.setdefault(entity[0], Count())
            count.there += entity in there
            count.found += entity in found
            count.right += entity in there and entity in found
    return dict(sorted(counts.items()))


def total(counts: Iterable[Count]) -> Count:
    """All types together."""
    parts = [(one.right, one.found, one.there) for one in counts]
    return Count(*map(sum, zip(*parts, strict=True))) if parts else Count()


def sentences_of(tags: Sequence[str], lengths: Iterable[int]) -> Iterator[Sequence[str]]:
    """Cuts the tags of all words into sentences."""
    start = 0
    for length in lengths:
        yield tags[start : start + length]
        start += length
