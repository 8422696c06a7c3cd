"""Losses of importance scoring, one number an example.

Both objectives turn a batch into two things: tensors that a compiled step can take, and
the loss as a function of the encoder's trace and of those tensors.
"""

from typing import Protocol

import numpy as np
import tensorflow as tf

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.extraction.inputs import ScoringBatch
from etd_tf.modeling.encoder import EncoderTrace
from etd_tf.text.masking import Masking, mask_tokens
from etd_tf.types import Tensor


class Objective(Protocol):
    """A loss with random parts that are drawn by example."""

    name: str

    def prepare(self, batch: ScoringBatch, probe: int) -> dict[str, Tensor]:
        """Draws the random parts.

        Args:
            batch: B examples.
            probe: Index of the draw.

        Returns:
            Tensors of static shapes, among them the encoder's inputs.
        """
        ...

    def losses(self, trace: EncoderTrace, tensors: dict[str, Tensor]) -> Tensor:
        """Computes the loss of each example, float32 `[B]`."""
        ...


class MaskedLMObjective:
    """Masked-LM cross-entropy, averaged over each example's own masked positions.

    Args:
        teacher: A checkpoint with a masked-LM head and a tokenizer.
        seed: Seed of the masking (15 %, of which 80/10/10 masked, random, kept).

    Raises:
        InputError: The teacher lacks the head or the tokenizer.
    """

    name = "mlm"

    def __init__(self, teacher: Checkpoint, *, seed: int) -> None:
        if teacher.mlm_head is None:
            raise InputError(
                f"The masked-LM score needs a masked-LM head, and {teacher.source or 'the teacher'}"
                " has none. Use importance_loss=reconstruction (or auto)."
            )
        if teacher.tokenizer is None:
            raise InputError(
                f"The masked-LM score needs {teacher.source or 'the teacher'}'s tokenizer, for its "
                "[MASK] token. Add the tokenizer's files, or use importance_loss=reconstruction."
            )
        self._head, self._table = teacher.mlm_head, teacher.encoder.embeddings.token
        self._masking = Masking.from_tokenizer(teacher.tokenizer)
        self._seed = seed

    def prepare(self, batch: ScoringBatch, probe: int) -> dict[str, Tensor]:
        """Masks the batch; see `Objective`."""
        masked = mask_tokens(
            batch.inputs["token_ids"],
            batch.inputs["padding_mask"],
            masking=self._masking,
            seed=self._seed,
            step=probe,
            first_row=batch.first_row,
        )
        return {**batch.inputs, **masked._asdict()}

    def losses(self, trace: EncoderTrace, tensors: dict[str, Tensor]) -> Tensor:
        """Mean cross-entropy of each example; 0 for one without masked positions."""
        states = tf.gather(trace.sequence_output, tensors["positions"], batch_dims=1)
        logits = self._head(states, self._table)
        errors = tf.nn.sparse_softmax_cross_entropy_with_logits(tensors["labels"], logits)
        weights = tensors["weights"]
        count = tf.maximum(tf.reduce_sum(weights, axis=1), 1.0)
        return tf.reduce_sum(weights * errors, axis=1) / count


class ReconstructionObjective:
    """A random probe of the last hidden state: L_x = <r_x, h_L>, r_x ~ N(0, I).

    The expected square of a gate's gradient is the squared norm of dh_L / dg: twice the
    Gauss-Newton estimate of the error that removing the unit leaves in the teacher's
    output. It needs no head and no label.

    Args:
        teacher: The checkpoint.
        seed: Seed of the probes.
    """

    name = "reconstruction"

    def __init__(self, teacher: Checkpoint, *, seed: int) -> None:
        self._hidden_size = teacher.config.hidden_size
        self._seed = seed

    def prepare(self, batch: ScoringBatch, probe: int) -> dict[str, Tensor]:
        """Draws a probe for the real tokens of each example; see `Objective`."""
        mask = batch.inputs["padding_mask"] > 0
        vectors = np.zeros((*mask.shape, self._hidden_size), np.float32)
        for row in range(mask.shape[0]):
            generator = np.random.default_rng([self._seed, probe, batch.first_row + row])
            shape = (int(mask[row].sum()), self._hidden_size)
            vectors[row, mask[row]] = generator.standard_normal(shape, dtype=np.float32)
        return {**batch.inputs, "probe": vectors}

    def losses(self, trace: EncoderTrace, tensors: dict[str, Tensor]) -> Tensor:
        """Inner product of probe and last hidden state, `[B]`."""
        states = tf.cast(trace.sequence_output, tf.float32)
        return tf.reduce_sum(states * tensors["probe"], axis=(1, 2))


def resolve_loss(loss: str, teacher: Checkpoint) -> str:
    """Says which loss `"auto"` stands for: masked-LM where the teacher has its head."""
    if loss != "auto":
        return loss
    return "mlm" if teacher.has_mlm_head else "reconstruction"


def make_objective(teacher: Checkpoint, loss: str, *, seed: int) -> Objective:
    """Chooses the loss of a score.

    Args:
        teacher: The checkpoint to score.
        loss: `"mlm"`, `"reconstruction"`, or `"auto"`: masked-LM where there is a head.
        seed: Seed of the random parts.

    Raises:
        InputError: The loss is unknown, or it is `"mlm"` without head or tokenizer.
    """
    loss = resolve_loss(loss, teacher)
    if loss == "mlm":
        return MaskedLMObjective(teacher, seed=seed)
    if loss == "reconstruction":
        return ReconstructionObjective(teacher, seed=seed)
    raise InputError(f"importance_loss={loss!r} is not known. Use auto, mlm or reconstruction.")
