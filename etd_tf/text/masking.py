"""Masked-LM masking on the fly, derived from a seed, a step and the row of an example."""

import dataclasses
import math
from typing import TYPE_CHECKING, NamedTuple

import tensorflow as tf

from etd_tf.errors import InputError
from etd_tf.types import Tensor

if TYPE_CHECKING:
    from etd_tf.tokenization.tokenizer import Tokenizer

_BITS_32 = 0xFFFFFFFF
_RANDOM_BITS = 24  # a float32 holds these exactly
# Purposes of random numbers: each gets its own stream.
_POSITIONS, _ACTIONS, _REPLACEMENTS = 1, 2, 3


class MaskedTokens(NamedTuple):
    """A batch with masked tokens; P predictions a row.

    Attributes:
        token_ids: Int32 `[B, T]`, the input with chosen tokens replaced.
        positions: Int32 `[B, P]`, ascending; 0 where the weight is 0.
        labels: Int32 `[B, P]`, original ids at the positions; 0 where the weight is 0.
        weights: Float32 `[B, P]`, 1 for a prediction, 0 for filling.
    """

    token_ids: Tensor
    positions: Tensor
    labels: Tensor
    weights: Tensor


@dataclasses.dataclass(frozen=True)
class Masking:
    """How tokens are masked: BERT's 80/10/10 rule.

    Attributes:
        mask_id: Id of `[MASK]`.
        vocab_size: Random replacements are drawn from `0 .. vocab_size - 1`.
        special_ids: Ids that are never chosen.
        rate: Share of an example's ordinary tokens to predict, in (0, 1].
        max_predictions: Most predictions a row (P); None for `ceil(rate * T)`.

    Source: Devlin et al. 2018 (arXiv 1810.04805), section 3.1, task 1.
    """

    mask_id: int
    vocab_size: int
    special_ids: tuple[int, ...]
    rate: float = 0.15
    max_predictions: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1.0:
            raise InputError(f"Masking rate={self.rate} is not in (0, 1]; BERT uses 0.15.")
        if self.max_predictions is not None and self.max_predictions < 1:
            raise InputError(
                f"max_predictions={self.max_predictions} leaves nothing to predict; "
                "give 1 or more, or None for rate times the sequence length."
            )

    @classmethod
    def from_tokenizer(
        cls, tokenizer: "Tokenizer", *, rate: float = 0.15, max_predictions: int | None = None
    ) -> "Masking":
        """Takes the special ids and the vocabulary size from a tokenizer."""
        ids = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id)
        return cls(
            mask_id=tokenizer.mask_id,
            vocab_size=tokenizer.vocab_size,
            special_ids=tuple(sorted({*ids, tokenizer.mask_id})),
            rate=rate,
            max_predictions=max_predictions,
        )

    def num_predictions(self, sequence_length: int) -> int:
        """Predictions a row (P) for sequences of this length."""
        most = math.ceil(self.rate * sequence_length)
        return min(sequence_length, self.max_predictions or most)


def mask_tokens(
    token_ids: Tensor,
    padding_mask: Tensor,
    *,
    masking: Masking,
    seed: int | Tensor,
    step: int | Tensor = 0,
    first_row: int | Tensor = 0,
) -> MaskedTokens:
    """Chooses tokens to predict and replaces them: 80 % `[MASK]`, 10 % random, 10 % kept.

    A row with n ordinary tokens gets `max(1, round(rate * n))` predictions, at most P.
    Padding and special tokens are never chosen; a row without ordinary tokens gets none.

    The choice for row r depends on (seed, step, first_row + r) alone, not on the batch
    around it: scoring is independent of the batch size, and replicas that pass their
    offset as `first_row` together mask like one device. Only elementwise operations
    and `top_k` are used, so it runs eagerly, in a graph and under XLA with equal results.

    Args:
        token_ids: Int `[B, T]`, T static.
        padding_mask: `[B, T]`, 1 for real tokens.
        masking: The rule.
        seed: Integer.
        step: Integer; another step gives another choice.
        first_row: Index of the first row in the global batch or data set.

    Returns:
        The masked batch and its targets, with static P.

    Source: Devlin et al. 2018 (arXiv 1810.04805), appendix A.1.
    """
    token_ids = tf.cast(token_ids, tf.int32)
    batch, length = tf.shape(token_ids)[0], token_ids.shape[1]
    rows = tf.cast(first_row, tf.int64) + tf.range(tf.cast(batch, tf.int64))
    random = _RandomGrid(seed, step, rows, length)
    candidates = _ordinary_tokens(token_ids, padding_mask, masking.special_ids)
    positions, chosen = _choose(candidates, random.uniform(_POSITIONS), masking)
    labels = tf.where(chosen, tf.gather(token_ids, positions, batch_dims=1), 0)
    # [B, P, T] -> [B, T]: whether a token is to be predicted.
    hits = tf.one_hot(positions, length, on_value=True, off_value=False, dtype=tf.bool)
    selected = tf.reduce_any(hits & chosen[:, :, None], axis=1)
    action = random.uniform(_ACTIONS)
    replacement = tf.cast(random.integers(_REPLACEMENTS, masking.vocab_size), tf.int32)
    masked = tf.where(selected & (action < 0.8), masking.mask_id, token_ids)
    masked = tf.where(selected & (action >= 0.9), replacement, masked)
    return MaskedTokens(masked, positions, labels, tf.cast(chosen, tf.float32))


