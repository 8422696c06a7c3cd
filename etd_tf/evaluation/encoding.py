"""Texts to token sequences, and sequences to padded batches of similar length."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.tokenization.tokenizer import Tokenizer
from etd_tf.types import Array, IntArray

_LENGTH_MULTIPLE = 8  # few distinct shapes, and full vector registers
_TEXTS_AT_ONCE = 8192
_MIN_LENGTH = 6  # two separators in the middle, and one token of each text


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Token sequences ready for a model, not yet padded.

    Attributes:
        token_ids: Int32 arrays `[T_i]`, special tokens included.
        segment_ids: Int32 arrays `[T_i]`.
        pad_id: Token that fills short sequences.
        max_length: No batch is wider.
    """

    token_ids: tuple[Array, ...]
    segment_ids: tuple[Array, ...]
    pad_id: int
    max_length: int

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def lengths(self) -> IntArray:
        """Number of tokens of each sequence, `[n]`."""
        return np.asarray([len(ids) for ids in self.token_ids], np.int64)

    def take(self, rows: IntArray) -> "Sequences":
        """Returns the sequences at the given positions, in that order."""
        return dataclasses.replace(
            self,
            token_ids=tuple(self.token_ids[row] for row in rows),
            segment_ids=tuple(self.segment_ids[row] for row in rows),
        )

    def batch(self, rows: IntArray) -> dict[str, Array]:
        """Pads some sequences to the longest of them, rounded up to a multiple of 8.

        Args:
            rows: Positions `[B]`.

        Returns:
            The encoder's inputs, int32 `[B, T]`: `token_ids`, `segment_ids`,
            `padding_mask`.
        """
        longest = max(len(self.token_ids[row]) for row in rows)
        width = min(-(-longest // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE, self.max_length)
        token_ids = np.full((len(rows), width), self.pad_id, np.int32)
        segment_ids = np.zeros((len(rows), width), np.int32)
        padding_mask = np.zeros((len(rows), width), np.int32)
        for place, row in enumerate(rows):
            length = len(self.token_ids[row])
            token_ids[place, :length] = self.token_ids[row]
            segment_ids[place, :length] = self.segment_ids[row]
            padding_mask[place, :length] = 1
        return {"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": padding_mask}

    def batches_by_length(self, tokens_per_batch: int) -> Iterator[IntArray]:
        """Groups sequences of similar length, longest first, for inference.

        Args:
            tokens_per_batch: Bound on B * T, padding included; a batch holds at least
                one sequence.

        Yields:
            Positions `[B]`; every sequence occurs once.
        """
        order = np.argsort(-self.lengths, kind="stable")
        start = 0
        while start < len(order):
            widest = -(-len(self.token_ids[order[start]]) // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE
            size = max(tokens_per_batch // widest, 1)
            yield order[start : start + size]
            start += size


def need_tokenizer(checkpoint: Checkpoint, max_length: int) -> Tokenizer:
    """Returns a checkpoint's tokenizer after checking that it can be used.

    Args:
        checkpoint: The model.
        max_length: Tokens a sequence, special tokens included.

    Returns:
        The tokenizer.

    Raises:
        InputError: There is no tokenizer, or sequences of that length do not fit.
    """
    if checkpoint.tokenizer is None:
        raise InputError(
            f"{checkpoint.source or 'The model'} has no tokenizer. Put its vocab.txt or "
            "tokenizer.json into the model's directory."
        )
    positions = checkpoint.config.max_positions
    if not _MIN_LENGTH <= max_length <= positions:
        raise InputError(
            f"max_length={max_length} does not fit {checkpoint.source or 'the model'}, which has "
            f"{positions} positions. Choose a value from {_MIN_LENGTH} to {positions}."
        )
    return checkpoint.tokenizer


def middle_separators(tokenizer: Tokenizer) -> int:
    """Separators between the texts of a pair: 1 for BERT, 2 for RoBERTa and its kin."""
    # [CLS] and the last [SEP] are the other two; a bare vocabulary reports 0.
    return max(int(tokenizer.backend.num_special_tokens_to_add(is_pair=True)) - 2, 1)


def tokenize_all(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[list[int]]:
    """Tokenises texts in parallel, some thousands at a time to bound the memory."""
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        yield from tokenizer.encode_batch(texts[start : start + _TEXTS_AT_ONCE])


def encode_texts(
    checkpoint: Checkpoint, texts: Sequence[tuple[str, ...]], *, max_length: int = 128
) -> Sequences:
    """Encodes single texts as `[CLS] a [SEP]` and pairs as `[CLS] a [SEP] b [SEP]`.

    Pairs get two separators in the middle where the tokenizer's own template has them.

    A pair that is too long loses tokens at the end of the longer text first, as in
    BERT's pre-training and fine-tuning (Devlin et al. 2018, arXiv 1810.04805).

    Args:
        checkpoint: The model, for its tokenizer and number of segments.
        texts: One or two texts an example.
        max_length: Tokens a sequence, special tokens included.

    Returns:
        The sequences in the order of `texts`.

    Raises:
        InputError: The model has no tokenizer or too few positions.
    """
    tokenizer = need_tokenizer(checkpoint, max_length)
    pieces = tokenize_all(tokenizer, [text for group in texts for text in group])
    middle = [tokenizer.sep_id] * middle_separators(tokenizer)
    last_segment = min(1, checkpoint.config.type_vocab_size - 1)
    token_ids, segment_ids = [], []
    for group in texts:
        special = 2 + len(middle) * (len(group) - 1)
        first, *rest = _truncate([next(pieces) for _ in group], max_length - special)
        ids = [tokenizer.cls_id, *first, *(middle if rest else [tokenizer.sep_id])]
        segments = [0] * len(ids)
        for part in rest:
            ids += [*part, tokenizer.sep_id]
            segments += [last_segment] * (len(part) + 1)
        token_ids.append(np.asarray(ids, np.int32))
        segment_ids.append(np.asarray(segments, np.int32))
    return Sequences(tuple(token_ids), tuple(segment_ids), tokenizer.pad_id, max_length)


def _truncate(parts: list[list[int]], room: int) -> list[list[int]]:
    """Shortens one or two parts so that they fit into `room` tokens.

    For two parts this is where popping tokens one at a time from the longer one (the
    second on a tie) ends.
    """
    if len(parts) == 1:
        return [parts[0][:room]]
    first, second = parts
    kept = min(len(first), max(room - len(second), room - room // 2))
    return [first[:kept], second[: room - kept]]
