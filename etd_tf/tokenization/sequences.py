"""Token sequences, and their padded batches of similar length."""

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from etd_tf.types import Array, IntArray

_LENGTH_MULTIPLE = 8  # few distinct shapes, and full vector registers


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

    num_texts: ClassVar[int] = 1
    """Rows of a batch for each example."""

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

    def joined(self, other: "Sequences") -> "Sequences":
        """Returns these sequences with others of the same kind behind them."""
        return dataclasses.replace(
            self,
            token_ids=self.token_ids + other.token_ids,
            segment_ids=self.segment_ids + other.segment_ids,
            max_length=max(self.max_length, other.max_length),
        )

    def batch(self, rows: IntArray) -> dict[str, Array]:
        """Pads some sequences to the longest of them, rounded up to a multiple of 8.

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
        lengths = self.lengths
        order = np.argsort(-lengths, kind="stable")
        start = 0
        while start < len(order):
            widest = -(-lengths[order[start]] // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE
            size = max(int(tokens_per_batch // (widest * self.num_texts)), 1)
            yield order[start : start + size]
            start += size


def same_tokens(one: Sequences, other: Sequences) -> bool:
    """Whether two models read the same tokens of the same texts."""
    same = (one.num_texts, one.max_length) == (other.num_texts, other.max_length)
    pairs = zip(one.token_ids + one.segment_ids, other.token_ids + other.segment_ids, strict=False)
    return same and len(one) == len(other) and all(np.array_equal(a, b) for a, b in pairs)


@dataclasses.dataclass(frozen=True)
class TwinSequences(Sequences):
    """Pairs of texts, each text a sequence of its own.

    `token_ids` and `segment_ids` hold the first texts of all pairs, then the second ones, and
    so does a batch: `[2B, T]`.
    """

    num_texts: ClassVar[int] = 2

    def __len__(self) -> int:
        return super().__len__() // 2

    @property
    def lengths(self) -> IntArray:
        """Tokens of the longer text of each pair, `[n]`."""
        longer: IntArray = super().lengths.reshape(2, -1).max(axis=0)
        return longer

    def take(self, rows: IntArray) -> Sequences:
        """Returns the pairs at the given positions, in that order."""
        return super().take(self._both(rows))

    def joined(self, other: Sequences) -> Sequences:
        """Returns these pairs with others behind them."""
        both, n, m = super().joined(other), len(self), len(other)
        firsts, seconds = np.arange(n), np.arange(n, 2 * n)
        more = np.arange(2 * n, 2 * n + m)
        order = np.concatenate([firsts, more, seconds, more + m])
        return Sequences.take(both, order)

    def batch(self, rows: IntArray) -> dict[str, Array]:
        """Pads some pairs to the longest of their texts, see the base class; `[2B, T]`."""
        return super().batch(self._both(rows))

    def _both(self, rows: IntArray) -> IntArray:
        return np.concatenate([rows, np.asarray(rows) + len(self)])
