"""The most important units: ETD-Impt, by any metric and for any kind of unit."""

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING

from etd_tf.errors import InputError
from etd_tf.extraction.metrics import METRICS, Amount
from etd_tf.extraction.starts.rand import RandomUnits
from etd_tf.extraction.starts.start import ExtractionOptions, Work

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint
    from etd_tf.extraction.plan import ExtractionPlan
    from etd_tf.extraction.scores import UnitScores

SCORES_FILE = "scores.npz"
SCORING = "scoring"
"""The stage, among times and costs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportantUnits(RandomUnits):
    """Keeps the units that a metric scores best.

    Attributes:
        by: The metric; empty for the one that the settings name.
        importance_of: Unit kinds that follow the scores, the others are drawn at random; None
            for all.

    Source: Chen et al. 2021 (arXiv 2104.11928), ETD-Impt.
    """

    settings: tuple[str, ...] = (
        *("head_mode", "layer_selection", "importance_metric", "importance_loss"),
        *("importance_examples", "scores"),
    )
    by: str = ""
    importance_of: tuple[str, ...] | None = None

    def metric(self, options: ExtractionOptions) -> str:
        """See `Start.metric`."""
        return self.by or options.importance_metric

    def reads_text(self, options: ExtractionOptions) -> bool:
        """See `Start.reads_text`."""
        return options.scores is None and METRICS[self.metric(options)].reads_text

    def _reads_loss(self, options: ExtractionOptions) -> bool:
        return self.reads_text(options) and METRICS[self.metric(options)].reads_loss

    def idle(self, options: ExtractionOptions) -> dict[str, str]:
        """See `Start.idle`."""
        why = f"importance_metric={self.metric(options)} does not read it"
        if options.scores is not None:
            why = "scores=... holds what was scored already"
        reasons = {}
        if self.by:
            reasons["importance_metric"] = f"extraction={self.name} scores by {self.by}"
        if not self._reads_loss(options):
            reasons["importance_loss"] = why
        if not self.reads_text(options):
            reasons["importance_examples"] = why
        return reasons

    def check(self, work: Work) -> None:
        """See `Start.check`."""
        super().check(work)
        if work.options.scores is not None:
            load_scores(work.options.scores, work.teacher, metric=self._asked(work.options))
        by_mlm = self._reads_loss(work.options) and work.options.importance_loss == "mlm"
        if by_mlm and not work.teacher.has_mlm_head:
            raise InputError(
                f"importance_loss=mlm needs a masked-LM head, but {work.teacher.source} has "
                "none. Use importance_loss=reconstruction (or auto)."
            )

    def _asked(self, options: ExtractionOptions) -> str | None:
        """The metric that saved scores must have; None where none was named."""
        if "importance_metric" in options.changed():
            return options.importance_metric
        return self.by or None

    def flops(
        self, work: Work, amount: Amount, scores: "UnitScores | None" = None
    ) -> dict[str, int]:
        """See `Start.flops`: those of the metric; 0 for scores of an earlier run."""
        if work.options.scores is not None:
            return {}
        metric, loss = self.metric(work.options), work.options.importance_loss
        if scores is not None:
            metric, loss = scores.metric, scores.loss
            amount = Amount(scores.num_examples * scores.probes, amount.sequence_length)
        found = METRICS[metric].flops(work.teacher, loss, amount)
        return {SCORING: found} if found else {}

    def scores(self, work: Work) -> "tuple[UnitScores | None, float]":
        """See `Start.scores`."""
        from etd_tf.extraction.importance import score_units

        path, options = work.folder / SCORES_FILE, work.options
        if path.exists():
            return load_scores(path, work.teacher), work.keep_seconds(SCORING, 0.0)
        if options.scores is not None:
            scores = load_scores(options.scores, work.teacher, metric=self._asked(options))
            scores.save(path)
            return scores, 0.0
        metric, examples = self.metric(options), None
        if self.reads_text(options):
            examples = work.examples(f"importance_metric={metric} scores units")
        started = time.monotonic()
        seed = work.seed if work.sample_seed is None else work.sample_seed
        scores = score_units(
            work.teacher, examples, metric=metric, loss=options.importance_loss, seed=seed
        )
        seconds = work.keep_seconds(SCORING, time.monotonic() - started)
        scores.save(path)
        return scores, seconds

    def choose(self, work: Work, scores: "UnitScores | None") -> "ExtractionPlan":
        """See `RandomUnits.choose`."""
        from etd_tf.extraction.planning import plan_extraction

        return plan_extraction(
            *(work.teacher.config, work.config, scores),
            seed=None if self.importance_of is None else work.seed,
            head_mode=work.options.head_mode,
            layer_selection=work.options.layer_selection,
            importance_of=self.importance_of,
        )


def load_scores(path: Path, teacher: "Checkpoint", *, metric: str | None = None) -> "UnitScores":
    """Reads saved scores of a teacher.

    Args:
        path: The file.
        teacher: Whose scores they must be.
        metric: The importance metric that was asked for; None takes any.

    Raises:
        InputError: The file cannot be read, or the scores are of another teacher or metric.
    """
    from etd_tf.extraction.scores import UnitScores

    scores = UnitScores.load(path)
    if scores.teacher_fingerprint not in (None, teacher.fingerprint()):
        raise InputError(
            f"The scores in {path} were made from another teacher than {teacher.source}. Use that "
            "teacher, or score this one: leave scores=... out, in a new output_dir."
        )
    if metric not in (None, scores.metric):
        raise InputError(
            f"{path} holds scores of the metric {scores.metric}, and importance_metric={metric} "
            "asks for others. Leave one of them out."
        )
    return scores
