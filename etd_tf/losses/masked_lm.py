"""Losses on masked-LM logits: the student's own, and distillation of the teacher's."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from etd_tf.errors import InputError
from etd_tf.losses.base import FeatureLoss, Features, ModelSpec
from etd_tf.losses.reductions import check_same_shape, constant, mean_over_tokens, to_float32
from etd_tf.types import Tensor


def masked_lm_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of the original tokens at masked positions.

    Args:
        logits: Float `[B, P, V]`.
        labels: Integer `[B, P]`, the original token ids.
        weights: `[B, P]`, 1 for masked positions, 0 for filling.

    Returns:
        Float32 scalar: the mean over masked positions of each example, then over the
        batch.

    Source: Devlin et al. 2018 (arXiv 1810.04805), section 3.1.
    """
    entropy = ops.sparse_categorical_crossentropy(
        ops.cast(labels, "int32"), to_float32(logits), from_logits=True
    )
    return mean_over_tokens(entropy, weights)


def logits_distillation_loss(
    student: Tensor, teacher: Tensor, weights: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """Cross-entropy between the teacher's and the student's softened predictions.

    Its floor is the teacher's entropy, not 0.

    Args:
        student: Float logits `[B, P, V]`.
        teacher: Same shape; gets no gradient.
        weights: `[B, P]`, 1 for positions that count.
        temperature: Divides both logits.

    Returns:
        Float32 scalar: the sum over classes, its mean over the positions of each example,
        then over the batch.

    Raises:
        InputError: The shapes differ.

    Source: Jiao et al. 2019 (arXiv 1909.10351), equation 10.
    """
    check_same_shape(student, teacher, "logits", "Both models need the same vocabulary.")
    target = ops.softmax(ops.divide(constant(teacher), temperature), axis=-1)
    entropy = ops.categorical_crossentropy(
        target, ops.divide(to_float32(student), temperature), from_logits=True
    )
    return mean_over_tokens(entropy, weights)


@keras.saving.register_keras_serializable(package="etd_tf")
class MaskedLM(FeatureLoss):
    """The student's own masked-LM loss; the teacher is not run at all."""

    needs_teacher = False
    needs_mlm = True

    @property
    def term_weights(self) -> dict[str, float]:
        """The single term, masked_lm_loss, with weight 1."""
        return {"masked_lm_loss": 1.0}

    def validate(self, teacher: ModelSpec, student: ModelSpec) -> None:
        """Checks that the student has a masked-LM head."""
        del teacher
        check_mlm_head(student, "student", "MaskedLM")

    def compute_terms(
        self,
        teacher: Features | None,
        student: Features,
        projections: Mapping[str, keras.layers.Layer],
    ) -> dict[str, Tensor]:
        """Computes the single term; see the base class."""
        del teacher, projections
        loss = masked_lm_loss(student.mlm_logits, student.mlm_labels, student.mlm_weights)
        return {"masked_lm_loss": loss}

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments: none."""
        return {}


@keras.saving.register_keras_serializable(package="etd_tf")
class LogitsDistillation(FeatureLoss):
    """TinyBERT's prediction-layer loss, on masked-LM logits at masked positions.

    Args:
        temperature: Divides both models' logits.

    Raises:
        InputError: The temperature is not positive.

    Source: Jiao et al. 2019 (arXiv 1909.10351), equation 10.
    """

    needs_mlm = True

    def __init__(self, *, temperature: float = 1.0) -> None:
        if not temperature > 0.0:
            raise InputError(f"temperature={temperature} is not positive; the paper uses 1.")
        self.temperature = float(temperature)

    @property
    def term_weights(self) -> dict[str, float]:
        """The single term, logits_loss, with weight 1."""
        return {"logits_loss": 1.0}

    def validate(self, teacher: ModelSpec, student: ModelSpec) -> None:
        """Checks that both models have a masked-LM head over the same vocabulary."""
        check_mlm_head(teacher, "teacher", "LogitsDistillation")
        check_mlm_head(student, "student", "LogitsDistillation")
        sizes = (teacher.config.vocab_size, student.config.vocab_size)
        if sizes[0] != sizes[1]:
            raise InputError(
                f"LogitsDistillation compares vocabularies of {sizes[0]} (teacher) and "
                f"{sizes[1]} (student) tokens. Both models need the same vocabulary."
            )

    def compute_terms(
        self,
        teacher: Features | None,
        student: Features,
        projections: Mapping[str, keras.layers.Layer],
    ) -> dict[str, Tensor]:
        """Computes the single term; see the base class."""
        del projections
        if teacher is None:
            raise InputError("LogitsDistillation needs the teacher's features.")
        loss = logits_distillation_loss(
            student.mlm_logits,
            teacher.mlm_logits,
            student.mlm_weights,
            temperature=self.temperature,
        )
        return {"logits_loss": loss}

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"temperature": self.temperature}


def check_mlm_head(model: ModelSpec, who: str, what: str) -> None:
    """Refuses a model without masked-LM head.

    Args:
        model: The model.
        who: `"teacher"` or `"student"`, for the message.
        what: What needs the head.

    Raises:
        InputError: There is none.
    """
    if not model.mlm_head:
        raise InputError(
            f"{what} needs a masked-LM head, but the {who} has none. Use a checkpoint with "
            "one, or a loss without it: tinybert, minilm or minilmv2."
        )
