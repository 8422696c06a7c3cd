"""BERT's text normalisation as tables over Unicode code points.

`BertNormalizer` and `BertPreTokenizer` treat each character on its own: a character is
dropped, replaced by others or surrounded by spaces, and the result is ordinary, white
space or punctuation. Asking the tokenizer about every code point therefore gives tables
that reproduce it, whatever its settings (lowercase, accents, CJK) and Unicode version.
TensorFlow Text's own BERT normaliser does not: it applies NFKC and case folding, so that
`...` written as one character, `ss` for sharp s or a superscript come out differently.
"""

import dataclasses
from typing import Any

import numpy as np

from etd_tf.errors import EtdError, InputError
from etd_tf.types import Array

ORDINARY, SPACE, ISOLATED = 0, 1, 2
"""Classes of a normalised character: part of a word, white space, a word of its own."""

SINGLE, SPACED, EXPANSION = 0, 1, 2
"""Kinds of rule: one character, one character between spaces, any other sequence."""

_COUNT = 0x110000
_PAGE = 256
_SEPARATOR = "|"  # punctuation that every setting leaves as it is
_PROBE = "x"


@dataclasses.dataclass(frozen=True)
class PagedTable:
    """An int32 table over all code points, with equal pages of 256 stored once.

    Attributes:
        page_index: `[4352]`, the stored page of each range of 256 code points.
        pages: `[P, 256]`.
    """

    page_index: Array
    pages: Array

    @classmethod
    def from_values(cls, values: Array) -> "PagedTable":
        """Compresses `[0x110000]` values."""
        pages, index = np.unique(values.reshape(-1, _PAGE), axis=0, return_inverse=True)
        return cls(index.reshape(-1).astype(np.int32), pages.astype(np.int32))


@dataclasses.dataclass(frozen=True)
class CodePointTables:
    """What a BERT tokenizer does to each character.

    Attributes:
        rules: For each input code point `4 * argument + kind`. For `SINGLE` and `SPACED`
            the argument is the output code point minus the input's; for `EXPANSION` it
            is a row of `expansions`.
        classes: For each output code point `ORDINARY`, `SPACE` or `ISOLATED`.
        expansion_splits: `[E + 1]`, row boundaries of the expansions.
        expansion_values: Their code points, one after the other.
    """

    rules: PagedTable
    classes: PagedTable
    expansion_splits: Array
    expansion_values: Array


_cache: dict[tuple[bytes, bytes], CodePointTables] = {}  # building takes seconds


def build_tables(normalizer: Any, pre_tokenizer: Any) -> CodePointTables:
    """Reads a tokenizer's character rules off its own behaviour.

    Args:
        normalizer: A `tokenizers.normalizers.BertNormalizer`, or None.
        pre_tokenizer: A `tokenizers.pre_tokenizers.BertPreTokenizer`.

    Raises:
        InputError: The normaliser is not a map of single characters.
    """
    key = (_state(normalizer), _state(pre_tokenizer))
    if key not in _cache:
        _cache[key] = _build(normalizer, pre_tokenizer)
    return _cache[key]


def _state(component: Any) -> bytes:
    return b"" if component is None else bytes(component.__getstate__())


def _build(normalizer: Any, pre_tokenizer: Any) -> CodePointTables:
    rules = np.zeros(_COUNT, np.int64)
    expansions: dict[str, int] = {}
    for point, output in _normalized(normalizer).items():
        rules[point] = _rule(point, output, expansions)
    splits = np.cumsum([0, *(len(text) for text in expansions)])
    values = [ord(character) for text in expansions for character in text]
    return CodePointTables(
        rules=PagedTable.from_values(rules),
        classes=PagedTable.from_values(_classes(pre_tokenizer)),
        expansion_splits=splits.astype(np.int32),
        expansion_values=np.array(values or [0], np.int32),
    )


def _rule(point: int, output: str, expansions: dict[str, int]) -> int:
    if len(output) == 1:
        return 4 * (ord(output) - point) + SINGLE
    if len(output) == 3 and output[0] == output[2] == " ":
        return 4 * (ord(output[1]) - point) + SPACED
    return 4 * expansions.setdefault(output, len(expansions)) + EXPANSION


def _characters() -> list[int]:
    """All code points that text can hold (no surrogates), the separator left out."""
    return [
        point
        for point in range(_COUNT)
        if not 0xD800 <= point <= 0xDFFF and point != ord(_SEPARATOR)
    ]


def _normalized(normalizer: Any) -> dict[int, str]:
    """Normalises every character, all of them in one call."""
    points = _characters()
    if normalizer is None:
        return {}
    joined = _SEPARATOR.join(map(chr, points))
    parts = normalizer.normalize_str(joined).split(_SEPARATOR)
    if len(parts) != len(points) or normalizer.normalize_str(_SEPARATOR) != _SEPARATOR:
        raise InputError(
            "The tokenizer's normalizer does not work character by character, so it cannot be "
            "put in a TensorFlow graph. Export without text input (token ids only)."
        )
    return dict(zip(points, parts, strict=True))


def _classes(pre_tokenizer: Any) -> Array:
    """Classifies every character by how it splits `xCx`."""
    points = np.array(_characters())
    text = _PROBE + "".join(chr(point) + _PROBE for point in points)
    spans = np.array([span for _, span in pre_tokenizer.pre_tokenize_str(text)])
    starts, ends = spans[:, 0], spans[:, 1]
    edges = np.zeros(len(text) + 1, np.int32)
    np.add.at(edges, starts, 1)
    np.add.at(edges, ends, -1)
    found = np.where(np.cumsum(edges[:-1]) > 0, ORDINARY, SPACE)  # space is left out of words
    found[starts[ends - starts == 1]] = ISOLATED
    classes = np.full(_COUNT, SPACE, np.int32)
    classes[points] = found[1::2]  # the characters stand between the probes
    classes[ord(_SEPARATOR)] = ISOLATED
    if classes[ord(_PROBE)] != ORDINARY or classes[ord(" ")] != SPACE:
        raise EtdError("The tokenizer's pre-tokenizer does not split at white space.")
    return classes
