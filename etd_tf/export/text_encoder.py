"""BERT WordPiece tokenisation inside a TensorFlow graph, equal to the checkpoint's own."""

import re
from typing import Any

import tensorflow as tf
import tensorflow_text as tf_text

from etd_tf.errors import InputError
from etd_tf.export.code_points import (
    EXPANSION,
    ISOLATED,
    ORDINARY,
    SPACE,
    SPACED,
    CodePointTables,
    PagedTable,
    build_tables,
)
from etd_tf.tokenization.tokenizer import Tokenizer
from etd_tf.types import Tensor


def why_not_encodable(tokenizer: Tokenizer | None) -> str | None:
    """Says why a tokenizer cannot be put in a graph, or None when it can.

    Args:
        tokenizer: The tokenizer of a checkpoint.

    Returns:
        A sentence for the user, or None.
    """
    if tokenizer is None:
        return "the checkpoint has no tokenizer"
    backend = tokenizer.backend
    if tokenizer.wordpieces is None:
        return f"its tokenizer is {type(backend.model).__name__}, not WordPiece"
    if backend.normalizer is not None and _kind(backend.normalizer) != "BertNormalizer":
        return f"its tokenizer normalises with {_kind(backend.normalizer)}, not BertNormalizer"
    if _kind(backend.pre_tokenizer) != "BertPreTokenizer":
        return f"its tokenizer splits with {_kind(backend.pre_tokenizer)}, not BertPreTokenizer"
    for token in backend.get_added_tokens_decoder().values():
        pieces = backend.pre_tokenizer.pre_tokenize_str(token.content)
        if token.normalized or token.single_word or len(pieces) < 2:
            return f"its added token {token.content!r} is not a bracketed special token"
    return None


def _kind(component: Any) -> str:
    return type(component).__name__


