"""Comparing our outputs with KerasHub's for the same weights."""

from typing import Any

import numpy as np
from keras import ops

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.checkpoints.keras_hub import Model
from etd_tf.types import Array

_BATCH, _LENGTH, _SEED = 4, 32, 0


def largest_difference(checkpoint: Checkpoint, theirs: Model) -> float:
    """Runs both models on random tokens and compares what both compute.

    Args:
        checkpoint: Our model.
        theirs: KerasHub's model with the same weights.

    Returns:
        Largest absolute difference of the sequence output, of the pooled output and of the
        masked-LM logits, whichever of them the checkpoint has.
    """
    config = checkpoint.config
    length = min(_LENGTH, config.max_positions)
    generator = np.random.default_rng(_SEED)
    token_ids = generator.integers(0, config.vocab_size, (_BATCH, length)).astype(np.int32)
    lengths = generator.integers((length + 1) // 2, length + 1, (_BATCH, 1))
    padding_mask = (np.arange(length) < lengths).astype(np.int32)
    inputs = {
        "token_ids": token_ids,
        "segment_ids": np.zeros_like(token_ids),
        "padding_mask": padding_mask,
    }
    ours = _numpy(checkpoint.encoder(inputs))
    other = _numpy(theirs.backbone(inputs))
    real = padding_mask.astype(bool)
    differences = [_gap(ours["sequence_output"][real], other["sequence_output"][real])]
    if checkpoint.has_pooler:
        differences.append(_gap(ours["pooled_output"], other["pooled_output"]))
    if checkpoint.mlm_head is not None:
        positions = np.broadcast_to(np.arange(length, dtype=np.int32), token_ids.shape)
        logits = checkpoint.mlm_head(
            ops.convert_to_tensor(ours["sequence_output"]), checkpoint.encoder.embeddings.token
        )
        other_logits = theirs.task({**inputs, "mask_positions": positions})
        differences.append(
            _gap(ops.convert_to_numpy(logits)[real], ops.convert_to_numpy(other_logits)[real])
        )
    return max(differences)


def _numpy(outputs: dict[str, Any]) -> dict[str, Array]:
    return {name: np.asarray(ops.convert_to_numpy(value)) for name, value in outputs.items()}


def _gap(a: Array, b: Array) -> float:
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())