def _ordinary_tokens(
    token_ids: Tensor, padding_mask: Tensor, special_ids: tuple[int, ...]
) -> Tensor:
    """Bool `[B, T]`: real and not special."""
    ordinary = tf.cast(padding_mask, tf.bool)
    for special in special_ids:
        ordinary &= token_ids != special
    return ordinary


def _choose(candidates: Tensor, uniform: Tensor, masking: Masking) -> tuple[Tensor, Tensor]:
    """Draws positions without replacement.

    Args:
        candidates: Bool `[B, T]`.
        uniform: Float32 `[B, T]` in [0, 1): the draw.
        masking: The rule.

    Returns:
        Int32 positions `[B, P]`, ascending, and bool `[B, P]`: whether it is used.
    """
    length = candidates.shape[1]
    num_predictions = masking.num_predictions(length)
    available = tf.reduce_sum(tf.cast(candidates, tf.int32), axis=1, keepdims=True)
    wanted = tf.cast(tf.round(masking.rate * tf.cast(available, tf.float32)), tf.int32)
    wanted = tf.minimum(tf.minimum(tf.maximum(wanted, 1), available), num_predictions)
    # Non-candidates rank behind every candidate, as uniform is below 1.
    ranked = tf.math.top_k(tf.where(candidates, uniform, -1.0), num_predictions).indices
    used = tf.range(num_predictions)[None, :] < wanted
    positions = tf.sort(tf.where(used, ranked, length), axis=1)  # unused ones go last
    return tf.where(used, positions, 0), used


class _RandomGrid:
    """Random numbers for (row, position), by hashing (seed, step, row, position, purpose).

    A counter-based generator of our own, because TensorFlow's stateless operations take
    one seed for a whole tensor and would tie a row's numbers to its place in the batch.
    """

    def __init__(self, seed: Tensor, step: Tensor, rows: Tensor, length: int) -> None:
        state = tf.constant(0x9E3779B9, tf.int64)
        for value in (seed, step):
            state = _absorb(state, tf.cast(value, tf.int64))
        state = _absorb(state, rows)[:, None]
        self._state = _absorb(state, tf.range(length, dtype=tf.int64)[None, :])

    def uniform(self, purpose: int) -> Tensor:
        """Float32 `[B, T]` in [0, 1)."""
        bits = _absorb(self._state, tf.constant(purpose, tf.int64))
        top = tf.bitwise.right_shift(bits, tf.constant(32 - _RANDOM_BITS, tf.int64))
        return tf.cast(top, tf.float32) / float(1 << _RANDOM_BITS)

    def integers(self, purpose: int, limit: int) -> Tensor:
        """Int64 `[B, T]` in [0, limit)."""
        bits = _absorb(self._state, tf.constant(purpose, tf.int64))
        return tf.bitwise.right_shift(bits * limit, tf.constant(32, tf.int64))


def _absorb(state: Tensor, value: Tensor) -> Tensor:
    """Mixes the low and high 32 bits of `value` into a 32-bit state kept in an int64."""
    high = tf.bitwise.bitwise_and(
        tf.bitwise.right_shift(value, tf.constant(32, tf.int64)), tf.constant(_BITS_32, tf.int64)
    )
    return _mix(_mix(state ^ _low(value)) * 5 + 0xE6546B64 + high)


def _mix(state: Tensor) -> Tensor:
    """The 32-bit finaliser of MurmurHash3 (Appleby, public domain); every bit matters."""
    state = _low(state)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        state = _low((state ^ tf.bitwise.right_shift(state, tf.constant(shift, tf.int64))) * factor)
    return state ^ tf.bitwise.right_shift(state, tf.constant(16, tf.int64))


def _low(state: Tensor) -> Tensor:
    return tf.bitwise.bitwise_and(state, tf.constant(_BITS_32, tf.int64))
