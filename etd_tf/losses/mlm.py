"""Losses on masked-LM logits: the student's own, and distillation of the teacher's."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from etd_tf.errors import InputError
from etd_tf.lazy import ops
from etd_tf.losses.base import Features, Loss, ModelSpec, check_mlm_head
from etd_tf.losses.reductions import check_same_shape, constant, mean_over_tokens, to_float32
from etd_tf.settings import setting
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitsDistillation(Loss):
    """TinyBERT's prediction-layer loss, on masked-LM logits at masked positions.

    Args:
        temperature: Divides both models' logits; the paper uses 1.

    Raises:
        InputError: The temperature is not positive.

    Source: Jiao et al. 2019 (arXiv 1909.10351), equation 10.
    """

    name = "mlm"
    summary = "the teacher's masked-LM logits"
    terms = ("logits_loss",)
    needs_mlm = True

    temperature: float = setting(1.0, "Softmax temperature of the mlm loss.", least=1e-3)

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
        self, teacher: Features, student: Features, projections: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Computes the single term; see the base class."""
        del projections
        loss = logits_distillation_loss(
            student.mlm_logits,
            teacher.mlm_logits,
            student.mlm_weights,
            temperature=self.temperature,
        )
        return {"logits_loss": loss}


@dataclasses.dataclass(frozen=True)
class MaskedLM(Loss):
    """The student's own masked-LM loss, to train without the teacher, from Python."""

    name = "masked_lm"
    summary = "the student's own masked-LM loss"
    terms = ("masked_lm_loss",)
    needs_teacher = False
    needs_mlm = True

    def validate(self, teacher: ModelSpec, student: ModelSpec) -> None:
        """Checks that the student has a masked-LM head."""
        del teacher
        check_mlm_head(student, "student", "MaskedLM")

    def compute_terms(
        self, teacher: Features, student: Features, projections: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Computes the single term; see the base class."""
        del teacher, projections
        loss = masked_lm_loss(student.mlm_logits, student.mlm_labels, student.mlm_weights)
        return {"masked_lm_loss": loss}
