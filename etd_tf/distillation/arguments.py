"""Checking and completing the arguments of a Distiller."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.losses.base import Loss, ModelSpec, check_mlm_head
from etd_tf.losses.minilm import MiniLM
from etd_tf.types import Tensor


def validate_models(
    teacher: Checkpoint,
    student: Checkpoint,
    losses: Sequence[Loss],
    student_loss_weight: float,
) -> None:
    """Checks that two models fit each other and the losses.

    Args:
        teacher: The teacher.
        student: The student.
        losses: What will compare them.
        student_loss_weight: Share of the student's own masked-LM loss.

    Raises:
        InputError: They do not, or the student was made outside of the strategy in use.
    """
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
    specs = [ModelSpec(c.config, c.mlm_head is not None) for c in (teacher, student)]
    if student_loss_weight > 0.0:
        check_mlm_head(specs[1], "student", "student_loss_weight > 0")
    for loss in losses:
        loss.validate(*specs)
    check_strategy_scope(student)


def as_teacher(teacher: Checkpoint, dtype: Any) -> Checkpoint:
    """Returns the teacher under a dtype policy: itself if it can serve, else a copy.

    Args:
        teacher: The teacher.
        dtype: Keras dtype policy, or None for the teacher's own.
    """
    if dtype is None:
        return teacher
    # Under a strategy it must be made again inside of the scope.
    fits = keras.dtype_policies.get(dtype) == teacher.encoder.dtype_policy
    return teacher if fits and not tf.distribute.has_strategy() else teacher.astype(dtype)


def as_losses(losses: Loss | Sequence[Loss] | None) -> list[Loss]:
    """Returns the losses as a list; None stands for `MiniLM()`.

    Raises:
        InputError: Something is not a loss of `etd_tf.losses`, or the list is empty.
    """
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
    """Returns one weight a loss; None stands for ones.

    Raises:
        InputError: Their number is not `count`, or one is not positive and finite.
    """
    if weights is None:
        return [1.0] * count
    found = [float(weight) for weight in np.ravel(np.asarray(weights))]
    if len(found) != count or not all(np.isfinite(w) and w > 0.0 for w in found):
        raise InputError(
            f"distillation_loss_weights={found} does not give each of the {count} losses a "
            "positive, finite weight."
        )
    return found


def as_selection_matrix(selection: Any) -> np.ndarray | None:
    """Returns the float32 `[H', H]` matrix of an extraction plan or array, or None."""
    if selection is None:
        return None
    matrix = selection.selection_matrix() if hasattr(selection, "selection_matrix") else selection
    return np.asarray(matrix, np.float32)


def unique_term_names(losses: Sequence[Loss]) -> list[dict[str, str]]:
    """Log name of each loss's terms; a name that comes again gets a number."""
    seen: dict[str, int] = {}
    names: list[dict[str, str]] = []
    for loss in losses:
        found = {}
        for term in loss.term_weights:
            seen[term] = seen.get(term, 0) + 1
            found[term] = term if seen[term] == 1 else f"{term}_{seen[term]}"
        names.append(found)
    return names


def check_strategy_scope(student: Checkpoint) -> None:
    """Refuses a student whose variables the current `tf.distribute` strategy cannot train.

    Raises:
        InputError: Its variables were created outside of the strategy's scope.
    """
    if not tf.distribute.has_strategy():
        return
    extended = tf.distribute.get_strategy().extended
    if not extended.variable_created_in_scope(student.encoder.embeddings.token.value):
        raise InputError(
            "The student's variables were created outside of this tf.distribute strategy. Load "
            "or extract the student inside the same `with strategy.scope():` block."
        )


def unpack_batch(data: Any) -> Mapping[str, Tensor]:
    """Takes the dictionary of inputs out of what a Keras step receives.

    Raises:
        InputError: There are labels or sample weights besides it.
    """
    batch, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    if labels is not None or weights is not None:
        raise InputError(
            "The Distiller takes no labels and no sample weights: yield only the dictionary of "
            "inputs. Masked-LM labels go into it as masked_lm_positions, masked_lm_ids and "
            "masked_lm_weights."
        )
    return batch
