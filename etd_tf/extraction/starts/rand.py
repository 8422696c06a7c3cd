"""Units drawn at random: ETD-Rand, and the base of all starts that cut by a plan."""

import dataclasses
from typing import TYPE_CHECKING

from etd_tf.extraction.starts.start import ExtractionOptions, InitialStudent, Start, Work

if TYPE_CHECKING:
    from etd_tf.extraction.plan import ExtractionPlan
    from etd_tf.extraction.scores import UnitScores

PLAN_FILE = "plan.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomUnits(Start):
    """Keeps random units of some of the teacher's layers.

    Source: Chen et al. 2021 (arXiv 2104.11928), ETD-Rand.
    """

    settings: tuple[str, ...] = ("head_mode", "layer_selection")

    def idle(self, options: ExtractionOptions) -> dict[str, str]:
        """See `Start.idle`."""
        why = f"nothing is scored with extraction={options.extraction}"
        return dict.fromkeys(super().idle(options), why)

    def check(self, work: Work) -> None:
        """See `Start.check`."""
        super().check(work)
        RandomUnits.choose(self, work, None)  # needs nothing that is not known yet

    def plan(self, work: Work, scores: "UnitScores | None") -> "ExtractionPlan":
        """Chooses units and layers, or loads the choice of an earlier sitting."""
        from etd_tf.extraction.plan import ExtractionPlan

        path = work.folder / PLAN_FILE
        if path.exists():
            return ExtractionPlan.load(path)
        plan = self.choose(work, scores)
        plan.save(path)
        return plan

    def choose(self, work: Work, scores: "UnitScores | None") -> "ExtractionPlan":
        """Chooses units and layers."""
        from etd_tf.extraction.planning import plan_extraction

        return plan_extraction(
            *(work.teacher.config, work.config),
            seed=work.seed,
            head_mode=work.options.head_mode,
            layer_selection=work.options.layer_selection,
        )

    def make(self, work: Work) -> InitialStudent:
        """See `Start.make`."""
        from etd_tf.extraction.student import extract

        scores, seconds = self.scores(work)
        plan = self.plan(work, scores)
        spent = {} if scores is None else {"scoring": seconds}
        return InitialStudent(extract(work.teacher, plan), plan, scores, spent)
