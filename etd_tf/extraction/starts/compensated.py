"""Extraction that keeps what cut units carried; the work is in `compensation`."""

import dataclasses
import time
from typing import TYPE_CHECKING

from absl import logging

from etd_tf.errors import InputError
from etd_tf.extraction.metrics import Amount
from etd_tf.extraction.starts.rand import RandomUnits
from etd_tf.extraction.starts.start import ExtractionOptions, InitialStudent, Work

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint
    from etd_tf.extraction.plan import ExtractionPlan
    from etd_tf.extraction.scores import UnitScores
    from etd_tf.modeling.config import BertConfig

FOLDER = "compensated"
STAGE = "compensation"
"""The stage, among times and costs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compensated(RandomUnits):
    """Cuts as another start does, and folds what is cut into what is kept where that helps.

    Attributes:
        of: The start that chooses the units.
        rotate: Whether heads may get bases that suit the cut, before.
    """

    of: RandomUnits
    rotate: bool = True
    keeps: tuple[str, ...] = (FOLDER,)

    def reads_text(self, options: ExtractionOptions) -> bool:
        """See `Start.reads_text`."""
        return True

    def metric(self, options: ExtractionOptions) -> str:
        """See `Start.metric`."""
        return self.of.metric(options)

    def check_options(self, options: ExtractionOptions) -> None:
        """See `Start.check_options`."""
        from etd_tf.extraction.starts.compensation import LEAST_EXAMPLES

        self.of.check_options(options)
        if options.importance_examples < LEAST_EXAMPLES:
            asked = "compensate=True" if options.compensate else f"extraction={self.name}"
            raise InputError(
                f"importance_examples={options.importance_examples} is too few for {asked}, "
                f"which needs at least {LEAST_EXAMPLES}; a few hundred are better."
            )

    def idle(self, options: ExtractionOptions) -> dict[str, str]:
        """See `Start.idle`."""
        reasons = self.of.idle(options)
        reasons.pop("importance_examples", None)
        return reasons

    def check(self, work: Work) -> None:
        """See `Start.check`."""
        self.of.check(work)

    def flops(
        self, work: Work, amount: Amount, scores: "UnitScores | None" = None
    ) -> dict[str, int]:
        """See `Start.flops`."""
        mine = compensation_flops(work.teacher.config, work.config, amount)
        return {**self.of.flops(work, amount, scores), STAGE: mine}

    def scores(self, work: Work) -> "tuple[UnitScores | None, float]":
        """See `Start.scores`."""
        return self.of.scores(work)

    def make(self, work: Work) -> InitialStudent:
        """See `Start.make`."""
        scores, seconds = self.scores(work)
        plan = self.of.plan(work, scores)
        spent = {} if scores is None else {"scoring": seconds}
        student, more = self._compensate(work, plan)
        return InitialStudent(student, plan, scores, {**spent, STAGE: more})

    def _compensate(self, work: Work, plan: "ExtractionPlan") -> "tuple[Checkpoint, float]":
        from etd_tf.checkpoints import load_checkpoint, save_checkpoint
        from etd_tf.extraction.starts.compensation import extract_compensated

        folder = work.folder / FOLDER  # the plan alone cannot reproduce the student
        if folder.exists():
            return load_checkpoint(folder), work.keep_seconds(STAGE, 0.0)
        started = time.monotonic()
        examples = work.examples("compensate=True folds units by their activations")
        result = extract_compensated(work.teacher, plan, examples, rotate=self.rotate)
        if result.is_plain:
            logging.warning(
                "Compensation did not help on held-out text; the student is sliced plainly."
            )
        save_checkpoint(result.student, folder)
        return result.student, work.keep_seconds(STAGE, time.monotonic() - started)


def compensation_flops(teacher: "BertConfig", student: "BertConfig", amount: Amount) -> int:
    """Operations of compensating cut units, fitted and chosen on some text, at most.

    Returns:
        A teacher forward of every sequence, the activations' second moments in the
        student's layers, and every candidate student on the held-out eighth.
    """
    from etd_tf.extraction.starts.compensation import CANDIDATES

    length = amount.sequence_length
    width, inner = teacher.hidden_size + 1, teacher.intermediate_size + 1
    moments = 2 * length * student.num_layers * (3 * width**2 + inner**2)
    held_out = -(-amount.sequences // 8)
    return amount.sequences * (teacher.flops(length) + moments) + (
        CANDIDATES * held_out * student.flops(length)
    )
