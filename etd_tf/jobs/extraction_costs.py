"""Operations that come before a run's first step: scoring and compensation."""

import dataclasses

from etd_tf.checkpoints import Checkpoint
from etd_tf.extraction import UnitScores
from etd_tf.extraction.compensation import CANDIDATES
from etd_tf.extraction.objectives import resolve_loss
from etd_tf.jobs.options import ExtractionOptions
from etd_tf.modeling.config import BertConfig
from etd_tf.reporting import scoring_flops
from etd_tf.text.masking import Masking


@dataclasses.dataclass(frozen=True)
class ExtractionFlops:
    """Operations spent on a student before its first step.

    Attributes:
        scoring: Of importance scoring; 0 for scores that were made earlier.
        compensation: Of compensating cut units.
    """

    scoring: int = 0
    compensation: int = 0

    @property
    def total(self) -> int:
        """Both together."""
        return self.scoring + self.compensation


def extraction_flops(
    options: ExtractionOptions,
    teacher: Checkpoint,
    student: BertConfig,
    *,
    sequences: int,
    sequence_length: int,
    scores: UnitScores | None = None,
) -> ExtractionFlops:
    """Operations that an extraction takes.

    Args:
        options: How the student is taken out.
        teacher: The teacher.
        student: The student's sizes.
        sequences: Sequences that the extraction reads.
        sequence_length: Tokens a sequence.
        scores: What was scored; None before it is known, where the options say it.

    Returns:
        The operations.
    """
    scoring = 0
    if options.extraction == "impt" and options.scores is None:
        metric, loss, scored = options.importance_metric, options.importance_loss, sequences
        if scores is not None:
            metric, loss = scores.metric, scores.loss
            scored = scores.num_examples * scores.probes
        scoring = scores_flops(
            metric, loss, teacher, sequences=scored, sequence_length=sequence_length
        )
    compensation = 0
    if options.compensate:
        compensation = compensation_flops(
            teacher.config, student, sequences=sequences, sequence_length=sequence_length
        )
    return ExtractionFlops(scoring, compensation)


def scores_flops(
    metric: str, loss: str, teacher: Checkpoint, *, sequences: int, sequence_length: int
) -> int:
    """Operations of scoring by a metric.

    Args:
        metric: The importance metric.
        loss: Its loss: `"mlm"`, `"reconstruction"`, `"auto"` or `"none"`.
        teacher: The teacher.
        sequences: Sequences scored, times the probes or maskings of each.
        sequence_length: Tokens a sequence.

    Returns:
        Nothing for weight magnitudes, a forward pass for activations, and for gradients
        forward and backward, with the masked-LM head where the loss needs it.
    """
    if metric == "magnitude":
        return 0
    if metric == "activation":
        return sequences * teacher.config.flops(sequence_length)
    masked = 0
    if resolve_loss(loss, teacher) == "mlm" and teacher.tokenizer is not None:
        masked = Masking.from_tokenizer(teacher.tokenizer).num_predictions(sequence_length)
    return scoring_flops(
        teacher.config,
        sequences=sequences,
        sequence_length=sequence_length,
        masked_tokens=masked,
    )


def compensation_flops(
    teacher: BertConfig, student: BertConfig, *, sequences: int, sequence_length: int
) -> int:
    """Operations of compensating cut units, at most.

    Args:
        teacher: The teacher.
        student: The student.
        sequences: Sequences that it is fitted and chosen on.
        sequence_length: Tokens a sequence.

    Returns:
        A teacher forward of every sequence, the activations' second moments in the
        student's layers, and every candidate student on the held-out eighth.
    """
    width, inner = teacher.hidden_size + 1, teacher.intermediate_size + 1
    moments = 2 * sequence_length * student.num_layers * (3 * width**2 + inner**2)
    held_out = -(-sequences // 8)
    return sequences * (teacher.flops(sequence_length) + moments) + (
        CANDIDATES * held_out * student.flops(sequence_length)
    )