class TextEncoder(tf.Module):
    """Turns a batch of strings into the encoder's inputs.

    The result equals `Tokenizer.encode_batch` with `[CLS]` and `[SEP]` added, for every
    text: accents, CJK, emoji, control characters, very long words, special tokens written
    out (`[MASK]`). Bytes that are not UTF-8 are dropped. The one known difference: two
    spacing combining marks in a row that Unicode would reorder keep their order.

    Args:
        tokenizer: A WordPiece tokenizer (see `why_not_encodable`).
        max_length: Tokens of the longest sequence, special tokens included.
        num_segments: Segments that the model knows; with 1 a pair's texts share it.

    Raises:
        InputError: The tokenizer cannot be put in a graph, or `max_length` leaves no room
            for a token.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_length: int, num_segments: int = 2) -> None:
        super().__init__(name="text_encoder")
        problem = why_not_encodable(tokenizer)
        if problem is not None:
            raise InputError(f"Text input cannot be exported: {problem}.")
        if max_length < 5:
            raise InputError(
                f"max_length={max_length} leaves no room for a pair of texts between [CLS] and "
                "two [SEP]. Use 5 or more."
            )
        self.max_length = max_length
        self._last_segment = num_segments - 1
        self._ids = (tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id)
        backend = tokenizer.backend
        self._unknown = backend.model.unk_token
        self._max_characters = backend.model.max_input_chars_per_word
        self._specials = sorted(
            (token.content for token in backend.get_added_tokens_decoder().values()),
            key=lambda content: (-len(content), content),
        )
        self._tables = _TensorTables(build_tables(backend.normalizer, backend.pre_tokenizer))
        self._wordpiece = tf_text.FastWordpieceTokenizer(
            vocab=tokenizer.wordpieces,
            suffix_indicator=backend.model.continuing_subword_prefix,
            max_bytes_per_word=1 << 20,  # the limit is in characters, checked in `_words`
            token_out_type=tf.int32,
            unknown_token=self._unknown,
            no_pretokenization=True,
        )

    def __call__(self, *texts: Tensor, max_length: int | None = None) -> dict[str, Tensor]:
        """Tokenises texts or pairs of texts.

        Args:
            *texts: One or two string tensors `[B]`.
            max_length: Tokens of the longest sequence; None for the encoder's.

        Returns:
            int32 `token_ids`, `segment_ids` and `padding_mask`, each `[B, T]` with T the
            longest sequence of the batch, at most `max_length`.
        """
        cls_id, sep_id, pad_id = self._ids
        length = self.max_length if max_length is None else max_length
        parts = _truncate([self.tokenize(text) for text in texts], length)
        batch = tf.shape(texts[0])[0]
        tokens: list[Tensor] = [tf.fill([batch, 1], cls_id)]
        segments: list[Tensor] = [tf.zeros([batch, 1], tf.int32)]
        for number, part in enumerate(parts):
            row = tf.concat([part, tf.fill([batch, 1], sep_id)], axis=1)
            tokens.append(row)
            segments.append(tf.zeros_like(row) + min(number, self._last_segment))
        ids = tf.concat(tokens, axis=1)
        return {
            "token_ids": _filled(ids, pad_id, len(tokens)),
            "segment_ids": _filled(tf.concat(segments, axis=1), 0, len(tokens)),
            "padding_mask": _filled(tf.ones_like(ids), 0, len(tokens)),
        }

    def tokenize(self, text: Tensor) -> Tensor:
        """Splits texts into word pieces, without special tokens and truncation.

        Args:
            text: String tensor `[B]`.

        Returns:
            int32 ragged tensor `[B, (pieces)]`.
        """
        text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
        # `regex_split` ends a string at its first NUL; both characters are dropped later.
        text = tf.strings.regex_replace(text, r"\x00", "\ufffd")
        delimiter = "|".join(map(re.escape, self._specials)) or "$^"
        pieces = tf_text.regex_split(
            text, delim_regex_pattern=delimiter, keep_delim_regex_pattern=delimiter
        )
        words = self._words(pieces.values)
        ids = self._wordpiece.tokenize(words.values)
        ids = tf.RaggedTensor.from_row_splits(ids, words.row_splits)
        ids = tf.RaggedTensor.from_row_splits(ids, pieces.row_splits)
        return ids.merge_dims(1, 3)

    def _words(self, pieces: Tensor) -> Tensor:
        """Normalises pieces of text `[P]` and splits them into words `[P, (words)]`.

        A piece that is a special token becomes one word. The character rules put no
        brackets inside a word, so nothing else can be looked up as a special token.
        """
        special = tf.reduce_any(pieces[:, None] == tf.constant(self._specials, tf.string), axis=1)
        decoded = tf.strings.unicode_decode(pieces, "UTF-8")
        points, classes, source = self._tables.apply(decoded.values)
        piece = tf.gather(decoded.value_rowids(), source)
        literal = tf.gather(special, piece)
        points = tf.where(literal, tf.gather(decoded.values, source), points)
        classes = tf.where(literal, ORDINARY, classes)

        position = tf.where(classes != SPACE)[:, 0]
        points, classes, piece = (tf.gather(x, position) for x in (points, classes, piece))
        joined = (
            (position[1:] == position[:-1] + 1)
            & (piece[1:] == piece[:-1])
            & (classes[1:] == ORDINARY)
            & (classes[:-1] == ORDINARY)
        )
        starts = tf.concat([tf.ones_like(position[:1], tf.bool), ~joined], axis=0)
        first = tf.where(starts)[:, 0]
        splits = tf.concat([first, [tf.size(position, out_type=tf.int64)]], axis=0)
        characters = tf.RaggedTensor.from_row_splits(points, splits)
        words = tf.strings.unicode_encode(characters, "UTF-8", errors="ignore")
        words = tf.where(characters.row_lengths() > self._max_characters, self._unknown, words)
        return tf.RaggedTensor.from_value_rowids(
            words, tf.gather(piece, first), nrows=tf.size(pieces, out_type=tf.int64)
        )


def _truncate(parts: list[Tensor], max_length: int) -> list[Tensor]:
    """Shortens the longer text of a pair first, the second one on a tie, as BERT does."""
    room = tf.constant(max_length - 1 - len(parts), tf.int64)
    if len(parts) == 1:
        return [_keep(parts[0], room)]
    first, second = (part.row_lengths() for part in parts)
    half = room // 2
    keep_first = tf.minimum(first, tf.maximum(room - half, room - second))
    keep_second = tf.minimum(second, room - keep_first)
    return [_keep(parts[0], keep_first), _keep(parts[1], keep_second)]


def _filled(rows: Tensor, filling: int, least: int) -> Tensor:
    """Fills up rows to the longest; no text at all has the `least` that any text has."""
    values = rows.to_tensor(filling)
    return tf.pad(values, [[0, 0], [0, tf.maximum(least - tf.shape(values)[1], 0)]])


def _keep(rows: Tensor, counts: Tensor) -> Tensor:
    """Keeps the first `counts[b]` (or, for a scalar, `counts`) values of row b."""
    place = tf.ragged.range(rows.row_lengths())
    limit = tf.gather(tf.broadcast_to(counts, [rows.nrows()]), rows.value_rowids())
    return tf.ragged.boolean_mask(rows, place.with_values(place.values < limit))


class _TensorTables:
    """`CodePointTables` as graph constants."""

    def __init__(self, tables: CodePointTables) -> None:
        self._rules = _table(tables.rules)
        self._classes = _table(tables.classes)
        self._splits = tf.constant(tables.expansion_splits)
        self._values = tf.constant(tables.expansion_values)

    def apply(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalises code points `[n]`.

        Returns:
            Normalised code points `[m]`, their classes `[m]`, and for each the index of
            the input it came from `[m]`.
        """
        rule = _look_up(self._rules, points)
        kind, argument = rule % 4, rule // 4
        expands = kind == EXPANSION
        row = tf.where(expands, argument, 0)
        start = tf.gather(self._splits, row)
        count = tf.where(expands, tf.gather(self._splits, row + 1) - start, 1)
        source = tf.repeat(tf.range(tf.size(points)), count)
        offset = tf.range(tf.size(source)) - tf.gather(tf.cumsum(count, exclusive=True), source)
        expanded = tf.where(tf.gather(expands, source), tf.gather(start, source) + offset, 0)
        output = tf.where(
            tf.gather(expands, source),
            tf.gather(self._values, expanded),
            tf.gather(points + argument, source),
        )
        spaced = tf.gather(kind == SPACED, source)
        classes = tf.where(spaced, ISOLATED, _look_up(self._classes, output))
        return output, classes, source


def _table(table: PagedTable) -> tuple[Tensor, Tensor]:
    return tf.constant(table.page_index), tf.constant(table.pages.reshape(-1))


def _look_up(table: tuple[Tensor, Tensor], points: Tensor) -> Tensor:
    page_index, values = table
    page = tf.gather(page_index, points // 256)
    return tf.gather(values, page * 256 + points % 256)
