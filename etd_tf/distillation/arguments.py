"""What a Distiller accepts, and what it says to the rest."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.losses.base import Loss, ModelSpec, check_mlm_head, read_vectors_alone
from etd_tf.losses.minilm import MiniLM


def check_are_checkpoints(**models: Any) -> None:
    """Refuses models, given by the names of their arguments, that are no checkpoints."""
    for name, model in models.items():
        if not isinstance(model, Checkpoint):
            raise InputError(
                f"{name} is a {type(model).__name__}, expected a Checkpoint. Load one with "
                "etd_tf.load_checkpoint(DIR)."
            )


def check_models(
    teacher: Checkpoint,
    student: Checkpoint,
    losses: Sequence[Loss],
    student_loss_weight: float,
) -> None:
    """Refuses models that do not fit each other, the losses or the strategy in use."""
    if not 0.0 <= student_loss_weight < 1.0:
        raise InputError(
            f"student_loss_weight={student_loss_weight} is outside [0, 1). To train without a "
            "teacher, use distillation_losses=etd_tf.losses.MaskedLM()."
        )
    sizes = (teacher.config.vocab_size, student.config.vocab_size)
    if sizes[0] != sizes[1]:
        raise InputError(
            f"The teacher has {sizes[0]} tokens and the student {sizes[1]}, but both read the "
            "same token ids. Use a student with the teacher's vocabulary."
        )
    specs = [ModelSpec(c.config, c.has_mlm_head, teacher.pooling) for c in (teacher, student)]
    if student_loss_weight > 0.0:
        check_mlm_head(specs[1], "student", "student_loss_weight > 0")
    for loss in losses:
        loss.validate(*specs)
    _check_strategy_scope(student)


def check_vectors_suffice(losses: Sequence[Loss], teacher_vectors: bool) -> None:
    """Refuses losses that need more than the sentence vectors that batches bring."""
    if teacher_vectors and not read_vectors_alone(losses):
        wrong = [loss.name for loss in losses if loss.needs_teacher and loss.needs_internals]
        raise InputError(
            f"teacher_vectors=True needs losses that read sentence vectors alone, such as "
            f"etd_tf.losses.Embedding(); received {', '.join(wrong) or 'none that reads any'}."
        )


def as_losses(losses: Loss | Sequence[Loss] | None) -> list[Loss]:
    """The losses as a list; None stands for `MiniLM()`."""
    if losses is None:
        return [MiniLM()]
    found: list[Any] = list(losses) if isinstance(losses, list | tuple) else [losses]
    wrong = [type(loss).__name__ for loss in found if not isinstance(loss, Loss)]
    if wrong or not found:
        raise InputError(
            f"distillation_losses has {', '.join(wrong) or 'no loss'}; expected losses of "
            "etd_tf.losses, such as etd_tf.losses.MiniLM()."
        )
    return found


def as_weights(weights: Sequence[float] | None, count: int) -> list[float]:
    """One positive, finite weight a loss; None stands for ones."""
    if weights is None:
        return [1.0] * count
    found = [float(weight) for weight in np.ravel(np.asarray(weights))]
    if len(found) != count or not all(np.isfinite(w) and w > 0.0 for w in found):
        raise InputError(
            f"distillation_loss_weights={found} does not give each of the {count} losses a "
            "positive, finite weight."
        )
    return found


def _check_strategy_scope(student: Checkpoint) -> None:
    """Refuses a student whose variables the current `tf.distribute` strategy cannot train."""
    if not tf.distribute.has_strategy():
        return
    extended = tf.distribute.get_strategy().extended
    if not extended.variable_created_in_scope(student.encoder.embeddings.token.value):
        raise InputError(
            "The student's variables were created outside of this tf.distribute strategy. Load "
            "or extract the student inside the same `with strategy.scope():` block."
        )
