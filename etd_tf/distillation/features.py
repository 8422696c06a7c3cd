"""Running a checkpoint for the features that losses read."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras import ops

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.losses.base import Features
from etd_tf.modeling.ids import check_ids
from etd_tf.types import Tensor

ENCODER_INPUTS = ("token_ids", "segment_ids", "padding_mask")
MASKED_LM_INPUTS = ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights")


def input_names(*, mlm: bool) -> tuple[str, ...]:
    """Names of a batch's tensors that `compute_features` reads."""
    return ENCODER_INPUTS + (MASKED_LM_INPUTS if mlm else ())


def compute_features(
    checkpoint: Checkpoint,
    batch: Mapping[str, Tensor],
    *,
    mlm: bool,
    training: bool = False,
    dropout_seed: Tensor | None = None,
) -> Features:
    """Runs an encoder and, if asked, its masked-LM head at the masked positions.

    Args:
        checkpoint: The model; it needs a masked-LM head if `mlm` is set.
        batch: Int32 `[B, T]` encoder inputs and, for `mlm`, `[B, P]` masked-LM inputs.
        mlm: Compute masked-LM logits.
        training: Apply dropout.
        dropout_seed: Integer tensor `[2]`, or None; see `BertEncoder.trace`.

    Raises:
        InputError: The batch lacks an input, or holds ids that the model lacks.
    """
    check_batch(batch, ["token_ids", *(MASKED_LM_INPUTS if mlm else ())])
    check_ids(batch, checkpoint.config, "The batch")
    inputs = {name: batch[name] for name in ENCODER_INPUTS if name in batch}
    trace = checkpoint.encoder.trace(inputs, training=training, dropout_seed=dropout_seed)
    head = checkpoint.mlm_head if mlm else None
    if head is None:
        return Features(trace)
    states = gather_positions(trace.sequence_output, batch["masked_lm_positions"])
    logits = head(states, checkpoint.encoder.embeddings.token)
    return Features(trace, logits, batch["masked_lm_ids"], batch["masked_lm_weights"])


def check_batch(batch: Any, needed: Sequence[str]) -> None:
    """Checks that a batch, or a dataset's specification of one, has what is needed."""
    if not isinstance(batch, Mapping) or any(name not in batch for name in needed):
        got = sorted(batch) if isinstance(batch, Mapping) else type(batch).__name__
        raise InputError(
            f"Distillation needs batches that are dictionaries with {', '.join(needed)}; "
            f"received {got}."
        )


def count_examples(checkpoint: Checkpoint, batch: Mapping[str, Tensor]) -> Tensor:
    """Counts the rows of a batch that are not all padding, by which a last batch is filled up.

    Args:
        checkpoint: A model that reads the batch.
        batch: As for `compute_features`.

    Returns:
        Float32 scalar.
    """
    real = ops.any(ops.greater(checkpoint.encoder.padding_mask(batch), 0), axis=1)
    return ops.sum(ops.cast(real, "float32"))


def gather_positions(states: Tensor, positions: Tensor) -> Tensor:
    """Picks the states at some positions of each example.

    Args:
        states: `[B, T, H]`.
        positions: Integer `[B, P]`, each in 0..T-1.

    Returns:
        `[B, P, H]`.
    """
    batch, length = ops.shape(states)[:2]
    rows = ops.expand_dims(ops.multiply(ops.arange(batch, dtype="int32"), length), 1)
    flat = ops.reshape(states, (-1, states.shape[-1]))
    return ops.take(flat, ops.add(ops.cast(positions, "int32"), rows), axis=0)
