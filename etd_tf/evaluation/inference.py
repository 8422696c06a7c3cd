"""Running a model over sequences without computing padding."""

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from etd_tf.progress import track
from etd_tf.tokenization.sequences import Sequences
from etd_tf.types import Array, Tensor

TOKENS_PER_BATCH = 8192

Forward = Callable[[Mapping[str, Tensor]], Tensor]


def compile_forward(forward: Forward) -> Forward:
    """Compiles a function of the encoder's inputs once, for every batch shape.

    Args:
        forward: Maps `token_ids`, `segment_ids` and `padding_mask` `[B, T]` to a tensor
            whose first axis is B.
    """
    spec = tf.TensorSpec([None, None], tf.int32)
    names = ("token_ids", "segment_ids", "padding_mask")
    # Traced here: tracing in a call counts towards TensorFlow's warning against repeated
    # tracing, which takes the functions of many models for one.
    return tf.function(forward).get_concrete_function(dict.fromkeys(names, spec))


def run_sequences(
    forward: Forward,
    sequences: Sequences,
    *,
    description: str,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> list[Array]:
    """Applies a compiled function to every sequence, in batches of similar length.

    Args:
        forward: From `compile_forward`.
        sequences: The inputs.
        description: Text of the progress line.
        tokens_per_batch: Bound on batch size times length.

    Returns:
        One array a sequence, in the order of `sequences`: its row of the result. Where
        the result has a token axis, padding is still at the end of the row.
    """
    results: list[Array] = [np.empty(0)] * len(sequences)
    with track(description, len(sequences), "sequences") as tracker:
        for rows in sequences.batches_by_length(tokens_per_batch):
            output = forward(sequences.batch(rows)).numpy()
            for row, value in zip(rows, output, strict=True):
                results[row] = value
            tracker.advance(len(rows))
    return results
