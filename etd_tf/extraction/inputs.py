"""Scoring inputs: checked, put in a canonical order, cut into equal batches."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping

import numpy as np

from etd_tf.errors import InputError
from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.ids import check_length
from etd_tf.types import Array


@dataclasses.dataclass(frozen=True)
class ScoringBatch:
    """Some examples, filled up to the batch size with examples of weight 0.

    Attributes:
        first_row: Canonical index of the first example.
        inputs: Int32 `[B, T]`: `token_ids`, `segment_ids`, `padding_mask`.
        weights: Float32 `[B]`, 1 for an example, 0 for filling.
    """

    first_row: int
    inputs: dict[str, Array]
    weights: Array

    @property
    def size(self) -> int:
        """Number of examples, filling excluded."""
        return int(self.weights.sum())


@dataclasses.dataclass(frozen=True)
class ScoringInputs:
    """Examples in canonical order: sorted by a hash of their real tokens.

    Random probes and maskings are drawn by row, so with this order a score depends on the
    set of examples alone: not on their order, the batch size or the amount of padding.

    Attributes:
        token_ids: Int32 `[n, T]`.
        segment_ids: Int32 `[n, T]`.
        padding_mask: Int32 `[n, T]`, 1 for real tokens.
    """

    token_ids: Array
    segment_ids: Array
    padding_mask: Array

    @classmethod
    def from_examples(
        cls, examples: Mapping[str, Array] | None, config: BertConfig
    ) -> "ScoringInputs":
        """Checks examples and sorts them.

        Args:
            examples: Integers `[n, T]`: `token_ids`, and optionally `segment_ids` (default
                0) and `padding_mask` (default: tokens that are not padding).
            config: The teacher's architecture.

        Raises:
            InputError: An array is missing, has another shape or type, holds values outside
                the model's tables, or there is no example or no real token.
        """
        if not isinstance(examples, Mapping) or "token_ids" not in examples:
            raise InputError(
                "Examples must be a dictionary with token_ids [n, T] and optionally segment_ids "
                f"and padding_mask; received {_describe(examples)}."
            )
        tokens = _checked("token_ids", examples["token_ids"], None, config.vocab_size)
        check_length(tokens.shape[1], config, "Each of the examples")
        segments = examples.get("segment_ids", np.zeros_like(tokens))
        segments = _checked("segment_ids", segments, tokens.shape, config.type_vocab_size)
        mask = examples.get("padding_mask", (tokens != config.pad_token_id).astype(np.int32))
        mask = _checked("padding_mask", mask, tokens.shape, 2)
        if not mask.any():
            raise InputError("No token of the examples is real: padding_mask is 0 everywhere.")
        order = _canonical_order(tokens, segments, mask)
        return cls(tokens[order], segments[order], mask[order])

    @property
    def num_examples(self) -> int:
        """Number of examples, n."""
        return int(self.token_ids.shape[0])

    def batches(self, batch_size: int) -> Iterator[ScoringBatch]:
        """Yields batches of one and the same size, so that a compiled step is traced once."""
        size = min(batch_size, self.num_examples)
        for start in range(0, self.num_examples, size):
            rows = np.arange(start, start + size)
            real = rows < self.num_examples
            rows = np.where(real, rows, 0)
            inputs = {
                "token_ids": self.token_ids[rows],
                "segment_ids": self.segment_ids[rows],
                "padding_mask": self.padding_mask[rows],
            }
            yield ScoringBatch(start, inputs, real.astype(np.float32))


def _describe(examples: object) -> str:
    return str(sorted(examples)) if isinstance(examples, Mapping) else type(examples).__name__


def _checked(name: str, values: Array, shape: tuple[int, ...] | None, limit: int) -> Array:
    array = np.asarray(values)
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "iub":
        raise InputError(
            f"Examples' {name} has shape {array.shape} and type {array.dtype}; expected integers "
            "[n, T] with at least one example and one token."
        )
    if shape is not None and array.shape != shape:
        raise InputError(
            f"Examples' {name} has shape {array.shape}, but token_ids has {shape}. "
            "Give arrays of the same examples."
        )
    if array.min() < 0 or array.max() >= limit:
        raise InputError(
            f"Examples' {name} holds values from {array.min()} to {array.max()}, but the teacher "
            f"knows 0 to {limit - 1}. Were the texts encoded with the teacher's tokenizer?"
        )
    return array.astype(np.int32)


def _canonical_order(tokens: Array, segments: Array, mask: Array) -> Array:
    keys = []
    for row in range(tokens.shape[0]):
        real = mask[row] > 0
        content = np.stack([tokens[row, real], segments[row, real]])
        keys.append(hashlib.sha256(content.tobytes()).digest())
    return np.array(sorted(range(len(keys)), key=keys.__getitem__))
